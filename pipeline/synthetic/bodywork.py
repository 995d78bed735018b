"""Everything that is to see of a car, as small flat faces: its skin, what lies on it and what stands out from it.

Windows, lights, door lines and wheel arches are patches laid on the body's surface.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pipeline.synthetic.car import BOOTED, TALL, TWO_DOORS, Car, Surface

SKIN, GLASS, PATCH, SEAT, ARCH = range(5)
"""What a face is for; it decides in which layer of the picture it is painted."""

FRONT, REAR, LEFT, RIGHT, TOP = (0, 1), (0, -1), (1, 1), (1, -1), (2, 1)
"""From where a patch is pressed onto the body: axis and sign, as for `Surface.lay`."""

Where = tuple[int, int]
Point = tuple[float, float]


class Material(NamedTuple):
    """How a face looks: its colour in linear light, how much it mirrors when looked at squarely, how much it hides."""

    red: float
    green: float
    blue: float
    mirror: float = 0.0
    opacity: float = 1.0


TRIM = Material(0.012, 0.012, 0.013, mirror=0.02)
LINE = Material(0.006, 0.006, 0.006)
CHROME = Material(0.12, 0.12, 0.12, mirror=0.65)
STEEL = Material(0.06, 0.06, 0.06, mirror=0.10)
LAMP = Material(0.10, 0.105, 0.11, mirror=0.22)
GLOW = Material(0.78, 0.79, 0.80, mirror=0.15)
RED = Material(0.30, 0.005, 0.006, mirror=0.06)
AMBER = Material(0.55, 0.16, 0.01, mirror=0.06)
PANE = Material(0.010, 0.012, 0.012, mirror=0.05)
HOLE = Material(0, 0, 0, opacity=0)


class Faces(NamedTuple):
    """n four-cornered faces in the car's coordinates."""

    corners: np.ndarray
    """(n, 4, 3) float64."""
    planes: np.ndarray
    """(n, 3) float64, unit normals, outward: they decide which side of a face is seen."""
    normals: np.ndarray
    """(n, 3) float64, unit normals of the curved surface that the faces stand for: they decide how light falls."""
    material: np.ndarray
    """(n, 5) float64, see `Material`."""
    kind: np.ndarray
    """(n,) int64, one of the constants above."""
    bias: np.ndarray
    """(n,) float64, metres by which the face counts as nearer, so that a patch is painted after what it lies on."""


@lru_cache(maxsize=2)
def build(car: Car, fine: bool = True) -> tuple[Surface, Faces]:
    """The shape of a car and all its faces except the wheels'; coarse ones will do for small pictures.

    Kept for the car's next view.
    """
    shop = _Workshop(car, fine)
    for work in (_skin, _mirrors, _seats, _roof, _windows, _doors, _arches, _front, _rear):
        work(shop)
    shop.lay_patches()
    return shop.surface, Faces(*(np.concatenate(arrays) for arrays in zip(*shop.parts, strict=True)))


