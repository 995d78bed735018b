"""The light of the photo studio: shaded faces, wall and floor, and the shadow and reflection of a car on the floor."""

from functools import lru_cache

import cv2
import numpy as np

from pipeline.synthetic.car import Car
from pipeline.synthetic.faces import FaceKind
from pipeline.synthetic.scene import FIXED_POINT_BITS, VIEWS, Canvas, Scene, fixed_point

COARSE = 4
"""Wall, shadow and reflection are soft: they are drawn at 1 / `COARSE` of the image's size."""

_WALL_DISTANCE = 6.2
"""From the turntable's center to the wall, meters."""
_WALL_CENTER = 9.0
"""Distance from the turntable's center toward the camera of the center of the cylindrical wall."""
_TURNTABLE_RADIUS = 3.35
_SHADOWS = ((0.12, 0.45, 0.38), (-0.03, 0.14, 0.50), (-0.12, 0.05, 0.25))
"""Margin around the car's outline, standard deviation of the blur (both in meters), opacity."""
_REFLECTANCE = 0.2
"""Reflectance of the floor, 0 to 1."""


def shade_faces(points: np.ndarray, normals: np.ndarray, materials: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Compute the colors of faces: diffuse light and reflections of the studio.

    Args:
        points: (n, 3) centers of the faces in the studio.
        normals: (n, 3) unit normals in the studio.
        materials: (n, 5), see `pipeline.synthetic.faces.Material`.
        eye: (3,) position of the camera in the studio.

    Returns:
        (n, 4) float64: red, green, blue (gamma 2.2) and opacity, 0 to 255.
    """
    to_eye = eye - points
    to_eye /= np.linalg.norm(to_eye, axis=1, keepdims=True)
    cosine = (to_eye * normals).sum(1, keepdims=True)
    reflected = 2 * cosine * normals - to_eye
    albedo, specular = materials[:, :3], materials[:, 3:4]
    fresnel = specular + (1 - specular) * 0.85 * (1 - np.abs(cosine)) ** 5 * (specular > 0)
    linear = np.clip(albedo * _diffuse_light(points, normals) + fresnel * _environment(reflected), 0, 1)
    return np.concatenate([255 * linear ** (1 / 2.2), 255 * materials[:, 4:]], axis=1)


def _diffuse_light(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return (n, 1) light from above and from the camera's side, less near the floor."""
    key = np.clip(normals @ (-0.35, -0.75, 0.55), 0, None)[:, None]
    light: np.ndarray = (0.41 + 0.32 * normals[:, 2:] + 0.29 * key) * (0.62 + 0.38 * np.clip(points[:, 2:] / 0.7, 0, 1))
    return light


def _environment(directions: np.ndarray) -> np.ndarray:
    """Return (n, 1) brightness of the studio in unit directions (n, 3): floor, wall, dim ceiling with two lamps.

    The appearance of a car consists mostly of these reflections.
    """
    up = directions[:, 2:]
    floor = 0.30 - 0.20 * np.clip(-up, 0, 1)
    # The camera's side of the room is dim, so that the car's sides show their paint.
    wall = 0.45 + 0.50 * np.clip(0.4 + 0.9 * directions[:, 1:2], 0, 1)
    lamps = np.exp(-(((np.abs(directions[:, :1]) - 0.30) / 0.16) ** 2))
    brightness: np.ndarray = (
        floor + (wall - floor) * _sigmoid(up, 0.05, 9) + (0.40 - wall + 1.4 * lamps) * _sigmoid(up, 0.62, 12)
    )
    return brightness


def _sigmoid(values: np.ndarray, center: float, steepness: float) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-steepness * (values - center)))
    return result


def render_studio(scene: Scene) -> np.ndarray:
    """Render the studio with the car's shadow and reflection, without the car.

    Returns:
        (height, width, 3) float32 RGB, 0 to 255.
    """
    soft, ink = _backdrop(scene.car, scene.size)
    image = _add_reflection(_add_shadow(soft.copy(), scene), scene)
    upsampled = cv2.resize(image, None, fx=COARSE, fy=COARSE, interpolation=cv2.INTER_LINEAR)
    studio: np.ndarray = upsampled[: scene.size[1], : scene.size[0]] * ink
    return studio


def _coarse_canvas(scene: Scene) -> Canvas:
    return Canvas(scene, (0, 0, *scene.size), 1 / COARSE)


def _blur(pixels: np.ndarray, meters: float, scene: Scene) -> np.ndarray:
    sigma = meters * (scene.focal_length / COARSE / scene.car.distance)
    return cv2.GaussianBlur(pixels, (0, 0), max(0.3, sigma))


