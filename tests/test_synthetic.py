"""Tests of rendered cars: geometry, camera, light, images and masks."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.synthetic.bodywork import build_bodywork
from pipeline.synthetic.car import BODY_SHAPES, Car, sample_car
from pipeline.synthetic.faces import CHROME, STEEL, FaceBuilder, FaceKind
from pipeline.synthetic.scene import VIEWS, Canvas, Scene
from pipeline.synthetic.studio import shade_faces
from pipeline.synthetic.surface import FRONT, LEFT, REAR, RIGHT, TOP, BodySurface
from pipeline.synthetic.turntable import render_view

pytestmark = pytest.mark.slow

SIZE = (190, 126)


def generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def car_with_body(body: str) -> Car:
    """Return the first car of a series that has this body type."""
    return next(car for car in (sample_car(generator(1, index)) for index in itertools.count()) if car.body == body)


def border(mask: np.ndarray) -> np.ndarray:
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


@pytest.fixture(scope="module", params=BODY_SHAPES)
def views(request):
    """Images and masks of one car from eight sides, for each body type."""
    car = car_with_body(request.param)
    return [render_view(car, view, (480, 320), generator(view)) for view in (1, 3, 4, 6, 8, 11, 13, 16)]


def test_cars_of_all_seeds_differ():
    cars = [sample_car(generator(seed, index)) for seed in range(20) for index in range(2)]
    assert len(set(cars)) == len({car.paint for car in cars}) == len(cars)
    assert len({car.body for car in cars}) >= 5


def test_dimensions_deviate_by_at_most_two_and_a_half_percent():
    ratios = []
    for car in (sample_car(generator(2, index)) for index in range(100)):
        ratio = np.array(car.shape) / BODY_SHAPES[car.body]
        ratio[8:12] /= ratio[0]  # positions along the body also scale with its length
        ratios.append(ratio)
    np.testing.assert_allclose(np.min(ratios, axis=0), 0.975, atol=0.004)
    np.testing.assert_allclose(np.max(ratios, axis=0), 1.025, atol=0.004)
    assert np.min(ratios) >= 0.975
    assert np.max(ratios) <= 1.025


def test_projected_points_are_on_the_surface():
    surface = BodySurface(car_with_body("hatchback"))
    drawing = np.stack(np.meshgrid([-0.5, 0.0, 0.5], [0.5, 0.7]), axis=-1)
    for side in (FRONT, REAR, LEFT, RIGHT, TOP):
        points = surface.project(drawing, side)
        outward = side.sign * np.eye(3)[side.axis]
        np.testing.assert_allclose(np.delete(points, side.axis, axis=-1), drawing)
        assert (surface.implicit(points) < 0).all()
        assert (surface.implicit(points + 2e-5 * outward) > 0).all()


def test_points_below_the_sill_hang_vertically():
    surface = BodySurface(car_with_body("van"))
    sill, below = surface.project(np.array([[0.3, surface.sill_height], [0.3, 0.05]]), LEFT)
    np.testing.assert_allclose(below, [sill[0], sill[1], 0.05])


def test_rectangles_cover_their_intervals_and_higher_layers_are_nearer():
    builder = FaceBuilder(BodySurface(car_with_body("suv")))
    builder.add_rectangle(LEFT, (0.1, 0.9), (0.5, 0.6), STEEL)
    builder.add_rectangle(TOP, (-0.2, 0.0), (-0.3, 0.3), CHROME, 3)
    faces = builder.build()
    steel = faces.materials[:, 0] == STEEL.red
    points, top = faces.corners[steel].reshape(-1, 3), faces.corners[~steel].reshape(-1, 3)
    np.testing.assert_allclose([points.min(0)[[0, 2]], points.max(0)[[0, 2]]], [(0.1, 0.5), (0.9, 0.6)])
    np.testing.assert_allclose([top.min(0)[:2], top.max(0)[:2]], [(-0.2, -0.3), (0.0, 0.3)])
    np.testing.assert_allclose(faces.depth_biases, np.where(steel, 0.2, 0.44))
    assert (faces.corners[..., 1][steel] > 0.5).all()
    assert (faces.planes[steel, 1] > 0.5).all()
    assert (faces.kinds == FaceKind.DETAIL).all()
    edges = np.linalg.norm(faces.corners - np.roll(faces.corners, 1, axis=1), axis=2)
    assert edges.max() < 0.12


@pytest.mark.parametrize("body", BODY_SHAPES)
def test_body_has_the_dimensions_of_its_shape(body):
    car = car_with_body(body)
    _, faces = build_bodywork(car)
    points = faces.corners[faces.kinds == FaceKind.BODY].reshape(-1, 3)
    (length, width, height), clearance = np.ptp(points, axis=0) + (0, 0, points[:, 2].min()), points[:, 2].min()
    assert length == pytest.approx(car.shape.length, rel=1e-4)
    assert 0.995 < width / car.shape.width < 1.01
    assert 0.995 < height / car.shape.height < 1.01
    assert clearance == pytest.approx(car.shape.clearance, abs=1e-5)


def test_faces_are_oriented_outward():
    _, faces = build_bodywork(car_with_body("sedan"))
    np.testing.assert_allclose(np.linalg.norm(faces.normals, axis=1), 1, atol=1e-6)
    assert ((faces.normals * faces.planes).sum(1) > 0.5).mean() > 0.99
    body = faces.kinds == FaceKind.BODY
    centers = faces.corners[body].mean(1)
    assert ((faces.planes[body] * (centers - (0, 0, 0.6)) * (0, 1, 1)).sum(1) > -0.1).all()


@pytest.mark.parametrize(("view", "toward_camera"), [(1, (1, 0, 0)), (5, (0, 1, 0)), (9, (-1, 0, 0)), (13, (0, -1, 0))])
def test_views_show_front_left_rear_and_right(view, toward_camera):
    scene = Scene(replace(car_with_body("coupe"), offset=(0.0, 0.0)), view, SIZE)
    np.testing.assert_allclose(scene.to_studio(np.array(toward_camera)), (0, -1, 0), atol=1e-12)


def test_camera_aims_at_the_center_of_the_image():
    car = car_with_body("coupe")
    scene = Scene(car, 1, (959, 640))
    points = np.array([(0, 0, car.aim), (0.1, 0, car.aim), (0, 0, car.aim + 0.1)])
    center, right, up = scene.project(points)
    np.testing.assert_allclose(center, (479.5, 320))
    depth = np.hypot(car.distance, car.camera_height - car.aim)
    np.testing.assert_allclose(right - center, (2160 * 0.5 * 0.1 / depth, 0), atol=1e-9)
    assert up[1] < center[1] - 10


def test_canvas_positions_are_relative_to_its_box_and_to_pixel_centers():
    car = car_with_body("coupe")
    canvas = Canvas(Scene(car, 1, SIZE), (5, 3, 105, 103), 2)
    center = canvas.locate(np.array([0, 0, car.aim]))  # pixel (95, 63) of the image
    assert center.tolist() == [(2 * 90 - 0.5) * 16, (2 * 60 - 0.5) * 16]
    assert canvas.pixels.shape == (200, 200, 4)


def test_nearer_faces_cover_farther_ones():
    canvas = Canvas(Scene(car_with_body("coupe"), 1, SIZE), (0, 0, *SIZE), 1)
    square = np.array([(-1, 0, 0), (1, 0, 0), (1, 0, 2), (-1, 0, 2)], dtype=float)
    canvas.paint_faces(np.stack([square, square]), np.array([2.0, 1.0]), np.array([(9, 8, 7, 255), (1, 2, 3, 255)]))
    assert canvas.pixels[63, 95].tolist() == [9, 8, 7, 255]
    assert canvas.pixels[0, 0].tolist() == [0, 0, 0, 0]


def test_shading_follows_light_and_material():
    points, eye = np.array([(0.0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 0)]), np.array([0.0, -7, 2])
    normals = np.array([(0.0, 0, 1), (0, 0, -1), (0, -1, 0), (0, 0, 1)])
    matt = shade_faces(points, normals, np.tile([0.5, 0.25, 0, 0, 0.4], (4, 1)), eye)
    np.testing.assert_allclose(matt[:, 3], 0.4 * 255)
    np.testing.assert_array_equal(matt[:, 2], 0)
    np.testing.assert_allclose((matt[:, 0] / matt[:, 1]) ** 2.2, 2)
    up, down, toward_camera, near_floor = matt[:, 0]
    assert up > toward_camera > down
    assert near_floor == pytest.approx(up * 0.62 ** (1 / 2.2))
    mirror = shade_faces(points, normals, np.tile([0.5, 0.25, 0, 0.3, 1], (4, 1)), eye)
    assert (mirror[:, :3] > matt[:, :3]).all()


def test_mirrors_reflect_the_floor_and_the_lamps():
    eye, mirror = np.array([0.0, -7, 1]), np.array([[0.0, 0, 0, 1, 1]])
    lamp = np.array([0.3, 0, 0.91**0.5])
    for direction, brightness in ((np.array([0.0, 0, -1]), 0.1), (lamp, 1)):
        normal = direction + (0, -1, 0)
        normal /= np.linalg.norm(normal)
        color = shade_faces(np.array([[0.0, 0, 1]]), normal[None], mirror, eye)
        np.testing.assert_allclose(color, [[255 * brightness ** (1 / 2.2)] * 3 + [255]], rtol=1e-3)


def test_masks_are_one_car_in_the_center(views):
    for _, mask in views:
        assert mask.dtype == bool
        assert 0.08 <= mask.mean() <= 0.40
        _, _, components, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        assert components[1:, cv2.CC_STAT_AREA].max() >= 0.97 * mask.sum()
        assert not border(mask).any()
        y, x = np.nonzero(mask)
        assert abs(x.mean() / mask.shape[1] - 0.5) < 0.12
        assert abs(y.mean() / mask.shape[0] - 0.5) < 0.12


def test_masks_have_no_cracks(views):
    # Background is visible below roof rails and behind mirrors only.
    for _, mask in views:
        _, labels, components, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
        holes = [label for label in range(1, len(components)) if label != labels[0, 0]]
        assert components[holes, cv2.CC_STAT_AREA].sum() < 0.005 * mask.sum()


@pytest.mark.parametrize("size", [(960, 640), (321, 213)])
def test_mask_has_exactly_the_pixels_that_hide_half_of_the_studio(size, monkeypatch):
    """With opaque windows, the difference between a white and a black studio shows what the car does not cover."""
    monkeypatch.setattr("pipeline.synthetic.turntable.NOISE_STD", 0.0)
    opaque = replace(car_with_body("sedan"), glass=(1.0, 1.0))
    for view in (1, 6, 11):
        images = []
        for gray in (0, 255):
            studio = np.full((size[1], size[0], 3), gray, np.float32)
            monkeypatch.setattr("pipeline.synthetic.turntable.render_studio", lambda _, studio=studio: studio.copy())
            image, mask = render_view(opaque, view, size, generator(0))
            images.append(image[..., 0].astype(float))
        covered = 1 - (images[1] - images[0]) / 255
        np.testing.assert_array_equal(mask, covered > 0.49)
        assert ((covered > 0.1) & (covered < 0.9)).sum() > 100


def test_wheels_touch_the_floor():
    car, size = car_with_body("suv"), (960, 640)
    mask = render_view(car, 5, size, generator(0))[1]
    scene = Scene(car, 5, size)
    for axle, half in zip(scene.surface.axles, scene.surface.half_track, strict=True):
        x, y = np.round(scene.project(scene.to_studio(np.array([axle, half, 0])))).astype(int)
        assert mask[y - 4, x]
        assert not mask[y + 4, x]


def test_windows_are_transparent_and_belong_to_the_mask():
    car = car_with_body("sedan")
    clear, opaque = (replace(car, glass=(opacity, opacity)) for opacity in (0.1, 1.0))
    image, mask = render_view(clear, 5, (480, 320), generator(0))
    opaque_image, opaque_mask = render_view(opaque, 5, (480, 320), generator(0))
    np.testing.assert_array_equal(mask, opaque_mask)
    brighter = image.astype(int).mean(2) - opaque_image.astype(int).mean(2) > 60
    assert 0.01 < (brighter & mask).sum() / mask.sum() < 0.3


def test_shadow_and_reflection_are_in_the_image_but_not_in_the_mask():
    image, mask = render_view(car_with_body("van"), 5, (480, 320), generator(0))
    y, x = np.nonzero(mask)
    below, center = y.max() + 3, int(x.mean())
    assert not mask[below].any()
    assert image[below, center - 20 : center + 20].mean() < 0.85 * image[below, 5:25].mean()


def test_generator_decides_nothing_but_gray_noise():
    car = car_with_body("coupe")
    (one, one_mask), (same, _), (other, other_mask) = (render_view(car, 2, SIZE, generator(n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one_mask, other_mask)
    difference = (one.astype(int) - other)[((one > 20) & (one < 235)).all(axis=2)]
    assert difference.std() == pytest.approx(2 * 2**0.5, rel=0.05)
    assert np.abs(np.ptp(difference, axis=1)).max() <= 2


def test_car_keeps_its_position_at_other_sizes():
    car = car_with_body("suv")
    large, small = (render_view(car, 3, size, generator(0))[1] for size in ((960, 640), (240, 160)))
    shrunk = cv2.resize(large.astype(np.float32), (240, 160), interpolation=cv2.INTER_AREA) >= 0.5
    assert 2 * (shrunk & small).sum() / (shrunk.sum() + small.sum()) > 0.985


@pytest.mark.parametrize("size", [(400, 100), (100, 400), (64, 64)])
def test_images_of_other_aspect_ratios_show_the_whole_car(size):
    image, mask = render_view(car_with_body("pickup"), 4, size, generator(0))
    assert image.shape == (size[1], size[0], 3)
    assert mask.any()
    assert not border(mask).any()


@pytest.mark.parametrize("view", [0, VIEWS + 1])
def test_unknown_views_are_refused(view):
    with pytest.raises(ValueError, match=f"view is {view}; expected 1 to 16"):
        render_view(car_with_body("sedan"), view, SIZE, generator(0))
