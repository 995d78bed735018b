"""Random cars: dimensions, paint, equipment and the position in the studio.

Coordinates are in meters: x points forward, y to the car's left, z up. The origin is on the ground below the center.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

_T = TypeVar("_T")


class BodyShape(NamedTuple):
    """Dimensions of a car's body: meters, except for the two exponents."""

    length: float
    width: float
    height: float
    clearance: float
    """Ground clearance: height of the underside above the ground, meters."""
    wheel_radius: float
    nose_height: float
    cowl_height: float
    """Height at the lower edge of the windshield."""
    trunk_height: float
    windshield_x: float
    """Position of the windshield's lower edge."""
    roof_front_x: float
    roof_rear_x: float
    rear_window_x: float
    """Position of the rear window's lower edge."""
    front_exponent: float
    """Exponent of the superellipse of the front outline."""
    rear_exponent: float
    """Exponent of the superellipse of the rear outline."""


BODY_SHAPES = {
    "sedan": BodyShape(4.85, 1.84, 1.46, 0.19, 0.33, 0.74, 0.97, 1.02, 1.25, 0.25, -0.95, -1.75, 5, 6),
    "hatchback": BodyShape(4.20, 1.78, 1.49, 0.19, 0.32, 0.78, 0.99, 1.00, 1.12, 0.28, -1.50, -1.95, 5, 8),
    "wagon": BodyShape(4.75, 1.83, 1.49, 0.19, 0.33, 0.75, 0.97, 0.99, 1.25, 0.30, -1.85, -2.20, 5, 8),
    "suv": BodyShape(4.70, 1.90, 1.72, 0.26, 0.37, 0.94, 1.10, 1.12, 1.18, 0.42, -1.80, -2.18, 6, 9),
    "van": BodyShape(5.05, 1.97, 1.76, 0.20, 0.34, 0.84, 1.08, 1.06, 1.70, 0.70, -2.10, -2.40, 5, 10),
    "pickup": BodyShape(5.50, 1.95, 1.86, 0.31, 0.40, 1.03, 1.19, 1.20, 1.45, 0.80, -0.62, -0.85, 9, 16),
    "coupe": BodyShape(4.55, 1.86, 1.35, 0.16, 0.34, 0.68, 0.92, 0.96, 1.00, 0.02, -0.70, -1.75, 5, 6),
    "roadster": BodyShape(4.15, 1.80, 1.27, 0.15, 0.33, 0.65, 0.88, 0.90, 0.70, -0.10, -0.75, -1.20, 4, 5),
}
"""Body type -> its usual dimensions."""

TALL_BODIES = ("suv", "van", "pickup")
TWO_DOOR_BODIES = ("coupe", "roadster")
TRUNK_BODIES = ("sedan", "coupe", "roadster")
"""Bodies with a trunk lid behind the rear window."""

_BODY_FREQUENCIES = {
    "sedan": 0.25,
    "hatchback": 0.13,
    "wagon": 0.06,
    "suv": 0.27,
    "van": 0.08,
    "pickup": 0.09,
    "coupe": 0.08,
    "roadster": 0.04,
}

_PAINTS = (
    # Red, green, blue (linear albedo), metallic, relative frequency. White and silver are the hard ones: the wall is
    # white too.
    (0.80, 0.80, 0.79, 0.00, 20),
    (0.50, 0.51, 0.52, 0.12, 18),
    (0.17, 0.175, 0.18, 0.10, 15),
    (0.006, 0.006, 0.007, 0.00, 18),
    (0.040, 0.040, 0.044, 0.06, 6),
    (0.012, 0.035, 0.15, 0.03, 6),
    (0.11, 0.19, 0.29, 0.08, 5),
    (0.36, 0.006, 0.010, 0.01, 7),
    (0.10, 0.004, 0.008, 0.02, 4),
    (0.48, 0.41, 0.30, 0.08, 4),
    (0.09, 0.050, 0.030, 0.05, 3),
    (0.02, 0.09, 0.045, 0.03, 2),
    (0.65, 0.18, 0.01, 0.01, 2),
    (0.68, 0.47, 0.02, 0.00, 1),
)
_SEAT_ALBEDOS = ((0.02, 0.02, 0.022), (0.12, 0.12, 0.12), (0.22, 0.17, 0.11))
_PLATE_ALBEDOS = ((0.75, 0.77, 0.80), (0.55, 0.70, 0.85), (0.78, 0.68, 0.25))


