import pytest

from train.history import Epoch, History


def history(*losses: float) -> History:
    return History(tuple(Epoch(1.0, 0.5, loss, 0.5) for loss in losses))


@pytest.mark.parametrize(
    ("losses", "best"), [((), 0), ((3.0,), 1), ((3.0, 1.0, 2.0), 2), ((1.0, 1.0), 1), ((3.0, 2.0, 1.0), 3)]
)
def test_best_is_the_first_epoch_of_the_lowest_validation_loss(losses: tuple[float, ...], best: int) -> None:
    assert history(*losses).best == best


@pytest.mark.parametrize(
    ("losses", "epochs", "patience", "over"),
    [
        ((), 3, 2, False),
        ((1.0, 2.0), 3, 2, False),
        ((1.0, 2.0, 2.0), 9, 2, True),
        ((1.0, 2.0, 0.5), 9, 2, False),
        ((1.0, 2.0, 2.0), 9, 0, False),
        ((3.0, 2.0, 1.0), 3, 2, True),
    ],
)
def test_is_over_after_all_epochs_or_when_patience_is_lost(
    losses: tuple[float, ...], epochs: int, patience: int, over: bool
) -> None:
    assert history(*losses).is_over(epochs, patience) is over
