"""Where and how it was measured, whether the machine was fit for it, and how to do it again."""

import shlex
from collections.abc import Sequence

from benchmark.measurement import BOUNDARY, Results
from benchmark.plan import Thoroughness
from benchmark.preflight import Finding, Fitness
from benchmark.report.number_text import ABSENT
from benchmark.report.parts import Section, Table
from edgepress.metrics import resolvable_share
from edgepress.runners.runner import title_of

_WORST_FIRST = (Fitness.DOUBT, Fitness.UNKNOWN, Fitness.FINE)
_METHOD = (
    f"Inside the stopwatch: {BOUNDARY}.",
    "Each version runs in a fresh process with one runtime, beside a fresh process of the FP32 artifact of "
    "the same runner, device and threads; blocks alternate in random order, and the process that waits is "
    "stopped. Both start afresh several times, since two processes of the same file differ, too.",
    "Speed-up is the median over pairs of neighbouring blocks of FP32's median over the version's; its 95 % "
    "interval is that of a bootstrap that draws whole restarts with their pairs. FP32's own row is measured "
    "alone, at another time, so two medians of the table need not have this ratio.",
    "Accuracy is computed in processes of its own, on pictures that calibration has not seen; agreement and "
    "SNR compare logits with the FP32 reference, and p is McNemar's for a change of top-1 by chance. p90 "
    "needs 64 samples, p99 needs 662; no sample is discarded.",
    "Peak memory is the process's highest resident memory above that of the same process with only the "
    "runtime imported; a memory-mapped model file counts as far as it was read. Size is bytes on disk.",
)


def method() -> Section:
    """The protocol in a few sentences."""
    return Section("method", "How it was measured", items=_METHOD)


def preflight(results: Results) -> Section:
    """What was looked at before anything was measured, doubts first."""
    found = sorted(results.environment.preflight, key=lambda finding: _WORST_FIRST.index(finding.fitness))
    table = Table(
        "Looked at before anything was measured, doubts first.",
        ("Subject", "Found", "Means", "What to do"),
        tuple(_finding_cells(finding) for finding in found),
    )
    return Section("preflight", "Fitness of the machine", tables=(table,))


def _finding_cells(finding: Finding) -> tuple[str, ...]:
    return finding.subject, finding.found, finding.fitness.value, finding.remedy or ABSENT


def environment(results: Results) -> Section:
    """Machine, packages and pictures."""
    table = Table("What measured, and on what.", ("What", "Value"), facts(results))
    return Section("environment", "Environment and data", tables=(table,))


def facts(results: Results) -> tuple[tuple[str, str], ...]:
    """Environment and data, as pairs of name and value."""
    machine, plan, data = results.environment.machine, results.plan, results.data
    memory = machine["memory_bytes"]
    left_out = f", {data.left_out} left out because they trained or calibrated" if data.left_out else ""
    host = results.environment.host
    return (
        ("Model", f"{results.model.name} ({results.model.parameters:,} parameters; {results.model.source})"),
        *((("Device", f"{host}, over SSH"),) if host else ()),
        ("CPU", f"{machine['cpu']} ({machine['isa']}), {machine['cores']} cores"),
        ("Memory", f"{memory / 1e9:.1f} GB" if memory else "unknown"),
        ("CUDA device", f"none ({machine['cuda_absence']})" if machine["cuda_absence"] else "present"),
        ("System", f"{machine['system']}, Python {results.environment.python}"),
        (
            "Packages",
            ", ".join(f"{name} {version}" for name, version in results.environment.packages.items()),
        ),
        ("edgepress", results.environment.edgepress),
        ("Pictures", f"{data.source}: {data.evaluated} evaluated{left_out}"),
        ("Preprocessing", ", ".join(f"{name} {value}" for name, value in data.preprocessing.items())),
        ("Resolution", _resolution(results)),
        ("Reference", f"{results.baseline.artifact} on {title_of(results.baseline.runner)}"),
        (
            "Plan",
            f"{plan.thoroughness.value}: {plan.restarts} fresh processes, each with {plan.pairs} pairs of "
            f"blocks of at least {plan.block.duration_ns / 1e6:.0f} ms and {plan.block.count} inferences",
        ),
    )


def _resolution(results: Results) -> str:
    """The smallest difference of top-1 that so many pictures could show."""
    count = results.data.evaluated
    if all(row.accuracy is None or row.accuracy.resolvable is None for row in results.results):
        return f"{count} pictures without labels of the model: agreement only"
    points = 100 * resolvable_share(count, 0)
    return f"{count} pictures cannot show a difference of top-1 below {points:.2g} points (McNemar, p < 0.05)"


def reproduce(results: Results) -> Section:
    """Command lines that measure the same again, write this report, and compare two runs."""
    return Section(
        "reproduce",
        "How to reproduce",
        text=("DIR is the folder with manifest.json and results.json.",),
        commands=(
            ("Measure again", benchmark_command(results)),
            ("Write this report again", "edgepress report DIR"),
            ("Compare with another run", "edgepress compare DIR OTHER"),
        ),
    )


def benchmark_command(results: Results) -> str:
    """What measures the same again."""
    asked, threads = results.asked, next((row.threads for row in results.results), None)
    options: dict[str, Sequence[object]] = {
        "--device": (asked.device.value,),
        "--data": (results.data.source,),
        "--host": (results.environment.host,),
        "--variant": asked.variants or (),
        "--runner": asked.runners or (),
        "--offline": asked.offline,
        "--threads": (threads,),
        "--limit": (asked.limit,),
        "--seed": (asked.seed,),
    }
    words = ["edgepress", "benchmark", "DIR"]
    for name, values in options.items():
        given = [str(value) for value in values if value is not None]
        words += [name, *given] if given else []
    if results.plan.thoroughness is Thoroughness.QUICK:
        words.append("--quick")
    return shlex.join([*words, "--again"])