class _Workshop:
    """Collects a car's faces."""

    def __init__(self, car: Car, fine: bool) -> None:
        self.car, self.fine = car, fine
        self.surface = Surface(car)
        self.paint = Material(*car.paint, mirror=0.045 + car.metallic)
        self.bright = CHROME if car.chrome else TRIM
        self.parts: list[Faces] = []
        self.patches: dict[Where, list[tuple[np.ndarray, Material, int, float]]] = {}

    def add(
        self, grid: np.ndarray, material: Material, kind: int, bias: float, centre: ArrayLike = (0, 0, 0.6)
    ) -> None:
        """Add the faces between the points of a (rows, columns, 3) grid, turned away from `centre`."""
        corners = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2).reshape(-1, 4, 3)
        normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        normals *= np.sign((normals * (corners.mean(1) - centre)).sum())
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        n = len(corners)
        style = np.tile(material, (n, 1)), np.full(n, kind), np.full(n, bias)
        self.parts.append(Faces(corners, normals, normals.copy(), *style))

    def blob(
        self,
        centre: ArrayLike,
        radii: ArrayLike,
        material: Material,
        bias: float = 0.0,
        kind: int = PATCH,
        power: float = 0.5,
    ) -> None:
        """Add a closed body between a box (power near 0) and an ellipsoid (power 1)."""
        latitude, longitude = np.linspace(-np.pi / 2, np.pi / 2, 9)[:, None], np.linspace(0, 2 * np.pi, 17)
        waves = (np.cos(latitude), np.sin(latitude), np.cos(longitude), np.sin(longitude))
        c_lat, s_lat, c_lon, s_lon = (np.sign(wave) * np.abs(wave) ** power for wave in waves)
        ball = np.stack(np.broadcast_arrays(c_lat * c_lon, c_lat * s_lon, s_lat), axis=-1)
        self.add(ball * radii + centre, material, kind, bias, centre)

    def tube(self, line: np.ndarray, radius: float, material: Material, bias: float) -> None:
        """Add a rod along the points of a line, (n, 3)."""
        along = line[-1] - line[0]
        across = np.cross(along, (0.3, 0.5, 0.8))
        across /= np.linalg.norm(across)
        other = np.cross(along, across) / np.linalg.norm(along)
        angles = np.linspace(0, 2 * np.pi, 7)[:, None]
        self.add(
            line[:, None] + radius * (np.cos(angles) * across + np.sin(angles) * other),
            material,
            PATCH,
            bias,
            line.mean(0),
        )

    def lay_patches(self) -> None:
        """Add the faces of all patches; laying those of one side together is many times faster than one by one."""
        for where, patches in self.patches.items():
            laid = self.surface.lay(np.concatenate([drawing.reshape(-1, 2) for drawing, *_ in patches]), *where)
            ends = np.cumsum([drawing[..., 0].size for drawing, *_ in patches])
            for points, (drawing, *style) in zip(np.split(laid, ends[:-1]), patches, strict=True):
                self.add(points.reshape(*drawing.shape[:2], 3), *style)

    def patch(
        self, where: Where, low: ArrayLike, high: ArrayLike, material: Material, layer: int = 1, kind: int = PATCH
    ) -> None:
        """Lay the area between two lines of equally many knots onto the car; higher layers cover lower ones."""
        low, high = np.array(low, dtype=float), np.array(high, dtype=float)
        # Small faces sort well against the skin's and follow its bends.
        longest = max(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in (low, high))
        columns = 1 + max(2, int(np.ceil(longest / 0.09)))
        rows = 1 + max(1, int(np.ceil(np.abs(high - low).max() / 0.09)))
        knots, at = np.linspace(0, 1, len(low)), np.linspace(0, 1, columns)
        low, high = (np.stack([np.interp(at, knots, line[:, i]) for i in (0, 1)], axis=-1) for line in (low, high))
        share = np.linspace(0, 1, rows)[:, None, None]
        drawing = low + share * (high - low)
        self.patches.setdefault(where, []).append((drawing, material, kind, 0.08 + 0.12 * layer))

    def box(self, where: Where, u: Point, v: Point, material: Material, layer: int = 1) -> None:
        """Lay an upright rectangle onto the car."""
        self.patch(where, [(u[0], v[0]), (u[1], v[0])], [(u[0], v[1]), (u[1], v[1])], material, layer)

    def line(self, where: Where, *points: Point) -> None:
        """Lay a gap between two sheets of metal onto the car."""
        knots = np.array(points, dtype=float)
        along = np.gradient(knots, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=-1) / np.linalg.norm(along, axis=1, keepdims=True)
        self.patch(where, knots - 0.0055 * across, knots + 0.0055 * across, LINE)


