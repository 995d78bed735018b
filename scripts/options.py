"""Check the overrides of a recipe before its stages start, and keep them for all of them."""

from scripts.common import CompetitionOption, RecipeOption, RunSeedOption, RunSetOption, run


def main(
    competition: CompetitionOption, recipe: RecipeOption, overrides: RunSetOption = None, seed: RunSeedOption = None
) -> None:
    """Write runs/<competition>-<recipe>/.options if it has to change, or is older than the recipe."""
    from pipeline.overrides import given_overrides, load_run_recipe, save_overrides
    from pipeline.paths import overrides_json, recipe_toml, runs_folder

    runs = runs_folder(competition, recipe)
    _, complete = load_run_recipe(recipe, runs, given_overrides(overrides, seed))
    save_overrides(runs, complete)
    path = overrides_json(runs)
    if path.stat().st_mtime < recipe_toml(recipe).stat().st_mtime:
        path.touch()


if __name__ == "__main__":
    run(main)
