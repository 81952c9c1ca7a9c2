"""What happened, epoch by epoch, and when to stop."""

from dataclasses import dataclass
from enum import Enum


class Phase(str, Enum):
    """What an epoch trained."""

    HEAD = "head"  # all convolutions are frozen
    FINE_TUNING = "fine-tuning"  # the head and the last blocks of convolutions


@dataclass(frozen=True)
class Epoch:
    """The state after one pass over the training pictures. Losses are cross-entropies in nats.

    Attributes:
        phase: What was trained.
        loss: Mean over the training pictures, while they trained (with dropout).
        accuracy: Share of them in [0, 1], likewise.
        validation_loss: Mean over the validation pictures, after the epoch.
        validation_accuracy: Share of them in [0, 1].
    """

    phase: Phase
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class History:
    """All epochs so far, of all phases.

    Attributes:
        epochs: In order.
    """

    epochs: tuple[Epoch, ...] = ()

    @property
    def best(self) -> int:
        """The epoch, counted from 1, with the lowest validation loss, the first of equals; 0 without any."""
        losses = [epoch.validation_loss for epoch in self.epochs]
        return losses.index(min(losses)) + 1 if losses else 0

    @property
    def phase(self) -> Phase | None:
        """Of the last epoch; None without any."""
        return self.epochs[-1].phase if self.epochs else None

    def count(self, phase: Phase) -> int:
        """How many epochs of a phase are done."""
        return sum(epoch.phase is phase for epoch in self.epochs)

    def with_epoch(self, epoch: Epoch) -> "History":
        """A history that goes on with this epoch."""
        return History((*self.epochs, epoch))

    def is_over(self, phase: Phase, epochs: int, patience: int) -> bool:
        """Whether all epochs of a phase are done, or its last `patience` ones brought nothing better.

        Better than every epoch before, those of an earlier phase too.
        """
        done = self.count(phase)
        return done >= epochs or min(done, len(self.epochs) - self.best) >= patience > 0
