"""What a recipe would cost on a GPU that is not at hand: memory and time, counted from its operations."""

from typing import Annotated

import typer

from scripts.common import Changes, RecipeName, run


def main(
    recipe: RecipeName,
    images: Annotated[int, typer.Option(min=1, help="Images that a fold trains on.")] = 4070,
    changes: Changes = [],  # noqa: B006 (typer wants a list)
) -> None:
    """Print operations and memory of a step, and an estimate of the time on some cards."""
    from pipeline.models.cost import (
        BANDWIDTH_UTILIZATION,
        COMPUTE_UTILIZATION,
        GIB,
        GPUS,
        estimate_cost,
        relative_step_cost,
    )
    from pipeline.recipe import load_recipe

    chosen = load_recipe(recipe, changes)
    counted = estimate_cost(chosen)
    print(f"counted, per image of {chosen.input.size[0]}×{chosen.input.size[1]} and step:")
    print(f"  parameters                   {counted.parameters / 1e6:.2f} M")
    print(f"  multiply-adds forward        {counted.forward / counted.batch / 2e9:.1f} G")
    print(f"  operations of a step         {counted.flops / counted.batch / 1e12:.3f} T")
    print(f"  activations read and written {counted.moved / counted.batch / 1e9:.2f} GB")
    print(f"  activations kept             {counted.kept / counted.batch / 1e9:.2f} GB")
    print(f"estimated, for a batch of {counted.batch}: {counted.memory / GIB:.1f} GiB of GPU memory")
    steps = chosen.train.epochs * images / counted.batch * relative_step_cost(chosen)
    for card in GPUS:
        fits = "" if counted.memory < card.memory else "; does not fit"
        hours = steps * counted.seconds(card) / 3600
        print(
            f"  {card.name:11} {counted.batch / counted.seconds(card):6.0f} images/s at full size; {hours:.1f} h for "
            f"{chosen.train.epochs} epochs of {images} images{fits}"
        )
    print(
        f"Nothing was run: the times assume {COMPUTE_UTILIZATION:.0%} of a card's arithmetic and "
        f"{BANDWIDTH_UTILIZATION:.0%} of its bandwidth."
    )


if __name__ == "__main__":
    run(main)
