"""A device that is reached over SSH: the same harness, run there (see `benchmark.agent`).

The user's own `ssh` is used, with its configuration, keys and jump hosts; it may not ask for a password. The
code of the harness and the artifacts are sent once, under the SHA-256 of their content, to the device's
~/.cache/edgepress.
"""

import contextlib
import hashlib
import logging
import shlex
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray

import benchmark
import edgepress
from benchmark import agent
from benchmark.interleave import Run
from benchmark.plan import Plan
from benchmark.preflight import Finding
from benchmark.protocol import Failure, FailureKind, Open, Profiled
from benchmark.roofline import Ceilings
from benchmark.station import Pictures, Surroundings
from benchmark.worker_process import PATIENCE_S, WorkerError, WorkerProcess
from edgepress.artifact import Device
from edgepress.engine_card import card_path
from edgepress.errors import InputError
from edgepress.files import sha256_of_json, sha256_of_path
from edgepress.preprocessing import Preprocessing

logger = logging.getLogger(__name__)

_OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4")
_CACHE = ".cache/edgepress"
_NO_CONNECTION = 255  # ssh's own exit code; any other one is the command's
_LONG_S = 24 * 3600.0  # the device's harness has its own patience with each step
_NOT_SENT = ("edgepress/cli/", "edgepress/api.py", "edgepress/models/")
_PLAN = ".plan"

Reply = TypeVar("Reply")


