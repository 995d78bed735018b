"""Draw the floors of this repository as SVG: rooms as boxes, imports as arrows."""

import textwrap
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.report.architecture import Import, direct_imports, find_imports, module_name, room_imports, room_of

DRAWING = Path("docs/architecture.svg")

# Lengths in pixels.
WIDTH = 1240
LEFT = 104
"""Width of the column with the names of the floors."""
TOP = 78
"""Height of the heading."""
FLOOR_GAP = 50
"""Between two floors, for the bends of the arrows."""
BOX_PADDING = 12
BAND_PADDING = 10
NAME_HEIGHT = 20
LINE_HEIGHT = 15
NAME_CHARACTER = 9.3
"""Width of a character in the name of a room."""
CHARACTER = 6.7
"""Width of a character in a list of files."""
LANE = 11
"""Distance of two arrows that pass between the same two boxes."""
ARROW = 6
LINES_PER_BOX = 4

COLORS = ("#4477aa", "#aa3377", "#228833", "#b8860b", "#cc4455", "#2a8fa8", "#7a5ca8", "#5f6b2d", "#777777")
"""Colors of the arrows that start on a floor, top floor first; repeated if there are more floors."""

HEADING = "Rooms of the repository and what they import"
CAPTION = "An arrow points from a room to one that it imports. Imports that follow from a chain of arrows are left out."


