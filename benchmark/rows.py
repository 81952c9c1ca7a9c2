"""Which artifact is measured on which runner and device, and which rows are skipped, with the reason."""

from dataclasses import dataclass

from edgepress.artifact import Artifact, Device, Format
from edgepress.errors import unknown_choice
from edgepress.isa import Isa
from edgepress.manifest import Manifest
from edgepress.runners.runner import Purpose, RunnerKind, runner_kinds, runner_names

ACCURACY_ONLY = "accuracy only: TensorRT's graph runs here with float kernels, so its time says nothing"


@dataclass(frozen=True)
class Row:
    """One line of the table to come.

    Attributes:
        artifact: What is run.
        runner: Name of what runs it.
        device: Where.
    """

    artifact: Artifact
    runner: str
    device: Device

    @property
    def kind(self) -> RunnerKind | None:
        """What is known of the runner; None where this version has none of this name."""
        place = (self.runner, self.device)
        return next((kind for kind in runner_kinds() if (kind.name, kind.device) == place), None)

    @property
    def purpose(self) -> Purpose:
        """An emulation gives a runtime's numbers, never its speed."""
        return self.kind.purpose if self.kind is not None else Purpose.LATENCY_AND_ACCURACY


def rows_of(
    manifest: Manifest, variants: tuple[str, ...] | None, runners: tuple[str, ...] | None = None
) -> tuple[Row, ...]:
    """All rows of a manifest, in its order.

    Args:
        manifest: Its artifacts name the runtimes that they were made for.
        variants: Only those of these artifacts.
        runners: Only those of these runners, and every artifact that they can load, whatever it was made for.

    Raises:
        InputError: There is no artifact or no runner of such a name.
    """
    chosen = manifest.artifacts
    if variants is not None:
        wanted = {manifest.get(variant).id for variant in variants}
        chosen = tuple(artifact for artifact in chosen if artifact.id in wanted)
    if runners is None:
        return tuple(row for artifact in chosen for row in _rows_made_for(artifact))
    if unknown := [name for name in runners if name not in runner_names()]:
        raise unknown_choice("runner", unknown[0], runner_names())
    return tuple(
        Row(artifact, kind.name, kind.device)
        for artifact in chosen
        for kind in runner_kinds()
        if kind.name in runners and artifact.format in kind.formats
    )


def _rows_made_for(artifact: Artifact) -> list[Row]:
    """A row for each runtime that the artifact names; for an engine also where this version has no runner."""
    rows: list[Row] = []
    for runtime in artifact.runtimes:
        devices = [
            kind.device
            for kind in runner_kinds()
            if kind.name == runtime.value and artifact.format in kind.formats
        ]
        if artifact.format is Format.ENGINE and not devices:
            devices = [Device.CUDA]
        rows += [Row(artifact, runtime.value, device) for device in devices]
    return rows


def no_runner(name: str) -> str:
    """Why a row of a runtime without a runner is not run."""
    return f"this version has no runner for {name}"


def skip_reason(row: Row, device: Device, cuda_absence: str | None) -> str | None:
    """Why a row is not run, or None.

    Args:
        row: The row.
        device: What the user asked for.
        cuda_absence: See `edgepress.machine.cuda_device_absence`.
    """
    if row.device is Device.CUDA and cuda_absence is not None:
        return f"no CUDA device ({cuda_absence})"
    if row.device is not device:
        return f"not asked for: --device {device.value}"
    if row.kind is None:
        return no_runner(row.runner)
    return row.kind.unfit.get(row.artifact.precision)


def lacks_vnni(isa: str) -> bool:
    """Whether an x86 CPU (value of `Isa`) has no instruction for sums of 8-bit products."""
    return isa in {Isa.X86_AVX2.value, Isa.X86_AVX512.value}
