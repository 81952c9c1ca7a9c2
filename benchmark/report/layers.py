"""What really ran: by place and precision, and node by node."""

from benchmark.measurement import RESULTS, Result, Results
from benchmark.quantities import Profile
from benchmark.report.measured import ran
from benchmark.report.number_text import ABSENT, milliseconds, shares
from benchmark.report.parts import NOTES, Bar, Chart, Fold, Section, Table
from edgepress.runners.runner import LayerTime, title_of

_RAN_HEADERS = (
    "Variant",
    "Runner",
    "Where, by time",
    "Precision, by time",
    "Precision, by MAC",
    "In the runner's words",
    NOTES,
)
_NODE_HEADERS = ("Step", "Node", "Operator", "Place", "Precision", "ms", "Share %")
_SLOWEST = 20
_BRIEF = 10


def what_ran(results: Results) -> Section:
    """A row for each version: where and in which precision it spent its time, beside what its file says."""
    rows = ran(results)
    notes = tuple(dict.fromkeys(row.profile_note for row in rows if row.profile_note))
    return Section(
        "what-ran",
        "What ran",
        tables=(
            Table(
                "By the runtime's own profiler, in a pass of its own; beside it the multiply-accumulates "
                "(MAC) by the file.",
                _RAN_HEADERS,
                tuple(_ran_cells(row, notes) for row in rows),
                frozenset(),
                notes,
            ),
        ),
    )


def _ran_cells(row: Result, notes: tuple[str, ...]) -> tuple[str, ...]:
    profile = row.profile
    return (
        row.artifact,
        title_of(row.runner),
        _places(profile) if profile else ABSENT,
        shares(dict(profile.precision_time_shares)) if profile else ABSENT,
        shares(dict(row.shares.macs)) if row.shares else ABSENT,
        row.evidence or ABSENT,
        str(notes.index(row.profile_note) + 1) if row.profile_note else "",
    )


def _places(profile: Profile) -> str:
    times, nodes = profile.place_time_shares, profile.place_nodes
    return ", ".join(f"{shares({place: times[place]})} ({nodes.get(place, 0)} nodes)" for place in times)


def layers(results: Results) -> Section:
    """A fold for each version that was profiled."""
    found = [(row, row.profile) for row in ran(results) if row.profile is not None and row.profile.layers]
    return Section(
        "layers",
        "Time per layer",
        text=("A profiled run is slower than a measured one: read the shares, not the milliseconds.",)
        if found
        else (),
        folds=tuple(_fold(row, profile) for row, profile in found),
    )


def _fold(row: Result, profile: Profile) -> Fold:
    total_ns = sum(layer.duration_ns for layer in profile.layers)
    steps = list(enumerate(profile.layers, 1))
    slowest = sorted(steps, key=lambda step: -step[1].duration_ns)
    name = f"{row.artifact} on {title_of(row.runner)}"
    more = len(steps) - _BRIEF
    return Fold(
        f"{name}: {len(steps)} nodes, {milliseconds(total_ns)} ms in all",
        (_nodes(f"{name}: every node in the order of execution.", steps, total_ns),),
        _chart(name, slowest[:_SLOWEST], len(steps), total_ns),
        (
            _nodes(
                f"{name}: the slowest nodes.",
                slowest[:_BRIEF],
                total_ns,
                (f"and {more} more in {RESULTS}",) if more > 0 else (),
            ),
        ),
    )


def _nodes(
    caption: str, steps: list[tuple[int, LayerTime]], total_ns: float, notes: tuple[str, ...] = ()
) -> Table:
    return Table(
        caption,
        _NODE_HEADERS,
        tuple(
            (
                str(step),
                layer.name,
                layer.operator,
                layer.place,
                layer.precision.value if layer.precision else ABSENT,
                milliseconds(layer.duration_ns),
                _share(layer, total_ns),
            )
            for step, layer in steps
        ),
        frozenset({"Step", "ms", "Share %"}),
        notes,
    )


def _chart(name: str, slowest: list[tuple[int, LayerTime]], count: int, total_ns: float) -> Chart:
    longest_ns = max((layer.duration_ns for _, layer in slowest), default=0.0)
    which = f"the slowest {len(slowest)} of {count} nodes" if len(slowest) < count else f"all {count} nodes"
    return Chart(
        f"{name}: {which}",
        tuple(
            Bar(
                f"{step} {layer.operator} {layer.name}",
                layer.duration_ns / longest_ns if longest_ns else 0.0,
                f"{milliseconds(layer.duration_ns)} ms, {_share(layer, total_ns)} %",
            )
            for step, layer in slowest
        ),
    )


def _share(layer: LayerTime, total_ns: float) -> str:
    return f"{100 * layer.duration_ns / total_ns:.1f}" if total_ns else ABSENT
