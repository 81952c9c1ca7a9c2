"""The training loop on a network of one layer."""

from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import InputError
from edgepress.progress import silent
from train.checkpoint import Unfinished
from train.fit import Examples, FitSettings, fit
from train.history import History, Phase


def test_a_loss_that_is_not_finite_ends_the_training_and_is_not_kept(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(keras.layers.Dense(4)(inputs)))
    values = np.eye(2, dtype=np.float32)
    examples = Examples(np.array([0, 1]), lambda chosen, _: values[list(chosen)])
    settings = FitSettings(Phase.HEAD, epochs=3, patience=0, batch=1, learning_rate=1e30, seed=0)
    unfinished = Unfinished(tmp_path / "state.npz", "key", None)
    unfinished.save(History(), (), ())  # of an epoch before: the same request would come to the same end
    with pytest.raises(InputError, match="epoch 1 is not finite.*--learning-rate"):
        fit(model, examples, examples, settings, History(), unfinished, silent)
    assert not unfinished.path.exists()
