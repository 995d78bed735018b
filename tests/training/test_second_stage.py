"""A second stage improves the first one, resumes to the same weights, and is one model to all that use it."""

import errno
import json
import os
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.data.images import read_image
from pipeline.data.labels import LabelReader
from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError
from pipeline.inference.image_model import load_image_model
from pipeline.models.checkpoint import fingerprint_weights, load_weights, read_weights_metadata
from pipeline.models.classes import Classes
from pipeline.models.refined import RefinedModel, build_recipe_model, decode_logits, encode_logits
from pipeline.models.zoo import SegmentationModel, build_model
from pipeline.paths import Run
from pipeline.training.fold import train_fold
from pipeline.training.second_stage import TileDataset, cut_tiles
from tests.helpers import SIZE, changed_competition, changed_recipe
from tests.inference.models import CPU

REFINE = {
    "size": SIZE,
    "network": {"name": "unet", "width": 8, "depth": 1, "stem": 2},
    "tile": 32,
    "tiles": 8,
    "epochs": 4,
    "batch_size": 4,
    "learning_rate": 0.01,
}


@pytest.fixture
def refined(recipe):
    """The tiny recipe at a third of the images' size, with a second stage at full size."""
    return changed_recipe(recipe, input__size=[32, 32], train__epochs=6, train__validate_every=6, refine=REFINE)


@pytest.fixture
def train(competition, refined, data, table, tmp_path):
    """Train fold 0 of the refined recipe into a named run; returns the run."""

    def call(name: str = "run", minutes: float | None = None, **changes) -> Run:
        run = Run(tmp_path / name / "fold0")
        train_fold(competition, changed_recipe(refined, **changes), data, table, 0, run, minutes)
        return run

    return call


def test_zero_epochs_leave_the_second_stage_out(recipe):
    assert changed_recipe(recipe, refine=REFINE | {"epochs": 0}).refine is None


def test_windows_refuse_a_second_stage_and_commands_of_whole_images(competition, refined, data, table, tmp_path):
    chosen = changed_competition(competition, windows={"size": (32, 32)}, masks__may_be_empty=True)
    with pytest.raises(UserError, match=r"refine: does not support competitions with \[windows\]; .*refine\.epochs=0"):
        train_fold(chosen, refined, data, table, 0, Run(tmp_path / "run" / "fold0"))
    with pytest.raises(UserError, match=r"tiny\.toml: has \[windows\], which `make report` does not support"):
        chosen.require_whole_images("make report")
    competition.require_whole_images("make report")


def last_score(run: Run) -> float:
    return json.loads(run.metrics.read_text().splitlines()[-1])["dice"]


@pytest.mark.slow
def test_second_stage_improves_the_first(train):
    run = train()
    assert last_score(run) > last_score(run.coarse)
    assert not run.tiles.exists()
    _, metadata = read_weights_metadata(run.weights)
    assert float(metadata.minutes) >= float(read_weights_metadata(run.coarse.weights)[1].minutes)


@pytest.mark.slow
def test_stages_resume_to_the_same_weights(train, monkeypatch):
    whole = train("whole")
    steps = 0
    from pipeline.training import loop

    real = loop.train_step

    def stop_often(*args):
        nonlocal steps
        steps += 1
        if steps in (5, 30):
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(loop, "train_step", stop_often)
    monkeypatch.setattr(loop, "SAVE_EVERY", 0)
    interruptions = 0
    while True:
        try:
            part = train("part")
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions == 2
    expected, found = (load_file(run.weights) for run in (whole, part))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.slow
def test_other_second_stage_keeps_the_first(train):
    before = train().coarse.weights.stat().st_mtime_ns
    run = train(refine=REFINE | {"epochs": 1})
    assert (run.folder.parent / "fold0~1").exists()
    assert [path.name for path in run.folder.parent.glob("fold0-coarse*")] == ["fold0-coarse"]
    assert run.coarse.weights.stat().st_mtime_ns >= before


@pytest.mark.slow
def test_weights_predict_as_validated(train, competition, data):
    run = train()
    model = load_image_model(run.weights)
    path = data / "test" / "omega_01.jpg"
    probability = model.predict(path.read_bytes(), path, SIZE)
    assert probability.shape == (1, *SIZE[::-1])
    network, _, _ = load_weights(run.weights)
    assert isinstance(network, RefinedModel)
    assert fingerprint_weights(run.weights) != fingerprint_weights(run.coarse.weights)


