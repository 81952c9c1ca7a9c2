"""What happened, epoch by epoch, and when to stop."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """The state after one pass over the training pictures. Losses are cross-entropies in nats.

    Attributes:
        loss: Mean over the training pictures, while they trained (with dropout).
        accuracy: Share of them in [0, 1], likewise.
        validation_loss: Mean over the validation pictures, after the epoch.
        validation_accuracy: Share of them in [0, 1].
    """

    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class History:
    """All epochs so far.

    Attributes:
        epochs: In order.
    """

    epochs: tuple[Epoch, ...] = ()

    @property
    def best(self) -> int:
        """The epoch, counted from 1, with the lowest validation loss, the first of equals; 0 without any."""
        losses = [epoch.validation_loss for epoch in self.epochs]
        return losses.index(min(losses)) + 1 if losses else 0

    def with_epoch(self, epoch: Epoch) -> "History":
        """A history that goes on with this epoch."""
        return History((*self.epochs, epoch))

    def is_over(self, epochs: int, patience: int) -> bool:
        """Whether all epochs are done, or the last `patience` ones brought nothing better."""
        return len(self.epochs) >= epochs or len(self.epochs) - self.best >= patience > 0
