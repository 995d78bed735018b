"""A first TOML file is guessed from the layouts of real downloads."""

import tomllib

import numpy as np
import pytest
from PIL import Image

from pipeline.competition import Competition, load_competition
from pipeline.data.check import check_data, format_findings, has_errors
from pipeline.data.guess.draft import draft_competition, write_draft
from pipeline.errors import UserError
from tests.competitions.layouts import LAYOUTS

# What cannot be seen in the files, or not in so few of them.
UNKNOWN = {
    "attributes", "name", "title", "slug", "metric", "beta", "fold_seed", "download", "notebook", "groups", "instances",
    "csv.size", "csv.solution", "masks.area", "masks.positive", "images.size",
}  # fmt: skip


# Slices and windows are choices, and folders of volumes or of studies are not told from folders of different images.
BY_HAND = {"siim-pneumothorax", "uw-madison-gi", "hubmap-kidney", "vesuvius-ink"}


def flat(competition: Competition) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in competition.model_dump(mode="json").items():
        values |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return {key: value for key, value in values.items() if key not in UNKNOWN and key.split(".")[0] not in UNKNOWN}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LAYOUTS.keys() - BY_HAND))
def test_the_draft_is_the_shipped_file_but_for_what_the_files_do_not_tell(name, tmp_path, monkeypatch):
    data = tmp_path / "download"
    LAYOUTS[name](data, np.random.default_rng(2), 18, 9)
    shipped = load_competition(name)
    (data / "solution.csv").unlink()
    monkeypatch.chdir(tmp_path)
    path, unknown = write_draft("draft", data)
    drafted = load_competition("draft")
    assert flat(drafted) == flat(shipped)
    assert {sentence.split(":")[0] for sentence in unknown} >= {"slug", "metric", "groups"}
    findings = check_data(drafted, data)
    assert not has_errors(findings), format_findings(findings, data)
    assert path.read_text().startswith("# First draft")


def test_groups_masks_and_size_of_the_tiny_competition(competition, data, tmp_path):
    (data / "solution.csv").unlink()
    values = tomllib.loads(draft_competition("x", data).text)
    assert values["images"] == {
        "train": "train",
        "test": "test",
        "suffixes": [".jpg"],
        "id": "{name}",
        "size": [94, 62],
    }
    assert values["masks"]["suffixes"] == ["_mask.gif"]
    assert (values["masks"]["positive"], values["masks"]["may_be_empty"]) == (1, False)
    low, high = values["masks"]["area"]
    assert 0 < low < 0.1 < high < 1
    assert values["groups"] == {"pattern": "^(.+)[_-][0-9]+$", "size": 3}
    assert values["csv"] == {
        "columns": {"img": "{id}", "rle_mask": "{rle}"},
        "order": "row",
        "train": "train_masks.csv",
        "sample": "sample_submission.csv",
    }


def test_deep_images_get_a_range(data):
    for path in (data / "train").iterdir():
        values = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 40
        Image.fromarray(values).save(path.with_suffix(".png"))
        path.unlink()
    draft = draft_competition("x", data)
    low, high = tomllib.loads(draft.text)["images"]["range"]
    assert low == 0
    assert 2000 < high <= 40 * 255
    assert any(sentence.startswith("images.range") for sentence in draft.unknown)


def test_folders_without_any_csv(data, tmp_path):
    for path in data.glob("*.csv"):
        path.unlink()
    draft = draft_competition("x", data)
    assert Competition.model_validate({"name": "x", **tomllib.loads(draft.text)}).csv.train is None
    assert any(sentence.startswith("csv: columns, order") for sentence in draft.unknown)


def test_faults_are_sentences(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: has no image .*set DATA"):
        draft_competition("x", tmp_path / "empty")
    with pytest.raises(UserError, match="'a b': is not a name of a competition"):
        write_draft("a b", data)
    write_draft("x", data)
    with pytest.raises(UserError, match=r"x\.toml: exists already"):
        write_draft("x", data)
    (data / "masks").mkdir()
    (data / "train_masks").rename(data / "masks" / "a")
    for name in ("train", "test"):
        for image in (data / name).iterdir():
            image.unlink()
    with pytest.raises(UserError, match=r"no folder looks like training images \(found: masks/a\)"):
        draft_competition("x", data)
