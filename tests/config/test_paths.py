"""Paths of runs, folds, weights and submissions, and the search for weights."""

import re
from pathlib import Path

import pytest

from pipeline import paths, weights
from pipeline.errors import UserError


class TestFold:
    @pytest.mark.parametrize(("text", "fold"), [("0", 0), ("4", 4), ("12", 12), ("all", "all")])
    def test_numbers_and_all_are_folds(self, text, fold):
        assert paths.parse_fold(text) == fold

    @pytest.mark.parametrize("text", ["", "zero", "ALL", "-1", "1.0", " 1", "0 1", "٣", "²", "$(x)"])
    def test_other_text_is_refused(self, text):
        with pytest.raises(UserError) as caught:
            paths.parse_fold(text)
        assert str(caught.value) == f"fold '{text}': is neither a number nor 'all'; give a fold such as 0"


class TestNames:
    @pytest.mark.parametrize(
        ("path", "text"),
        [
            (paths.competition_toml("cars"), "competitions/cars.toml"),
            (paths.recipe_toml("best"), "recipes/best.toml"),
            (paths.data_folder("cars"), "data/cars"),
            (paths.label_cache("cars"), ".label_cache/cars"),
            (paths.folds_csv("cars"), "folds/cars.csv"),
            (paths.runs_folder("cars", "best"), "runs/cars-best"),
            (paths.runs_folder("demo", "demo"), "runs/demo"),
            (paths.runs_folder("cars", "a+b"), "runs/cars-a+b"),
            (paths.submission_csv("cars", "best"), "submissions/cars-best.csv.gz"),
            (paths.submission_csv("demo", "demo"), "submissions/demo.csv.gz"),
            (paths.kernel_folder("cars", "best"), "kernels/cars-best"),
            (paths.inference_kernel_folder("cars", "best"), "kernels/cars-best-inference"),
            (paths.weights_dataset_folder("cars", "best"), "kernels/cars-best-weights"),
            (paths.evaluation_json(Path("r")), "r/evaluation.json"),
            (paths.oof_csv(Path("r")), "r/oof.csv"),
            (paths.oof_masks_csv(Path("r")), "r/oof_masks.csv.gz"),
            (paths.analysis_json(Path("r")), "r/analysis.json"),
            (paths.worst_jpg(Path("r")), "r/worst.jpg"),
            (paths.fold_run(Path("r"), 3).folder, "r/fold3"),
            (paths.fold_run(Path("r"), "all").folder, "r/foldall"),
            (paths.LEDGER, "submissions/ledger.csv"),
            (paths.OVERLAYS, "overlays"),
            (paths.SHIPPED_WEIGHTS, "weights"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_path(self, path, text):
        assert str(path) == text

    def test_files_of_a_run(self):
        run = paths.Run(Path("r/fold0"))
        names = ("weights", "checkpoint", "recipe", "split", "metrics", "samples")
        assert {name: str(getattr(run, name)) for name in names} == {
            "weights": "r/fold0/weights.safetensors",
            "checkpoint": "r/fold0/checkpoint.pt",
            "recipe": "r/fold0/recipe.toml",
            "split": "r/fold0/split.txt",
            "metrics": "r/fold0/metrics.jsonl",
            "samples": "r/fold0/samples",
        }

    @pytest.mark.parametrize(
        ("submission", "metadata", "rejected", "spool"),
        [
            ("s/x.csv.gz", "s/x.json", "s/rejected-x.csv.gz", "s/.x.csv.gz.rows"),
            ("s/x.csv", "s/x.json", "s/rejected-x.csv", "s/.x.csv.rows"),
            ("s/a.b.csv", "s/a.b.json", "s/rejected-a.b.csv", "s/.a.b.csv.rows"),
            ("s/x.gz", "s/x.gz.json", "s/rejected-x.gz", "s/.x.gz.rows"),
            ("x", "x.json", "rejected-x", ".x.rows"),
        ],
    )
    def test_side_files_of_a_submission(self, submission, metadata, rejected, spool):
        path = Path(submission)
        assert str(paths.submission_metadata(path)) == metadata
        assert str(paths.rejected_submission(path)) == rejected
        assert str(paths.submission_spool(path)) == spool

    def test_each_recipe_has_a_runs_folder(self):
        assert paths.runs_folders("cars", "a+b") == [Path("runs/cars-a"), Path("runs/cars-b")]
        assert paths.runs_folders("cars", "a", Path("given")) == [Path("given")]
        with pytest.raises(UserError) as caught:
            paths.runs_folders("cars", "a+b", Path("given"))
        assert str(caught.value) == "given: is one folder for 2 recipes, a+b; give no folder"


def finish(runs: Path, *folds: paths.Fold) -> list[Path]:
    """Create the weights of finished runs and return their paths."""
    files = [paths.fold_run(runs, fold).weights for fold in folds]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return files


class TestSetAside:
    def test_folder_gets_the_first_free_number(self, tmp_path):
        for number in (1, 2):
            run = paths.fold_run(tmp_path, 0)
            finish(tmp_path, 0)
            assert run.set_aside() == tmp_path / f"fold0~{number}"
            assert not run.folder.exists()
            assert (tmp_path / f"fold0~{number}" / "weights.safetensors").exists()
        finish(tmp_path, 1)
        assert paths.fold_run(tmp_path, 1).set_aside() == tmp_path / "fold1~1", "each fold is counted by itself"


class TestFindWeights:
    def test_file_stands_for_itself(self, tmp_path):
        file = tmp_path / "any.bin"
        file.touch()
        assert weights.find_weights(file) == [file]

    def test_run_stands_for_its_weights(self, tmp_path):
        (file,) = finish(tmp_path, 0)
        assert weights.find_weights(file.parent) == [file]

    def test_runs_folder_stands_for_its_folds_in_numeric_order(self, tmp_path):
        files = finish(tmp_path, 0, 2, 10)
        finish(tmp_path, "all")
        assert weights.find_weights(tmp_path) == files, "without the fold all"
        files[1].unlink()
        assert weights.find_weights(tmp_path) == [files[0], files[2]], "an unfinished run has no weights"

    def test_fold_all_counts_without_other_folds(self, tmp_path):
        files = finish(tmp_path, "all")
        assert weights.find_weights(tmp_path) == files
        (tmp_path / "fold0").mkdir()
        assert weights.find_weights(tmp_path) == files, "an unfinished fold does not count"

    def test_runs_that_were_set_aside_do_not_count(self, tmp_path):
        finish(tmp_path, 0, "all")
        paths.fold_run(tmp_path, 0).set_aside()
        paths.fold_run(tmp_path, "all").set_aside()
        with pytest.raises(UserError) as caught:
            weights.find_weights(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}: has no weights.safetensors; train with `make train`, or name another run"
        )

    def test_missing_folder_is_named(self, tmp_path):
        with pytest.raises(UserError, match=r"none: has no weights\.safetensors"):
            weights.find_weights(tmp_path / "none")


class TestDefaultWeights:
    @pytest.fixture(autouse=True)
    def _workplace(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for folder in ("competitions", "recipes", "weights"):
            (tmp_path / folder).mkdir()
        Path("competitions/cars.toml").write_text('title = "Cars"')
        Path("competitions/cars_hq.toml").write_text('base = "cars"')
        for name in ("a", "b", "c"):
            Path(f"recipes/{name}.toml").touch()

    def test_own_runs_come_first(self):
        Path("weights/cars-a.safetensors").touch()
        finish(Path("runs/cars-a"), 0)
        assert weights.default_weights("cars", "a") == Path("runs/cars-a")
        assert weights.default_weights("cars", "b") == Path("weights/cars-a.safetensors")

    def test_fold_all_counts_as_trained(self):
        finish(Path("runs/cars-a"), "all")
        assert weights.default_weights("cars", "a") == Path("runs/cars-a")

    def test_shipped_weights_of_the_competition_come_before_those_of_its_base(self):
        for name in "bdacfe":
            Path(f"weights/cars-{name}.safetensors").touch()
        assert weights.default_weights("cars", "a") == Path("weights/cars-a.safetensors")
        assert weights.default_weights("cars_hq", "a") == Path("weights/cars-a.safetensors")
        Path("weights/cars_hq-z.safetensors").touch()
        assert weights.default_weights("cars_hq", "a") == Path("weights/cars_hq-z.safetensors")
        assert weights.default_weights("cars", "a") == Path("weights/cars-a.safetensors")

    def test_missing_weights_are_an_error_that_names_the_trained_recipes(self):
        Path("weights/cats-a.safetensors").touch()
        Path("weights/cars-a.bin").touch()
        with pytest.raises(UserError) as caught:
            weights.default_weights("cars", "a")
        assert str(caught.value) == (
            "runs/cars-a: has no weights.safetensors; train with `make train`, or set MODEL to a weights file"
        )
        finish(Path("runs/cars-c"), 0)
        finish(Path("runs/cars-b"), "all")
        finish(Path("runs/cats-a"), 0)
        with pytest.raises(UserError) as caught:
            weights.default_weights("cars", "a")
        assert str(caught.value) == (
            "runs/cars-a: has no weights.safetensors; set RECIPE to one of the trained recipes: b, c, "
            "or set MODEL to a weights file"
        )

    def test_unknown_competition_is_named(self):
        with pytest.raises(UserError, match=r"competitions/cats\.toml: no such file; files in .* are: cars, cars_hq"):
            weights.default_weights("cats", "a")


def test_only_this_module_names_the_files_of_a_run():
    names = re.compile(r"""["'/](weights\.safetensors|checkpoint\.pt|split\.txt|metrics\.jsonl|evaluation\.json)["']""")
    code = [path for folder in ("pipeline", "scripts") for path in Path(folder).rglob("*.py")]
    assert [str(path) for path in code if names.search(path.read_text())] == ["pipeline/paths.py"]
