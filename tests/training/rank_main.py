"""What the tests start with torchrun: train a fold, or compare a loss with that of the whole batch."""

import logging
import pickle
import sys
from pathlib import Path

import torch

from pipeline.errors import UserError
from pipeline.models.classes import Classes
from pipeline.paths import Run
from pipeline.recipe import LossConfig
from pipeline.training.fold import train_fold
from pipeline.training.losses import SegmentationLoss
from pipeline.training.ranks import join_ranks


def compare_losses() -> None:
    """The value and the averaged gradient of the ranks' parts are those of the whole batch."""
    torch.manual_seed(0)
    target = torch.rand(4, 2, 9, 8) / 2
    target[:, 1] = 0  # a class that is missing counts as 0
    with join_ranks() as ranks:
        part = slice(ranks.rank, None, ranks.world_size)
        for classes in (Classes(("a", "b")), Classes(("a", "b"), exclusive=True)):
            logits = torch.randn(4, 3 if classes.exclusive else 2, 9, 8)
            for boundary in (0.0, 3.0):
                config = LossConfig(bce=0.7, dice=1.3, boundary=boundary)
                whole = logits.clone().requires_grad_()
                expected = SegmentationLoss(config, classes)(whole, target)
                expected.backward()
                mine = logits[part].clone().requires_grad_()
                value = SegmentationLoss(config, classes, ranks)(mine, target[part])
                value.backward()
                torch.testing.assert_close(ranks.mean(value.detach()), expected.detach())
                torch.testing.assert_close(mine.grad / ranks.world_size, whole.grad[part])


def train(spec: Path) -> None:
    """Train fold 0 with the arguments in a pickle."""
    competition, recipe, data, table, folder, minutes = pickle.loads(spec.read_bytes())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    try:
        if not train_fold(competition, recipe, data, table, 0, Run(folder), minutes):
            sys.exit(3)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    train(Path(sys.argv[1])) if len(sys.argv) > 1 else compare_losses()
