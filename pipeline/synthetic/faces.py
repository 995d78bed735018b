"""Quadrilateral faces with materials, and a builder that assembles a car from solids and decals.

A decal is a flat drawing that is projected onto the body, such as a window or a light.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from pipeline.synthetic.surface import BodySurface, Side

Point = tuple[float, float]
"""A point of a drawing; see `BodySurface.project`."""
Interval = tuple[float, float]
Line = Sequence[Point] | np.ndarray
"""(n, 2) points of a drawing."""
Vector = Sequence[float] | np.ndarray
"""(3,) in the car's coordinates."""

_FACE_SIZE = 0.09
"""Longest edge of a decal's faces, meters: small faces get the right z-order and follow the body."""
_SEAM_HALF_WIDTH = 0.0055


class FaceKind(IntEnum):
    """The role of a face; it decides in which layer of the image the face is painted."""

    BODY = 0
    GLASS = 1
    DETAIL = 2
    SEAT = 3
    WHEEL_ARCH = 4


class Material(NamedTuple):
    """Appearance of a face."""

    red: float
    """Albedo in linear light, 0 to 1; green and blue likewise."""
    green: float
    blue: float
    specular: float = 0.0
    """Specular reflectance at normal incidence, 0 to 1."""
    opacity: float = 1.0


BLACK_TRIM = Material(0.012, 0.012, 0.013, specular=0.02)
SEAM = Material(0.006, 0.006, 0.006)
CHROME = Material(0.12, 0.12, 0.12, specular=0.65)
STEEL = Material(0.06, 0.06, 0.06, specular=0.10)
LAMP_GLASS = Material(0.10, 0.105, 0.11, specular=0.22)
WHITE_LIGHT = Material(0.78, 0.79, 0.80, specular=0.15)
RED_LIGHT = Material(0.30, 0.005, 0.006, specular=0.06)
AMBER_LIGHT = Material(0.55, 0.16, 0.01, specular=0.06)
WINDOW_GLASS = Material(0.010, 0.012, 0.012, specular=0.05)
TRANSPARENT = Material(0, 0, 0, opacity=0)


class Faces(NamedTuple):
    """n quadrilateral faces in the car's coordinates, meters."""

    corners: np.ndarray
    """(n, 4, 3) float64."""
    planes: np.ndarray
    """(n, 3) float64, outward unit normals of the flat faces, for back-face culling."""
    normals: np.ndarray
    """(n, 3) float64, unit normals of the curved surface that the faces approximate, for shading."""
    materials: np.ndarray
    """(n, 5) float64, see `Material`."""
    kinds: np.ndarray
    """(n,) int64, see `FaceKind`."""
    depth_biases: np.ndarray
    """(n,) float64, meters by which a face counts as nearer, so that a decal is painted after the face below it."""


