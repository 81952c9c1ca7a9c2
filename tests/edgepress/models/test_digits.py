from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import ProofError
from edgepress.models import digits
from edgepress.models.digits import TrainingSettings, trained_digits
from edgepress.models.vgg16 import Style

ONE_EPOCH = TrainingSettings(epochs=1)


@pytest.fixture
def any_accuracy_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "LEAST_TOP1", 0.0)


def test_trained_digits_reaches_97_percent_and_then_comes_from_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    epochs: list[tuple[str, int, int]] = []
    first = trained_digits(
        Style.SEQUENTIAL, TrainingSettings(), tmp_path, lambda *state: epochs.append(state)
    )
    assert first.top1 >= 0.97
    assert epochs == [("train vgg16-digits", done, 12) for done in range(13)]

    epochs.clear()
    again = trained_digits(
        Style.FUNCTIONAL, TrainingSettings(), tmp_path, lambda *state: epochs.append(state)
    )
    assert not epochs
    assert again.top1 == first.top1
    for one, other in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("any_accuracy_will_do")
def test_trained_digits_is_the_same_for_the_same_seed_only(tmp_path: Path) -> None:
    def first_kernel(seed: int, cache: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        settings = replace(ONE_EPOCH, seed=seed)
        trained = trained_digits(Style.SEQUENTIAL, settings, tmp_path / cache)
        return np.asarray(trained.model.get_weights()[0])

    np.testing.assert_array_equal(first_kernel(5, "a"), first_kernel(5, "b"))
    assert np.abs(first_kernel(5, "a") - first_kernel(6, "a")).max() > 0.01


@pytest.mark.usefixtures("any_accuracy_will_do")
def test_trained_digits_trains_anew_when_the_cache_is_damaged(tmp_path: Path) -> None:
    whole = trained_digits(Style.SEQUENTIAL, ONE_EPOCH, tmp_path)
    (file,) = tmp_path.glob("*.npz")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    again = trained_digits(Style.SEQUENTIAL, ONE_EPOCH, tmp_path)
    assert again.top1 == whole.top1
    assert len(file.read_bytes()) == len(content)


def test_trained_digits_caches_nothing_when_the_accuracy_is_too_low(tmp_path: Path) -> None:
    settings = replace(ONE_EPOCH, learning_rate=0.0)
    with pytest.raises(ProofError, match=r"reached .* on the 599 held-out digits, and 97% was wanted"):
        trained_digits(Style.SEQUENTIAL, settings, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("any_accuracy_will_do")
def test_trained_digits_says_that_it_could_not_be_kept_but_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way of the cache")
    trained = trained_digits(Style.SEQUENTIAL, ONE_EPOCH, tmp_path / "file")
    assert trained.top1 > 0
    assert "the trained weights are not kept for the next time: Cannot write" in caplog.text
