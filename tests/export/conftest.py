"""Small Keras models for the export room."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.models.vgg16 import Style
from edgepress.preprocessing import Preprocessing, PreprocessMode
from export.stage import ExportRequest


@pytest.fixture
def batch_of_photos(crops_of_photos: Callable[[Preprocessing], NDArray[np.float32]]) -> NDArray[np.float32]:
    """(6, 32, 32, 3) inputs scaled to [-1, 1]."""
    return crops_of_photos(Preprocessing(PreprocessMode.TF, 32, 32))


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., ExportRequest]:
    """Gives a request for a model, with everything else as it is by default, or as given."""

    def request(model: str | Path, **changes: Any) -> ExportRequest:
        default = ExportRequest(str(model), tmp_path / "out", tmp_path / "cache", style=Style.SEQUENTIAL)
        return replace(default, **changes)

    return request


@pytest.fixture
def draw_statistics() -> Callable[[Any], None]:
    """Gives a network seeded biases and normalizations that change something, unlike the initial ones."""

    def draw(network: Any) -> None:
        generator = np.random.default_rng(0)
        for variable in network.weights:
            name, shape = variable.path.split("/")[-1], variable.shape
            if name in {"moving_mean", "beta", "bias"}:
                variable.assign(generator.normal(0, 0.1, shape))
            elif name in {"moving_variance", "gamma", "alpha"}:
                variable.assign(generator.uniform(0.5, 1.5, shape))

    return draw


@pytest.fixture
def require_parsed_by_tensorrt() -> Callable[[Path], None]:
    """Has the parser of TensorRT-RTX take an ONNX file, where it is installed; no engine is built."""

    def parse(path: Path) -> None:
        if importlib.util.find_spec("tensorrt_rtx") is None:
            return
        import tensorrt_rtx as trt

        log = trt.Logger(trt.Logger.INTERNAL_ERROR)
        network = trt.Builder(log).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log)
        parsed = parser.parse_from_file(str(path))
        assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]

    return parse