class RemoteStation:
    """A device that is reached over SSH.

    Args:
        host: As given to `ssh`.
        python: Name or path of Python there: 3.10 or later with numpy and the runtimes.
        scratch: An empty folder on this machine.
    """

    def __init__(self, host: str, python: str, scratch: Path) -> None:
        if not host or host.startswith("-"):
            raise InputError(f"--host {host!r} is no host. Give it as to ssh: user@device.")
        self.host: str | None = host
        self._ssh = ("ssh", *(part for option in _OPTIONS for part in ("-o", option)), "--", host)
        self._python = python
        self._scratch = scratch
        self._sent: dict[str, str] = {}

    def __enter__(self) -> "RemoteStation":
        """Connect, send the harness and start it.

        Raises:
            InputError: The device cannot be reached, or its Python cannot run the harness.
        """
        code = self._send_code()
        command = f"cd {code} && exec {shlex.quote(self._python)} -m benchmark.agent"
        self._process = WorkerProcess((*self._ssh, command)).__enter__()
        try:
            self._around = self._ask(agent.LookAround(), Surroundings)
        except WorkerError as error:
            self._process.__exit__(None, None, None)
            raise InputError(
                f"--host {self.host}: {error}. Wanted Python 3.10 or later with numpy and a runtime there: "
                "name it with --host-python."
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.__exit__(kind, error, trace)

    def surroundings(self) -> Surroundings:
        """See `Station`."""
        return self._around

    def preflight(self, device: Device) -> tuple[Finding, ...]:
        """See `Station`."""
        return self._ask(agent.LookWhetherFit(device), agent.Findings).findings

    def ceilings(self, threads: int, device: Device) -> Ceilings:
        """See `Station`."""
        return self._ask(agent.MeasureCeilings(threads, device), Ceilings)

    def measure(
        self, subjects: Sequence[Open], images: NDArray[np.float32], plan: Plan, seed: int
    ) -> tuple[Run, ...]:
        """See `Station`."""
        there = tuple(self._there(subject) for subject in subjects)
        request = agent.Measure(there, self._saved(images), plan, seed)
        return self._ask(request, agent.Runs, _LONG_S).runs

    def profile(self, subject: Open, image: NDArray[np.float32], runs: int) -> Profiled:
        """See `Station`."""
        return self._ask(agent.TimeNodes(self._there(subject), self._saved(image), runs), Profiled, _LONG_S)

    def logits(self, subject: Open, pictures: Pictures, preprocessing: Preprocessing) -> NDArray[np.float32]:
        """See `Station`. The pictures are decoded and cropped here, so that both machines see the same."""
        path = self._scratch / "pictures.npz"
        if not path.exists():
            images = np.stack([picture.read(preprocessing) for picture in pictures.pictures.pictures])
            np.savez(path, images=images)
        request = agent.EvaluateAll(self._there(subject), self._send(path), preprocessing)
        return self._ask(request, agent.Logits, _LONG_S).values()

    def infer(self, subject: Open, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Station`."""
        request = agent.InferAll(self._there(subject), self._saved(images))
        return self._ask(request, agent.Logits, _LONG_S).values()

    def _ask(self, request: agent.Request, reply: type[Reply], patience_s: float = PATIENCE_S) -> Reply:
        return self._process.ask(request, reply, patience_s)

    def _there(self, subject: Open) -> Open:
        return replace(subject, path=self._send(Path(subject.path)))

    def _saved(self, images: NDArray[np.float32]) -> str:
        path = self._scratch / "input.npy"
        np.save(path, images)
        return self._send(path)

    def _send(self, path: Path) -> str:
        """Bring a file or folder to the device unless it is there; its path there, relative to the code.

        A plan's card goes with it, into the same folder.
        """
        digests = {file: sha256_of_path(file) for file in (path, *_beside(path))}
        folder = digests[path] if len(digests) == 1 else sha256_of_json(sorted(digests.values()))
        there = f"../{folder}/{path.name}"
        if self._sent.get(folder) == there:
            return there
        if not self._are_whole(folder, digests):
            logger.info("%s: sending %s", self.host, path.name)
            try:
                self._send_tar(folder, [(file, file.name) for file in digests])
            except InputError as error:  # of this row: what is measured already is kept
                raise WorkerError(Failure(FailureKind.CRASH, str(error))) from error
            if not self._are_whole(folder, digests):
                raise WorkerError(
                    Failure(
                        FailureKind.CRASH,
                        f"{path.name} did not arrive whole on {self.host}: check the space on its disk",
                    )
                )
        self._sent[folder] = there
        return there

    def _are_whole(self, folder: str, digests: Mapping[Path, str]) -> bool:
        checks = (agent.Check(f"../{folder}/{file.name}", digest) for file, digest in digests.items())
        return all(self._ask(check, agent.Checked).whole for check in checks)

    def _send_code(self) -> str:
        """Bring the harness to the device; its folder there, relative to the home folder."""
        files = [(path, name) for path, name in _code() if not name.startswith(_NOT_SENT)]
        digest = hashlib.sha256()
        for path, name in files:
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
        folder = f"code-{digest.hexdigest()[:16]}"
        if self._run(f"test -d {_CACHE}/{folder} && echo there || echo absent").strip() != "there":
            self._send_tar(folder, files)
        return f"{_CACHE}/{folder}"

    def _send_tar(self, folder: str, files: Sequence[tuple[Path, str]]) -> None:
        """Unpack files into a folder of the cache; it gets its name once all of them are there."""
        part = f"{folder}.part"
        command = (
            f"mkdir -p {_CACHE} && cd {_CACHE} && rm -rf {part} && mkdir {part} && tar -xf - -C {part} && "
            f"rm -rf {folder} && mv {part} {folder}"
        )
        with subprocess.Popen(
            (*self._ssh, command), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin is not None  # noqa: S101  # for the type checker
            with contextlib.suppress(BrokenPipeError):  # the reason is on stderr
                _pack(process.stdin, files)
            _, errors = process.communicate()
        self._require(process.returncode, errors)

    def _run(self, command: str) -> str:
        try:
            found = subprocess.run(
                (*self._ssh, command), stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        except FileNotFoundError as error:
            raise InputError(
                "--host needs the command ssh, which is not there. Install OpenSSH's client."
            ) from error
        self._require(found.returncode, found.stderr)
        return found.stdout.decode(errors="replace")

    def _require(self, code: int, errors: bytes) -> None:
        if code != 0:
            lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
            reason = (lines[-1] if lines else f"ssh ended with exit code {code}").rstrip(".")
            there = f"a shell with tar and a writable ~/{_CACHE} there; check its disk and its rights"
            login = f"a login without a password; try: ssh {self.host} true"
            wanted = login if code == _NO_CONNECTION else there
            raise InputError(f"--host {self.host}: {reason}. Wanted {wanted}")


def _beside(path: Path) -> tuple[Path, ...]:
    """What a file cannot be used without."""
    card = card_path(path)
    return (card,) if path.suffix == _PLAN and card.is_file() else ()


def _code() -> list[tuple[Path, str]]:
    """The files of the harness, and their names on the device."""
    found = []
    for package in (edgepress, benchmark):
        root = Path(package.__path__[0])
        found += [(path, f"{root.name}/{path.relative_to(root).as_posix()}") for path in root.rglob("*.py")]
    return sorted(found, key=lambda pair: pair[1])


def _pack(stream: IO[bytes], files: Sequence[tuple[Path, str]]) -> None:
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for path, name in files:
            archive.add(path, name)
