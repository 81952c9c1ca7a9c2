import numpy as np
import pytest

from edgepress.interface import PLAIN, Activation, Interface, Layout, Pixels, Scores
from edgepress.metrics import logit_snr_db
from edgepress.preprocessing import Preprocessing, PreprocessMode

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
CAFFE = Preprocessing(PreprocessMode.CAFFE, 4, 6)


def test_a_plain_interface_feeds_what_the_preprocessing_makes() -> None:
    np.testing.assert_array_equal(PLAIN.feed(PICTURES, CAFFE), CAFFE.normalize(PICTURES))
    assert PLAIN.input_shape(4, 6) == (None, 4, 6, 3)
    assert PLAIN.dtype == "float32"


def test_rgb_pixels_are_fed_as_they_are_and_nchw_has_its_channels_first() -> None:
    interface = Interface(Layout.NCHW, Pixels.RGB, batch=2)
    fed = interface.feed(PICTURES, CAFFE)
    assert fed.dtype == np.uint8
    assert fed.flags.c_contiguous
    np.testing.assert_array_equal(fed, PICTURES.transpose(0, 3, 1, 2))
    assert interface.input_shape(4, 6) == (2, 3, 4, 6) == fed.shape
    assert interface.dtype == "uint8"


def test_logits_undo_a_softmax_up_to_a_constant_that_no_measure_sees() -> None:
    logits = np.random.default_rng(1).normal(0, 8, (5, 10)).astype(np.float32)
    spread = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = spread / spread.sum(axis=1, keepdims=True)
    found = Interface(scores=Scores.PROBABILITIES).logits(probabilities, Activation.SOFTMAX)
    assert found.dtype == np.float32
    assert logit_snr_db(logits, found) > 120
    np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))
    assert PLAIN.logits(logits, Activation.SOFTMAX) is logits


def test_logits_undo_a_sigmoid() -> None:
    logits = np.linspace(-8, 8, 10, dtype=np.float32).reshape(2, 5)
    scores = np.asarray(1 / (1 + np.exp(-logits)), np.float32)
    found = Interface(scores=Scores.PROBABILITIES).logits(scores, Activation.SIGMOID)
    np.testing.assert_allclose(found, logits, atol=1e-3)


@pytest.mark.parametrize("activation", [Activation.SOFTMAX, Activation.SIGMOID])
def test_probabilities_that_float32_cannot_tell_from_the_limits_give_finite_logits(
    activation: Activation,
) -> None:
    certain = np.asarray([[0, 1, 0]], np.float32)
    found = Interface(scores=Scores.PROBABILITIES).logits(certain, activation)
    assert np.isfinite(found).all()
    assert found.argmax() == 1


@pytest.mark.parametrize("mode", PreprocessMode)
def test_affine_is_what_normalize_does_up_to_rounding(mode: PreprocessMode) -> None:
    preprocessing = Preprocessing(mode, 4, 6)
    affine = preprocessing.affine
    scale, offset = np.asarray(affine.scale, np.float32), np.asarray(affine.offset, np.float32)
    values = PICTURES.astype(np.float32) * scale + offset
    if affine.reverses_channels:
        values = values[..., ::-1]
    np.testing.assert_allclose(values, preprocessing.normalize(PICTURES), rtol=1e-5, atol=1e-5)
