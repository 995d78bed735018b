"""Cars drawn from a seed: their measures, their equipment and the shape of their bodies.

A body is a closed surface, given by one function that is negative inside: a rounded box with a cabin on top of it.
Coordinates are metres: x points forward, y to the car's left, z up; the origin is on the ground below its middle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")

SHAPES = {
    # Size: length, width, height, clearance, wheel radius. Heights along the body: nose, windscreen's foot, boot.
    # Places along the body: windscreen's foot, roof's front, roof's rear, rear window's foot.
    # How blunt the front and the rear are. How common the shape is.
    "sedan": (4.85, 1.84, 1.46, 0.19, 0.33, 0.74, 0.97, 1.02, 1.25, 0.25, -0.95, -1.75, 5, 6, 0.25),
    "hatchback": (4.20, 1.78, 1.49, 0.19, 0.32, 0.78, 0.99, 1.00, 1.12, 0.28, -1.50, -1.95, 5, 8, 0.13),
    "wagon": (4.75, 1.83, 1.49, 0.19, 0.33, 0.75, 0.97, 0.99, 1.25, 0.30, -1.85, -2.20, 5, 8, 0.06),
    "suv": (4.70, 1.90, 1.72, 0.26, 0.37, 0.94, 1.10, 1.12, 1.18, 0.42, -1.80, -2.18, 6, 9, 0.27),
    "van": (5.05, 1.97, 1.76, 0.20, 0.34, 0.84, 1.08, 1.06, 1.70, 0.70, -2.10, -2.40, 5, 10, 0.08),
    "pickup": (5.50, 1.95, 1.86, 0.31, 0.40, 1.03, 1.19, 1.20, 1.45, 0.80, -0.62, -0.85, 9, 16, 0.09),
    "coupe": (4.55, 1.86, 1.35, 0.16, 0.34, 0.68, 0.92, 0.96, 1.00, 0.02, -0.70, -1.75, 5, 6, 0.08),
    "roadster": (4.15, 1.80, 1.27, 0.15, 0.33, 0.65, 0.88, 0.90, 0.70, -0.10, -0.75, -1.20, 4, 5, 0.04),
}
TALL = ("suv", "van", "pickup")
TWO_DOORS = ("coupe", "roadster")
BOOTED = ("sedan", "coupe", "roadster")

PAINTS = (
    # Red, green, blue (linear light), how metallic, how common. White and silver are the hard ones before a white wall.
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
SEATS = ((0.02, 0.02, 0.022), (0.12, 0.12, 0.12), (0.22, 0.17, 0.11))
PLATES = ((0.75, 0.77, 0.80), (0.55, 0.70, 0.85), (0.78, 0.68, 0.25))


@dataclass(frozen=True)
class Car:
    """All that was drawn for one car and for its appointment in the studio; lengths in metres, shares from 0 to 1."""

    body: str
    measures: tuple[float, ...]
    """As in `SHAPES`, with this car's deviations."""
    paint: tuple[float, float, float]
    metallic: float
    seats: tuple[float, float, float]
    glass: tuple[float, float]
    """How much the front and the rear windows hide."""
    spokes: int
    spoke_width: float
    rim: float
    """Brightness of the rims."""
    chrome: bool
    cladding: bool
    rails: bool
    spoiler: bool
    sunroof: bool
    antenna: str
    """`fin`, `whip` or `none`."""
    plate: tuple[float, float, float]
    grille: tuple[float, float, int]
    """Its share of the car's width, its height and the number of its bars."""
    lamp: tuple[float, float]
    """Height of the headlights, and by how much they slant."""
    distance: float
    """From the camera to the turntable's middle."""
    camera_height: float
    aim: float
    """Height of the point above the turntable's middle at which the camera looks."""
    offset: tuple[float, float]
    """How far along x and y the car was parked beside the middle."""
    studio: int
    """Seed of the backdrop, which is the same in all views."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Car":
        """Draw a car; equal states of `rng` give equal cars."""

        def between(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        def chance(share: float) -> bool:
            return bool(rng.random() < share)

        def one_of(values: Sequence[_T], weights: Sequence[float]) -> _T:
            return values[int(rng.choice(len(values), p=np.array(weights) / np.sum(weights)))]

        body = one_of(tuple(SHAPES), [shape[-1] for shape in SHAPES.values()])
        usual = np.array(SHAPES[body][:-1])
        measures = usual * rng.uniform(0.975, 1.025, len(usual))
        measures[8:12] *= measures[0] / usual[0]
        *paint, metallic, _ = one_of(PAINTS, [paint[-1] for paint in PAINTS])
        return cls(
            body=body,
            measures=tuple(measures.tolist()),
            paint=tuple((np.array(paint) * between(0.8, 1.15)).tolist()),
            metallic=metallic,
            seats=one_of(SEATS, (5, 3, 2)),
            glass=(between(0.15, 0.32), between(0.2, 0.5) + 0.35 * (chance(0.6) and body in TALL)),
            spokes=one_of((5, 6, 7, 8, 10, 12), (2, 1, 1, 1, 1, 1)),
            spoke_width=between(0.7, 1.3),
            rim=one_of((0.75, 0.62, 0.45, 0.10), (5, 3, 1, 1)),
            chrome=chance(0.4),
            cladding=chance(0.5 if body in ("suv", "pickup") else 0.1),
            rails=chance(0.6) and body in ("suv", "wagon", "van"),
            spoiler=chance(0.35) and body in ("sedan", "coupe", "hatchback", "suv"),
            sunroof=chance(0.35) and body not in ("pickup", "roadster"),
            antenna=one_of(("fin", "whip", "none"), (4, 4, 2)),
            plate=one_of(PLATES, (6, 3, 1)),
            grille=(between(0.30, 0.55), between(0.10, 0.20), int(rng.integers(2, 6))),
            lamp=(between(0.10, 0.16), between(0.0, 0.06)),
            # Long cars are photographed from farther away, so that none touches the picture's border.
            distance=max(7.1, 1.46 * float(measures[0])) * between(0.97, 1.06),
            camera_height=between(2.2, 2.5),
            aim=between(0.62, 0.86),
            offset=(between(-0.12, 0.12), between(-0.10, 0.10)),
            studio=int(rng.integers(2**31)),
        )


class Surface:
    """The shape of a car's body as one function, and how to lay points onto it."""

    def __init__(self, car: Car) -> None:
        self.length, self.width, self.height, self.clearance, self.wheel = car.measures[:5]
        self.nose, self.cowl, self.boot = car.measures[5:8]
        self.screen, self.roof_front, self.roof_rear, self.tail = car.measures[8:12]
        self.blunt = car.measures[12:14]
        self.a, self.b = self.length / 2, self.width / 2
        self.middle = (self.roof_front + self.roof_rear) / 2
        """The cabin's middle, x."""
        self.axles = (0.305 * self.length, -0.285 * self.length)
        self.arch = 1.16 * self.wheel
        """Radius of the wheel arches."""
        self.sill = self.clearance + 0.05
        """The lowest height at which the body's sides are still upright."""
        self.core = (self.clearance + self.nose) / 2 + 0.03
        """A height that is inside the body along its whole length."""
        self._x = np.linspace(-self.a - 0.5, self.a + 0.5, 512)
        self._deck = self._profile(
            (-self.a, self.boot - 0.04),
            (self.tail, self.boot),
            (self.screen, self.cowl),
            (self.a - 0.3, self.nose + 0.1),
            (self.a, self.nose),
        )
        self._roof = self._profile(
            (self.tail - 0.35, self.core),
            (self.tail, self.boot - 0.03),
            (self.roof_rear, self.height - 0.05),
            (self.middle, self.height + 0.01),
            (self.roof_front, self.height - 0.05),
            (self.screen, self.cowl - 0.03),
            (self.screen + 0.4, self.core),
        )
        self.track = self.lay(np.array([[axle, 1.9 * self.wheel] for axle in self.axles]), 1, 1)[:, 1] - 0.045
        """Half the distance between the outer faces of the wheels of either axle."""

    def _profile(self, *knots: tuple[float, float]) -> np.ndarray:
        """Heights at `_x` along a line through (x, z) knots, its corners rounded."""
        heights = np.interp(self._x, *np.array(knots).T)
        kernel = np.hanning(int(0.36 / (self._x[1] - self._x[0])) | 1)
        return np.convolve(np.pad(heights, len(kernel) // 2, mode="edge"), kernel / kernel.sum(), mode="valid")

    def deck_at(self, x: np.ndarray | float) -> np.ndarray:
        """Height of bonnet, belt line and boot lid."""
        return np.interp(x, self._x, self._deck)

    def bottom_at(self, x: np.ndarray | float) -> np.ndarray:
        """Height of the underside, whose ends rise so that bumpers do not scrape."""
        return self.clearance + 0.40 * np.clip(np.abs(x) / self.a - 0.72, 0, None)

    def roof_at(self, x: np.ndarray | float, y: np.ndarray | float = 0.0) -> np.ndarray:
        """Height of windscreen, roof and rear window; both windows bulge outward in the middle."""
        return np.interp(x + np.tanh(2 * (x - self.middle)) * 0.16 * (y / self.b) ** 2, self._x, self._roof)

    def cabin_at(self, z: np.ndarray | float) -> np.ndarray:
        """Half the cabin's width: its sides lean inward, more so in low cars."""
        lean = np.clip((z - self.boot) / (self.height - self.boot), 0, 1.5)
        return self.b * (0.93 - (0.19 if self.height < 1.6 else 0.14) * lean)

    def outside(self, points: np.ndarray) -> np.ndarray:
        """Below 0 inside the car, above 0 outside; (..., 3) to (...)."""
        x, y, z = points[..., 0], np.abs(points[..., 1]), points[..., 2]
        deck, bottom = self.deck_at(x), self.bottom_at(x)
        half = np.clip(deck - bottom, 0.1, None) / 2
        fenders = sum(np.exp(-(((x - axle) / 0.42) ** 2)) for axle in self.axles)
        crease = np.tanh(18 * (z - 0.55 * deck - 0.17))
        side = self.b * (0.975 - 0.10 * np.square(z - 0.62)) + 0.018 * fenders - 0.012 * crease
        # High powers instead of a maximum: that rounds the edges where two limits meet.
        ends = (np.abs(x) / self.a) ** np.where(x > 0, *self.blunt)
        body = ends + (y / side) ** 7 + np.abs((z - bottom - half) / half) ** 9 - 1
        rise = np.clip(z - self.core, 0, None) / np.clip(self.roof_at(x, y) - self.core, 1e-3, None)
        cabin = ends + (y / self.cabin_at(z)) ** 9 + rise**14 - 1
        return np.minimum(body, np.where(z > self.core + 0.02, cabin, 1))

    def reach(self, start: np.ndarray, direction: np.ndarray, length: float) -> np.ndarray:
        """The points (..., 3) where rays of this length leave the car, by halving.

        Starts (..., 3) must be inside and directions of unit length; (..., 3) or one for all.
        """
        low, high = np.zeros(start.shape[:-1]), np.full(start.shape[:-1], length)
        for _ in range(18):  # ends within 0.02 mm
            half = (low + high) / 2
            inside = self.outside(start + half[..., None] * direction) < 0
            low, high = np.where(inside, half, low), np.where(inside, high, half)
        return start + low[..., None] * direction

    def lay(self, drawing: np.ndarray, axis: int, sign: int) -> np.ndarray:
        """Lay a drawing onto the car.

        Args:
            drawing: (..., 2): (y, z) for the front and rear, (x, z) for the sides, (x, y) for the top.
            axis: 0, 1 or 2, along which it is pressed onto the surface.
            sign: from which side, 1 or -1.

        Returns:
            (..., 3) points on the surface. What is below the sill hangs straight down from it.
        """
        points = np.insert(drawing, axis, (self.middle, 0.0, self.core)[axis], axis=-1)
        below = np.minimum(points[..., 2] - self.sill, 0)
        points[..., 2] -= below
        points = self.reach(points, sign * np.eye(3)[axis], 4.0)
        points[..., 2] += below
        return points
