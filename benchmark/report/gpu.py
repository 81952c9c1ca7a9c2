"""What the GPU says of each version: times by its own clock, its memory in four numbers, clocks and power."""

from benchmark.measurement import Result, Results
from benchmark.quantities import GpuConduct
from benchmark.report.measured import ran
from benchmark.report.number_text import ABSENT, megabytes, milliseconds
from benchmark.report.parts import Section, Table
from edgepress.artifact import Device
from edgepress.runners.runner import title_of

_TIMES = ("Variant", "Runner", "Upload ms", "Compute ms", "Download ms", "Host to host ms")
_MEMORY = ("Variant", "Runner", "File MB", "Activations MB", "Taken MB", "Process MB", "In use MB")
_CLOCKS = ("Variant", "Runner", "SM MHz", "Memory MHz", "Power W", "Slowed down by")


def gpu(results: Results) -> Section:
    """Three tables for what ran on a GPU; empty where nothing did."""
    rows = [row for row in ran(results) if row.device is Device.CUDA]
    tables = (
        Table(
            "By the GPU's clock (CUDA events), the median of inferences after the blocks: copies and compute "
            "apart. Host to host is the latency of the other tables.",
            _TIMES,
            tuple(_times(row) for row in rows if row.device_latency is not None),
            frozenset(_TIMES[2:]),
        ),
        Table(
            "Memory is no single number. Activations: what lies between layers, as the runtime tells. Taken: "
            "by how much free memory fell, as CUDA tells. Process: all that the process held, its CUDA "
            "context included, as NVML tells. In use: what the model added for all processes together.",
            _MEMORY,
            tuple(_memory(row) for row in rows if row.memory is not None),
            frozenset(_MEMORY[2:]),
        ),
        Table(
            "Read before and after each block, lowest and highest.",
            _CLOCKS,
            tuple(_clocks(row, row.gpu) for row in rows if row.gpu is not None),
            frozenset(_CLOCKS[2:5]),
        ),
    )
    return Section("gpu", "The GPU", tables=tuple(table for table in tables if table.rows))


def _times(row: Result) -> tuple[str, ...]:
    found, latency = row.device_latency, row.latency
    return (
        row.artifact,
        title_of(row.runner),
        milliseconds(found.upload_ns if found else None),
        milliseconds(found.compute_ns if found else None),
        milliseconds(found.download_ns if found else None),
        milliseconds(latency.median_ns if latency else None),
    )


def _memory(row: Result) -> tuple[str, ...]:
    found = row.memory
    return (
        row.artifact,
        title_of(row.runner),
        megabytes(row.size_bytes),
        megabytes(found.device_activation_bytes if found else None),
        megabytes(found.device_taken_bytes if found else None),
        megabytes(found.device_process_bytes if found else None),
        megabytes(found.device_bytes if found else None),
    )


def _clocks(row: Result, found: GpuConduct) -> tuple[str, ...]:
    return (
        row.artifact,
        title_of(row.runner),
        _span(found.sm_mhz),
        _span(found.memory_mhz),
        _span(tuple(round(power_mw / 1000) for power_mw in found.power_mw)),
        ", ".join(found.slowdowns) or "nothing",
    )


def _span(values: tuple[int, ...]) -> str:
    if not values:
        return ABSENT
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}–{high}"
