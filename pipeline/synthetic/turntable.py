"""A turntable in a light-grey photo studio: renders the practice data's cars from 16 sides.

A view projects all faces of a car through a pinhole camera and paints them from back to front; picture and mask come
from the same faces. The camera stands at -y and looks along y over the turntable's middle; z is up, lengths are metres.
"""

from functools import lru_cache

import cv2
import numpy as np

from pipeline.synthetic.bodywork import ARCH, GLASS, PATCH, SEAT, SKIN, build
from pipeline.synthetic.car import Car, Surface

__all__ = ["VIEWS", "Car", "render_view"]

VIEWS = 16
SUPERSAMPLE = 2
"""Sub-pixels per pixel and axis: faces have hard edges, averaging smooths the picture and decides the mask."""
COARSE = 4
"""Walls, shadows and reflections are soft: they are drawn at this fraction of the size."""
NOISE = 2.0
"""Standard deviation of the sensor's noise, of 255."""

_FOCAL = 2160.0  # pixels, in a picture of 1918×1280
_SHIFT = 4  # binary digits after the point in OpenCV's drawing functions
_WALL = 6.2  # from the turntable's middle to the wall
_BOW = 9.0  # how far before that middle the round wall has its own
_DISC = 3.35  # radius of the turntable
_AROUND = np.linspace(0, 2 * np.pi, 48, endpoint=False)

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the picture."""


def render_view(car: Car, view: int, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Photograph a car.

    Args:
        car: the car and its studio.
        view: 1 to 16: 1 shows the front, 5 the car's left side, 9 the rear, 13 its right side.
        size: (width, height) of the picture in pixels.
        rng: for the sensor's noise only.

    Returns:
        The picture, (height, width, 3) uint8 RGB, and the mask, (height, width) bool: the pixels of which the car, with
        windows and wheels, without shadow and reflection, covers at least half.
    """
    if not 1 <= view <= VIEWS:
        raise ValueError(f"view is {view}; expected 1 to {VIEWS}")
    width, height = size
    scene = _Scene(car, view, size)
    box = scene.frame()
    colour, cover = _car(scene, box)
    picture = _studio(scene)
    left, top, right, bottom = box
    part = picture[top:bottom, left:right]
    part *= 1 - colour[..., 3:].astype(np.float32) / 255
    part += colour[..., :3]
    picture += NOISE * rng.standard_normal((height, width, 1), dtype=np.float32)
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = cover
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8), mask


class _Scene:
    """The camera and the car's pose in one view."""

    def __init__(self, car: Car, view: int, size: tuple[int, int]) -> None:
        self.car, self.size = car, size
        # The car's nose goes left from view to view, towards view 5.
        angle = -np.pi / 2 - 2 * np.pi * (view - 1) / VIEWS
        self.turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        self.eye = np.array([0.0, -car.distance, car.camera_height])
        forward = np.array([0, 0, car.aim]) - self.eye
        forward /= np.linalg.norm(forward)
        right = np.array([1.0, 0, 0])
        self.axes = np.stack([right, np.cross(forward, right), forward])
        self.unit = min(size[0] / 1918, size[1] / 1280)
        self.focal = _FOCAL * self.unit
        self.surface, self.faces = build(car, fine=self.unit > 0.55)

    def place(self, points: np.ndarray) -> np.ndarray:
        """From the car's coordinates (..., 3) to the studio's."""
        return (points + (*self.car.offset, 0)) @ self.turn.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """From the studio's coordinates (..., 3) to pixels (..., 2); (0, 0) is the picture's upper left corner."""
        seen = (points - self.eye) @ self.axes.T
        return self.focal * seen[..., :2] / seen[..., 2:] + np.array(self.size) / 2

    def frame(self) -> Box:
        """A box around the car, inside the picture."""
        points = self.faces.corners[:, ::2].reshape(-1, 3)  # every point is the first or third corner of some face
        wheels = points * (1, 1, 0)  # which reach lower than all faces, but no farther
        pixels = self.project(self.place(np.concatenate([points, wheels])))
        low = np.clip(np.floor(pixels.min(0)) - 2, 0, self.size).astype(int).tolist()
        high = np.clip(np.ceil(pixels.max(0)) + 2, 0, self.size).astype(int).tolist()
        return (*low, *high)


