"""All sections of a report, in their order; those with nothing to tell are left out."""

from benchmark.measurement import Results
from benchmark.report.decisions import decisions
from benchmark.report.environment import environment, method, preflight, reproduce
from benchmark.report.gpu import gpu
from benchmark.report.layers import layers, what_ran
from benchmark.report.measured import absent, latencies, measured
from benchmark.report.memory import memory
from benchmark.report.pareto import front_in_words
from benchmark.report.parts import Section
from benchmark.report.roofline import roofline
from benchmark.report.throughput import throughput

TRADE_OFF, DISTRIBUTIONS, OFFLINE, ROOFLINE = "trade-off", "distributions", "offline", "roofline"
"""Sections that have a plot."""


def title(results: Results) -> str:
    """Of the whole report."""
    return f"{results.model.name}, pressed for the edge"


def sections(results: Results) -> tuple[Section, ...]:
    """What a report tells after the summary."""
    found = (
        measured(results),
        Section(TRADE_OFF, "Latency, accuracy and size", text=front_in_words(results)),
        latencies(results),
        throughput(results),
        memory(results),
        gpu(results),
        roofline(results),
        what_ran(results),
        layers(results),
        decisions(results),
        absent(results),
        preflight(results),
        method(),
        environment(results),
        reproduce(results),
    )
    return tuple(section for section in found if not section.is_empty)