def _skin(shop: _Workshop) -> None:
    s = shop.surface
    # Stations crowd towards both ends, where the sections shrink fast.
    ends = 1 - np.geomspace(0.1, 1e-5, 26 if shop.fine else 14)
    along = np.linspace(-0.89, 0.89, 110 if shop.fine else 60)
    stations = np.concatenate([-ends[::-1], along, ends]) * s.a
    angles = np.linspace(0, 2 * np.pi, 129 if shop.fine else 81)
    start = np.zeros((len(stations), len(angles), 3))
    start[..., 0] = stations[:, None]
    start[..., 2] = ((s.deck_at(stations) + s.bottom_at(stations)) / 2)[:, None]
    rings = s.reach(start, np.stack([0 * angles, np.cos(angles), np.sin(angles)], axis=-1), 2.5)
    shop.add(np.concatenate([start[:1], rings, start[-1:]]), shop.paint, SKIN, 0.0)
    # Averaging over neighbours lets light run smoothly over the edges of faces.
    faces = shop.parts[-1]
    normals = faces.normals.reshape(len(stations) + 1, len(angles) - 1, 3)
    normals = np.pad(normals, ((1, 1), (0, 0), (0, 0)), mode="edge")
    normals = normals[:-2] + normals[1:-1] + normals[2:]
    normals = normals + np.roll(normals, 1, axis=1) + np.roll(normals, -1, axis=1)
    faces.normals[:] = (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).reshape(-1, 3)
    if shop.car.body == "roadster":  # its roof is of cloth
        middles = faces.corners.mean(1)
        faces.material[middles[:, 2] > s.deck_at(middles[:, 0]) + 0.02] = TRIM


def _mirrors(shop: _Workshop) -> None:
    s = shop.surface
    x, z = s.screen - 0.42, float(s.deck_at(s.screen - 0.42)) + 0.03
    wide = 0.135 if shop.car.body in TALL else 0.115
    # The bias is large because the patches of windows and doors right behind have one, too.
    for axis, side in (LEFT, RIGHT):
        y = s.lay(np.array([x, z]), axis, side)[1]
        shop.blob((x, y + side * 0.05, z - 0.01), (0.03, 0.10, 0.02), TRIM, 0.55)
        shop.blob((x, y + side * 0.16, z + 0.05), (0.06, wide, 0.075), shop.paint, 0.60, power=0.7)
        shop.blob((x - 0.045, y + side * 0.16, z + 0.05), (0.02, 0.9 * wide, 0.06), LAMP, 0.63)


def _seats(shop: _Workshop) -> None:
    s, body = shop.surface, shop.car.body
    cloth = Material(*shop.car.seats)
    rows = (s.middle + 0.38, s.middle - 0.48, s.middle - 1.15)
    for x in rows[: 1 if body in TWO_DOORS else 3 if body == "van" else 2]:
        head = min(1.47 if body in TALL else 1.22, float(s.roof_at(x, 0.4)) - 0.12)
        for y in (-0.37, 0.37):
            shop.blob((x, y, head - 0.42), (0.08, 0.24, 0.30), cloth, kind=SEAT)
            shop.blob((x - 0.02, y, head - 0.08), (0.05, 0.13, 0.09), cloth, kind=SEAT)
    shop.blob((s.screen - 0.4, 0, s.cowl - 0.10), (0.25, 0.62, 0.08), TRIM, kind=SEAT)  # dashboard


def _roof(shop: _Workshop) -> None:
    """What is on the roof and on the boot: antenna, rails, sunroof, spoiler, the pickup's cover."""
    s, car = shop.surface, shop.car
    x = s.roof_rear + 0.15
    z = float(s.roof_at(x)) - 0.01
    if car.antenna == "fin":
        shop.blob((x, 0, z), (0.10, 0.018, 0.055), shop.paint, 0.3, power=0.9)
    elif car.antenna == "whip":
        shop.tube(np.array([[x, 0, z - 0.02], [x - 0.2, 0, z + 0.3]]), 0.007, TRIM, 0.3)
    if car.rails:
        along = np.linspace(s.roof_front - 0.1, s.roof_rear + 0.05, 15)
        bow = 0.045 * np.sin(np.linspace(0, np.pi, 15)) ** 0.3 - 0.01
        for y in (-0.66 * s.b, 0.66 * s.b):
            rail = s.lay(np.stack([along, 0 * along + y], axis=-1), *TOP)
            rail[:, 2] += bow
            shop.tube(rail, 0.018, shop.bright, 0.1)
    if car.sunroof:
        shop.box(TOP, (s.roof_front - 0.97, s.roof_front - 0.22), (-0.42, 0.42), PANE)
    if car.body == "pickup":
        shop.box(TOP, (-s.a + 0.14, s.tail - 0.14), (-0.80 * s.b, 0.80 * s.b), TRIM)
    if car.spoiler:
        x = -s.a + 0.13 if car.body in BOOTED else s.roof_rear - 0.02
        z = float(s.lay(np.array([x, 0.0]), *TOP)[2])
        shop.blob((x, 0, z + 0.015), (0.12, s.b * 0.64, 0.03), shop.paint, 0.25, power=0.4)


