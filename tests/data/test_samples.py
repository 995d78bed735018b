"""Images and labels are found by folders and by patterns, and everything that is missing is named."""

from pathlib import Path

import pytest

from pipeline.competition import Competition
from pipeline.data.patterns import fill, find_files, fixed_part
from pipeline.data.row_format import RowFormat
from pipeline.data.samples import (
    count_fold_images,
    load_submission_samples,
    load_test_samples,
    load_training_samples,
    read_submission_keys,
)
from pipeline.errors import UserError
from tests.helpers import changed_competition


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


class TestPatterns:
    def test_fields_and_stars_stay_within_a_name(self, tmp_path):
        touch(tmp_path, "a/x1/images/x1.png", "a/x2/images/other.png", "a/x2/masks/m.png", "a/x3/deep/images/q.png")
        found = find_files(tmp_path, "a/{id}/images/*.png")
        assert [(file.fields["id"], file.path.name) for file in found] == [("x1", "x1.png"), ("x2", "other.png")]

    def test_composite_names_are_split_into_fields(self, tmp_path):
        touch(
            tmp_path, "case12/case12_day3/scans/slice_0007_266_266_1.5.png", "case12/case99_day3/scans/slice_0001_1.png"
        )
        found = find_files(tmp_path, "case{case}/case{case}_day{day}/scans/slice_{slice}_*.png")
        assert len(found) == 1, "a repeated field has the same value"
        fields = found[0].fields
        assert (fields["case"], fields["day"], fields["slice"]) == ("12", "3", "0007")
        assert fill("case{case}_day{day}_slice_{slice}", fields) == "case12_day3_slice_0007"

    def test_folder_lists_files_with_its_suffixes_in_order(self, tmp_path):
        touch(tmp_path, "t/b.JPG", "t/a.jpg", "t/c.txt")
        assert [file.fields["name"] for file in find_files(tmp_path, "t", (".jpg",))] == ["a.jpg", "b.JPG"]

    def test_missing_folder_is_named(self, tmp_path):
        with pytest.raises(UserError, match="t: no such folder; set DATA"):
            find_files(tmp_path, "t", (".jpg",))
        with pytest.raises(UserError, match="x/y: no such folder"):
            find_files(tmp_path, "x/y/{id}/*.png")
        assert fixed_part("x/y/{id}/*.png") == "x/y"
        assert fixed_part("*.png") == "."


class TestRowFormat:
    @pytest.mark.parametrize(
        ("columns", "fields"),
        [
            ({"img": "{id}", "rle_mask": "{rle}"}, ("a_b.jpg", "1 2")),
            ({"EncodedPixels": "{rle}", "ImageId": "{id}"}, ("1 2", "a_b.jpg")),
        ],
    )
    def test_single_class(self, columns, fields):
        format = RowFormat(columns)
        assert format.parse(fields) == ("a_b.jpg", 0, "1 2")
        assert format.render("a_b.jpg", 0, "1 2") == fields

    @pytest.mark.parametrize(
        ("columns", "fields"),
        [
            ({"ImageId": "{id}", "EncodedPixels": "{rle}", "ClassId": "{class}"}, ("a_b.jpg", "1 2", "23")),
            ({"Image_Label": "{id}_{class}", "EncodedPixels": "{rle}"}, ("a_b.jpg_23", "1 2")),
        ],
    )
    def test_classes(self, columns, fields):
        format = RowFormat(columns, ["2", "23", "3"])
        assert format.parse(fields) == ("a_b.jpg", 1, "1 2")
        assert format.render("a_b.jpg", 1, "1 2") == fields
        assert format.describe_key("a", 1) == "a, class 23"

    def test_unknown_class_is_named_with_the_known_ones(self):
        format = RowFormat({"key": "{id}_{class}", "rle": "{rle}"}, ["Fish", "Sugar"])
        with pytest.raises(
            ValueError, match=r"'a.jpg_Bird' does not match \{id\}_\{class\} with a class from Fish, Sugar"
        ):
            format.parse(("a.jpg_Bird", ""))


