"""The data check accepts good data and names every fault of broken data."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.competition import Competition, load_competition
from pipeline.data.check import check_data, format_findings, has_errors
from pipeline.data.examine import Finding
from pipeline.data.mask_csv import read_mask_csv
from tests.helpers import SIZE, TINY_FORMAT, changed_competition, draw_ellipse, save_mask, write_csv

IMAGE = "train/beta_02.jpg"
MASK = "train_masks/beta_02_mask.gif"


def jpeg(mode: str = "RGB", size: tuple[int, int] = SIZE, seed: int = 99, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw_ellipse(np.random.default_rng(seed), size)[0]).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def put(name: str, content: bytes | Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / name
        path.write_bytes(content if isinstance(content, bytes) else content(path.read_bytes()))

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def copy(source: str, target: str) -> Callable[[Path], None]:
    return lambda root: (root / target).write_bytes((root / source).read_bytes())


def mask(values: np.ndarray, mode: str = "L", name: str = MASK) -> Callable[[Path], None]:
    return lambda root: Image.fromarray(values.astype(np.uint8), mode).save(root / name, "PNG")


def csv(name: str, edit: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        write_csv(root / name, edit([(row.id, row.rle) for row in read_mask_csv(root / name, TINY_FORMAT)]))

    return change


def zero_block(content: bytes) -> bytes:
    """Zero 200 bytes in the middle: OpenCV and Pillow decode such a file without an error."""
    middle = 2 * len(content) // 3
    return content[:middle] + bytes(200) + content[middle + 200 :]


def gray(value: int) -> np.ndarray:
    return np.full(SIZE[::-1], value)


def half(value: int) -> np.ndarray:
    return gray(value) * (np.arange(SIZE[1])[:, None] > SIZE[1] // 2)


BROKEN: dict[str, tuple[Callable[[Path], None], str, str, str]] = {
    # fault: (how to make it, level, file that is named, part of the message)
    "image cut off": (put(IMAGE, lambda old: old[: len(old) // 2]), "error", IMAGE, "cannot be decoded"),
    "image without its last bytes": (put(IMAGE, lambda old: old[:-2]), "error", IMAGE, "cannot be decoded"),
    "image empty": (put(IMAGE, b""), "error", IMAGE, "cannot be decoded"),
    "image is a page": (put(IMAGE, b"<html>403</html>"), "error", IMAGE, "cannot be decoded"),
    "image damaged inside": (put(IMAGE, zero_block), "error", IMAGE, "damaged inside"),
    "image with padding": (put(IMAGE, lambda old: old[:-2] + bytes(12) + old[-2:]), "warning", IMAGE, "damaged inside"),
    "test image cut off": (put("test/omega_02.jpg", lambda old: old[:900]), "error", "test/omega_02.jpg", "decoded"),
    "image of another size": (put(IMAGE, jpeg(size=(96, 62))), "error", IMAGE, "is 96×62 pixels; expected 94×62"),
    "test image of another size": (
        put("test/omega_01.jpg", jpeg(size=(62, 94))),
        "error",
        "test/omega_01.jpg",
        "62×94",
    ),
    "image without mask": (remove(MASK), "error", IMAGE, "has no mask"),
    "mask without image": (remove(IMAGE), "error", MASK, "is a mask without an image"),
    "mask cut off": (put(MASK, lambda old: old[: len(old) // 2]), "error", MASK, "cannot be decoded"),
    "mask is no image": (put(MASK, b"nothing"), "error", MASK, "cannot be decoded"),
    "mask of another size": (mask(half(1)[:, :-1], "P"), "error", MASK, "is 93×62 pixels, its image 94×62"),
    "mask of 0 and 255": (mask(half(255)), "error", MASK, "has the values 0, 255"),
    "mask with soft edges": (mask(half(1) + np.eye(62, 94) * 7), "error", MASK, "has the values"),
    "mask in color": (mask(np.stack([half(1), half(1), half(0)], -1), "RGB"), "error", MASK, "is a color image"),
    "mask empty": (mask(gray(0)), "error", MASK, "is empty"),
    "mask of everything": (mask(gray(1)), "warning", MASK, "covers 100.00% of the image"),
    "mask of one pixel": (mask(np.eye(62, 94) * (np.arange(94) < 1)), "warning", MASK, "covers 0.02% of the image"),
    "mask other than its row": (mask(half(1)), "error", MASK, "differs from its row in train_masks.csv: "),
    "row that is no mask": (
        csv("train_masks.csv", lambda old: [(old[0][0], "1 0"), *old[1:]]),
        "error",
        "train_masks/alpha_01_mask.gif",
        "differs from its row in train_masks.csv: run 1 (1 0) has",
    ),
    "mask missing in the CSV": (
        csv("train_masks.csv", lambda old: old[1:]),
        "error",
        "train_masks.csv",
        "has no row for alpha_01",
    ),
    "row without image": (
        csv("train_masks.csv", lambda old: [*old, ("zeta_01.jpg", "1 1")]),
        "error",
        "train_masks.csv",
        "has rows without an image: zeta_01.jpg",
    ),
    "row twice": (
        csv("train_masks.csv", lambda old: [*old, old[0]]),
        "error",
        "train_masks.csv",
        "line 14 repeats alpha_01.jpg",
    ),
    "CSV with another header": (
        put("train_masks.csv", lambda old: old.replace(b"img", b"id")),
        "error",
        "train_masks.csv",
        "header",
    ),
    "CSV not UTF-8": (
        put("train_masks.csv", lambda old: old + b"\xff,1 1\n"),
        "error",
        "train_masks.csv",
        "is not UTF-8",
    ),
    "CSV missing": (remove("train_masks.csv"), "warning", "train_masks.csv", "there is no such file"),
    "sample missing": (remove("sample_submission.csv"), "warning", "sample_submission.csv", "there is no such file"),
    "sample with unknown ids": (
        csv("sample_submission.csv", lambda old: [*old, ("zeta_01.jpg", "1 1")]),
        "error",
        "sample_submission.csv",
        "has ids without a test image: zeta_01.jpg",
    ),
    "test image missing in the sample": (
        csv("sample_submission.csv", lambda old: old[1:]),
        "error",
        "sample_submission.csv",
        "has no row for omega_03.jpg",
    ),
    "image twice": (copy("train/alpha_01.jpg", IMAGE), "error", IMAGE, "is the same image as train/alpha_01.jpg"),
    "training image among the test images": (
        copy(IMAGE, "test/omega_01.jpg"),
        "error",
        "test/omega_01.jpg",
        f"is the same image as {IMAGE}",
    ),
    "test image twice": (
        copy("test/omega_01.jpg", "test/omega_02.jpg"),
        "warning",
        "test/omega_02.jpg",
        "is the same image",
    ),
    "mask twice": (
        copy("train_masks/alpha_01_mask.gif", MASK),
        "warning",
        MASK,
        "is the same mask as train_masks/alpha_01",
    ),
    "group not complete": (
        lambda root: [remove(name)(root) for name in (IMAGE, MASK)],
        "error",
        "train/beta*",
        "the group beta has 2 images; expected 3",
    ),
    "test group not complete": (remove("test/omega_03.jpg"), "error", "test/omega*", "has 2 images; expected 3"),
    "group too large": (put("test/omega_04.jpg", jpeg()), "error", "test/omega*", "has 4 images; expected 3"),
    "name without group": (
        put("test/omega-4.jpg", jpeg()),
        "error",
        "test/omega-4.jpg",
        "does not match groups.pattern",
    ),
    "unknown suffix": (put("train/beta_02.jpeg", jpeg()), "warning", "train/beta_02.jpeg", "is ignored for its suffix"),
    "mask with unknown suffix": (
        put("train_masks/beta_02.png", b""),
        "warning",
        "train_masks/beta_02.png",
        "is ignored for its suffix",
    ),
    "no test folder": (lambda root: (root / "test").rename(root / "elsewhere"), "warning", "test", "no such folder"),
    "no train folder": (lambda root: (root / "train").rename(root / "elsewhere"), "error", "train", "no such folder"),
    "no mask folder": (lambda root: (root / "train_masks").rename(root / "elsewhere"), "error", IMAGE, "has no mask"),
}


def as_text(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def test_good_data_has_no_findings(data: Path, competition: Competition) -> None:
    assert check_data(competition, data) == []


@pytest.mark.parametrize("name", BROKEN)
def test_every_fault_is_named(name: str, data: Path, competition: Competition) -> None:
    change, level, file, what = BROKEN[name]
    change(data)
    findings = check_data(competition, data, workers=2)
    assert any(one.file == file and one.level == level and what in one.what for one in findings), as_text(findings)
    assert all(one.what and one.fix and "\n" not in one.what + one.fix for one in findings), as_text(findings)


def test_unusual_but_correct_files_have_no_findings(data: Path, competition: Competition) -> None:
    """Files as cameras and people write them."""
    for name, content in {
        "train/alpha_01.jpg": jpeg("L", seed=1),
        "train/alpha_02.jpg": jpeg("CMYK", seed=2),
        "train/alpha_03.jpg": jpeg(progressive=True, seed=3),
        "train/beta_01.jpg": jpeg(seed=4) + b"bytes after the image",
    }.items():
        put(name, content)(data)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    put("train/beta_02.jpg", jpeg(size=SIZE[::-1], exif=rotated))(data)
    for hidden in ("train/.DS_Store", "train_masks/.DS_Store"):
        (data / hidden).write_bytes(b"")
    assert check_data(competition, data) == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_images_without_a_range_are_warnings(data: Path, competition: Competition, suffix: str) -> None:
    if suffix == ".tif":
        for package in ("tifffile", "zarr"):
            pytest.importorskip(package, reason="the packages of requirements-formats.txt are not installed")
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 9000, SIZE[::-1]).astype(np.uint16))
    (data / IMAGE).unlink()
    deep.save((data / IMAGE).with_suffix(suffix))
    chosen = changed_competition(competition, images__suffixes=(".jpg", suffix), images__id="{stem}.jpg")
    (finding,) = check_data(chosen, data)
    assert (finding.level, finding.file) == ("warning", f"train/beta_02{suffix}")
    assert finding.what.startswith("has 16 bits per value")
    stated = changed_competition(chosen, images__range=(0, 9000))
    assert check_data(stated, data) == []


def test_all_faults_are_reported_at_once(data: Path, competition: Competition) -> None:
    put(IMAGE, b"")(data)
    remove("train_masks/alpha_01_mask.gif")(data)
    put("test/omega-4.jpg", b"")(data)
    mask(gray(1), name="train_masks/gamma_03_mask.gif")(data)
    findings = check_data(competition, data)
    files = {one.file for one in findings}
    assert files >= {IMAGE, "train/alpha_01.jpg", "test/omega-4.jpg", "train_masks/gamma_03_mask.gif"}, as_text(
        findings
    )
    assert [one.level for one in findings] == sorted(one.level for one in findings), "errors first"


def test_missing_data_folder_is_an_error(tmp_path: Path, competition: Competition) -> None:
    findings = check_data(competition, tmp_path / "nowhere")
    assert findings[0].level == "error"
    assert "no such folder; set DATA" in f"{findings[0].what}; {findings[0].fix}"


def test_a_decoder_that_crashes_is_a_finding(
    data: Path, competition: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> np.ndarray:
        raise RuntimeError("a bug of the library")

    monkeypatch.setattr("pipeline.data.examine.read_mask", crash)
    findings = check_data(competition, data)
    assert len(findings) == 12
    assert findings[0].what == "cannot be decoded (RuntimeError: a bug of the library)"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Images in the layout of competitions/folders.toml."""
    rng = np.random.default_rng(3)
    for side, count in (("train", 3), ("val", 2)):
        for kind in ("images", "masks"):
            (tmp_path / f"{side}_{kind}").mkdir()
        for number in range(count):
            image, mask = draw_ellipse(rng, (40 + number, 30))
            Image.fromarray(image).save(tmp_path / f"{side}_images" / f"{side}{number}.png")
            save_mask(mask, tmp_path / f"{side}_masks" / f"{side}{number}_mask.gif")
    return tmp_path


