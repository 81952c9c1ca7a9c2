import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tomllib

from benchmark.gate import requirement_of
from edgepress.artifact import Device, Format
from edgepress.cli.commands import COMMANDS
from edgepress.cli.job import STAGES, Job, keys_of, read_job
from edgepress.cli.job_template import job_template
from edgepress.errors import InputError

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "docs" / "jobs").glob("*.toml"))
MINIMAL = 'model = "vgg16-digits"\n'


def job_of(tmp_path: Path, text: str, *overrides: str, until: str | None = None) -> Job:
    path = tmp_path / "job.toml"
    path.write_text(text)
    return read_job(path, overrides, until)


def arguments_of(job: Job, stage: str) -> dict[str, object]:
    return next(vars(arguments) for command, arguments in job.steps if command.name == stage)


def names_of(job: Job) -> list[str]:
    return [command.name for command, _ in job.steps]


def test_read_job_fills_in_the_defaults_of_the_commands(tmp_path: Path) -> None:
    job = job_of(tmp_path, MINIMAL)
    assert names_of(job) == ["export", "optimize", "parity", "benchmark"]
    assert arguments_of(job, "export")["out"] == "out/vgg16-digits"
    assert arguments_of(job, "optimize")["folder"] == Path("out/vgg16-digits")
    assert arguments_of(job, "optimize")["samples"] == 64
    assert arguments_of(job, "benchmark")["device"] is Device.CPU


def test_read_job_takes_every_kind_of_value(tmp_path: Path) -> None:
    job = job_of(
        tmp_path,
        f"""
        model = "vgg16"
        data = "{tmp_path}"
        out = "here"
        [export]
        weights = "random"
        format = ["onnx", "tflite"]
        [optimize]
        samples = 8
        data = "digits"
        [benchmark]
        quick = true
        """,
    )
    export, optimize, benchmark = (arguments_of(job, name) for name in ("export", "optimize", "benchmark"))
    assert export["formats"] == [Format.ONNX, Format.TFLITE]
    assert (export["weights"], export["out"], export["data"]) == ("random", "here", str(tmp_path))
    assert (optimize["samples"], optimize["data"]) == (8, "digits")
    assert benchmark["quick"] is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modl = 'vgg16'", "Unknown key 'modl'. Did you mean 'model'?"),
        ("data = 'digits'", "the key `model` is missing"),
        ("model = 16", "model: text is wanted. Received: 16."),
        ("model = 'vgg16'", "the key `data` is missing"),
        ("model = 'vgg16'\ndata = 'nowhere'", "data = 'nowhere' is not there"),
        (MINIMAL + "[optimise]", "Unknown section 'optimise'. Did you mean 'optimize'?"),
        (MINIMAL + "[report]", "Unknown section 'report'"),
        (MINIMAL + "[optimize]\nsampels = 8", "Unknown key in [optimize] 'sampels'. Did you mean 'samples'?"),
        (MINIMAL + "[optimize]\njson = true", "Unknown key in [optimize] 'json'"),
        (MINIMAL + "[export]\nout = 'x'", "Unknown key in [export] 'out'"),
        (MINIMAL + "[optimize]\nsamples = '8'", "optimize.samples: a whole number is wanted. Received: '8'."),
        (MINIMAL + "[optimize]\nsamples = true", "optimize.samples: a whole number is wanted."),
        (
            MINIMAL + "[optimize]\nsamples = 0",
            "[optimize] Wanted a whole number of at least 1. Received: '0'.",
        ),
        (MINIMAL + "[benchmark]\nquick = 1", "benchmark.quick: true or false is wanted. Received: 1."),
        (MINIMAL + "[export]\nformat = 'onnx'", "export.format: a list of texts is wanted."),
        (MINIMAL + "[export]\nformat = ['onx']", "[export] Unknown format 'onx'. Did you mean 'onnx'?"),
        (MINIMAL + "[optimize]\nrecipe = ['onnx_wf16']", "Did you mean 'onnx_wf16_af16'?"),
        (MINIMAL + "[optimize]\ntarget = 'hots'", "Unknown target 'hots'. Did you mean 'host'?"),
        ("model = vgg16", "is no TOML"),
    ],
)
def test_read_job_refuses_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        job_of(tmp_path, text)
    assert message in str(refusal.value)
    assert str(refusal.value).startswith(str(tmp_path / "job.toml"))
    assert "\n" not in str(refusal.value)


def test_read_job_refuses_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is no UTF-8 text"):
        read_job(tmp_path / "job.toml")
    with pytest.raises(InputError, match="there is no such file. Write one with: edgepress init"):
        read_job(tmp_path / "other.toml")


def test_overrides_take_the_place_of_what_the_file_says(tmp_path: Path) -> None:
    overrides = ("optimize.samples=8", "benchmark.quick=true", "out=there", "export.format=onnx,tflite")
    job = job_of(tmp_path, MINIMAL + "[optimize]\nsamples = 4", *overrides)
    assert arguments_of(job, "optimize")["samples"] == 8
    assert arguments_of(job, "benchmark")["quick"] is True
    assert arguments_of(job, "export")["out"] == "there"
    assert arguments_of(job, "export")["formats"] == [Format.ONNX, Format.TFLITE]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("samples", "--set wants KEY=VALUE"),
        ("optimize.samples=many", "optimize.samples: a whole number is wanted. Received: 'many'."),
        ("benchmark.quick=yes", "benchmark.quick: true or false is wanted. Received: 'yes'."),
        ("optimise.samples=8", "Unknown section 'optimise'"),
        ("optimize.sample=8", "Did you mean 'samples'?"),
    ],
)
def test_overrides_are_checked_like_the_file(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        job_of(tmp_path, MINIMAL, override)
    assert message in str(refusal.value)


def test_until_stops_early_and_asks_for_no_data_that_is_not_read(tmp_path: Path) -> None:
    job = job_of(tmp_path, 'model = "vgg16"', until="export")
    assert names_of(job) == ["export"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_jobs_are_valid(path: Path) -> None:
    assert names_of(read_job(path))


def test_template_is_valid_and_shows_every_key_with_a_valid_value(tmp_path: Path) -> None:
    text = job_template("vgg16-digits", None)
    assert names_of(job_of(tmp_path, text)) == ["export", "optimize", "parity", "benchmark"]
    bare = [line.removeprefix("# ") for line in text.splitlines()]
    shown = tomllib.loads("\n".join(line for line in bare if " = " in line or line.startswith("[")))
    for command in COMMANDS:
        if command.name in STAGES:
            kinds = {key.name: key.kind for key in keys_of(command)}
            assert set(shown[command.name]) == set(kinds)
            assert all(isinstance(shown[command.name][name], kind) for name, kind in kinds.items())


def test_init_writes_a_job_and_keeps_one_that_is_there(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    assert cli("init", path).returncode == 0
    assert names_of(read_job(path)) == ["export", "optimize", "parity", "benchmark"]
    path.write_text("mine")
    again = cli("init", path)
    assert again.returncode == 2
    assert "exists and is kept" in again.stderr
    assert path.read_text() == "mine"


def test_override_of_a_list_may_have_commas_inside_its_texts(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(MINIMAL)
    gate = "runner=litert: speedup>=1.5, top1_drop<=0.5"
    job = read_job(path, (f'benchmark.require=["{gate}"]',))
    assert arguments_of(job, "benchmark")["require"] == [requirement_of(gate)]
    with pytest.raises(InputError, match="benchmark.require: a list of texts is wanted"):
        read_job(path, ("benchmark.require=[oops",))