def test_untrained_refiner_changes_nothing(refined):
    torch.manual_seed(0)
    model = build_recipe_model(refined).eval()
    image = torch.randint(0, 256, (2, 3, *SIZE[::-1]), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(model(image), model.coarse_logits(image), atol=1e-4)


@pytest.fixture
def edges(refined, monkeypatch):
    """A model of random weights for images of 320×256, and two images whose logits are unsure in different places."""
    torch.manual_seed(0)
    model = build_recipe_model(changed_recipe(refined, refine=REFINE | {"size": (320, 256)})).eval()
    torch.nn.init.normal_(model.refiner.network.head.weight, std=0.1)
    logits = torch.full((2, 1, 256, 320), 7.0)
    logits[0, :, 120, 130:170] = 0.0
    logits[1, :, 80:90, 200:230] = -1.0
    images = torch.randint(0, 256, (2, 3, 256, 320), dtype=torch.uint8)
    monkeypatch.setattr(model, "coarse_logits", lambda image: logits[[int(found) for found in which(image)]].clone())

    def which(batch: torch.Tensor) -> list[int]:
        return [next(n for n in (0, 1) if torch.equal(image, images[n])) for image in batch]

    return model, images, logits


@torch.no_grad()
def test_window_of_a_cpu_gives_the_logits_of_the_whole_image(edges, monkeypatch):
    model, images, logits = edges
    found = model(images)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.allclose(found, model(images), atol=1e-4)
    changed = found != logits
    rows, columns = changed[0, 0].any(dim=1).nonzero().flatten(), changed[0, 0].any(dim=0).nonzero().flatten()
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (120 - 32, 120 + 32, 130 - 32, 169 + 32)


@torch.no_grad()
def test_result_does_not_depend_on_the_other_images_of_a_batch(edges):
    model, images, _ = edges
    for alone, together in zip(images, model(images), strict=True):
        assert torch.equal(model(alone[None])[0], together)


def test_image_without_any_doubt_is_not_refined(refined):
    model = build_recipe_model(refined).eval()
    certain = torch.full((1, 1, *SIZE[::-1]), -9.0)
    model.coarse_logits = lambda image: certain.clone()  # type: ignore[method-assign]
    assert torch.equal(model(torch.zeros(1, 3, *SIZE[::-1], dtype=torch.uint8)), certain)


def test_codes_keep_logits():
    logits = torch.linspace(-8, 8, 1001)
    assert torch.allclose(decode_logits(encode_logits(logits)), logits, atol=1e-5)
    rounded = decode_logits(encode_logits(logits).round().to(torch.uint8))
    assert (rounded - logits).abs().max() <= 16 / 255 / 2 + 1e-5
    assert torch.equal(encode_logits(torch.tensor([-99.0, 99.0])), torch.tensor([0.0, 255.0]))


def test_exclusive_classes_are_refused(refined):
    with pytest.raises(UserError, match="refine: does not support exclusive classes"):
        build_recipe_model(refined, Classes(("a", "b"), exclusive=True))


def test_tiles_show_the_image_and_its_mask(competition, refined, data, tmp_path):
    samples = load_training_samples(competition, data)[:3]
    labels = LabelReader(competition)
    torch.manual_seed(0)
    model = build_recipe_model(refined).eval()
    # All logits 20: no pixel is unsure, so tiles are centered near the true edges only.
    torch.nn.init.zeros_(model.network.head.weight)
    torch.nn.init.constant_(model.network.head.bias, 20.0)
    cut_tiles(samples, labels, model, CPU, refined.refine, 2, tmp_path / "tiles")
    tiles, masks = (np.load(tmp_path / "tiles" / f".{name}.npy") for name in ("images", "masks"))
    assert tiles.shape == (24, 32, 32, 4)
    assert masks.shape == (24, 32, 32, 1)
    assert (tiles[..., 3] == 255).all()
    for number, (tile, mask) in enumerate(zip(tiles, masks, strict=True)):
        sample = samples[number // 8]
        image, true = read_image(sample.image), labels.read_masks(sample)[0] * np.uint8(255)
        places = [
            (top, left)
            for top in range(SIZE[1] - 31)
            for left in range(SIZE[0] - 31)
            if np.array_equal(image[top : top + 32, left : left + 32], tile[..., :3])
        ]
        assert len(places) == 1
        top, left = places[0]
        assert np.array_equal(true[top : top + 32, left : left + 32], mask[..., 0])
        assert 0 < mask.mean() < 255, "an edge is in the tile"


def test_incomplete_tiles_are_cut_again(competition, refined, data, tmp_path):
    samples, folder = load_training_samples(competition, data)[:3], tmp_path / "tiles"
    model = build_recipe_model(refined).eval()
    cut = partial(cut_tiles, samples, LabelReader(competition), model, CPU, refined.refine, 2, folder)
    cut()
    first = [path.read_bytes() for path in sorted(folder.iterdir())]
    (folder / ".masks.npy").unlink()  # as of a machine that does not keep hidden files
    cut()
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == first


def test_tiles_of_a_process_that_was_killed_while_it_cut_them_are_deleted(train):
    run = train(minutes=0)
    unfinished = run.tiles.with_name(f".{run.tiles.name}")
    unfinished.mkdir()
    run = train(refine=REFINE | {"epochs": 1})
    assert not unfinished.exists()
    assert not any(path.name in (run.tiles.name, unfinished.name) for path in run.folder.parent.rglob("*"))


def test_tiles_may_be_on_another_disk(train, tmp_path, monkeypatch):
    monkeypatch.setenv("TILES", str(tmp_path / "scratch"))
    run = train(minutes=0)
    assert run.tiles.parent == tmp_path / "scratch"
    assert run.tiles.name.startswith("run-fold0-")
    run = train()
    assert run.weights.exists()
    assert (tmp_path / "scratch").exists()
    assert not list((tmp_path / "scratch").iterdir())


def test_space_for_tiles_is_required_before_the_first_stage(train, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"tiles: \S+ GB are needed, 0\.0 GB are free"):
        train()
    monkeypatch.undo()
    assert not train(minutes=0).coarse.weights.exists()


def test_all_parts_of_a_refined_model_are_on_one_device(refined):
    untrained = build_recipe_model(refined).to("meta")
    coarse = SegmentationModel(untrained.network).to("meta")
    model = RefinedModel(coarse, untrained.coarse_size, untrained.refiner)
    assert {part.device.type for part in (*model.buffers(), *model.parameters())} == {"meta"}


def test_tiles_of_another_training_are_cut_again(competition, refined, data, tmp_path):
    samples, folder = load_training_samples(competition, data)[:3], tmp_path / "tiles"
    model = build_recipe_model(refined).eval()
    cut = partial(cut_tiles, samples, LabelReader(competition), model, CPU, refined.refine, 2, folder)
    cut("one")
    (folder / ".masks.npy").write_bytes(b"kept")
    cut("one")
    assert (folder / ".masks.npy").read_bytes() == b"kept"
    cut("two")
    assert (folder / ".masks.npy").read_bytes() != b"kept"


def test_augmentation_moves_codes_and_masks_together(tmp_path):
    from pipeline.data.augment import Augmentation
    from pipeline.recipe import AugmentConfig

    (tmp_path / "tiles").mkdir()
    pattern = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 1), dtype=np.uint8)
    np.save(tmp_path / "tiles" / ".images.npy", np.concatenate([pattern] * 4, axis=-1))
    np.save(tmp_path / "tiles" / ".masks.npy", pattern)
    augment = AugmentConfig(horizontal_flip=0.5, shift=0.2, scale=0.1, brightness=0.5)
    tiles = TileDataset(tmp_path / "tiles", Augmentation(augment, 0))
    changed = 0
    for epoch in range(20):
        tile, mask = tiles[epoch, 0]
        assert torch.equal(tile[3:], mask)
        changed += not torch.equal(tile[:1], mask)
    assert changed > 10


def test_full_disk_is_an_error_before_tiles_are_written(competition, refined, data, tmp_path, monkeypatch):
    if not hasattr(os, "posix_fallocate"):
        pytest.skip("this platform does not reserve space")

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    samples = load_training_samples(competition, data)[:1]
    with pytest.raises(OSError, match="No space left"):
        cut_tiles(
            samples,
            LabelReader(competition),
            build_recipe_model(refined).eval(),
            CPU,
            refined.refine,
            1,
            tmp_path / "t",
        )
    assert not (tmp_path / "t").exists()


def test_first_stage_alone_is_the_plain_recipe(recipe, refined):
    first, second = refined.stages()
    assert first.refine is None
    assert first.training_differences(changed_recipe(recipe, input__size=[32, 32], train__epochs=6)) == []
    assert (second.input.size, second.train.batch_size, second.model_size) == ((32, 32), 4, (32, 32))
    assert refined.model_size == SIZE
    assert build_model(first.network) is not None