def test_faults_of_plain_folders_are_named(folders: Path) -> None:
    competition = load_competition("folders")
    assert [one.what for one in check_data(competition, folders)] == ["there is no such folder of test images"]
    for change, level, file, what in (
        (copy("train_images/train1.png", "val_images/val0.png"), "error", "val_images/val0.png", "is the same image"),
        (copy("train_images/train1.png", "train_images/train1.jpg"), "error", "train_images/train1.png", "is the same"),
        (
            copy("train_masks/train1_mask.gif", "train_masks/train1.png"),
            "warning",
            "train_masks/train1_mask.gif",
            "is a second mask of an image",
        ),
        (
            copy("train_masks/train1_mask.gif", "val_masks/other.gif"),
            "error",
            "val_masks/other.gif",
            "without an image",
        ),
        (
            copy("train_masks/train1_mask.gif", "train_masks/train0_mask.gif"),
            "error",
            "train_masks/train0_mask.gif",
            "is 41×30 pixels, its image 40×30",
        ),
        (mask(np.zeros((30, 42)), name="train_masks/train2_mask.gif"), None, "train_masks/train2_mask.gif", ""),
    ):
        change(folders)
        findings = [one for one in check_data(competition, folders) if one.file == file]
        assert [one.level for one in findings if what in one.what] == ([level] if level else []), as_text(findings)