def _pillars(shop: _Workshop) -> tuple[float, float]:
    """Where (x) the first and the second door end; cars with two doors have no second."""
    first = shop.surface.axles[0] - (1.75 if shop.car.body in TWO_DOORS else 1.55) * shop.surface.length / 4.85
    return first, first - 0.95


def _windows(shop: _Workshop) -> None:
    s, car = shop.surface, shop.car
    # The side windows fill the cabin's side but for a frame; where that gets too low there is none.
    x = np.linspace(s.screen, max(s.tail + 0.12, s.roof_rear - 0.45), 300)
    low, high = s.deck_at(x) - 0.03, s.roof_at(x, 0.8 * s.b) - 0.085
    x, low, high = (line[high - low > 0.05] for line in (x, low, high))
    rear = x[-1] + 0.35 * (car.body == "roadster")
    limits = (x[0], *_pillars(shop), rear)
    for where in (LEFT, RIGHT):
        frame = x >= rear
        low_edge, high_edge = np.stack([x, low - 0.02], axis=-1), np.stack([x, high + 0.02], axis=-1)
        shop.patch(where, low_edge[frame], high_edge[frame], shop.bright)
        for index in range(3):
            pane = (x <= limits[index] - 0.03 * (index > 0)) & (x >= limits[index + 1] + 0.03)
            if pane.sum() > 20:
                glass = PANE._replace(opacity=car.glass[index > 0])
                low_edge, high_edge = np.stack([x, low], axis=-1), np.stack([x, high], axis=-1)
                shop.patch(where, low_edge[pane], high_edge[pane], glass, 2, GLASS)
    top = s.height - 0.115
    for where, foot, opacity in ((FRONT, s.cowl + 0.03, car.glass[0]), (REAR, s.boot + 0.04, car.glass[1])):
        wide, narrow = 0.88 * s.cabin_at(foot), 0.88 * s.cabin_at(top)
        glass = PANE._replace(opacity=opacity)
        for grow, material, layer, kind in ((0.03, TRIM, 1, PATCH), (0.0, glass, 2, GLASS)):
            below = [(-wide - grow, foot - grow), (wide + grow, foot - grow)]
            above = [(-narrow - grow, top + grow), (narrow + grow, top + grow)]
            shop.patch(where, below, above, material, layer, kind)
    shop.box(REAR, (-0.16, 0.16), (top + 0.02, top + 0.04), RED, 3)


def _doors(shop: _Workshop) -> None:
    s = shop.surface
    fore, aft = s.axles[0] - s.arch, s.axles[1] + s.arch
    first, second = _pillars(shop)
    two = shop.car.body in TWO_DOORS
    foot = s.sill + 0.1
    corner = max(second - 0.02, aft + 0.06)  # the second door's rear edge gives way to the wheel
    for where in (LEFT, RIGHT):
        shop.line(where, (fore - 0.10, float(s.deck_at(fore))), (fore - 0.10, foot))
        shop.line(where, (first, s.boot), (first, foot))
        shop.line(where, (fore - 0.10, foot), (first if two else corner, foot))
        if not two:
            shop.line(where, (second - 0.02, s.boot), (second - 0.02, 0.78), (corner, 0.5), (corner, foot))
        for x in (first,) if two else (first, second):
            z = float(s.deck_at(x)) - 0.17
            shop.box(where, (x + 0.07, x + 0.26), (z - 0.02, z + 0.035), TRIM)
            shop.box(where, (x + 0.06, x + 0.27), (z + 0.005, z + 0.03), CHROME if shop.car.chrome else shop.paint, 2)
        shop.box(where, (aft, fore), (s.clearance, s.sill + (0.08 if shop.car.cladding else 0.02)), TRIM, 2)


