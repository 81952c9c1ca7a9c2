"""A row whose session names a provider that runs nothing: the verdict goes by the nodes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.measurement import Results, Status
from benchmark.profile_summary import profile_of
from benchmark.quantities import State
from benchmark.verdict import verdict_of
from edgepress.runners.onnxruntime_runner import OnnxRuntimeRunner

AZURE = "AzureExecutionProvider"  # listed by every build for CPUs, and runs none of these nodes
ON_CPU = "CPUExecutionProvider"
IMAGE = np.zeros((1, 8, 8, 3), np.float32)


@pytest.fixture
def no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow the CPU to help out, and change nothing else of the session."""
    import onnxruntime

    real = onnxruntime.InferenceSession

    def unguarded(path: str, options: Any, providers: Any) -> Any:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
        return real(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", unguarded)


def test_verdict_goes_by_the_nodes_where_the_session_names_a_provider_that_runs_nothing(
    no_guard: None,
    measured_tiny: Results,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    liar = OnnxRuntimeRunner(tiny_folder / "onnx-fp32.onnx", 1, [(AZURE, {})])
    with liar:
        assert liar.evidence.startswith(AZURE)
    profile = profile_of(liar.profiled(IMAGE, 3, tmp_path), 3)
    assert profile.place_time_shares == {ON_CPU: 1.0}
    monkeypatch.setattr("benchmark.verdict.places_of", lambda runner, device: (AZURE,))
    row = next(row for row in measured_tiny.results if row.status is Status.OK)
    found = verdict_of(replace(row, promised=row.precision, profile=profile))
    assert found is not None
    assert found.state is State.INVALID
    assert found.reasons[0] == f"it was to run on {AZURE}, and spent 100% of its time on {ON_CPU}"


def test_rows_that_were_measured_here_ran_where_their_runners_say(measured_tiny: Results) -> None:
    profiles = [row.profile for row in measured_tiny.results if row.profile is not None]
    assert profiles
    assert {place for profile in profiles for place in profile.place_nodes} == {ON_CPU}
