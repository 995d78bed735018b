"""The parts of a car except its wheels: body, mirrors, seats, windows, doors, wheel arches, lights and trim.

Lengths are in meters, in the car's coordinates (see `pipeline.synthetic.car`).
"""

from functools import lru_cache

import numpy as np

from pipeline.synthetic.car import TALL_BODIES, TRUNK_BODIES, TWO_DOOR_BODIES, Car
from pipeline.synthetic.faces import (
    AMBER_LIGHT,
    BLACK_TRIM,
    CHROME,
    LAMP_GLASS,
    RED_LIGHT,
    STEEL,
    TRANSPARENT,
    WHITE_LIGHT,
    WINDOW_GLASS,
    FaceBuilder,
    FaceKind,
    Faces,
    Material,
    Point,
)
from pipeline.synthetic.surface import FRONT, LEFT, REAR, RIGHT, TOP, BodySurface


@lru_cache(maxsize=2)
def build_bodywork(car: Car, fine: bool = True) -> tuple[BodySurface, Faces]:
    """Build the surface of a car and all its faces except those of the wheels; cached for the car's next view.

    Args:
        car: the car.
        fine: whether the body gets small faces; large ones suffice for small images.
    """
    builder = FaceBuilder(BodySurface(car))
    _add_body(builder, car, fine)
    for add_part in (
        _add_mirrors,
        _add_seats,
        _add_roof_and_trunk,
        _add_side_windows,
        _add_windshield_and_rear_window,
        _add_doors,
        _add_wheel_arches,
        _add_front,
        _add_rear,
    ):
        add_part(builder, car)
    return builder.surface, builder.build()


def _paint(car: Car) -> Material:
    return Material(*car.paint, specular=0.045 + car.metallic)


def _add_body(builder: FaceBuilder, car: Car, fine: bool) -> None:
    surface = builder.surface
    # Stations are denser toward both ends, where the cross sections shrink fast.
    ends = 1 - np.geomspace(0.1, 1e-5, 26 if fine else 14)
    middle = np.linspace(-0.89, 0.89, 110 if fine else 60)
    stations = np.concatenate([-ends[::-1], middle, ends]) * surface.half_length
    angles = np.linspace(0, 2 * np.pi, 129 if fine else 81)
    centers = np.zeros((len(stations), len(angles), 3))
    centers[..., 0] = stations[:, None]
    centers[..., 2] = ((surface.deck_height(stations) + surface.bottom_height(stations)) / 2)[:, None]
    rays = np.stack([0 * angles, np.cos(angles), np.sin(angles)], axis=-1)
    rings = surface.intersect(centers, rays, 2.5)
    grid = np.concatenate([centers[:1], rings, centers[-1:]])
    faces = builder.add_grid(grid, _paint(car), FaceKind.BODY, 0.0)
    faces.normals[:] = _smooth_normals(faces.normals.reshape(len(grid) - 1, len(angles) - 1, 3)).reshape(-1, 3)
    if car.body == "roadster":  # its roof is cloth
        centroids = faces.corners.mean(1)
        faces.materials[centroids[:, 2] > surface.deck_height(centroids[:, 0]) + 0.02] = BLACK_TRIM


def _smooth_normals(normals: np.ndarray) -> np.ndarray:
    """Average the normals (rows, columns, 3) over 3×3 neighbors, to hide the edges of faces; columns are cyclic."""
    padded = np.pad(normals, ((1, 1), (0, 0), (0, 0)), mode="edge")
    total = padded[:-2] + padded[1:-1] + padded[2:]
    total = total + np.roll(total, 1, axis=1) + np.roll(total, -1, axis=1)
    smooth: np.ndarray = total / np.linalg.norm(total, axis=-1, keepdims=True)
    return smooth


def _add_mirrors(builder: FaceBuilder, car: Car) -> None:
    surface = builder.surface
    x = car.shape.windshield_x - 0.42
    z = float(surface.deck_height(x)) + 0.03
    radius = 0.135 if car.body in TALL_BODIES else 0.115
    # The bias is large because the decals of the windows and doors right behind have one too.
    for side in (LEFT, RIGHT):
        y = surface.project(np.array([x, z]), side)[1]
        out = side.sign
        builder.add_superellipsoid((x, y + out * 0.05, z - 0.01), (0.03, 0.10, 0.02), BLACK_TRIM, 0.55)
        builder.add_superellipsoid((x, y + out * 0.16, z + 0.05), (0.06, radius, 0.075), _paint(car), 0.60, power=0.7)
        glass = (x - 0.045, y + out * 0.16, z + 0.05)
        builder.add_superellipsoid(glass, (0.02, 0.9 * radius, 0.06), LAMP_GLASS, 0.63)


