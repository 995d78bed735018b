"""The surface of a car's body as the zero level set of one function: a rounded box with a cabin on top of it."""

from typing import NamedTuple

import numpy as np

from pipeline.synthetic.car import Car


class Side(NamedTuple):
    """A side of the car from which drawings are projected onto the body: the direction ``sign`` × ``axis``."""

    axis: int
    """0 for x, 1 for y, 2 for z."""
    sign: int
    """1 or -1."""


FRONT, REAR, LEFT, RIGHT, TOP = Side(0, 1), Side(0, -1), Side(1, 1), Side(1, -1), Side(2, 1)


class BodySurface:
    """Implicit surface of a car's body, and projections onto it; all lengths in meters.

    Args:
        car: the dimensions.
    """

    def __init__(self, car: Car) -> None:
        shape = self.shape = car.shape
        self.half_length, self.half_width = shape.length / 2, shape.width / 2
        self.cabin_center_x = (shape.roof_front_x + shape.roof_rear_x) / 2
        self.axles = (0.305 * shape.length, -0.285 * shape.length)
        """Position x of the front and of the rear axle."""
        self.arch_radius = 1.16 * shape.wheel_radius
        self.sill_height = shape.clearance + 0.05
        """The lowest height at which the sides are still vertical."""
        self.core_height = (shape.clearance + shape.nose_height) / 2 + 0.03
        """A height that is inside the body along its whole length."""
        self._x = np.linspace(-self.half_length - 0.5, self.half_length + 0.5, 512)
        self._deck = self._profile(
            (-self.half_length, shape.trunk_height - 0.04),
            (shape.rear_window_x, shape.trunk_height),
            (shape.windshield_x, shape.cowl_height),
            (self.half_length - 0.3, shape.nose_height + 0.1),
            (self.half_length, shape.nose_height),
        )
        self._roof = self._profile(
            (shape.rear_window_x - 0.35, self.core_height),
            (shape.rear_window_x, shape.trunk_height - 0.03),
            (shape.roof_rear_x, shape.height - 0.05),
            (self.cabin_center_x, shape.height + 0.01),
            (shape.roof_front_x, shape.height - 0.05),
            (shape.windshield_x, shape.cowl_height - 0.03),
            (shape.windshield_x + 0.4, self.core_height),
        )
        hubs = np.array([[axle, 1.9 * shape.wheel_radius] for axle in self.axles])
        self.half_track = self.project(hubs, LEFT)[:, 1] - 0.045
        """(2,) half the distance between the outer faces of the wheels, front and rear axle."""

    def _profile(self, *knots: tuple[float, float]) -> np.ndarray:
        """Return heights at `_x` along a polyline through (x, z) knots, with rounded corners."""
        heights = np.interp(self._x, *np.array(knots).T)
        kernel = np.hanning(int(0.36 / (self._x[1] - self._x[0])) | 1)
        return np.convolve(np.pad(heights, len(kernel) // 2, mode="edge"), kernel / kernel.sum(), mode="valid")

    def deck_height(self, x: np.ndarray | float) -> np.ndarray:
        """Return the height of the hood, the belt line and the trunk lid at x."""
        height: np.ndarray = np.interp(x, self._x, self._deck)
        return height

    def bottom_height(self, x: np.ndarray | float) -> np.ndarray:
        """Return the height of the underside at x; it rises toward both ends, below the bumpers."""
        height: np.ndarray = self.shape.clearance + 0.40 * np.clip(np.abs(x) / self.half_length - 0.72, 0, None)
        return height

    def roof_height(self, x: np.ndarray | float, y: np.ndarray | float = 0.0) -> np.ndarray:
        """Return the height of windshield, roof and rear window at (x, y); both windows bulge in the middle."""
        bulge = np.tanh(2 * (x - self.cabin_center_x)) * 0.16 * (y / self.half_width) ** 2
        height: np.ndarray = np.interp(x + bulge, self._x, self._roof)
        return height

    def cabin_half_width(self, z: np.ndarray | float) -> np.ndarray:
        """Return half the cabin's width at height z; the sides lean inward, in low cars more than in tall ones."""
        trunk, height = self.shape.trunk_height, self.shape.height
        lean = np.clip((z - trunk) / (height - trunk), 0, 1.5)
        half_width: np.ndarray = self.half_width * (0.93 - (0.19 if height < 1.6 else 0.14) * lean)
        return half_width

    def implicit(self, points: np.ndarray) -> np.ndarray:
        """Evaluate the implicit function at points (..., 3).

        Returns:
            (...) float, negative inside the body and positive outside; not a distance.
        """
        x, y, z = points[..., 0], np.abs(points[..., 1]), points[..., 2]
        deck, bottom = self.deck_height(x), self.bottom_height(x)
        half = np.clip(deck - bottom, 0.1, None) / 2
        fenders = sum(np.exp(-(((x - axle) / 0.42) ** 2)) for axle in self.axles)
        crease = np.tanh(18 * (z - 0.55 * deck - 0.17))
        side = self.half_width * (0.975 - 0.10 * np.square(z - 0.62)) + 0.018 * fenders - 0.012 * crease
        # High powers instead of a maximum round the edges where two limits meet.
        ends = (np.abs(x) / self.half_length) ** np.where(x > 0, self.shape.front_exponent, self.shape.rear_exponent)
        body = ends + (y / side) ** 7 + np.abs((z - bottom - half) / half) ** 9 - 1
        above_core = np.clip(z - self.core_height, 0, None)
        rise = above_core / np.clip(self.roof_height(x, y) - self.core_height, 1e-3, None)
        cabin = ends + (y / self.cabin_half_width(z)) ** 9 + rise**14 - 1
        value: np.ndarray = np.minimum(body, np.where(z > self.core_height + 0.02, cabin, 1))
        return value

    def intersect(self, origins: np.ndarray, directions: np.ndarray, length: float) -> np.ndarray:
        """Find where rays leave the body, by bisection.

        Args:
            origins: (..., 3) points inside the body.
            directions: (..., 3) or (3,) unit vectors.
            length: length of the rays, meters; longer than the way out.

        Returns:
            (..., 3) points on the surface, inside it by at most length / 2**18.
        """
        low, high = np.zeros(origins.shape[:-1]), np.full(origins.shape[:-1], length)
        for _ in range(18):  # at the longest rays used, 4 m, the error is below 0.02 mm
            middle = (low + high) / 2
            inside = self.implicit(origins + middle[..., None] * directions) < 0
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        points: np.ndarray = origins + low[..., None] * directions
        return points

    def project(self, drawing: np.ndarray, side: Side) -> np.ndarray:
        """Project a drawing onto the body, parallel to an axis.

        Args:
            drawing: (..., 2): (y, z) for front and rear, (x, z) for left and right, (x, y) for the top.
            side: side of the car from which the drawing is projected.

        Returns:
            (..., 3) points on the surface. Points below the sill hang vertically below the sill's surface.
        """
        points = np.insert(drawing, side.axis, (self.cabin_center_x, 0.0, self.core_height)[side.axis], axis=-1)
        below_sill = np.minimum(points[..., 2] - self.sill_height, 0)
        points[..., 2] -= below_sill
        points = self.intersect(points, side.sign * np.eye(3)[side.axis], 4.0)
        points[..., 2] += below_sill
        return points
