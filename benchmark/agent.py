"""The far end of `--host` (`python -m benchmark.agent`): a station on the device, driven line by line.

It runs where only Python 3.10, numpy and a runtime are installed. The harness itself runs there, so the line
to it carries requests and samples, and nothing that is timed. When its input ends, so do it and its children.
"""

import base64
import contextlib
import io
import json
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.interleave import Run, measure
from benchmark.plan import Plan
from benchmark.preflight import Finding
from benchmark.protocol import Failure, FailureKind, Open, Profiled
from benchmark.roofline import Ceilings
from benchmark.station import LocalStation, Pictures, Surroundings
from benchmark.worker_process import WorkerError
from edgepress.artifact import Device
from edgepress.dataset import open_data
from edgepress.errors import EdgepressError
from edgepress.files import sha256_of_path
from edgepress.preprocessing import Preprocessing
from edgepress.record import from_json, to_json


@dataclass(frozen=True)
class LookAround:
    """Tell what is there → `Surroundings`."""


@dataclass(frozen=True)
class Check:
    """Tell whether a file or folder is there and whole → `Checked`."""

    path: str
    sha256: str


@dataclass(frozen=True)
class LookWhetherFit:
    """Tell whether it is fit to be measured on → `Findings`."""

    device: Device


@dataclass(frozen=True)
class MeasureCeilings:
    """Measure what it can do at best → `Ceilings`."""

    threads: int
    device: Device


@dataclass(frozen=True)
class Measure:
    """Measure subjects in turns → `Runs`. See `benchmark.interleave.measure`."""

    subjects: tuple[Open, ...]
    images: str
    plan: Plan
    seed: int


@dataclass(frozen=True)
class TimeNodes:
    """Time each node in a process of its own → `Profiled`.

    Attributes:
        subject: What to profile.
        images: Path of an .npy file with one input.
        runs: Inferences to profile.
    """

    subject: Open
    images: str
    runs: int


@dataclass(frozen=True)
class EvaluateAll:
    """Run the pictures of an .npz, which have the model's size → `Logits`."""

    subject: Open
    data: str
    preprocessing: Preprocessing


@dataclass(frozen=True)
class InferAll:
    """Run the inputs of an .npy file → `Logits`."""

    subject: Open
    images: str


@dataclass(frozen=True)
class Checked:
    """Whether the content is the one that was asked for."""

    whole: bool


@dataclass(frozen=True)
class Findings:
    """What was looked at."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Runs:
    """One for each subject."""

    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Logits:
    """(N, classes) float32.

    Attributes:
        npy: An .npy file in base64.
    """

    npy: str

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> "Logits":
        """Packed."""
        stream = io.BytesIO()
        np.save(stream, values)
        return cls(base64.b64encode(stream.getvalue()).decode("ascii"))

    def values(self) -> NDArray[np.float32]:
        """Unpacked."""
        found: NDArray[np.float32] = np.load(io.BytesIO(base64.b64decode(self.npy)), allow_pickle=False)
        return found


Request = LookAround | Check | LookWhetherFit | MeasureCeilings | Measure | TimeNodes | EvaluateAll | InferAll
Reply = Surroundings | Checked | Findings | Ceilings | Runs | Profiled | Logits


class Agent:
    """Answers requests by means of the station on which it runs."""

    def __init__(self, station: LocalStation) -> None:
        self._station = station
        self._methods: dict[type, Callable[[Any], Reply]] = {
            LookAround: lambda _: station.surroundings(),
            Check: _checked,
            LookWhetherFit: lambda asked: Findings(station.preflight(asked.device)),
            MeasureCeilings: lambda asked: station.ceilings(asked.threads, asked.device),
            Measure: _measured,
            TimeNodes: lambda asked: station.profile(asked.subject, np.load(asked.images), asked.runs),
            EvaluateAll: self._evaluated,
            InferAll: lambda asked: Logits.of(station.infer(asked.subject, np.load(asked.images))),
        }

    def answered(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request, or the failure, as JSON."""
        kinds = {kind.__name__: kind for kind in self._methods}
        try:
            kind = kinds[value["command"]]
            return {"reply": to_json(self._methods[kind](from_json(kind, value["arguments"])))}
        except WorkerError as error:
            return {"failure": to_json(error.failure)}
        except EdgepressError as error:
            return {"failure": to_json(Failure(FailureKind.INPUT, str(error)))}

    def _evaluated(self, asked: EvaluateAll) -> Logits:
        pictures = Pictures(asked.data, open_data(asked.data).evaluation)
        return Logits.of(self._station.logits(asked.subject, pictures, asked.preprocessing))


def _checked(asked: Check) -> Checked:
    path = Path(asked.path)
    return Checked(path.exists() and sha256_of_path(path) == asked.sha256)


def _measured(asked: Measure) -> Runs:
    return Runs(measure(asked.subjects, Path(asked.images), asked.plan, asked.seed))


def main() -> None:
    """Answer until stdin ends."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies, tempfile.TemporaryDirectory() as scratch:
        os.dup2(2, 1)  # what a framework prints is no answer
        agent = Agent(LocalStation(Path(scratch)))
        with contextlib.suppress(KeyboardInterrupt):
            for line in _lines():
                replies.write(json.dumps(agent.answered(json.loads(line))) + "\n")
                replies.flush()


def _lines() -> Iterator[str]:
    """Lines of stdin. Its end interrupts what is under way: the host is gone, and nobody waits for it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have told us to ignore it
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


if __name__ == "__main__":
    main()