def _add_seats(builder: FaceBuilder, car: Car) -> None:
    surface, shape = builder.surface, car.shape
    cloth = Material(*car.seats)
    rows = (surface.cabin_center_x + 0.38, surface.cabin_center_x - 0.48, surface.cabin_center_x - 1.15)
    for x in rows[: 1 if car.body in TWO_DOOR_BODIES else 3 if car.body == "van" else 2]:
        top = min(1.47 if car.body in TALL_BODIES else 1.22, float(surface.roof_height(x, 0.4)) - 0.12)
        for y in (-0.37, 0.37):
            builder.add_superellipsoid((x, y, top - 0.42), (0.08, 0.24, 0.30), cloth, kind=FaceKind.SEAT)
            builder.add_superellipsoid((x - 0.02, y, top - 0.08), (0.05, 0.13, 0.09), cloth, kind=FaceKind.SEAT)
    dashboard = (shape.windshield_x - 0.4, 0, shape.cowl_height - 0.10)
    builder.add_superellipsoid(dashboard, (0.25, 0.62, 0.08), BLACK_TRIM, kind=FaceKind.SEAT)


def _add_roof_and_trunk(builder: FaceBuilder, car: Car) -> None:
    """Add antenna, roof rails, sunroof, spoiler and the cover of a pickup's bed."""
    surface, shape, half_width = builder.surface, car.shape, builder.surface.half_width
    x = shape.roof_rear_x + 0.15
    z = float(surface.roof_height(x)) - 0.01
    if car.antenna == "fin":
        builder.add_superellipsoid((x, 0, z), (0.10, 0.018, 0.055), _paint(car), 0.3, power=0.9)
    elif car.antenna == "whip":
        builder.add_tube(np.array([[x, 0, z - 0.02], [x - 0.2, 0, z + 0.3]]), 0.007, BLACK_TRIM, 0.3)
    if car.rails:
        along = np.linspace(shape.roof_front_x - 0.1, shape.roof_rear_x + 0.05, 15)
        rise = 0.045 * np.sin(np.linspace(0, np.pi, 15)) ** 0.3 - 0.01
        for y in (-0.66 * half_width, 0.66 * half_width):
            rail = surface.project(np.stack([along, 0 * along + y], axis=-1), TOP)
            rail[:, 2] += rise
            builder.add_tube(rail, 0.018, CHROME if car.chrome else BLACK_TRIM, 0.1)
    if car.sunroof:
        builder.add_rectangle(TOP, (shape.roof_front_x - 0.97, shape.roof_front_x - 0.22), (-0.42, 0.42), WINDOW_GLASS)
    if car.body == "pickup":
        bed = (-surface.half_length + 0.14, shape.rear_window_x - 0.14)
        builder.add_rectangle(TOP, bed, (-0.80 * half_width, 0.80 * half_width), BLACK_TRIM)
    if car.spoiler:
        x = -surface.half_length + 0.13 if car.body in TRUNK_BODIES else shape.roof_rear_x - 0.02
        z = float(surface.project(np.array([x, 0.0]), TOP)[2])
        builder.add_superellipsoid((x, 0, z + 0.015), (0.12, half_width * 0.64, 0.03), _paint(car), 0.25, power=0.4)


def _pillars(surface: BodySurface, car: Car) -> tuple[float, float]:
    """Return the position x of the rear edge of the first and of the second door; two-door cars lack the second."""
    first = surface.axles[0] - (1.75 if car.body in TWO_DOOR_BODIES else 1.55) * car.shape.length / 4.85
    return first, first - 0.95


