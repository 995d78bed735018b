"""The channels of a model: those of its images, and the classes of a competition as those of its logits."""

from dataclasses import dataclass

from torch import Tensor

from pipeline.competition import Competition


@dataclass(frozen=True)
class Classes:
    """Names of the classes, whether a pixel belongs to at most one of them, and the channels of the images."""

    names: tuple[str, ...] = ()
    """Empty for a single class."""
    exclusive: bool = False
    image_channels: int = 3

    @property
    def count(self) -> int:
        """Number of classes, at least 1."""
        return max(1, len(self.names))

    @property
    def channels(self) -> int:
        """Channels of the logits: one per class; exclusive classes have the background first."""
        return self.count + self.exclusive

    def probabilities(self, logits: Tensor) -> Tensor:
        """Convert logits (n, channels, h, w) to float32 probabilities (n, classes, h, w): sigmoid, or softmax."""
        logits = logits.float()
        return logits.softmax(dim=1)[:, 1:] if self.exclusive else logits.sigmoid()


SINGLE_CLASS = Classes()


def classes_of(competition: Competition) -> Classes:
    """Return the classes of a competition and the channels of its images."""
    return Classes(competition.classes, competition.exclusive, competition.images.num_channels)
