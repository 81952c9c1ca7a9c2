"""On an NVIDIA GPU (`pytest -m gpu`): what `edgepress gpu-check` does, and every other runner of a GPU.

Nothing here has run yet: no machine that tested this had a GPU.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmark.protocol import Open
from benchmark.station import LocalStation
from edgepress.artifact import Artifact, Device, Format, Precision
from edgepress.cli.gpu_check.check import Check, checked
from edgepress.cli.gpu_check.machine import machine_facts
from edgepress.cli.gpu_check.network import network_of, prepared_folder
from edgepress.cli.gpu_check.report import GpuCheck, Status
from edgepress.cli.gpu_check.row import findings_of
from edgepress.cli.gpu_check.variants import FP32, VARIANTS, Variant
from edgepress.environments import environment_of, located
from edgepress.machine import cuda_device_absence
from edgepress.manifest import Manifest
from edgepress.parity.golden import load_golden
from edgepress.progress import silent
from edgepress.runners.runner import RunnerKind, runner_kinds

pytestmark = pytest.mark.gpu

FRAMEWORKS = [
    kind for kind in runner_kinds() if kind.device is Device.CUDA and Format.ENGINE not in kind.formats
]


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vgg16-digits with every ONNX variant; made only where there is a GPU."""
    if (absence := cuda_device_absence()) is not None:
        pytest.skip(f"no CUDA device ({absence})")
    optimized: Path = request.getfixturevalue("digits_optimized")
    copy = tmp_path_factory.mktemp("gpu") / "network"
    shutil.copytree(optimized, copy)
    return prepared_folder(copy.parent, copy, None, copy.parent / "cache", silent)


@pytest.fixture(scope="module")
def report(folder: Path) -> GpuCheck:
    out = folder.parent
    return checked(Check(out, network_of(folder), machine_facts(out)))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_variant_runs_within_its_tolerance(variant: Variant, report: GpuCheck) -> None:
    (row,) = [row for row in report.variants if row.name == variant.name]
    assert row.status is Status.PASSED, (row.reason, row.findings)
    assert row.execution is not None
    assert 0 < row.execution.compute.median_ns < row.execution.end_to_end.median_ns


def test_tf32_is_really_off(report: GpuCheck) -> None:
    """Else FP32 would be no baseline. With TF32 the logits are not those of FP32 (from Ampere on)."""
    fp32, tf32 = (row.execution for row in report.variants[:2])
    assert fp32 is not None
    assert tf32 is not None
    assert fp32.from_fp32 is not None
    assert tf32.from_fp32 is not None
    snr_db = fp32.from_fp32.snr_db
    assert snr_db is None or snr_db >= FP32.tolerance.least_db
    capability = report.machine.gpus[0].compute_capability
    if capability is not None and float(capability) >= 8 and snr_db is not None:
        assert tf32.from_fp32.snr_db is not None
        assert tf32.from_fp32.snr_db < snr_db


@pytest.mark.parametrize("kind", FRAMEWORKS, ids=lambda kind: kind.name)
def test_runner_gives_the_logits_of_fp32(kind: RunnerKind, folder: Path, tmp_path: Path) -> None:
    environment = environment_of(kind.name, kind.device)
    assert environment is not None
    if located(environment).python is None:
        pytest.skip(f"{environment.folder} is not made: make setup DEVICE=cuda")
    manifest = Manifest.load(folder)
    golden = load_golden(folder, manifest.model.golden_sha256)
    some = golden.of_kind(structured=True)
    artifact = next(a for a in manifest.artifacts if _is_fp32_for(a, kind))
    path = str(manifest.path_of(artifact))
    subject = Open(kind.name, kind.device, path, 1, artifact.interface, manifest.model.activation)
    images = artifact.interface.feed(golden.pictures[some], manifest.model.preprocessing)
    logits = LocalStation(tmp_path).infer(subject, np.asarray(images, np.float32))
    assert findings_of(golden.logits[some], logits, FP32.tolerance) == ()


def _is_fp32_for(artifact: Artifact, kind: RunnerKind) -> bool:
    return artifact.precision is Precision.FP32 and artifact.format in kind.formats