def _add_side_windows(builder: FaceBuilder, car: Car) -> None:
    """Fill the sides of the cabin with windows in a frame, except where the cabin is too low."""
    surface, shape = builder.surface, car.shape
    x = np.linspace(shape.windshield_x, max(shape.rear_window_x + 0.12, shape.roof_rear_x - 0.45), 300)
    low, high = surface.deck_height(x) - 0.03, surface.roof_height(x, 0.8 * surface.half_width) - 0.085
    x, low, high = (line[high - low > 0.05] for line in (x, low, high))
    rear = x[-1] + 0.35 * (car.body == "roadster")
    limits = (x[0], *_pillars(surface, car), rear)
    frame = x >= rear
    for side in (LEFT, RIGHT):
        lower, upper = np.stack([x, low - 0.02], axis=-1), np.stack([x, high + 0.02], axis=-1)
        builder.add_decal(side, lower[frame], upper[frame], CHROME if car.chrome else BLACK_TRIM)
        for index in range(3):
            pane = (x <= limits[index] - 0.03 * (index > 0)) & (x >= limits[index + 1] + 0.03)
            if pane.sum() > 20:
                glass = WINDOW_GLASS._replace(opacity=car.glass[index > 0])
                lower, upper = np.stack([x, low], axis=-1), np.stack([x, high], axis=-1)
                builder.add_decal(side, lower[pane], upper[pane], glass, 2, FaceKind.GLASS)


def _add_windshield_and_rear_window(builder: FaceBuilder, car: Car) -> None:
    surface, shape = builder.surface, car.shape
    top = shape.height - 0.115
    windows = ((FRONT, shape.cowl_height + 0.03, car.glass[0]), (REAR, shape.trunk_height + 0.04, car.glass[1]))
    for side, bottom, opacity in windows:
        wide, narrow = (0.88 * float(surface.cabin_half_width(z)) for z in (bottom, top))
        glass = WINDOW_GLASS._replace(opacity=opacity)
        for margin, material, layer, kind in (
            (0.03, BLACK_TRIM, 1, FaceKind.DETAIL),
            (0.0, glass, 2, FaceKind.GLASS),
        ):
            lower = [(-wide - margin, bottom - margin), (wide + margin, bottom - margin)]
            upper = [(-narrow - margin, top + margin), (narrow + margin, top + margin)]
            builder.add_decal(side, lower, upper, material, layer, kind)
    builder.add_rectangle(REAR, (-0.16, 0.16), (top + 0.02, top + 0.04), RED_LIGHT, 3)


def _add_doors(builder: FaceBuilder, car: Car) -> None:
    surface, shape = builder.surface, car.shape
    front_arch, rear_arch = surface.axles[0] - surface.arch_radius, surface.axles[1] + surface.arch_radius
    first, second = _pillars(surface, car)
    two_doors = car.body in TWO_DOOR_BODIES
    hinge, bottom = front_arch - 0.10, surface.sill_height + 0.1
    corner = max(second - 0.02, rear_arch + 0.06)  # the second door ends before the wheel arch
    handle = CHROME if car.chrome else _paint(car)
    sill_top = surface.sill_height + (0.08 if car.cladding else 0.02)
    for side in (LEFT, RIGHT):
        builder.add_seam(side, (hinge, float(surface.deck_height(front_arch))), (hinge, bottom))
        builder.add_seam(side, (first, shape.trunk_height), (first, bottom))
        builder.add_seam(side, (hinge, bottom), (first if two_doors else corner, bottom))
        if not two_doors:
            edge: list[Point] = [(second - 0.02, shape.trunk_height), (second - 0.02, 0.78), (corner, 0.5)]
            builder.add_seam(side, *edge, (corner, bottom))
        for x in (first,) if two_doors else (first, second):
            z = float(surface.deck_height(x)) - 0.17
            builder.add_rectangle(side, (x + 0.07, x + 0.26), (z - 0.02, z + 0.035), BLACK_TRIM)
            builder.add_rectangle(side, (x + 0.06, x + 0.27), (z + 0.005, z + 0.03), handle, 2)
        builder.add_rectangle(side, (rear_arch, front_arch), (shape.clearance, sill_top), BLACK_TRIM, 2)


def _add_wheel_arches(builder: FaceBuilder, car: Car) -> None:
    angles = np.linspace(np.pi, 0, 25)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    radius = builder.surface.arch_radius
    for side in (LEFT, RIGHT):
        for axle in builder.surface.axles:
            center = np.array([axle, car.shape.wheel_radius])
            edge = center + radius * circle
            if car.cladding:
                builder.add_decal(side, edge, center + (radius + 0.055) * circle, BLACK_TRIM, 2)
            # The hole ends below the body, whose lower edge bends inward there.
            builder.add_decal(side, edge * (1, 0) - (0, 0.05), edge, TRANSPARENT, 1, FaceKind.WHEEL_ARCH)