def _add_shadow(image: np.ndarray, scene: Scene) -> np.ndarray:
    """Darken the floor below the car: several blurred outlines, from wide and soft to narrow and sharp."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=-1)
    surface = scene.surface
    for margin, blur, opacity in _SHADOWS:
        canvas = _coarse_canvas(scene)
        radii = (surface.half_length + margin, surface.half_width + margin, 0)
        canvas.paint_hull(scene.to_studio(np.sign(circle) * np.abs(circle) ** 0.4 * radii), 255)
        shadow = _blur(canvas.pixels[..., :1].astype(np.float32), blur, scene)
        image *= 1 - opacity / 255 * shadow[..., None]
    return image


def _add_reflection(image: np.ndarray, scene: Scene) -> np.ndarray:
    """Blend the mirror image of the car into the floor: the car as it looks from below the floor."""
    canvas, faces = _coarse_canvas(scene), scene.faces
    eye = scene.eye * (1, 1, -1)
    corners, normals = scene.to_studio(faces.corners), faces.normals @ scene.rotation.T
    centers = corners.mean(1)
    visible = (faces.planes @ scene.rotation.T * (eye - centers)).sum(1) > 0
    visible &= (faces.kinds == FaceKind.BODY) | (faces.kinds == FaceKind.DETAIL)
    visible &= centers[:, 2] < 1  # the reflection of higher parts is too weak to be seen
    corners, centers = corners[visible], centers[visible]
    colors = shade_faces(centers, normals[visible], faces.materials[visible], eye)
    colors *= np.exp(-centers[:, 2:] / 0.6)  # the reflection fades with the height of the part
    canvas.paint_faces(corners * (1, 1, -1), -np.linalg.norm(centers - eye, axis=1), colors)
    reflection = _REFLECTANCE * _blur(canvas.pixels, 0.05, scene).astype(np.float32)
    blended: np.ndarray = image * (1 - reflection[..., 3:] / 255) + reflection[..., :3]
    return blended


@lru_cache(maxsize=2)
def _backdrop(car: Car, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Render the empty studio; cached, because it is the same in all views of a car.

    Returns:
        Wall and floor, (h, w, 3) float32, 0 to 255, at 1 / `COARSE` of the size; and the sharp lines on them,
        (height, width, 1) float32, 0 to 1, by which the image is multiplied.
    """
    rng = np.random.Generator(np.random.PCG64(car.studio))
    scene = Scene(car, 1, size)
    return _wall_and_floor(scene, rng), _ink(scene, rng)


def _wall_and_floor(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    width, height = scene.size
    w, h = -(-width // COARSE), -(-height // COARSE)
    u, v = np.meshgrid((np.arange(w) + 0.5) * COARSE - width / 2, (np.arange(h) + 0.5) * COARSE - height / 2)
    rays = np.stack([u, v, np.full_like(u, scene.focal_length)], axis=-1) @ scene.camera_axes
    u, v = u / width, v / height  # from here on -0.5 to 0.5
    ground = scene.eye + rays * (scene.eye[2] / np.maximum(-rays[..., 2:], 1e-6))
    radius = np.hypot(ground[..., 0], ground[..., 1])
    behind_wall = np.hypot(ground[..., 0], ground[..., 1] + _WALL_CENTER) - _WALL_CENTER - _WALL_DISTANCE
    on_wall = np.clip(behind_wall / 0.5, 0, 1) * (ground[..., 1] > -_WALL_CENTER)

    stains = cv2.resize(rng.standard_normal((6, 9)), (w, h), interpolation=cv2.INTER_CUBIC)
    floor = rng.uniform(166, 190) + 10 * np.exp(-((radius / 2.5) ** 2)) - 12 * np.clip(radius / _WALL_DISTANCE, 0, 1.2)
    floor += 3 * (radius < _TURNTABLE_RADIUS) + 3 * stains
    wall = rng.uniform(226, 240) - 16 * v
    for side in (-1, 1):  # light panels above the turntable
        wall += 16 * np.exp(-(((u - side * rng.uniform(0.30, 0.42)) / 0.16) ** 2) - ((v + 0.48) / 0.2) ** 2)
    gray = floor + (np.minimum(wall, 252) - floor) * on_wall
    gray *= 1 - rng.uniform(0.1, 0.24) * (u**2 + v**2)  # vignetting
    cast = 1 + rng.uniform(-0.006, 0.006, 3) + rng.uniform(-0.01, 0.012) * np.outer(1 - on_wall, (-1, 0, 1))
    image: np.ndarray = gray[..., None] * cast.reshape(h, w, 3)
    return image.astype(np.float32)


def _ink(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw the sign on the wall and the lines of the turntable."""
    width, height = scene.size
    ink = np.full((height, width), 255, np.uint8)

    def draw(points: np.ndarray, gray: int, thickness: float) -> None:
        line, pixels = fixed_point(scene.project(points)), max(1, round(thickness * scene.scale))
        cv2.polylines(ink, [line], False, gray, pixels, cv2.LINE_AA, FIXED_POINT_BITS)

    # The dark strokes of the sign touch the car's outline.
    text, font, font_scale = "TURNTABLE", cv2.FONT_HERSHEY_SIMPLEX, 9.3 * scene.scale
    thickness = max(1, round(24 * scene.scale))
    (text_width, _), _ = cv2.getTextSize(text, font, font_scale, thickness)
    x = (width - text_width) / 2 + rng.uniform(-60, 60) * scene.scale
    y = height / 2 - rng.uniform(90, 115) * scene.scale
    gray = int(rng.uniform(80, 120))
    cv2.putText(ink, text, (round(x), round(y)), font, font_scale, gray, thickness, cv2.LINE_AA)
    angles = np.linspace(0, 2 * np.pi, 12 * VIEWS + 1)[:, None]
    circle = np.concatenate([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    draw(_TURNTABLE_RADIUS * circle, 105, 3)
    draw((_TURNTABLE_RADIUS + 0.02) * circle, 190, 3)
    # As many seams between the turntable's boards as views, so that they look the same in every view.
    for end in circle[:-1:12]:
        draw(np.stack([0.9 * end, _TURNTABLE_RADIUS * end]), 226, 1.6)
    return ink[..., None].astype(np.float32) / 255