class FaceBuilder:
    """Collects the faces of one car.

    Args:
        surface: the body onto which decals are projected.
    """

    def __init__(self, surface: BodySurface) -> None:
        self.surface = surface
        self._parts: list[Faces] = []
        self._decals: dict[Side, list[_Decal]] = {}

    def build(self) -> Faces:
        """Return all faces: the solids in the order in which they were added, then the decals of each side."""
        for side, decals in self._decals.items():
            # One projection for all decals of a side is many times faster than one for each.
            points = self.surface.project(np.concatenate([decal.drawing.reshape(-1, 2) for decal in decals]), side)
            ends = np.cumsum([decal.drawing[..., 0].size for decal in decals])
            for part, decal in zip(np.split(points, ends[:-1]), decals, strict=True):
                grid = part.reshape(*decal.drawing.shape[:2], 3)
                self.add_grid(grid, decal.material, decal.kind, decal.depth_bias)
        self._decals.clear()
        return Faces(*(np.concatenate(arrays) for arrays in zip(*self._parts, strict=True)))

    def add_grid(
        self, grid: np.ndarray, material: Material, kind: FaceKind, depth_bias: float, center: Vector = (0, 0, 0.6)
    ) -> Faces:
        """Add the faces between neighboring points of a (rows, columns, 3) grid, facing away from `center`.

        Returns:
            The new faces, row by row; changes of their arrays apply to the result of `build`.
        """
        corners = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2).reshape(-1, 4, 3)
        normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        normals *= np.sign((normals * (corners.mean(1) - np.asarray(center))).sum())
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        n = len(corners)
        style = np.tile(material, (n, 1)), np.full(n, int(kind)), np.full(n, depth_bias)
        self._parts.append(Faces(corners, normals, normals.copy(), *style))
        return self._parts[-1]

    def add_superellipsoid(
        self,
        center: Vector,
        radii: Vector,
        material: Material,
        depth_bias: float = 0.0,
        kind: FaceKind = FaceKind.DETAIL,
        power: float = 0.5,
    ) -> None:
        """Add a closed solid between a box (power near 0) and an ellipsoid (power 1)."""
        latitude, longitude = np.linspace(-np.pi / 2, np.pi / 2, 9)[:, None], np.linspace(0, 2 * np.pi, 17)
        waves = (np.cos(latitude), np.sin(latitude), np.cos(longitude), np.sin(longitude))
        cos_lat, sin_lat, cos_lon, sin_lon = (np.sign(wave) * np.abs(wave) ** power for wave in waves)
        unit = np.stack(np.broadcast_arrays(cos_lat * cos_lon, cos_lat * sin_lon, sin_lat), axis=-1)
        self.add_grid(unit * np.asarray(radii) + np.asarray(center), material, kind, depth_bias, center)

    def add_tube(self, line: np.ndarray, radius: float, material: Material, depth_bias: float) -> None:
        """Add a tube along a polyline (n, 3), which is nearly straight."""
        along = line[-1] - line[0]
        across = np.cross(along, (0.3, 0.5, 0.8))
        across /= np.linalg.norm(across)
        other = np.cross(along, across) / np.linalg.norm(along)
        angles = np.linspace(0, 2 * np.pi, 7)[:, None]
        grid = line[:, None] + radius * (np.cos(angles) * across + np.sin(angles) * other)
        self.add_grid(grid, material, FaceKind.DETAIL, depth_bias, line.mean(0))

    def add_decal(
        self,
        side: Side,
        lower: Line,
        upper: Line,
        material: Material,
        layer: int = 1,
        kind: FaceKind = FaceKind.DETAIL,
    ) -> None:
        """Add the area between two polylines of equally many points; higher layers cover lower ones."""
        low, high = np.array(lower, dtype=float), np.array(upper, dtype=float)
        longest = max(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in (low, high))
        columns = 1 + max(2, int(np.ceil(longest / _FACE_SIZE)))
        rows = 1 + max(1, int(np.ceil(np.abs(high - low).max() / _FACE_SIZE)))
        knots, at = np.linspace(0, 1, len(low)), np.linspace(0, 1, columns)
        low, high = (np.stack([np.interp(at, knots, line[:, i]) for i in (0, 1)], axis=-1) for line in (low, high))
        fraction = np.linspace(0, 1, rows)[:, None, None]
        drawing = low + fraction * (high - low)
        self._decals.setdefault(side, []).append(_Decal(drawing, material, kind, 0.08 + 0.12 * layer))

    def add_rectangle(self, side: Side, u: Interval, v: Interval, material: Material, layer: int = 1) -> None:
        """Add a decal from ``u[0]`` to ``u[1]`` along the drawing's first axis and from ``v[0]`` to ``v[1]``."""
        self.add_decal(side, [(u[0], v[0]), (u[1], v[0])], [(u[0], v[1]), (u[1], v[1])], material, layer)

    def add_seam(self, side: Side, *points: Point) -> None:
        """Add the gap between two metal sheets along a polyline."""
        knots = np.array(points, dtype=float)
        along = np.gradient(knots, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=-1) / np.linalg.norm(along, axis=1, keepdims=True)
        self.add_decal(side, knots - _SEAM_HALF_WIDTH * across, knots + _SEAM_HALF_WIDTH * across, SEAM)


class _Decal(NamedTuple):
    drawing: np.ndarray
    """(rows, columns, 2) points."""
    material: Material
    kind: FaceKind
    depth_bias: float