def _add_front(builder: FaceBuilder, car: Car) -> None:
    """Add grille, bumper, license plate, lights and the seams of the hood."""
    surface, shape, half_width = builder.surface, car.shape, builder.surface.half_width
    low, top = float(surface.bottom_height(surface.half_length)) - 0.02, shape.nose_height - 0.06
    width_fraction, height, bars = car.grille
    half, (lamp_height, slant) = width_fraction * half_width, car.lamp
    badge = top - height / 2
    builder.add_rectangle(FRONT, (-half, half), (top - height, top), BLACK_TRIM)
    for z in top - height * (np.arange(bars) + 0.5) / bars:
        bar = CHROME if car.chrome else STEEL
        builder.add_rectangle(FRONT, (-half * 0.96, half * 0.96), (z - 0.012, z + 0.006), bar, 2)
    builder.add_rectangle(FRONT, (-0.06, 0.06), (badge - 0.04, badge + 0.04), CHROME, 3)
    builder.add_rectangle(FRONT, (-0.55 * half_width, 0.55 * half_width), (low + 0.10, low + 0.20), BLACK_TRIM)
    builder.add_rectangle(FRONT, (-0.16, 0.16), (low + 0.19, low + 0.31), Material(*car.plate), 3)
    for sign in (-1, 1):
        b = sign * half_width
        inner, outer = sign * (half + 0.04), 0.90 * b
        lower = [(inner, top - lamp_height), (outer, top - lamp_height + slant)]
        builder.add_decal(FRONT, lower, [(inner, top - slant), (outer, top + slant)], LAMP_GLASS)
        bulb = (top - lamp_height * 0.72, top - lamp_height * 0.15)
        builder.add_rectangle(FRONT, (0.62 * b, 0.74 * b), bulb, WHITE_LIGHT, 2)
        builder.add_rectangle(FRONT, (0.87 * b, outer), (top - lamp_height + slant, top), AMBER_LIGHT, 2)
        builder.add_rectangle(FRONT, (0.64 * b, 0.84 * b), (low + 0.11, low + 0.20), BLACK_TRIM)
        builder.add_rectangle(FRONT, (0.70 * b, 0.78 * b), (low + 0.125, low + 0.185), WHITE_LIGHT, 2)
        builder.add_seam(TOP, (shape.windshield_x + 0.02, 0.80 * b), (surface.half_length - 0.35, 0.66 * b))


def _add_rear(builder: FaceBuilder, car: Car) -> None:
    """Add license plate, bumper, lights, exhaust pipes and the seams of the trunk lid."""
    surface, half_width = builder.surface, builder.surface.half_width
    low, tail = float(surface.bottom_height(surface.half_length)) - 0.02, car.shape.trunk_height - 0.09
    plate = low + 0.24 if car.body == "pickup" else 0.60 * car.shape.trunk_height
    wide_lights = car.body in TRUNK_BODIES
    inner, bottom, top = (0.46, tail - 0.19, tail - 0.04) if wide_lights else (0.74, tail - 0.36, tail)
    builder.add_rectangle(REAR, (-0.24, 0.24), (plate - 0.03, plate + 0.15), BLACK_TRIM)
    builder.add_rectangle(REAR, (-0.16, 0.16), (plate, plate + 0.12), Material(*car.plate), 2)
    builder.add_rectangle(REAR, (-0.05, 0.05), (tail - 0.12, tail - 0.06), CHROME, 2)
    builder.add_rectangle(REAR, (-0.78 * half_width, 0.78 * half_width), (low + 0.07, low + 0.17), BLACK_TRIM)
    builder.add_seam(REAR, (-0.88 * half_width, low + 0.33), (0.88 * half_width, low + 0.33))
    for b in (-half_width, half_width):
        builder.add_rectangle(REAR, (inner * b, 0.90 * b), (bottom, top), RED_LIGHT, 2)
        builder.add_rectangle(REAR, (inner * b, 0.90 * b), (bottom + 0.03, bottom + 0.07), WHITE_LIGHT, 3)
        builder.add_rectangle(REAR, (0.50 * b, 0.62 * b), (low + 0.08, low + 0.13), CHROME, 2)
        builder.add_seam(REAR, (0.72 * b, low + 0.33), (0.72 * b, tail + 0.02))