@dataclass(frozen=True)
class Box:
    """A room: its position, and the names of its files."""

    room: str
    lines: tuple[str, ...]
    width: float
    height: float
    left: float = 0
    top: float = 0

    @property
    def right(self) -> float:
        """x of the right side."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """y of the lower side."""
        return self.top + self.height

    @property
    def center(self) -> float:
        """x of the center."""
        return self.left + self.width / 2


@dataclass(frozen=True)
class Floor:
    """One floor: its boxes from left to right."""

    name: str
    boxes: tuple[Box, ...]
    top: float
    height: float

    @property
    def bottom(self) -> float:
        """y of the lower side."""
        return self.top + self.height

    def gaps(self) -> list[tuple[float, float]]:
        """List the free intervals (left, right) next to and between the boxes."""
        sides = [LEFT, *(side for box in self.boxes for side in (box.left, box.right)), WIDTH]
        return list(zip(sides[::2], sides[1::2], strict=True))


def draw_architecture(sources: Mapping[str, str], floors: Mapping[str, Sequence[str]]) -> str:
    """Draw the rooms and the imports between them.

    Args:
        sources: path -> source code of all files, as from `read_sources`.
        floors: name of a floor -> its rooms from left to right, the top floor first. Every room that imports or is
            imported is on one of them.

    Returns:
        The text of an SVG file. It is the same for the same arguments.
    """
    placed = _place_floors(floors, _files_of_rooms(sources))
    arrows = direct_imports(room_imports(find_imports(sources)))
    height = placed[-1].bottom + 24
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_number(height)}" '
        f'width="{WIDTH}" height="{_number(height)}" role="img" aria-label="{HEADING}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        "<defs>",
        *(_arrowhead(number, color) for number, color in enumerate(COLORS)),
        "</defs>",
        f'<rect width="{WIDTH}" height="{_number(height)}" fill="#ffffff"/>',
        _text(20, 34, HEADING, 'font-size="20" font-weight="600" fill="#1f2933"'),
        _text(20, 57, CAPTION, 'font-size="13" fill="#616e7c"'),
        *(line for floor in placed for line in _draw_band(floor)),
        *_draw_arrows(placed, sorted(arrows)),
        *(line for floor in placed for box in floor.boxes for line in _draw_box(box)),
        "</svg>",
        "",
    ])  # fmt: skip


def _files_of_rooms(sources: Iterable[str]) -> dict[str, list[str]]:
    """Return room -> names of its modules and subpackages; empty for a room that is a single module."""
    files: defaultdict[str, set[str]] = defaultdict(set)
    for path in sources:
        room, name = room_of(module_name(path)), module_name(path)
        inside = name.partition(f"{room}.")[2].split(".")
        files[room] |= {inside[0] + ("/" if len(inside) > 1 else "")} - {""}
    # A subpackage is also a module, its __init__.py.
    return {room: sorted(name for name in names if f"{name}/" not in names) for room, names in files.items()}


def _place_floors(floors: Mapping[str, Sequence[str]], files: Mapping[str, Collection[str]]) -> list[Floor]:
    placed = []
    top: float = TOP
    for name, rooms in floors.items():
        boxes = [_measure_box(room, files.get(room, [])) for room in rooms]
        height = max(box.height for box in boxes) + 2 * BAND_PADDING
        space = (WIDTH - LEFT - sum(box.width for box in boxes)) / (len(boxes) + 1)
        left = LEFT + space
        for number, box in enumerate(boxes):
            box_top = top + (height - box.height) / 2
            boxes[number] = Box(box.room, box.lines, box.width, box.height, left, box_top)
            left += box.width + space
        placed.append(Floor(name, tuple(boxes), top, height))
        top += height + FLOOR_GAP
    return placed


def _measure_box(room: str, files: Collection[str]) -> Box:
    columns = max([20, -(-len(" ".join(files)) // LINES_PER_BOX) + 6, *map(len, files)])
    lines = tuple(textwrap.wrap(" ".join(files), columns, break_on_hyphens=False))
    text_width = max([len(f"{room}.py") * NAME_CHARACTER, *(len(line) * CHARACTER for line in lines)])
    return Box(
        room,
        lines,
        width=text_width + 2 * BOX_PADDING,
        height=NAME_HEIGHT + len(lines) * LINE_HEIGHT + 2 * BOX_PADDING - 4,
    )


def _draw_arrows(floors: Sequence[Floor], arrows: Sequence[Import]) -> list[str]:
    """Draw arrows that go down through the gaps between boxes, or sideways on their floor."""
    level = {box.room: number for number, floor in enumerate(floors) for box in floor.boxes}
    boxes = {box.room: box for floor in floors for box in floor.boxes}
    down = [arrow for arrow in arrows if level[arrow[0]] < level[arrow[1]]]
    lanes = _assign_lanes(floors, down, boxes, level)
    starts = _spread_ports([(arrow, arrow[0], (lanes[arrow] or [boxes[arrow[1]].center])[0]) for arrow in down], boxes)
    ends = _spread_ports([(arrow, arrow[1], (lanes[arrow] or [boxes[arrow[0]].center])[-1]) for arrow in down], boxes)
    drawn = []
    for arrow in arrows:
        start, end = (boxes[room] for room in arrow)
        if arrow in lanes:
            path = f"M{_number(starts[arrow])},{_number(start.bottom)}"
            x, y = starts[arrow], start.bottom
            for passed, lane in zip(floors[level[arrow[0]] + 1 :], lanes[arrow], strict=False):
                path += _bend(x, y, lane, passed.top) + f"V{_number(passed.bottom)}"
                x, y = lane, passed.bottom
            path += _bend(x, y, ends[arrow], end.top - ARROW)
        else:
            path = _sideways(start, end, floors[level[arrow[0]]])
        number = level[arrow[0]] % len(COLORS)
        drawn.append(
            f'<path d="{path}" fill="none" stroke="{COLORS[number]}" stroke-width="1.6" '
            f'marker-end="url(#arrow{number})">'
            f"<title>{start.room} imports {end.room}</title></path>"
        )
    return drawn


def _assign_lanes(
    floors: Sequence[Floor], arrows: Sequence[Import], boxes: Mapping[str, Box], level: Mapping[str, int]
) -> dict[Import, list[float]]:
    """Return the x at which each arrow passes each floor between its ends."""
    users: defaultdict[tuple[int, int], list[Import]] = defaultdict(list)
    for arrow in arrows:
        start, end = (boxes[room].center for room in arrow)
        first, last = (level[room] for room in arrow)
        x = start
        for number in range(first + 1, last):
            # Aim at the end, so that an arrow does not swing to and fro.
            aim = x + (end - x) / (last - number + 1)
            gaps = floors[number].gaps()
            chosen = min(range(len(gaps)), key=lambda gap: abs(sum(gaps[gap]) / 2 - aim))
            users[number, chosen].append(arrow)
            x = sum(gaps[chosen]) / 2
    lanes: dict[Import, list[float]] = {arrow: [] for arrow in arrows}
    for (number, chosen), passing in sorted(users.items()):
        left, right = floors[number].gaps()[chosen]
        passing.sort(key=lambda arrow: (boxes[arrow[0]].center + boxes[arrow[1]].center, arrow))
        step = min(LANE, (right - left) / (len(passing) + 1))
        for position, arrow in enumerate(passing):
            lanes[arrow].append((left + right) / 2 + (position - (len(passing) - 1) / 2) * step)
    return lanes


def _spread_ports(arrows: Iterable[tuple[Import, str, float]], boxes: Mapping[str, Box]) -> dict[Import, float]:
    """Return the x at which each arrow (arrow, room, x of its next point) touches the room, without crossings."""
    by_room: defaultdict[str, list[tuple[float, Import]]] = defaultdict(list)
    for arrow, room, x in arrows:
        by_room[room].append((x, arrow))
    return {
        arrow: boxes[room].left + boxes[room].width * (number + 1) / (len(touching) + 1)
        for room, touching in by_room.items()
        for number, (_, arrow) in enumerate(sorted(touching))
    }


def _sideways(start: Box, end: Box, floor: Floor) -> str:
    """Return the path of an arrow on one floor: straight to a neighbor, below the boxes to any other."""
    right = start.left < end.left
    names = [box.room for box in floor.boxes]
    if abs(names.index(start.room) - names.index(end.room)) == 1:
        middle = (max(start.top, end.top) + min(start.bottom, end.bottom)) / 2
        x, tip = (start.right, end.left - ARROW) if right else (start.left, end.right + ARROW)
        return f"M{_number(x)},{_number(middle)}H{_number(tip)}"
    x, tip, y = start.center, end.center, floor.bottom + 20
    path = f"M{_number(x)},{_number(start.bottom)}C{_number(x)},{_number(y)} {_number(tip)},{_number(y)}"
    return f"{path} {_number(tip)},{_number(end.bottom + ARROW)}"


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    """Continue a path from (x, y) to another point; it leaves and arrives vertically."""
    middle = _number((y + to_y) / 2)
    return f"C{_number(x)},{middle} {_number(to_x)},{middle} {_number(to_x)},{_number(to_y)}"


def _draw_band(floor: Floor) -> list[str]:
    middle = floor.top + floor.height / 2 + 4
    return [
        f'<rect x="8" y="{_number(floor.top)}" width="{WIDTH - 16}" height="{_number(floor.height)}" rx="8" '
        'fill="#f3f5f7"/>',
        _text(22, middle, floor.name, 'font-size="13" font-weight="600" fill="#7b8794"'),
    ]


def _draw_box(box: Box) -> list[str]:
    name = f"{box.room}/" if box.lines else f"{box.room}.py"
    x, y = box.left + BOX_PADDING, box.top + BOX_PADDING + 11
    mono = 'font-size="11" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" fill="#52606d"'
    return [
        f'<rect x="{_number(box.left)}" y="{_number(box.top)}" width="{_number(box.width)}" '
        f'height="{_number(box.height)}" rx="6" fill="#ffffff" stroke="#9aa5b1"/>',
        _text(x, y, name, 'font-size="15" font-weight="600" fill="#1f2933"'),
        *(_text(x, y + NAME_HEIGHT + LINE_HEIGHT * number, line, mono) for number, line in enumerate(box.lines)),
    ]


def _arrowhead(number: int, color: str) -> str:
    return (
        f'<marker id="arrow{number}" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="{ARROW}" markerHeight="{ARROW}" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0L8,4L0,8Z" fill="{color}"/></marker>'
    )


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{_number(x)}" y="{_number(y)}" {style}>{text}</text>'


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
