import numpy as np
import pytest

from edgepress.parity.budget import BUDGETS, Hop
from edgepress.parity.golden import GoldenSet, LayerSketch, PictureKind
from edgepress.parity.layers import first_diverging, layers_in, sketch_of

FP32 = BUDGETS[Hop.FP32]
ALL = np.arange(2)


def golden_of(*names: str) -> GoldenSet:
    draw = np.random.default_rng(0)
    layers = tuple(
        LayerSketch(name, "", (40,), np.arange(40), draw.normal(size=(2, 40)).astype(np.float32))
        for name in names
    )
    return GoldenSet(
        np.zeros((2, 4, 4, 3), np.uint8), (PictureKind.PHOTO,) * 2, np.zeros((2, 3), np.float32), layers
    )


def sketches_of(golden: GoldenSet, **noise: float) -> dict[str, np.ndarray]:
    return {
        layer.name: layer.values * np.float32(1 + noise[layer.name])
        for layer in golden.layers
        if layer.name in noise
    }


def test_first_layer_that_stays_off_is_named() -> None:
    golden = golden_of("a", "b", "c", "d", "logits")
    found = first_diverging(golden, sketches_of(golden, a=1e-7, b=1e-2, c=1e-2, d=2e-2), FP32, ALL)
    assert found is not None
    assert (found.name, found.before, found.compared) == ("b", "a", 4)
    assert found.snr_db == pytest.approx(40, abs=0.1)


def test_one_tensor_that_stands_alone_is_not_named() -> None:
    """A runtime has fused it with what follows: its value is another one, and those behind it are right."""
    golden = golden_of("a", "b", "c", "d", "e", "logits")
    found = first_diverging(golden, sketches_of(golden, a=1.0, b=0, c=0, d=0.1, e=0.1), FP32, ALL)
    assert found is not None
    assert (found.name, found.before, found.before_snr_db) == ("d", "c", None)


def test_last_layer_is_named_if_all_others_are_sound() -> None:
    golden = golden_of("a", "b", "logits")
    found = first_diverging(golden, sketches_of(golden, a=1e-7, b=1e-7), FP32, ALL)
    assert found is not None
    assert (found.name, found.snr_db, found.before) == ("logits", None, "b")


def test_largest_fall_is_named_if_no_layer_is_far_off() -> None:
    golden = golden_of("a", "b", "c", "logits")
    found = first_diverging(golden, sketches_of(golden, a=1e-7, b=2e-5, c=2e-5), FP32, ALL)
    assert found is not None
    assert found.name == "b"


def test_nothing_is_named_without_layers() -> None:
    assert first_diverging(golden_of(), {}, FP32, ALL) is None


def test_layers_are_found_in_the_names_that_converters_give() -> None:
    layers = frozenset({"conv2d", "conv2d_1", "outer/fc"})
    assert layers_in(
        ["m_1/conv2d_1/Relu;m_1/x/y", "m_1/conv2d_1_1/Relu", "m_1/outer_1/fc_1/MatMul"], layers
    ) == {
        "m_1/conv2d_1/Relu;m_1/x/y": "conv2d",
        "m_1/conv2d_1_1/Relu": "conv2d_1",
        "m_1/outer_1/fc_1/MatMul": "outer/fc",
    }
    assert layers_in(["conv2d_1", "conv2d/Relu", "outer/fc", "graph/Add"], layers) == {
        "conv2d_1": "conv2d_1",
        "conv2d/Relu": "conv2d",
        "outer/fc": "outer/fc",
    }


def test_map_is_read_in_the_order_in_which_a_file_has_it() -> None:
    values = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype(np.float32)  # the shape does not tell
    layer = LayerSketch("a", "", (4, 4, 4), np.asarray([1, 17, 40]), np.zeros((1, 3), np.float32))
    wanted = values.reshape(-1)[layer.positions]
    for stored in (values, values.transpose(0, 3, 1, 2)):
        found = sketch_of(layer, stored, wanted)
        assert found is not None
        np.testing.assert_array_equal(found, wanted)
    assert sketch_of(layer, values[:, :3], wanted) is None
