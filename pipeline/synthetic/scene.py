"""One view of a car: the pinhole camera, the pose on the turntable, and a canvas for polygons.

Studio coordinates are in meters: the turntable's center is the origin, z points up, and the camera stands at negative y
and looks along y.
"""

import cv2
import numpy as np

from pipeline.synthetic.bodywork import build_bodywork
from pipeline.synthetic.car import Car

VIEWS = 16
"""Views of each car, 22.5° apart."""

FIXED_POINT_BITS = 4
"""Fractional bits of the positions that `fixed_point` returns; the argument ``shift`` of OpenCV's functions."""

_FULL_SIZE = (1918, 1280)
_FOCAL_LENGTH = 2160.0
"""In pixels, for images of `_FULL_SIZE`."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the image."""


class Scene:
    """The camera and the pose of a car in one view.

    Args:
        car: the car and its studio.
        view: 1 to `VIEWS`.
        size: (width, height) of the image in pixels.
    """

    def __init__(self, car: Car, view: int, size: tuple[int, int]) -> None:
        self.car, self.size = car, size
        # The nose turns to the left from view to view, toward view 5.
        angle = -np.pi / 2 - 2 * np.pi * (view - 1) / VIEWS
        self.rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        self.eye = np.array([0.0, -car.distance, car.camera_height])
        forward = np.array([0, 0, car.aim]) - self.eye
        forward /= np.linalg.norm(forward)
        right = np.array([1.0, 0, 0])
        self.camera_axes = np.stack([right, np.cross(forward, right), forward])
        """(3, 3): unit vectors to the right, down and forward."""
        self.scale = min(size[0] / _FULL_SIZE[0], size[1] / _FULL_SIZE[1])
        """Size of the image relative to the competition's."""
        self.focal_length = _FOCAL_LENGTH * self.scale
        self.surface, self.faces = build_bodywork(car, fine=self.scale > 0.55)

    def to_studio(self, points: np.ndarray) -> np.ndarray:
        """Convert points (..., 3) from the car's to the studio's coordinates."""
        studio: np.ndarray = (points + (*self.car.offset, 0)) @ self.rotation.T
        return studio

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project studio points (..., 3) to pixels (..., 2); (0, 0) is the image's upper left corner."""
        camera = (points - self.eye) @ self.camera_axes.T
        pixels: np.ndarray = self.focal_length * camera[..., :2] / camera[..., 2:] + np.array(self.size) / 2
        return pixels

    def bounding_box(self) -> Box:
        """Return a box around the car, clipped to the image."""
        # Every point of a grid is the first or the third corner of a face.
        points = self.faces.corners[:, ::2].reshape(-1, 3)
        wheels = points * (1, 1, 0)  # the wheels are lower than all faces, but not farther out
        pixels = self.project(self.to_studio(np.concatenate([points, wheels])))
        left, top = np.clip(np.floor(pixels.min(0)) - 2, 0, self.size).astype(int).tolist()
        right, bottom = np.clip(np.ceil(pixels.max(0)) + 2, 0, self.size).astype(int).tolist()
        return left, top, right, bottom


def fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Round positions in pixels to int32 fixed-point numbers for OpenCV's drawing functions."""
    rounded: np.ndarray = np.round(pixels * 2**FIXED_POINT_BITS)
    return rounded.astype(np.int32)


class Canvas:
    """A scaled part of the image on which polygons are painted.

    Args:
        scene: projects the polygons.
        box: the part of the image.
        scale: pixels of the canvas per pixel of the image.
    """

    def __init__(self, scene: Scene, box: Box, scale: float) -> None:
        self.scene, self.scale, self.origin = scene, scale, box[:2]
        width, height = (int(np.ceil((box[i + 2] - box[i]) * scale)) for i in (0, 1))
        self.pixels = np.zeros((height, width, 4), dtype=np.uint8)
        """(height, width, 4) uint8: red, green, blue, opacity."""

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Convert studio points (..., 3) to int32 fixed-point positions (..., 2) on the canvas."""
        # Integers are the centers of pixels in OpenCV, but their corners in the projection.
        return fixed_point((self.scene.project(points) - self.origin) * self.scale - 0.5)

    def paint_faces(self, corners: np.ndarray, z_order: np.ndarray, colors: np.ndarray) -> None:
        """Paint faces from back to front (painter's algorithm).

        Args:
            corners: (n, 4, 3) studio points.
            z_order: (n,) faces with larger values are painted later.
            colors: (n, 4) red, green, blue and opacity, 0 to 255.
        """
        order = np.argsort(z_order, kind="stable")
        for face, color in zip(self.locate(corners[order]), colors[order].tolist(), strict=True):
            cv2.fillConvexPoly(self.pixels, face, color, cv2.LINE_8, FIXED_POINT_BITS)

    def paint_hull(self, points: np.ndarray, gray: float) -> None:
        """Paint the convex hull of studio points (n, 3) in one opaque gray, 0 to 255."""
        hull = cv2.convexHull(self.locate(points))
        cv2.fillConvexPoly(self.pixels, hull, (gray, gray, gray, 255), cv2.LINE_8, FIXED_POINT_BITS)
