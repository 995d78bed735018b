"""Check the overrides of a recipe before its stages start, and keep them for all of them."""

from scripts.common import CompetitionOption, RecipeOption, RunSeedOption, RunSetOption, run


def main(
    competition: CompetitionOption, recipe: RecipeOption, overrides: RunSetOption = None, seed: RunSeedOption = None
) -> None:
    """Write runs/<competition>-<recipe>/.options if it has to change, or is older than what the recipe trains on."""
    from pipeline.overrides import given_overrides, load_run_recipe, save_overrides, touch_overrides
    from pipeline.paths import runs_folder

    runs = runs_folder(competition, recipe)
    chosen, complete = load_run_recipe(recipe, runs, given_overrides(overrides, seed))
    save_overrides(runs, complete)
    touch_overrides(runs, competition, chosen)


if __name__ == "__main__":
    run(main, results=True)