def test_repeated_ids_are_named(folders: Path) -> None:
    copy("train_images/train0.png", "train_images/train0.jpg")(folders)
    competition = load_competition("folders")
    stems = changed_competition(competition, images__id="{stem}")
    twice = [one.file for one in check_data(stems, folders) if one.what == "has the same id, train0, as another image"]
    assert twice == ["train_images/train0.jpg", "train_images/train0.png"]


def test_same_name_in_train_and_val_is_accepted(folders: Path) -> None:
    (folders / "val_images" / "val0.png").rename(folders / "val_images" / "train0.png")
    (folders / "val_masks" / "val0_mask.gif").rename(folders / "val_masks" / "train0_mask.gif")
    assert not [one for one in check_data(load_competition("folders"), folders) if "the same id" in one.what]


def test_wrong_rle_format_is_explained(data: Path, competition: Competition) -> None:
    """If most masks contradict their rows, the check reports the keys with which they agree."""
    columns = changed_competition(competition, csv__order="column", csv__base=0)
    findings = [one for one in check_data(columns, data) if one.file == "train_masks.csv"]
    assert [(one.what, one.fix) for one in findings] == [
        ("12 of 12 masks differ from their rows", 'set csv.order = "row" and csv.base = 1: then 12 of 12 agree')
    ]


