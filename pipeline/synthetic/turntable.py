"""A car on a turntable in a light gray photo studio: renders images and masks from 16 views.

A view projects all faces of a car through a pinhole camera and paints them from back to front. Image and mask come from
the same faces.
"""

import cv2
import numpy as np

from pipeline.synthetic.car import Car
from pipeline.synthetic.faces import FaceKind
from pipeline.synthetic.scene import VIEWS, Box, Canvas, Scene
from pipeline.synthetic.studio import render_studio, shade_faces

SUPERSAMPLING = 2
"""Subpixels per pixel and axis. Faces have hard edges; averaging anti-aliases the image and decides the mask."""
NOISE_STD = 2.0
"""Standard deviation of the sensor noise; the image's range is 255."""

_INTERIOR_LIGHT = 0.62
"""Brightness inside the car relative to outside: the roof blocks light."""
_WHEEL_ARCH_COLOR = (9.0, 9.0, 10.0, 255.0)
_CIRCLE = np.linspace(0, 2 * np.pi, 48, endpoint=False)


def render_view(car: Car, view: int, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Render one view of a car.

    Args:
        car: the car and its studio.
        view: 1 to 16: 1 shows the front, 5 the car's left side, 9 the rear, 13 its right side.
        size: (width, height) of the image in pixels.
        rng: random generator of the sensor noise.

    Returns:
        The image, (height, width, 3) uint8 RGB, and the mask, (height, width) bool: the pixels of which the car covers
        at least half. Windows and wheels belong to the car, shadow and reflection do not.

    Raises:
        ValueError: there is no such view.
    """
    if not 1 <= view <= VIEWS:
        raise ValueError(f"view is {view}; expected 1 to {VIEWS}")
    width, height = size
    scene = Scene(car, view, size)
    left, top, right, bottom = box = scene.bounding_box()
    car_rgba, car_mask = _render_car(scene, box)
    image = render_studio(scene)
    part = image[top:bottom, left:right]
    part *= 1 - car_rgba[..., 3:].astype(np.float32) / 255
    part += car_rgba[..., :3]
    image += NOISE_STD * rng.standard_normal((height, width, 1), dtype=np.float32)
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = car_mask
    return np.clip(image + 0.5, 0, 255).astype(np.uint8), mask


def _render_car(scene: Scene, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Render the car without the studio.

    Returns:
        For the pixels of `box`: (h, w, 4) uint8 color, premultiplied by opacity, and opacity; and (h, w) bool mask.
    """
    faces = scene.faces
    corners, normals = scene.to_studio(faces.corners), faces.normals @ scene.rotation.T
    centers = corners.mean(1)
    z_order = faces.depth_biases - np.linalg.norm(centers - scene.eye, axis=1)
    front_facing = (faces.planes @ scene.rotation.T * (scene.eye - centers)).sum(1) > 0

    # The lower layer is visible through windows and wheel arches and below the body; the upper layer is the outside.
    lower, upper = Canvas(scene, box, SUPERSAMPLING), Canvas(scene, box, SUPERSAMPLING)
    _paint_wheels(lower, front_facing=False)

    # Through the windows: the seats, and the inside of the cabin on the far side.
    cabin = (faces.kinds == FaceKind.BODY) & (faces.corners[:, 0, 2] > scene.surface.core_height)
    interior = np.where(front_facing, faces.kinds == FaceKind.SEAT, (faces.kinds == FaceKind.GLASS) | cabin)
    materials = faces.materials[interior]
    materials[faces.kinds[interior] == FaceKind.BODY] = (*scene.car.seats, 0, 1)
    colors = shade_faces(centers[interior], normals[interior], materials, scene.eye)
    colors[:, :3] *= _INTERIOR_LIGHT
    lower.paint_faces(corners[interior], z_order[interior], colors)

    arches = front_facing & (faces.kinds == FaceKind.WHEEL_ARCH)
    arch_corners = faces.corners[arches]
    arch_corners[..., 2] = np.maximum(arch_corners[..., 2], scene.surface.sill_height)
    arch_colors = np.tile(_WHEEL_ARCH_COLOR, (len(arch_corners), 1))
    lower.paint_faces(scene.to_studio(arch_corners), z_order[arches], arch_colors)
    _paint_wheels(lower, front_facing=True)

    outside = front_facing & (faces.kinds != FaceKind.SEAT)
    colors = shade_faces(centers[outside], normals[outside], faces.materials[outside], scene.eye)
    upper.paint_faces(corners[outside], z_order[outside], colors)
    return _composite(upper.pixels, lower.pixels)


def _composite(upper: np.ndarray, lower: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Composite two layers (height, width, 4) uint8, overwriting `upper`, and average subpixels.

    Returns:
        As `_render_car`.
    """
    covered = (upper[..., 3] | lower[..., 3]) > 0
    transparent = np.nonzero(covered & (upper[..., 3] < 255))
    above, below = upper[transparent].astype(np.float32), lower[transparent].astype(np.float32)
    opacity = above[:, 3:] / 255
    below[:, :3] *= below[:, 3:] / 255
    above[:, :3] *= opacity
    upper[transparent] = above + (1 - opacity) * below + 0.5
    size = (upper.shape[1] // SUPERSAMPLING, upper.shape[0] // SUPERSAMPLING)
    mask: np.ndarray = cv2.resize(covered.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    return cv2.resize(upper, size, interpolation=cv2.INTER_AREA), mask


def _paint_wheels(canvas: Canvas, front_facing: bool) -> None:
    """Paint the wheels whose outer face is turned toward the camera, or the others, of which only the inside shows."""
    scene, surface = canvas.scene, canvas.scene.surface
    wheels = [
        (axle, sign * half, sign)
        for axle, half in zip(surface.axles, surface.half_track, strict=True)
        for sign in (-1, 1)
    ]
    wheels.sort(key=lambda wheel: -scene.to_studio(np.array([*wheel[:2], 0]))[1])
    for axle, y, sign in wheels:
        outward = scene.rotation @ (0, sign, 0)
        hub = scene.to_studio(np.array([axle, y, scene.car.shape.wheel_radius]))
        if ((scene.eye - hub) @ outward > 0) != front_facing:
            continue
        tire = [_wheel_points(scene, axle, y, 1), _wheel_points(scene, axle, y - sign * 0.21, 0.99)]
        canvas.paint_hull(np.concatenate(tire), 24)
        if front_facing:
            _paint_rim(canvas, axle, y, 255 * scene.car.rim * (0.80 - 0.25 * outward[1]))


def _paint_rim(canvas: Canvas, axle: float, y: float, gray: float) -> None:
    """Paint the outer face of a wheel: sidewall, rim in `gray` (0 to 255), brake disc, spokes and hub."""
    scene, car = canvas.scene, canvas.scene.car
    for radius, ring_gray in ((0.96, 38), (0.72, gray), (0.66, 20), (0.42, 75)):
        canvas.paint_hull(_wheel_points(scene, axle, y, radius), ring_gray)
    for angle in 2 * np.pi * np.arange(car.spokes) / car.spokes + 0.4 * axle:
        outer = angle + 0.75 * car.spoke_width / car.spokes * np.array([-1, 1])
        inner = angle + np.array([-1.2, 1.2])
        spoke = [_wheel_points(scene, axle, y, 0.69, outer), _wheel_points(scene, axle, y, 0.13, inner)]
        canvas.paint_hull(np.concatenate(spoke), gray * (0.85 + 0.15 * np.sin(angle + 0.7)))
    canvas.paint_hull(_wheel_points(scene, axle, y, 0.15), gray)
    canvas.paint_hull(_wheel_points(scene, axle, y, 0.07), 60)


def _wheel_points(scene: Scene, axle: float, y: float, radius: float, angles: np.ndarray = _CIRCLE) -> np.ndarray:
    """Return points (n, 3), in studio coordinates, on a circle around a wheel's axis.

    Args:
        scene: the view.
        axle: position of the axle, x in car coordinates, meters.
        y: position along the axle, y in car coordinates, meters.
        radius: radius of the circle relative to the wheel's.
        angles: (n,) angles around the axle, radians.
    """
    wheel = scene.car.shape.wheel_radius
    x, z = axle + radius * wheel * np.cos(angles), wheel + radius * wheel * np.sin(angles)
    return scene.to_studio(np.stack([x, 0 * angles + y, z], axis=-1))
