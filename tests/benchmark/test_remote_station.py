"""`--host`: the harness on a device behind a real sshd on loopback, and behind a fake ssh."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark import agent
from benchmark.measurement import RESULTS, Results, Status
from benchmark.plan import FULL, Plan
from benchmark.preparation import BenchmarkRequest
from benchmark.protocol import Open, request_to_json
from benchmark.remote_station import RemoteStation
from benchmark.stage import benchmark_folder
from edgepress.artifact import Device
from edgepress.errors import InputError
from tests.fakes.fake_plan_runtime import write_plan

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")

# Drops ssh's options and the host, and runs the command in the device's home folder.
FAKE_SSH = """#!/bin/sh
while [ "$1" != "--" ]; do shift; done
shift 2
cd "$DEVICE_HOME" && HOME="$DEVICE_HOME" exec sh -c "$1"
"""


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a device behind a fake `ssh`."""
    home, programs = tmp_path / "device", tmp_path / "programs"
    home.mkdir()
    programs.mkdir()
    (programs / "ssh").write_text(FAKE_SSH)
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("DEVICE_HOME", str(home))
    return home


@pytest.fixture
def request_(tiny_folder: Path, tiny_data: str, tiny_plan: Plan) -> BenchmarkRequest:
    return BenchmarkRequest(
        tiny_folder,
        variants=("onnx-fp32", "onnx-int8"),
        data=tiny_data,
        quick=True,
        threads=1,
        host="user@device",
        host_python=sys.executable,
    )


def test_results_of_a_device_are_measured_there(request_: BenchmarkRequest, device: Path) -> None:
    found = benchmark_folder(request_)
    ran = {row.artifact: row for row in found.results if row.status is Status.OK}
    assert list(ran) == ["onnx-fp32", "onnx-int8"]
    assert all(row.latency and row.accuracy and row.accuracy.images == 12 for row in ran.values())
    assert found.environment.host == "user@device"
    assert Results.load(request_.folder) == found
    cache = device / ".cache/edgepress"
    artifacts = {path.name for path in cache.glob("*/*.onnx")}
    assert artifacts == {"onnx-fp32.onnx", "onnx-int8.onnx"}
    sent = {path.parent.name for path in cache.glob("code-*/*/*.py")}
    assert sent == {"edgepress", "benchmark"}
    assert not list(cache.glob("code-*/edgepress/cli"))
    assert not list(cache.glob("*.part"))


def test_accuracy_on_a_device_is_that_of_this_machine(request_: BenchmarkRequest, device: Path) -> None:
    there = benchmark_folder(request_)
    here = benchmark_folder(replace(request_, host=None))
    assert here.key != there.key
    accuracies = [[row.accuracy for row in found.results] for found in (there, here)]
    assert accuracies[0] == accuracies[1]


def test_what_is_there_is_not_sent_again(
    request_: BenchmarkRequest, device: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    small = replace(request_, variants=("onnx-fp32",))
    benchmark_folder(small)
    assert "user@device: sending onnx-fp32.onnx" in caplog.text
    damaged = next(device.glob(".cache/edgepress/*/onnx-fp32.onnx"))
    caplog.clear()
    benchmark_folder(replace(small, again=True))
    assert "sending onnx-fp32.onnx" not in caplog.text
    damaged.write_bytes(b"half of it")
    benchmark_folder(replace(small, again=True))
    assert "sending onnx-fp32.onnx" in caplog.text
    assert damaged.read_bytes() == (request_.folder / "onnx-fp32.onnx").read_bytes()


def test_a_plan_is_sent_together_with_its_card(device: Path, tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "m.plan", b"a plan of no TensorRT")
    with RemoteStation("user@device", sys.executable, tmp_path) as station:
        there = station._send(plan)
        assert station._send(plan) == there
    (sent,) = device.glob(".cache/edgepress/*/m.plan")
    assert sent.read_bytes() == plan.read_bytes()
    assert {path.name for path in sent.parent.iterdir()} == {"m.plan", "m.engine.json"}
    sent.with_name("m.engine.json").unlink()
    with RemoteStation("user@device", sys.executable, tmp_path) as station:
        station._send(plan)
    assert sent.with_name("m.engine.json").is_file()


def test_a_device_that_cannot_be_reached_is_bad_input(
    request_: BenchmarkRequest, tmp_path: Path, device: Path
) -> None:
    ssh = tmp_path / "programs/ssh"
    ssh.write_text("#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n")
    with pytest.raises(
        InputError, match=r"--host user@device: Permission denied .*try: ssh user@device true"
    ):
        benchmark_folder(request_)
    assert not (request_.folder / RESULTS).exists()


def test_a_full_disk_of_the_device_is_not_taken_for_a_refused_login(
    request_: BenchmarkRequest, tmp_path: Path, device: Path
) -> None:
    tar = tmp_path / "programs/tar"
    tar.write_text(
        "#!/bin/sh\ncat >/dev/null\necho 'tar: write error: No space left on device' >&2\nexit 2\n"
    )
    tar.chmod(0o755)
    with pytest.raises(
        InputError, match=r"No space left on device\. Wanted a shell with tar.*check its disk"
    ):
        benchmark_folder(request_)
    assert not (request_.folder / RESULTS).exists()


def test_the_agent_stops_what_is_under_way_when_its_host_is_gone(tiny_folder: Path, tmp_path: Path) -> None:
    """Its input ends amid a measurement of minutes; so do it, its process and its scratch folder."""
    np.save(tmp_path / "input.npy", np.zeros((1, 8, 8, 3), np.float32))
    subject = Open("onnxruntime", Device.CPU, str(tiny_folder / "onnx-fp32.onnx"), 1)
    asked = agent.Measure((subject,), str(tmp_path / "input.npy"), replace(FULL, restarts=100), 0)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "benchmark.agent"],
        stdin=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(scratch)},
    ) as process:
        assert process.stdin is not None
        process.stdin.write((json.dumps(request_to_json(asked)) + "\n").encode())
        process.stdin.flush()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (found := children.read_text().split()):
            time.sleep(0.05)
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    deadline = time.monotonic() + 20
    while _runs(found[0]):  # one that was only just started ends when it finds its own input closed
        assert time.monotonic() < deadline, "the measuring process outlives the agent"
        time.sleep(0.05)
    assert list(scratch.iterdir()) == []


