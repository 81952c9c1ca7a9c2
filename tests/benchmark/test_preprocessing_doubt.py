"""A version that expects another preprocessing than its baseline looks inaccurate, and is told apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.measurement import Status
from benchmark.plan import Plan
from benchmark.preparation import BenchmarkRequest
from benchmark.preprocessing_doubt import preprocessing_doubt
from benchmark.quantities import State
from benchmark.stage import benchmark_folder
from edgepress.dataset import Dataset, open_data
from edgepress.files import sha256_of_path
from edgepress.manifest import Manifest
from edgepress.metrics import logit_snr_db
from edgepress.preprocessing import Preprocessing, PreprocessMode

Floats = NDArray[np.float32]
CAFFE = Preprocessing(PreprocessMode.CAFFE, 8, 8)
WEIGHTS = np.random.default_rng(2).normal(0, 1, (8 * 8 * 3, 5)).astype(np.float32)


def network(images: Floats) -> Floats:
    """As trained: expects `caffe`."""
    return images.reshape(len(images), -1) @ WEIGHTS


def from_torch(images: Floats) -> Floats:
    """The same network, converted so that it expects `torch`: undoes it, then does `caffe` itself."""
    deviation, mean = np.asarray([0.229, 0.224, 0.225]), np.asarray([0.485, 0.456, 0.406])
    raw = (images * deviation + mean) * 255
    return network((raw - [123.68, 116.779, 103.939])[..., ::-1].astype(np.float32))


def rgb(images: Floats) -> Floats:
    """The same network, its first layer's channels in the other order."""
    return network(np.ascontiguousarray(images[..., ::-1]))


@pytest.fixture
def pictures(tmp_path: Path) -> Dataset:
    images = np.random.default_rng(5).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", images=images)
    return open_data(str(tmp_path / "data.npz")).evaluation


def doubt(pictures: Dataset, infer: object) -> str | None:
    inputs = np.concatenate(list(pictures.inputs(CAFFE)))
    reference = network(inputs)
    assert callable(infer)
    snr_db = logit_snr_db(reference, infer(inputs))
    return preprocessing_doubt(pictures, CAFFE, reference, infer, snr_db)


def test_a_version_for_another_preprocessing_is_told(pictures: Dataset) -> None:
    found = doubt(pictures, from_torch)
    assert found is not None
    assert "if it gets `torch`, and at" in found
    assert "with `caffe`, which the manifest declares: it expects another preprocessing" in found


def test_a_version_with_red_and_blue_exchanged_is_told(pictures: Dataset) -> None:
    found = doubt(pictures, rgb)
    assert found is not None
    assert "`caffe` with red and blue exchanged" in found


def test_a_version_that_is_only_inaccurate_is_not_accused(pictures: Dataset) -> None:
    noise = np.random.default_rng(0).normal(0, 1, WEIGHTS.shape).astype(np.float32)
    assert doubt(pictures, lambda images: images.reshape(len(images), -1) @ (WEIGHTS + 0.5 * noise)) is None
    assert doubt(pictures, lambda images: images.reshape(len(images), -1) @ noise) is None


def test_nothing_is_tried_with_a_good_version(pictures: Dataset) -> None:
    def must_not_run(images: Floats) -> Floats:
        raise AssertionError

    assert preprocessing_doubt(pictures, CAFFE, np.zeros((20, 5), np.float32), must_not_run, 16.0) is None
    assert preprocessing_doubt(pictures, CAFFE, np.zeros((20, 5), np.float32), must_not_run, None) is None


def test_a_planted_file_with_another_preprocessing_is_invalid(
    tiny_folder: Path, tiny_data: str, tiny_plan: Plan
) -> None:
    """The baseline gets `tf` (RGB from -1 to 1); this file was made for 0…255, by some converter."""
    import onnx
    from onnx import helper, numpy_helper

    path = tiny_folder / "onnx-int8.onnx"
    model = onnx.load(str(tiny_folder / "onnx-fp32.onnx"))
    constants = {"half": 127.5, "one": 1.0}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()
    )
    flatten = model.graph.node[0]
    flatten.input[0] = "scaled"
    model.graph.node.insert(0, helper.make_node("Div", ["images", "half"], ["divided"]))
    model.graph.node.insert(1, helper.make_node("Sub", ["divided", "one"], ["scaled"]))
    onnx.save(model, str(path))
    manifest = Manifest.load(tiny_folder)
    lie = manifest.get("onnx-int8")
    fp32 = manifest.get("onnx-fp32").precision
    changed = replace(lie, sha256=sha256_of_path(path), size_bytes=path.stat().st_size, precision=fp32)
    manifest.with_artifact(changed).save()
    found = benchmark_folder(
        BenchmarkRequest(tiny_folder, data=tiny_data, quick=True, threads=1, variants=("onnx-int8",))
    )
    (row,) = [row for row in found.results if row.status is Status.OK]
    assert row.preprocessing_doubt is not None
    assert "if it gets `none`" in row.preprocessing_doubt
    assert row.verdict is not None
    assert (row.verdict.state, row.verdict.reasons) == (State.INVALID, (row.preprocessing_doubt,))