def _arches(shop: _Workshop) -> None:
    s = shop.surface
    angles = np.linspace(np.pi, 0, 25)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    for where in (LEFT, RIGHT):
        for axle in s.axles:
            centre = np.array([axle, s.wheel])
            edge = centre + s.arch * circle
            if shop.car.cladding:
                shop.patch(where, edge, centre + (s.arch + 0.055) * circle, TRIM, 2)
            # The hole goes on below the body, whose lower edge bends inward there.
            shop.patch(where, edge * (1, 0) - (0, 0.05), edge, HOLE, 1, ARCH)


def _front(shop: _Workshop) -> None:
    s, car = shop.surface, shop.car
    b, low, brow = s.b, float(s.bottom_at(s.a)) - 0.02, s.nose - 0.06
    share, tall, bars = car.grille
    half, (thick, slant) = share * b, car.lamp
    shop.box(FRONT, (-half, half), (brow - tall, brow), TRIM)
    for z in brow - tall * (np.arange(bars) + 0.5) / bars:
        shop.box(FRONT, (-half * 0.96, half * 0.96), (z - 0.012, z + 0.006), CHROME if car.chrome else STEEL, 2)
    shop.box(FRONT, (-0.06, 0.06), (brow - tall / 2 - 0.04, brow - tall / 2 + 0.04), CHROME, 3)
    shop.box(FRONT, (-0.55 * b, 0.55 * b), (low + 0.10, low + 0.20), TRIM)
    shop.box(FRONT, (-0.16, 0.16), (low + 0.19, low + 0.31), Material(*car.plate), 3)
    for side in (-1, 1):
        inner, outer = side * (half + 0.04), side * 0.90 * b
        below, above = brow - thick + slant, brow + slant
        shop.patch(FRONT, [(inner, brow - thick), (outer, below)], [(inner, brow - slant), (outer, above)], LAMP)
        shop.box(FRONT, (side * 0.62 * b, side * 0.74 * b), (brow - thick * 0.72, brow - thick * 0.15), GLOW, 2)
        shop.box(FRONT, (side * 0.87 * b, outer), (below, brow), AMBER, 2)
        shop.box(FRONT, (side * 0.64 * b, side * 0.84 * b), (low + 0.11, low + 0.20), TRIM)
        shop.box(FRONT, (side * 0.70 * b, side * 0.78 * b), (low + 0.125, low + 0.185), GLOW, 2)
        shop.line(TOP, (s.screen + 0.02, side * 0.80 * b), (s.a - 0.35, side * 0.66 * b))


def _rear(shop: _Workshop) -> None:
    s, car = shop.surface, shop.car
    b, low, tail = s.b, float(s.bottom_at(s.a)) - 0.02, s.boot - 0.09
    plate = low + 0.24 if car.body == "pickup" else 0.60 * s.boot
    inner, foot, top = (0.46 * b, tail - 0.19, tail - 0.04) if car.body in BOOTED else (0.74 * b, tail - 0.36, tail)
    shop.box(REAR, (-0.24, 0.24), (plate - 0.03, plate + 0.15), TRIM)
    shop.box(REAR, (-0.16, 0.16), (plate, plate + 0.12), Material(*car.plate), 2)
    shop.box(REAR, (-0.05, 0.05), (tail - 0.12, tail - 0.06), CHROME, 2)
    shop.box(REAR, (-0.78 * b, 0.78 * b), (low + 0.07, low + 0.17), TRIM)
    shop.line(REAR, (-0.88 * b, low + 0.33), (0.88 * b, low + 0.33))
    for side in (-1, 1):
        shop.box(REAR, (side * inner, side * 0.90 * b), (foot, top), RED, 2)
        shop.box(REAR, (side * inner, side * 0.90 * b), (foot + 0.03, foot + 0.07), GLOW, 3)
        shop.box(REAR, (side * 0.50 * b, side * 0.62 * b), (low + 0.08, low + 0.13), CHROME, 2)
        shop.line(REAR, (side * 0.72 * b, low + 0.33), (side * 0.72 * b, tail + 0.02))
