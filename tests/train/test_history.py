import pytest

from train.history import Epoch, History, Phase


def history(*losses: float) -> History:
    return History(tuple(Epoch(Phase.HEAD, 1.0, 0.5, loss, 0.5) for loss in losses))


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
    assert history(*losses).is_over(Phase.HEAD, epochs, patience) is over


@pytest.mark.parametrize(
    ("head", "tuned", "epochs", "patience", "over"),
    [
        ((1.0, 2.0, 2.0), (), 3, 2, False),  # the head's last epochs do not count
        ((1.0, 2.0, 2.0), (2.0,), 3, 2, False),
        ((1.0, 2.0, 2.0), (2.0, 1.5), 3, 2, True),  # better than the last, not than the best of the head
        ((1.0, 2.0, 2.0), (2.0, 0.5), 3, 2, False),
        ((1.0, 2.0, 2.0), (0.5, 0.4, 0.3), 3, 2, True),
    ],
)
def test_fine_tuning_is_over_by_its_own_epochs_and_the_best_of_all(
    head: tuple[float, ...], tuned: tuple[float, ...], epochs: int, patience: int, over: bool
) -> None:
    found = history(*head)
    for loss in tuned:
        found = found.with_epoch(Epoch(Phase.FINE_TUNING, 1.0, 0.5, loss, 0.5))
    assert found.is_over(Phase.FINE_TUNING, epochs, patience) is over
