"""A folder with tiny artifacts and a hand-made manifest, and a plan that takes no time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.latency import Extent
from benchmark.measurement import Results
from benchmark.plan import QUICK, Plan
from benchmark.preflight import Finding, Fitness
from benchmark.preparation import BenchmarkRequest
from benchmark.roofline import Ceilings, GemmRate
from benchmark.stage import benchmark_folder
from edgepress.artifact import Artifact, Device, Format, Precision, Runtime, TensorSpec
from edgepress.files import sha256_of_path
from edgepress.interface import Activation
from edgepress.manifest import Manifest, ModelCard
from edgepress.preprocessing import Preprocessing, PreprocessMode

SIDE, CLASSES = 8, 4
MS = 1_000_000
ANYWHERE = (Runtime.ONNXRUNTIME, Runtime.ONNXRUNTIME_CUDA, Runtime.ONNXRUNTIME_TENSORRT)
FOR_TENSORRT = (Runtime.ONNXRUNTIME_TENSORRT, Runtime.TENSORRT_RTX, Runtime.ONNXRUNTIME_EMULATION)


def write_onnx(path: Path, noise: float, precision: Precision = Precision.FP32) -> None:
    """Logits = mean colours times weights, computed in a precision; `noise` moves the weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(3)
    weights = rng.normal(0, 1, (SIDE * SIDE * 3, CLASSES)) + noise * rng.normal(0, 1, (1, CLASSES))
    nodes, tensors = _product(weights.astype(np.float32), precision)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]), *nodes],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


def _product(weights: NDArray[np.float32], precision: Precision) -> tuple[list[Any], dict[str, Any]]:
    """Nodes from "flat" to "logits", and the tensors that they need."""
    from onnx import TensorProto, helper

    node = helper.make_node
    if precision is Precision.FP16:
        return [
            node("Cast", ["flat"], ["x"], to=TensorProto.FLOAT16),
            node("MatMul", ["x", "w"], ["product"]),
            node("Cast", ["product"], ["logits"], to=TensorProto.FLOAT),
        ], {"w": weights.astype(np.float16)}
    if precision is Precision.INT8:
        scale = float(np.abs(weights).max()) / 127
        return [
            node("QuantizeLinear", ["flat", "x_scale", "zero"], ["xq"]),
            node("DequantizeLinear", ["xq", "x_scale", "zero"], ["x"]),
            node("DequantizeLinear", ["wq", "w_scale", "zero"], ["w"]),
            node("MatMul", ["x", "w"], ["logits"]),
        ], {
            "wq": np.rint(weights / scale).astype(np.int8),
            "w_scale": np.float32(scale),
            "x_scale": np.float32(1 / 127),
            "zero": np.int8(0),
        }
    return [node("MatMul", ["flat", "w"], ["logits"])], {"w": weights}


def artifact(
    folder: Path,
    name: str,
    precision: Precision,
    runtimes: tuple[Runtime, ...] = ANYWHERE,
    file_format: Format = Format.ONNX,
    recipe: str | None = None,
) -> Artifact:
    path = folder / name
    return Artifact(
        id=path.stem,
        path=name,
        format=file_format,
        precision=precision,
        runtimes=runtimes,
        inputs=(TensorSpec("images", (None, SIDE, SIDE, 3), "float32"),),
        outputs=(TensorSpec("logits", (None, CLASSES), "float32"),),
        sha256=sha256_of_path(path),
        size_bytes=path.stat().st_size,
        key="k",
        recipe=recipe,
        parent="onnx-fp32" if recipe else None,
    )


def make_tiny(parent: Path) -> Path:
    """onnx-fp32, -fp16 and -int8, one graph for TensorRT and one engine (its name only); data.npz."""
    folder = parent / "tiny"
    folder.mkdir()
    write_onnx(folder / "onnx-fp32.onnx", 0)
    write_onnx(folder / "onnx-wf16_af16.onnx", 0, Precision.FP16)
    for name in ("onnx-int8", "tensorrt-int8"):
        write_onnx(folder / f"{name}.onnx", 0.3, Precision.INT8)
    (folder / "engine-sm86-int8.plan").write_bytes(b"engine")
    manifest = Manifest(
        folder,
        ModelCard(
            name="tiny",
            source="made here",
            fingerprint="f",
            parameters=SIDE * SIDE * 3 * CLASSES,
            class_count=CLASSES,
            labels=None,
            preprocessing=Preprocessing(PreprocessMode.TF, SIDE, SIDE),
            activation=Activation.SOFTMAX,
        ),
        (
            artifact(folder, "onnx-fp32.onnx", Precision.FP32),
            artifact(folder, "onnx-wf16_af16.onnx", Precision.FP16, recipe="onnx_wf16_af16"),
            artifact(folder, "onnx-int8.onnx", Precision.INT8, recipe="onnx_static_wi8_ai8"),
            artifact(folder, "tensorrt-int8.onnx", Precision.INT8, FOR_TENSORRT, recipe="tensorrt_x"),
            artifact(
                folder,
                "engine-sm86-int8.plan",
                Precision.INT8,
                (Runtime.TENSORRT_RTX,),
                Format.ENGINE,
                "engine_x",
            ),
        ),
    )
    manifest.save()
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (12, SIDE, SIDE, 3)).astype(np.uint8)
    np.savez(parent / "data.npz", images=images, labels=rng.integers(0, CLASSES, 12))
    return folder


KNOWN_CEILINGS = Ceilings(
    threads=1,
    gemm=(GemmRate(Precision.FP32, 50e9, "a BLAS", 1024), GemmRate(Precision.INT8, 200e9, "a BLAS", 1024)),
    read_bytes_per_s=10e9,
    copy_bytes_per_s=8e9,
    last_level_cache_bytes=None,
    notes=("not measured: a test's",),
)


@pytest.fixture(scope="session", autouse=True)
def known_machine() -> Iterator[None]:
    """The stage looks at the machine for seconds; here it is told what there is (test_ceilings.py looks)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.station.measured_ceilings", lambda threads, device: KNOWN_CEILINGS)
        patch.setattr("benchmark.station.findings", lambda device: (Finding("load", "0 %", Fitness.FINE),))
        yield


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """See `make_tiny`."""
    return make_tiny(tmp_path)


@pytest.fixture
def tiny_data(tiny_folder: Path) -> str:
    """12 labelled pictures for the tiny model."""
    return str(tiny_folder.parent / "data.npz")


TINY_PLAN = replace(
    QUICK,
    restarts=2,
    profiled_runs=2,
    warm_up=Extent(MS, 2),
    pairs=3,
    settle=Extent(0, 1),
    block=Extent(2 * MS, 5),
)


@pytest.fixture
def tiny_plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """3 pairs of 2 ms; also what `quick` means in the stage."""
    monkeypatch.setattr("benchmark.preparation.QUICK", TINY_PLAN)
    return TINY_PLAN


@pytest.fixture(scope="session")
def measured_tiny(known_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """All rows of the tiny folder, measured once: for what is computed from results."""
    folder = make_tiny(tmp_path_factory.mktemp("measured"))
    data = str(folder.parent / "data.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.preparation.QUICK", TINY_PLAN)
        return benchmark_folder(BenchmarkRequest(folder, Device.CPU, None, data, quick=True, threads=1))