def test_training_samples_have_ids_groups_and_masks(competition, data):
    samples = load_training_samples(competition, data)
    assert [sample.id for sample in samples][:2] == ["alpha_01.jpg", "alpha_02.jpg"]
    assert {sample.group for sample in samples} == {"alpha", "beta", "delta", "gamma"}
    assert all(len(sample.masks) == 1 and sample.masks[0][1].exists() for sample in samples)
    assert not any(sample.has_label for sample in load_test_samples(competition, data))


def test_missing_mask_is_named(competition, data):
    (data / "train_masks" / "beta_02_mask.gif").unlink()
    with pytest.raises(UserError, match=r"beta_02\.jpg: has no mask beta_02_mask\.gif; add it"):
        load_training_samples(competition, data)
    samples = load_training_samples(competition, data, require_masks=False)
    assert [sample.id for sample in samples if not sample.has_label] == ["beta_02.jpg"]


def test_missing_folders_images_and_groups_are_named(competition, data):
    with pytest.raises(UserError, match="nowhere/train: no such folder; set DATA"):
        load_training_samples(competition, data / "nowhere")
    for image in (data / "test").iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"test: has no image \(\.jpg\)"):
        load_test_samples(competition, data)
    (data / "train" / "Beta.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"Beta\.jpg: its name does not match groups\.pattern"):
        load_training_samples(competition, data)
    with pytest.raises(UserError, match=r"competitions/tiny\.toml: has no images\.test"):
        load_test_samples(changed_competition(competition, images__test=None), data)


def test_wrong_fields_are_reported_with_the_key_and_the_fields(competition, data):
    wrong = changed_competition(competition, images__id="{case}")
    with pytest.raises(UserError, match=r"images\.id uses the field \{case\}, .*; use one of .*\{stem\}"):
        load_training_samples(wrong, data)
    config = competition.model_dump()
    config["folds"] = 1
    config["images"] |= {"train": "train/{id}.jpg", "val": "test/{id}.jpg"}
    config["masks"] |= {"train": "train_masks/{id}_mask.gif", "val": "val_masks/{other}.gif"}
    message = r"masks\.val = .* shares no field with images\.val; use the same \{field\} in images\.val and masks\.val"
    with pytest.raises(UserError, match=message):
        load_training_samples(Competition.model_validate(config), data)


CSV_LABELS = {
    "name": "rows",
    "title": "Rows",
    "folds": 2,
    "images": {"train": "train", "test": "test", "suffixes": [".png"]},
    "csv": {"columns": {"id": "{id}", "rle": "{rle}"}, "order": "row", "train": "labels.csv", "empty": "-1"},
}


@pytest.fixture
def csv_data(tmp_path):
    touch(tmp_path, "train/a.png", "train/b.png", "train/c.png", "test/d.png")
    (tmp_path / "labels.csv").write_text("extra,rle,id\nx,1 2,a\nx,5 1,a\nx,-1,b\n")
    return tmp_path


def test_rows_of_a_csv_are_labels(csv_data):
    samples = load_training_samples(Competition.model_validate(CSV_LABELS), csv_data)
    assert {sample.id: sample.rows for sample in samples} == {"a": ((0, "1 2"), (0, "5 1")), "b": (), "c": ()}
    assert all(sample.has_label for sample in samples)


def test_row_without_an_image_is_named(csv_data):
    (csv_data / "labels.csv").write_text("id,rle\nz,1 2\n")
    with pytest.raises(UserError, match=r"labels\.csv: line 2 has the id 'z', which is no image"):
        load_training_samples(Competition.model_validate(CSV_LABELS), csv_data)


def test_groups_and_strata_come_from_a_table(csv_data):
    groups = {"csv": "meta.csv", "id": "id", "column": "patient", "stratum": "organ"}
    competition = Competition.model_validate(CSV_LABELS | {"groups": groups})
    (csv_data / "meta.csv").write_text("id,patient,organ\na,p1,lung\nb,p1,lung\nc,p2,skin\n")
    samples = load_training_samples(competition, csv_data)
    assert [(sample.group, sample.stratum) for sample in samples] == [("p1", "lung"), ("p1", "lung"), ("p2", "skin")]
    (csv_data / "meta.csv").write_text(
        "id,patient,organ\n" + "".join(f"{sample.image.name},{sample.id}x,skin\n" for sample in samples)
    )
    by_name = load_training_samples(competition, csv_data)
    assert [sample.group for sample in by_name] == ["ax", "bx", "cx"], "a table may name files instead of ids"
    (csv_data / "meta.csv").write_text("id,organ\na,lung\n")
    with pytest.raises(UserError, match=r"meta\.csv: has no column 'patient', only id, organ"):
        load_training_samples(competition, csv_data)


def test_several_mask_files_with_classes_belong_to_one_image(tmp_path):
    touch(tmp_path, "t/x/images/1.png", "t/y/images/2.png", "m/x_cat_1.png", "m/x_dog_1.png", "m/x_dog_2.png")
    competition = Competition.model_validate(
        {
            "name": "c",
            "title": "C",
            "folds": 2,
            "classes": ["cat", "dog"],
            "images": {"train": "t/{id}/images/*.png"},
            "masks": {"train": "m/{id}_{class}_*.png"},
            "groups": {"name": "group-{id}"},
            "csv": {"columns": {"id": "{id}", "class": "{class}", "rle": "{rle}"}, "rows": "class", "order": "row"},
        }
    )
    x, y = load_training_samples(competition, tmp_path, require_masks=False)
    assert [(index, path.name) for index, path in x.masks] == [
        (0, "x_cat_1.png"), (1, "x_dog_1.png"), (1, "x_dog_2.png"),
    ]  # fmt: skip
    assert (x.id, x.group, y.has_label) == ("x", "group-x", False)
    touch(tmp_path, "m/x_bird_1.png")
    with pytest.raises(UserError, match=r"x_bird_1\.png: is of the class 'bird', which is not one of cat, dog"):
        load_training_samples(competition, tmp_path)


def test_submission_samples_are_in_the_order_of_the_sample(competition, data):
    assert [sample.id for sample in load_submission_samples(competition, data)] == [
        "omega_03.jpg", "omega_02.jpg", "omega_01.jpg",
    ]  # fmt: skip
    (data / "sample_submission.csv").unlink()
    assert read_submission_keys(competition, data) is None
    assert next(sample.id for sample in load_submission_samples(competition, data)) == "omega_01.jpg"


def test_sample_submission_with_faults_is_refused(competition, data):
    path = data / "sample_submission.csv"
    path.write_text(path.read_text() + "psi_01.jpg,1 1\n")
    with pytest.raises(UserError, match=r"has 1 ids without an image in .*test, such as psi_01\.jpg"):
        load_submission_samples(competition, data)
    path.write_text("img,rle_mask\nomega_01.jpg,1 1\nomega_01.jpg,1 1\n")
    with pytest.raises(UserError, match=r"line 3 repeats omega_01\.jpg"):
        load_submission_samples(competition, data)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"has the header 'a,b'; the header must be img,rle_mask"):
        load_submission_samples(competition, data)


