"""Which interpreter serves which runtime, and what the doctor says where it is not there."""

import sys
from pathlib import Path

import pytest

from benchmark.protocol import Occupied, Prepare
from benchmark.station import LocalStation
from benchmark.worker_process import WorkerError, WorkerProcess, command_for
from edgepress.artifact import Device, Runtime
from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_environments import State, gpu_environments
from edgepress.environments import (
    ENVIRONMENTS,
    GPU_ORT,
    GPU_TF,
    GPU_TRT,
    SET_UP,
    Place,
    environment_of,
    interpreter_of,
    located,
    versions_in,
)
from edgepress.errors import InputError
from edgepress.runners.runner import runner_kinds

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """The prefix of an environment beside which all three of a GPU's runtimes have theirs."""
    for environment in ENVIRONMENTS:
        python = tmp_path / environment.folder / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')  # a link has its own prefix
        python.chmod(0o755)
    return tmp_path / ".venv"


@pytest.mark.parametrize(
    ("runtime", "device", "environment"),
    [
        (Runtime.TENSORRT, Device.CUDA, GPU_TRT),
        (Runtime.TENSORRT_RTX, Device.CUDA, GPU_TRT),
        (Runtime.ONNXRUNTIME_CUDA, Device.CUDA, GPU_ORT),
        (Runtime.ONNXRUNTIME_TENSORRT, Device.CUDA, GPU_ORT),
        (Runtime.TENSORFLOW, Device.CUDA, GPU_TF),
        (Runtime.TENSORFLOW, Device.CPU, None),
        (Runtime.ONNXRUNTIME, Device.CPU, None),
    ],
)
def test_each_runtime_of_a_gpu_has_one_environment(
    runtime: Runtime, device: Device, environment: object, beside: Path
) -> None:
    assert environment_of(runtime.value, device) is environment
    python = interpreter_of(runtime.value, device, {}, beside)
    wanted = beside.parent / environment.folder / "bin/python" if environment in ENVIRONMENTS else None
    assert python == str(wanted or sys.executable)


def test_every_runner_on_a_gpu_is_served_by_one() -> None:
    names = {kind.name for kind in runner_kinds() if kind.device is Device.CUDA}
    assert all(environment_of(name, Device.CUDA) is not None for name in names)


def test_where_there_is_none_this_interpreter_serves(tmp_path: Path) -> None:
    assert located(GPU_TRT, {}, tmp_path / ".venv").place is Place.NOWHERE
    assert interpreter_of("tensorrt", Device.CUDA, {}, tmp_path / ".venv") == sys.executable


def test_a_variable_goes_before_the_folder(beside: Path) -> None:
    found = located(GPU_TRT, {"EDGEPRESS_GPU_TRT_PYTHON": sys.executable}, beside)
    assert (found.place, found.python) == (Place.NAMED, sys.executable)
    assert located(GPU_ORT, {"EDGEPRESS_GPU_TRT_PYTHON": sys.executable}, beside).place is Place.BESIDE


def test_a_variable_that_names_nothing_is_told() -> None:
    with pytest.raises(InputError) as caught:
        located(GPU_TF, {"EDGEPRESS_GPU_TF_PYTHON": "/gone/python"})
    assert str(caught.value) == (
        "EDGEPRESS_GPU_TF_PYTHON names /gone/python, wanted a Python interpreter that can be started. "
        "Correct it, or unset it and run `make setup DEVICE=cuda`."
    )


def test_versions_come_from_the_other_interpreter() -> None:
    versions = versions_in(sys.executable, ("numpy", "no-such-package"))
    assert not isinstance(versions, Unknown)
    assert list(versions) == ["numpy"]


def test_an_interpreter_that_fails_is_no_version(tmp_path: Path) -> None:
    assert isinstance(versions_in(str(tmp_path / "gone"), ("numpy",)), Unknown)
    ill = tmp_path / "python"
    ill.write_text("#!/bin/sh\necho 'no libpython3.11.so' >&2\nexit 127\n")
    ill.chmod(0o755)
    found = versions_in(str(ill), ("numpy",))
    assert found == Unknown("its Python ended with exit code 127: no libpython3.11.so")


def test_doctor_tells_what_is_missing_and_who_needs_it(tmp_path: Path, beside: Path) -> None:
    nowhere = tmp_path / "elsewhere" / ".venv"
    trt, *_ = gpu_environments({}, nowhere, has_gpu=True)
    assert (trt.name, trt.state, trt.remedy) == ("gpu-trt", State.MISSING, SET_UP)
    assert trt.runners == ("tensorrt", "tensorrt-rtx")
    assert gpu_environments({}, nowhere, has_gpu=False)[0].remedy is None

    trt, _, tf = gpu_environments({}, beside, has_gpu=True)
    assert trt.state is State.INCOMPLETE
    assert trt.finding == ".venv-gpu-trt: tensorrt missing, cuda-python missing"
    assert trt.remedy is not None
    assert trt.remedy.endswith(".venv-gpu-trt/bin/python -m pip install --editable '.[gpu-trt]'")
    assert tf.state is State.COMPLETE

    named = {"EDGEPRESS_GPU_TRT_PYTHON": sys.executable, "EDGEPRESS_GPU_TF_PYTHON": "/gone"}
    trt, _, tf = gpu_environments(named, beside, has_gpu=True)
    assert trt.remedy == f"{sys.executable} -m pip install tensorrt cuda-python"
    assert sys.executable not in trt.finding
    assert tf.state is State.BROKEN


def test_doctor_says_how_to_make_a_broken_one_anew(beside: Path) -> None:
    (beside.parent / ".venv-gpu-ort/bin/python").write_text("#!/bin/sh\nexit 1\n")
    ort = gpu_environments({}, beside, has_gpu=True)[1]
    assert (ort.state, ort.remedy) == (State.BROKEN, f"rm -r .venv-gpu-ort && {SET_UP}")


def test_a_runner_is_started_with_the_interpreter_of_its_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "python"
    own.write_text(f'#!/bin/sh\necho started >> "{tmp_path}/starts"\nexec "{sys.executable}" "$@"\n')
    own.chmod(0o755)
    monkeypatch.setenv("EDGEPRESS_GPU_TF_PYTHON", str(own))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with WorkerProcess(command_for("tensorflow", Device.CPU)):
        pass
    assert not (tmp_path / "starts").exists()
    with (
        WorkerProcess(command_for("tensorflow", Device.CUDA)) as process,
        pytest.raises(WorkerError, match="no runner for gone"),
    ):
        process.ask(Prepare("gone", Device.CUDA), Occupied)
    assert (tmp_path / "starts").read_text() == "started\n"


def test_what_is_in_an_environment_of_its_own_is_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEPRESS_GPU_TF_PYTHON", sys.executable)
    around = LocalStation(tmp_path).surroundings()
    assert around.packages["tensorflow [gpu-tf]"] == around.packages["tensorflow"]
    assert "tensorflow" in around.runners