def _runs(pid: str) -> bool:
    """Whether a process is there and not merely waiting for init to collect its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_device_without_python_is_bad_input(request_: BenchmarkRequest, device: Path) -> None:
    with pytest.raises(InputError, match=r"--host user@device: .*not found.*name it with --host-python"):
        benchmark_folder(replace(request_, host_python="/nowhere/python3"))


@pytest.mark.parametrize("host", ["", "-oProxyCommand=evil"])
def test_an_option_is_no_host(request_: BenchmarkRequest, host: str) -> None:
    with pytest.raises(InputError, match="is no host"):
        benchmark_folder(replace(request_, host=host))


def test_a_runtime_that_the_device_lacks_is_a_skipped_row(
    request_: BenchmarkRequest, device: Path, tmp_path: Path
) -> None:
    """The device's Python sees numpy and ONNX Runtime, and no TensorFlow: its reference is the ONNX file."""
    found = benchmark_folder(replace(request_, runners=("onnxruntime", "litert", "tensorflow")))
    assert found.baseline.artifact == "onnx-fp32"
    assert {row.runner for row in found.results} == {"onnxruntime"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real sshd on loopback with keys of its own, and an `ssh` that knows them; its destination."""
    if SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("OpenSSH's server is not installed")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it separates privileges
    folder, port = tmp_path / "sshd", free_port()
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": folder / "pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "client").write_text(
        f"Host *\n IdentityFile {folder / 'user'}\n UserKnownHostsFile {folder / 'known'}\n"
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder / "client"} "$@"\n')
    (programs / "ssh").chmod(0o755)
    with subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.PIPE) as server:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0 or server.poll() is not None:
                    break
            time.sleep(0.05)
        if server.poll() is not None:
            assert server.stderr is not None
            pytest.skip(f"sshd does not start here: {server.stderr.read().decode().strip()}")
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}"
        server.terminate()


def test_results_through_a_real_sshd(request_: BenchmarkRequest, loopback: str, tmp_path: Path) -> None:
    """The command line, end to end; the device's home folder is this machine's, so its cache is cleared."""
    cache = Path.home() / ".cache/edgepress"
    before = set(cache.iterdir()) if cache.exists() else set()
    command = [
        *(
            sys.executable,
            "-m",
            "edgepress.cli",
            "benchmark",
            str(request_.folder),
            "--data",
            str(request_.data),
        ),
        *("--quick", "--threads", "1", "--variant", "onnx-fp32", "--host", loopback),
        *("--host-python", sys.executable, "--json"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["failed"] == []
        found = Results.load(request_.folder)
        assert found.environment.host == loopback
        (row,) = [row for row in found.results if row.status is Status.OK]
        assert row.latency is not None
        wrong = subprocess.run(
            [*command[:-1], "--host-python", "/nowhere/python"], capture_output=True, text=True, check=False
        )
        assert wrong.returncode == 2
        assert len(wrong.stderr.strip().splitlines()) == 1
    finally:
        for path in set(cache.iterdir()) - before if cache.exists() else ():
            shutil.rmtree(path)
