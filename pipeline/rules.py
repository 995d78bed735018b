"""Print the stages of one competition and recipe as Makefile rules. Standard library only.

The Makefile includes the result, so that paths and facts from TOML files are stated in Python alone::

    EVALUATION := runs/carvana-cpu/evaluation.json
    runs/carvana-cpu/fold0/weights.safetensors: recipes/cpu.toml folds/carvana.csv ... | .venv/ready
        $(RUN).train $(DATA_OPTIONS) --recipe cpu --fold 0
"""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline import paths
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.stages import (
    Stage,
    corrections_csv,
    fold_numbers,
    folds_stage,
    result_stages,
    split_recipe_names,
    train_stage,
)

MAX_GPUS = 64
"""Most processes of a training on one machine."""
_NAME = re.compile(r"[A-Za-z0-9_.+-]+")


def write_rules(path: Path, competition: str, recipe: str) -> None:
    """Write `makefile_rules` to a file that is not older than the files it is made from.

    A source dated in the future, by a wrong clock, would otherwise make the Makefile remake the file without end.

    Raises:
        UserError: see `makefile_rules`.
    """
    write_text(path, makefile_rules(competition, recipe))
    sources = [*paths.COMPETITIONS.glob("*.toml"), *Path(__file__).parent.glob("*.py")]
    newest = max(time.time(), *(source.stat().st_mtime for source in sources))
    os.utime(path, (newest, newest))


def makefile_rules(competition: str, recipe: str) -> str:
    """Return the variables and rules of a competition and a recipe, or several recipes joined by ``+``.

    Raises:
        UserError: a name has characters that make would interpret, or a TOML file is missing.
    """
    for name in (competition, recipe):
        if not _NAME.fullmatch(name):
            fix = "use letters, digits, '_', '-' and '.' only"
            raise UserError(f"'{name}'", "is not a name of a competition or recipe", fix)
    recipes = split_recipe_names(recipe)
    for name in recipes:
        if not paths.recipe_toml(name).exists():
            known = ", ".join(sorted(path.stem for path in paths.RECIPES.glob("*.toml"))) or "none"
            raise UserError(paths.recipe_toml(name), "no such file", f"files in {paths.RECIPES}/ are: {known}")
    folds = fold_numbers(competition)
    runs = paths.runs_folder(competition, recipe)
    evaluation, submission = result_stages(competition, recipe, [])
    every_fold: list[paths.Fold] = [*folds, paths.ALL]
    stamps = [paths.overrides_json(paths.runs_folder(competition, name)) for name in recipes]
    listed = corrections_csv(competition)
    corrections = f"$(wildcard {listed})" if listed else ""  # the training explains it if it is missing
    lines = [
        f"# Written by scripts/rules.py from {paths.competition_toml(competition)}.",
        "STARTED := $(shell date +%s)",
        f"ifneq ($(filter-out {_join(folds)} {paths.ALL},$(FOLD) $(FOLDS)),)",
        f"$(error FOLD=$(FOLD) FOLDS=$(FOLDS): the folds of {competition} are {_join(folds)}; FOLD may be {paths.ALL})",
        "endif",
        f"ifneq ($(filter {paths.ALL},$(FOLDS)),)",
        f"$(error FOLDS={paths.ALL}: without validation images there is nothing to evaluate; set FOLD={paths.ALL})",
        "endif",
        f"ifneq ($(filter-out {_join(range(1, MAX_GPUS + 1))},$(GPUS)),)",
        f"$(error GPUS=$(GPUS): give the number of GPUs, 1 to {MAX_GPUS})",
        "endif",
        f"RUNS := {runs}",
        f"STAMPS := {_join(stamps)}",
        f"FOLDS_CSV := {paths.folds_csv(competition)}",
        f"TRAINED_FOLD := {_one_weights_file(competition, recipes)}",
        f"TRAINED := {_weights_files(competition, recipes, f'$(or $(FOLDS),{_join(folds)})')}",
        f"EVALUATION := {evaluation.target}",
        f"SUBMISSION_CSV := {submission.target}",
        "",
        _rule(folds_stage(competition), "$(DATA_OPTIONS)"),
    ]
    for name, stamp in zip(recipes, stamps, strict=True):
        lines.append(_options_rule(competition, name, stamp))
        stages = [train_stage(competition, name, fold) for fold in every_fold]
        lines += [_rule(stage, "$(DATA_OPTIONS)", stamp, corrections) for stage in stages]
    scope = runs / ".scope"
    lines.append(_scope_rule(scope))
    # A runs folder of an older version has no analysis. It is missed only by who looks at the evaluation.
    missing = f"$(if $(filter evaluate report,$(MAKECMDGOALS)),$(if $(wildcard {paths.analysis_json(runs)}),,FORCE))"
    for stage, more in ((evaluation, [missing]), (submission, [])):
        lines.append(_rule(stage, '$(DATA_OPTIONS) --folds "$$FOLDS"', *stamps, "$(TRAINED)", scope, *more))
    return "\n".join(lines) + "\n"


def _join(values: Sequence[object]) -> str:
    return " ".join(filter(None, map(str, values)))


def _weights_files(competition: str, recipes: Sequence[str], folds: str) -> str:
    """Return an expression for the weights files of all recipes; `folds` is a make expression for the folds."""
    parts = [str(train_stage(competition, recipe, paths.ALL).target).replace(paths.ALL, "%") for recipe in recipes]
    return " ".join(f"$(patsubst %,{part},{folds})" for part in parts)


def _one_weights_file(competition: str, recipes: Sequence[str]) -> str:
    if len(recipes) > 1:
        joined = "+".join(recipes)
        message = f"RECIPE={joined} is an ensemble; train one of its recipes, or all with make train-all"
        return f"$(if $(filter train,$(MAKECMDGOALS)),$(error {message}))"
    return _weights_files(competition, recipes, "$(or $(FOLD),0)")


def _options_rule(competition: str, recipe: str, stamp: Path) -> str:
    """Return the rule that checks the recipe first, and that keeps SET and SEED where one of them is given."""
    pseudo = f"$(wildcard {paths.PSEUDO}/{competition}*/fold*.csv)"
    needs = f"{paths.recipe_toml(recipe)} {pseudo} $(if $(strip $(SET_OPTIONS)),FORCE) | .venv/ready"
    return f"{stamp}: {needs}\n\t@$(RUN).options --competition {competition} --recipe {recipe} $(SET_OPTIONS)\n"


def _scope_rule(stamp: Path) -> str:
    """Return the rule of a file that changes when DATA or FOLDS does."""
    text = 'printf \'%s\\n\' "$$DATA" "$$FOLDS"'
    return f"{stamp}: FORCE\n\t@mkdir -p $(@D); {text} | cmp -s - $@ || {text} > $@\n"


def _rule(stage: Stage, options: str, *more: Path | str) -> str:
    # The options come first, because a mistake in a recipe should show before the images are read.
    needs = _join([*more, *stage.needs])
    # TRAIN starts several processes where GPUS is given.
    start = "$(TRAIN)" if stage.script == "train" else f"$(RUN).{stage.script}"
    command = _join([start, options, *stage.options])
    return f"{stage.target}: {needs} | .venv/ready\n\t{command}\n"