@dataclass(frozen=True)
class Car:
    """All random properties of one car and of its studio session; lengths in meters, fractions from 0 to 1."""

    body: str
    """A key of `BODY_SHAPES`."""
    shape: BodyShape
    """The dimensions of this car: those of its body type with random deviations."""
    paint: tuple[float, float, float]
    """Albedo: linear RGB."""
    metallic: float
    """Added to the specular reflectance of the paint."""
    seats: tuple[float, float, float]
    """Albedo of the seats."""
    glass: tuple[float, float]
    """Opacity of the front windows and of the rear windows, 0 (clear) to 1 (opaque)."""
    spokes: int
    spoke_width: float
    """Relative to the usual width."""
    rim: float
    """Brightness of the rims, 0 to 1."""
    chrome: bool
    cladding: bool
    rails: bool
    spoiler: bool
    sunroof: bool
    antenna: str
    """``fin``, ``whip`` or ``none``."""
    plate: tuple[float, float, float]
    """Albedo of the license plates."""
    grille: tuple[float, float, int]
    """Width as a fraction of the car's width, height, number of bars."""
    lamp: tuple[float, float]
    """Height of the headlights, and the rise of their outer ends."""
    distance: float
    """From the camera to the turntable's center."""
    camera_height: float
    aim: float
    """Height of the camera's target above the turntable's center, meters."""
    offset: tuple[float, float]
    """Position (x, y) of the car relative to the turntable's center."""
    studio: int
    """Random seed of the backdrop (wall, floor, lamps), an integer without a unit; the same in all views."""


def sample_car(rng: np.random.Generator) -> Car:
    """Sample a car; equal states of `rng` give equal cars."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def chance(probability: float) -> bool:
        return bool(rng.random() < probability)

    def one_of(values: Sequence[_T], weights: Sequence[float]) -> _T:
        return values[int(rng.choice(len(values), p=np.array(weights) / np.sum(weights)))]

    body = one_of(tuple(BODY_SHAPES), [_BODY_FREQUENCIES[name] for name in BODY_SHAPES])
    shape = _deviate(BODY_SHAPES[body], rng)
    *paint, metallic, _ = one_of(_PAINTS, [paint[-1] for paint in _PAINTS])
    brightness = between(0.8, 1.15)
    red, green, blue = (brightness * channel for channel in paint)
    return Car(
        body=body,
        shape=shape,
        paint=(red, green, blue),
        metallic=metallic,
        seats=one_of(_SEAT_ALBEDOS, (5, 3, 2)),
        glass=(between(0.15, 0.32), between(0.2, 0.5) + 0.35 * (chance(0.6) and body in TALL_BODIES)),
        spokes=one_of((5, 6, 7, 8, 10, 12), (2, 1, 1, 1, 1, 1)),
        spoke_width=between(0.7, 1.3),
        rim=one_of((0.75, 0.62, 0.45, 0.10), (5, 3, 1, 1)),
        chrome=chance(0.4),
        cladding=chance(0.5 if body in ("suv", "pickup") else 0.1),
        rails=chance(0.6) and body in ("suv", "wagon", "van"),
        spoiler=chance(0.35) and body in ("sedan", "coupe", "hatchback", "suv"),
        sunroof=chance(0.35) and body not in ("pickup", "roadster"),
        antenna=one_of(("fin", "whip", "none"), (4, 4, 2)),
        plate=one_of(_PLATE_ALBEDOS, (6, 3, 1)),
        grille=(between(0.30, 0.55), between(0.10, 0.20), int(rng.integers(2, 6))),
        lamp=(between(0.10, 0.16), between(0.0, 0.06)),
        # The camera is farther away from long cars, so that no car touches the border of the image.
        distance=max(7.1, 1.46 * shape.length) * between(0.97, 1.06),
        camera_height=between(2.2, 2.5),
        aim=between(0.62, 0.86),
        offset=(between(-0.12, 0.12), between(-0.10, 0.10)),
        studio=int(rng.integers(2**31)),
    )


def _deviate(usual: BodyShape, rng: np.random.Generator) -> BodyShape:
    """Change every dimension by up to 2.5 %; positions along the body also scale with its length."""
    shape = BodyShape(*(np.array(usual) * rng.uniform(0.975, 1.025, len(usual))).tolist())
    stretch = shape.length / usual.length
    return shape._replace(
        windshield_x=shape.windshield_x * stretch,
        roof_front_x=shape.roof_front_x * stretch,
        roof_rear_x=shape.roof_rear_x * stretch,
        rear_window_x=shape.rear_window_x * stretch,
    )