def test_missing_data_of_a_download_names_the_command(competition, tmp_path):
    offered = Competition.model_validate(
        competition.model_dump() | {"slug": "tiny", "download": {"files": [{"name": "a.zip", "to": "train", "mb": 1}]}}
    )
    with pytest.raises(UserError, match=r"train: no such folder; run `make download COMPETITION=tiny`, or set DATA to"):
        load_training_samples(offered, tmp_path)
    with pytest.raises(UserError, match=r"train: no such folder; set DATA to the folder that contains train/$"):
        load_training_samples(competition, tmp_path)


@pytest.mark.parametrize(("folds", "expected"), [(2, 3), (4, 4), (5, 4), (9, 5)])
def test_images_of_a_fold_are_all_but_those_of_one_part(tmp_path, competition, folds, expected):
    touch(tmp_path, *[f"train/car_{number:02}.jpg" for number in range(5)])
    assert count_fold_images(changed_competition(competition, folds=folds), tmp_path) == expected


def test_without_data_the_images_of_carvana_are_assumed_with_a_warning(tmp_path, competition, caplog):
    assert count_fold_images(competition, tmp_path / "missing") == 4070
    assert "missing: no such folder; assumes the 4070 images" in caplog.text


def test_images_of_a_fold_are_those_outside_of_the_val_folder(tmp_path, competition):
    touch(tmp_path, *[f"train/car_{number:02}.jpg" for number in range(4)], "val/van_01.jpg")
    folders = {"images__val": "val", "masks__val": "val_masks", "folds": 1}
    assert count_fold_images(changed_competition(competition, **folders), tmp_path) == 4
