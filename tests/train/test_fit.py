"""The training loop on a network of one layer."""

from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import InputError
from edgepress.progress import silent
from train.fit import Examples, FitSettings, fit


def test_a_loss_that_is_not_finite_ends_the_training_and_is_not_kept(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(keras.layers.Dense(4)(inputs)))
    values = np.eye(2, dtype=np.float32)
    examples = Examples(np.array([0, 1]), lambda chosen, _: values[list(chosen)])
    settings = FitSettings(epochs=3, patience=0, batch=1, learning_rate=1e30, seed=0)
    checkpoint = tmp_path / "state.npz"
    with pytest.raises(InputError, match="epoch 1 is not finite.*--learning-rate"):
        fit(model, examples, examples, settings, checkpoint, "key", silent)
    assert not checkpoint.exists()
