"""From the nodes that a profiler timed to shares per place and precision."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from benchmark.quantities import Profile
from edgepress.runners.runner import LayerTime

UNKNOWN = "unknown"


def profile_of(layers: tuple[LayerTime, ...], runs: int) -> Profile:
    """Summarize the nodes of one artifact.

    Args:
        layers: In the order of execution, at least one.
        runs: Inferences that were profiled.
    """
    return Profile(
        runs,
        layers,
        _shares((layer.place, layer.duration_ns) for layer in layers),
        dict(Counter(layer.place for layer in layers)),
        _shares(
            (layer.precision.value if layer.precision else UNKNOWN, layer.duration_ns) for layer in layers
        ),
    )


def _shares(amounts: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Share in [0, 1] of each name, the largest first."""
    totals: defaultdict[str, float] = defaultdict(float)
    for name, amount in amounts:
        totals[name] += amount
    whole = sum(totals.values())
    ordered = sorted(totals.items(), key=lambda pair: -pair[1])
    return {name: total / whole if whole else 0.0 for name, total in ordered}