class _Canvas:
    """A part of the picture, scaled, to paint on: red, green, blue and opacity, (height, width, 4) uint8."""

    def __init__(self, scene: _Scene, box: Box, scale: float) -> None:
        self.scene, self.scale, self.origin = scene, scale, box[:2]
        width, height = (int(np.ceil((box[i + 2] - box[i]) * scale)) for i in (0, 1))
        self.pixels = np.zeros((height, width, 4), dtype=np.uint8)

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Studio points (..., 3) to int32 fixed-point positions (..., 2) on the canvas."""
        # Whole numbers are the middles of pixels to OpenCV and their corners to the projection.
        position = (self.scene.project(points) - self.origin) * self.scale - 0.5
        return np.round(position * 2**_SHIFT).astype(np.int32)

    def paint(self, corners: np.ndarray, nearness: np.ndarray, colours: np.ndarray) -> None:
        """Paint faces from back to front: (n, 4, 3) in the studio, (n,), (n, 4) from 0 to 255."""
        order = np.argsort(nearness, kind="stable")
        for face, colour in zip(self.locate(corners[order]), colours[order].tolist(), strict=True):
            cv2.fillConvexPoly(self.pixels, face, colour, cv2.LINE_8, _SHIFT)

    def hull(self, points: np.ndarray, grey: float) -> None:
        """Paint the convex outline of studio points (n, 3) in an even grey."""
        outline = cv2.convexHull(self.locate(points))
        cv2.fillConvexPoly(self.pixels, outline, (grey, grey, grey, 255), cv2.LINE_8, _SHIFT)


def _car(scene: _Scene, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """The car alone: (h, w, 4) uint8 colour, already multiplied by its opacity, and (h, w) bool coverage, of `box`."""
    surface, faces = scene.surface, scene.faces
    corners, normals = scene.place(faces.corners), faces.normals @ scene.turn.T
    middles = corners.mean(1)
    nearness = faces.bias - np.linalg.norm(middles - scene.eye, axis=1)
    facing = (faces.planes @ scene.turn.T * (scene.eye - middles)).sum(1) > 0

    # Two layers: what is seen through windows and wheel arches and below the body, and the outside over it.
    under, over = _Canvas(scene, box, SUPERSAMPLE), _Canvas(scene, box, SUPERSAMPLE)
    _wheels(under, surface, facing=False)
    walls = (faces.kind == GLASS) | ((faces.kind == SKIN) & (faces.corners[:, 0, 2] > surface.core))
    inside = np.where(facing, faces.kind == SEAT, walls)
    material = faces.material[inside]
    material[faces.kind[inside] == SKIN] = (*scene.car.seats, 0, 1)
    colours = _shade(middles[inside], normals[inside], material, scene.eye)
    colours[:, :3] *= 0.62  # the roof keeps the light out
    under.paint(corners[inside], nearness[inside], colours)
    wells = facing & (faces.kind == ARCH)
    edges = faces.corners[wells]
    edges[..., 2] = np.maximum(edges[..., 2], surface.sill)
    under.paint(scene.place(edges), nearness[wells], np.tile([9.0, 9, 10, 255], (len(edges), 1)))
    _wheels(under, surface, facing=True)

    outside = facing & (faces.kind != SEAT)
    colours = _shade(middles[outside], normals[outside], faces.material[outside], scene.eye)
    over.paint(corners[outside], nearness[outside], colours)
    return _merge(over.pixels, under.pixels)


def _merge(over: np.ndarray, under: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay one layer over the other and average sub-pixels; the result is that of `_car`."""
    covered = (over[..., 3] | under[..., 3]) > 0
    glass = np.nonzero(covered & (over[..., 3] < 255))
    upper, lower = over[glass].astype(np.float32), under[glass].astype(np.float32)
    share = upper[:, 3:] / 255
    lower[:, :3] *= lower[:, 3:] / 255
    upper[:, :3] *= share
    over[glass] = upper + (1 - share) * lower + 0.5
    size = (over.shape[1] // SUPERSAMPLE, over.shape[0] // SUPERSAMPLE)
    cover = cv2.resize(covered.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    return cv2.resize(over, size, interpolation=cv2.INTER_AREA), cover


def _shade(points: np.ndarray, normals: np.ndarray, material: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """The colours that faces show, (n, 4) float64, 0 to 255.

    Points (n, 3), normals (n, 3) and the eye (3,) are the studio's; for materials (n, 5) see `bodywork`.
    """
    sight = eye - points
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    cosine = (sight * normals).sum(1, keepdims=True)
    mirrored = 2 * cosine * normals - sight
    # Matt share: light from above and from the camera's side, less near the floor.
    key = np.clip(normals @ (-0.35, -0.75, 0.55), 0, None)[:, None]
    light = (0.41 + 0.32 * normals[:, 2:] + 0.29 * key) * (0.62 + 0.38 * np.clip(points[:, 2:] / 0.7, 0, 1))
    # Mirrored share: floor, wall, dim ceiling with two lamps; a car's look is mostly that.
    up = mirrored[:, 2:]
    floor = 0.30 - 0.20 * np.clip(-up, 0, 1)
    # The camera's side of the room is dim, so that the car's sides show their paint.
    wall = 0.45 + 0.50 * np.clip(0.4 + 0.9 * mirrored[:, 1:2], 0, 1)
    lamps = np.exp(-(((np.abs(mirrored[:, :1]) - 0.30) / 0.16) ** 2))
    world = floor + (wall - floor) * _step(up, 0.05, 9) + (0.40 - wall + 1.4 * lamps) * _step(up, 0.62, 12)
    base, mirror = material[:, :3], material[:, 3:4]
    fresnel = mirror + (1 - mirror) * 0.85 * (1 - np.abs(cosine)) ** 5 * (mirror > 0)
    linear = np.clip(base * light + fresnel * world, 0, 1)
    return np.concatenate([255 * linear ** (1 / 2.2), 255 * material[:, 4:]], axis=1)


def _step(values: np.ndarray, at: float, steepness: float) -> np.ndarray:
    """Smoothly from 0 to 1."""
    return 1 / (1 + np.exp(-steepness * (values - at)))


def _wheels(canvas: _Canvas, surface: Surface, facing: bool) -> None:
    """Paint the wheels whose outer face is turned to the camera, or those that show only their inside."""
    scene, car, radius = canvas.scene, canvas.scene.car, surface.wheel

    def ring(size: float, y: float, axle: float, angles: np.ndarray = _AROUND) -> np.ndarray:
        around = [axle + size * radius * np.cos(angles), 0 * angles + y, radius + size * radius * np.sin(angles)]
        return scene.place(np.stack(around, axis=-1))

    wheels = [
        (axle, side * half, side) for axle, half in zip(surface.axles, surface.track, strict=True) for side in (-1, 1)
    ]
    wheels.sort(key=lambda wheel: -scene.place(np.array([*wheel[:2], 0]))[1])
    for axle, y, side in wheels:
        outward = scene.turn @ (0, side, 0)
        if ((scene.eye - ring(0, y, axle)[0]) @ outward > 0) != facing:
            continue
        canvas.hull(np.concatenate([ring(1, y, axle), ring(0.99, y - side * 0.21, axle)]), 24)
        if not facing:
            continue
        bright = 255 * car.rim * (0.80 - 0.25 * outward[1])
        for size, grey in ((0.96, 38), (0.72, bright), (0.66, 20), (0.42, 75)):
            canvas.hull(ring(size, y, axle), grey)
        for angle in 2 * np.pi * np.arange(car.spokes) / car.spokes + 0.4 * axle:
            rim = angle + 0.75 * car.spoke_width / car.spokes * np.array([-1, 1])
            spoke = np.concatenate([ring(0.69, y, axle, rim), ring(0.13, y, axle, angle + np.array([-1.2, 1.2]))])
            canvas.hull(spoke, bright * (0.85 + 0.15 * np.sin(angle + 0.7)))
        canvas.hull(ring(0.15, y, axle), bright)
        canvas.hull(ring(0.07, y, axle), 60)


def _studio(scene: _Scene) -> np.ndarray:
    """The studio with the car's shadow and reflection: (height, width, 3) float32, 0 to 255."""
    soft, ink = _backdrop(scene.car, scene.size)
    surface, faces = scene.surface, scene.faces
    whole = (0, 0, *scene.size)
    metre = scene.focal / COARSE / scene.car.distance

    picture = soft.copy()
    wave = np.stack([np.cos(_AROUND), np.sin(_AROUND), 0 * _AROUND], axis=-1)
    for grow, blur, strength in ((0.12, 0.45, 0.38), (-0.03, 0.14, 0.50), (-0.12, 0.05, 0.25)):
        canvas = _Canvas(scene, whole, 1 / COARSE)
        outline = np.sign(wave) * np.abs(wave) ** 0.4 * (surface.a + grow, surface.b + grow, 0)
        canvas.hull(scene.place(outline), 255)
        shade = cv2.GaussianBlur(canvas.pixels[..., :1].astype(np.float32), (0, 0), max(0.3, blur * metre))
        picture *= 1 - strength / 255 * shade[..., None]

    # The floor mirrors a little. What it shows is the car as it looks from below the floor.
    canvas = _Canvas(scene, whole, 1 / COARSE)
    eye = scene.eye * (1, 1, -1)
    corners, normals = scene.place(faces.corners), faces.normals @ scene.turn.T
    middles = corners.mean(1)
    seen = ((faces.planes @ scene.turn.T * (eye - middles)).sum(1) > 0) & ((faces.kind == SKIN) | (faces.kind == PATCH))
    seen &= middles[:, 2] < 1  # what is higher would not be noticed
    corners, middles = corners[seen], middles[seen]
    colours = _shade(middles, normals[seen], faces.material[seen], eye)
    colours *= np.exp(-middles[:, 2:] / 0.6)  # weaker with the height of what is mirrored
    canvas.paint(corners * (1, 1, -1), -np.linalg.norm(middles - eye, axis=1), colours)
    mirror = 0.2 * cv2.GaussianBlur(canvas.pixels, (0, 0), max(0.3, 0.05 * metre)).astype(np.float32)
    picture = picture * (1 - mirror[..., 3:] / 255) + mirror[..., :3]
    large = cv2.resize(picture, None, fx=COARSE, fy=COARSE, interpolation=cv2.INTER_LINEAR)
    return large[: scene.size[1], : scene.size[0]] * ink


@lru_cache(maxsize=2)
def _backdrop(car: Car, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The empty studio. Kept, because it is the same in all views of a car.

    Returns:
        Wall and floor at 1 / `COARSE` of the size, (h, w, 3) float32, 0 to 255; and what is drawn sharply on them, as a
        factor of brightness, (height, width, 1) float32.
    """
    rng = np.random.Generator(np.random.PCG64(car.studio))
    scene = _Scene(car, 1, size)
    width, height = size
    w, h = -(-width // COARSE), -(-height // COARSE)
    u, v = np.meshgrid((np.arange(w) + 0.5) * COARSE - width / 2, (np.arange(h) + 0.5) * COARSE - height / 2)
    rays = np.stack([u, v, np.full_like(u, scene.focal)], axis=-1) @ scene.axes
    u, v = u / width, v / height  # from here on -0.5 to 0.5
    ground = scene.eye + rays * (scene.eye[2] / np.maximum(-rays[..., 2:], 1e-6))
    radius = np.hypot(ground[..., 0], ground[..., 1])
    behind = np.hypot(ground[..., 0], ground[..., 1] + _BOW) - _BOW - _WALL
    on_wall = np.clip(behind / 0.5, 0, 1) * (ground[..., 1] > -_BOW)

    stains = cv2.resize(rng.standard_normal((6, 9)), (w, h), interpolation=cv2.INTER_CUBIC)
    floor = rng.uniform(166, 190) + 10 * np.exp(-((radius / 2.5) ** 2)) - 12 * np.clip(radius / _WALL, 0, 1.2)
    floor += 3 * (radius < _DISC) + 3 * stains
    wall = rng.uniform(226, 240) - 16 * v
    for side in (-1, 1):  # light panels above the turntable
        wall += 16 * np.exp(-(((u - side * rng.uniform(0.30, 0.42)) / 0.16) ** 2) - ((v + 0.48) / 0.2) ** 2)
    grey = floor + (np.minimum(wall, 252) - floor) * on_wall
    grey *= 1 - rng.uniform(0.1, 0.24) * (u**2 + v**2)  # the lens is darker towards the corners
    cast = 1 + rng.uniform(-0.006, 0.006, 3) + rng.uniform(-0.01, 0.012) * np.outer(1 - on_wall, (-1, 0, 1))
    soft = (grey[..., None] * cast.reshape(h, w, 3)).astype(np.float32)

    ink = np.full((height, width), 255, np.uint8)

    def draw(points: np.ndarray, grey: int, thickness: float) -> None:
        line = np.round(scene.project(points) * 2**_SHIFT).astype(np.int32)
        cv2.polylines(ink, [line], False, grey, max(1, round(thickness * scene.unit)), cv2.LINE_AA, _SHIFT)

    # A sign whose dark strokes run into the car's outline.
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(24 * scene.unit))
    (long, _), _ = cv2.getTextSize("TURNTABLE", font, 9.3 * scene.unit, thick)
    start = ((width - long) / 2 + rng.uniform(-60, 60) * scene.unit, height / 2 - rng.uniform(90, 115) * scene.unit)
    tone = int(rng.uniform(80, 120))
    cv2.putText(ink, "TURNTABLE", tuple(map(round, start)), font, 9.3 * scene.unit, tone, thick, cv2.LINE_AA)
    angles = np.linspace(0, 2 * np.pi, 12 * VIEWS + 1)[:, None]
    circle = np.concatenate([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    draw(_DISC * circle, 105, 3)
    draw((_DISC + 0.02) * circle, 190, 3)
    # Seams of the disc's boards: as many as views, so that they look the same after every turn.
    for end in circle[:-1:12]:
        draw(np.stack([0.9 * end, _DISC * end]), 226, 1.6)
    return soft, ink[..., None].astype(np.float32) / 255