def test_findings_are_formatted_as_a_table(data: Path) -> None:
    findings = [Finding("error", "a.jpg", "is broken", "fix it"), Finding("warning", "longer.jpg", "is odd", "look")]
    assert format_findings(findings, data).splitlines() == [
        "error    a.jpg       is broken; fix it",
        "warning  longer.jpg  is odd; look",
        f"{data}: 1 errors, 1 warnings",
    ]
    assert has_errors(findings)
    assert not has_errors(findings[1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["carvana", "nuclei"])
def test_practice_data_has_no_findings(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every eighth car with all its views, and all nuclei."""
    competition, data = load_competition(name), request.getfixturevalue(f"shared_{name}")
    if competition.groups:
        data = link_some_groups(competition, data, tmp_path)
    assert check_data(competition, data) == []


def link_some_groups(competition: Competition, source: Path, target: Path) -> Path:
    """Link the files of every eighth training and test group, and copy their rows of the CSV files."""
    kept: set[str] = set()
    for folder in filter(None, (competition.images.train, competition.images.test, competition.masks.train)):
        (target / folder).mkdir(parents=True)
        names = sorted(path.name for path in (source / folder).iterdir())
        groups = {name.split("_")[0]: None for name in names}
        chosen = list(groups)[::8]
        for name in names:
            if name.split("_")[0] in chosen:
                (target / folder / name).symlink_to(source / folder / name)
                kept.add(name)
    assert len(kept) > 200
    for name in filter(None, (competition.csv.train, competition.csv.sample)):
        header, *rows = (source / name).read_text().splitlines(keepends=True)
        (target / name).write_text("".join([header, *(row for row in rows if row.split(",")[0] in kept)]))
    return target
