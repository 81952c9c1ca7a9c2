"""budget.json and budget.md: what was allowed, all that was tried, and what came of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edgepress.files import write_bytes, write_json
from edgepress.record import read_record, to_json
from optimize.accuracy.cost import drop_bound, images_needed
from optimize.accuracy.search import Ladder, Try

BUDGET = "budget.json"
BUDGET_PAGE = "budget.md"
SCHEMA_VERSION = 1
_SHOWN_LAYERS = 4


class Arithmetic(str, Enum):
    """How the versions were computed when they were judged."""

    KERNELS = "ONNX Runtime's kernels"
    EMULATED = "Q/DQ emulated in float"
    LITERT = "LiteRT's kernels"


@dataclass(frozen=True)
class Budget:
    """What quantization may cost.

    Attributes:
        max_drop_points: Largest drop of top-1 against FP32, in percentage points; ≥ 0.
        strict: Whether the 95 % bound of the drop must be within it, too, and not only the measured drop.
    """

    max_drop_points: float
    strict: bool = False


@dataclass(frozen=True)
class BudgetOutcome:
    """What became of one recipe.

    Attributes:
        recipe: Its name.
        artifact: Id of its artifact with all layers in INT8.
        key: Hash of everything that the outcome depends on.
        budget: What was allowed.
        data: DATA that was judged on.
        images: Number of pictures; none of them calibrated.
        labelled: Whether they have labels. Without, every changed decision counts as a loss.
        note: Why there are none.
        arithmetic: How the versions were computed.
        layer_names: The layers that the recipe quantizes, in the order of the graph.
        ladder: All tries.
    """

    recipe: str
    artifact: str
    key: str
    budget: Budget
    data: str
    images: int
    labelled: bool
    note: str | None
    arithmetic: Arithmetic
    layer_names: tuple[str, ...]
    ladder: Ladder

    @property
    def layer_count(self) -> int:
        """Number of layers that the recipe quantizes."""
        return len(self.layer_names)

    @property
    def passed(self) -> bool:
        """Whether a version is within the budget."""
        return self.ladder.chosen is not None

    @property
    def float_layers(self) -> tuple[str, ...]:
        """What the chosen version leaves in float."""
        return () if self.ladder.best is None else self.ladder.best.float_layers

    @property
    def layers(self) -> frozenset[str] | None:
        """The layers that the chosen version has in INT8; None for all."""
        if not self.float_layers:
            return None
        return frozenset(self.layer_names) - set(self.float_layers)

    @property
    def shown_by(self) -> int | None:
        """How many pictures it would take until the bound is within the budget, if the rates stay as seen.

        None if the measured drop itself is not below the budget.
        """
        return self.nearest.cost.images_needed(self.budget.max_drop_points)

    @property
    def nearest(self) -> Try:
        """The chosen try, or the one with the smallest drop."""
        best = self.ladder.best
        return best or min(self.ladder.tries, key=lambda found: found.cost.drop_points)

    @property
    def least_images(self) -> int | None:
        """How many pictures it takes at the least, if no answer changes."""
        return images_needed(0, 0, self.budget.max_drop_points / 100)

    @property
    def lacks_images(self) -> bool:
        """Whether so few pictures cannot show the budget by the bound, even if no answer changes."""
        return 100 * drop_bound(0, 0, self.images) > self.budget.max_drop_points

    @property
    def sentence(self) -> str:
        """The outcome in one line."""
        found = self.nearest
        verdict = "within" if self.passed else "NOT within"
        limit = f"{'--strict ' if self.budget.strict else ''}--max-drop {self.budget.max_drop_points:g}"
        drop = f"{self.quantity} {found.cost.drop_points:+.2f} points"
        return (
            f"{self.recipe}: {self._mix(found)}: {drop} (95 % bound {found.cost.bound_points:+.2f}) on "
            f"{self.images} pictures, {verdict} {limit}{self._resolution()}"
        )

    @property
    def quantity(self) -> str:
        """What the drop is a drop of."""
        return "top-1 drop" if self.labelled else "no labels, changed decisions"

    @property
    def failure(self) -> str:
        """Why no version is within the budget, and what to do; one line."""
        if self.budget.strict and self.lacks_images:
            needed = f"at least {self.least_images}" if self.least_images else "an endless number"
            return (
                f"{self.recipe}: not enough images: --strict with --max-drop "
                f"{self.budget.max_drop_points:g} takes {needed} (if no answer changes), got {self.images}. "
                "Give more --budget-images, or leave --strict out."
            )
        return (
            f"{self.sentence}. Allow more, calibrate with more --samples, or use an FP16 recipe. "
            f"{BUDGET_PAGE} has all {len(self.ladder.tries)} tries."
        )

    def _mix(self, found: Try) -> str:
        if not found.float_layers:
            return f"all {self.layer_count} layers in INT8"
        kept = self.layer_count - len(found.float_layers)
        return (
            f"{kept} of {self.layer_count} layers in INT8 ({found.macs_share:.1%} of the MACs, "
            f"{found.bytes_share:.1%} of the bytes; in float: {shortened(found.float_layers)})"
        )

    def _resolution(self) -> str:
        if self.nearest.cost.bound_points <= self.budget.max_drop_points:
            return ""
        if self.shown_by is None:
            return ""
        return f"; to show that by the bound takes about {self.shown_by} pictures at these rates"


def shortened(names: tuple[str, ...]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _SHOWN_LAYERS
    return ", ".join(names[:_SHOWN_LAYERS]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class BudgetReport:
    """What budget.json says.

    Attributes:
        schema_version: Of this file.
        outcomes: One per recipe.
    """

    schema_version: int
    outcomes: tuple[BudgetOutcome, ...]

    def save(self, folder: Path) -> None:
        """Write budget.json and budget.md, each atomically."""
        write_json(folder / BUDGET, to_json(self))
        write_bytes(folder / BUDGET_PAGE, ("\n".join(budget_page(self.outcomes)) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> "BudgetReport":
        """Read `folder`/budget.json.

        Raises:
            InputError: There is none, or it is of another schema version or damaged.
        """
        return read_record(folder / BUDGET, cls, "accuracy budget", SCHEMA_VERSION, "Remove it.")


def budget_page(outcomes: Iterable[BudgetOutcome]) -> Iterator[str]:
    """budget.md, line by line."""
    yield "# Accuracy budget"
    for outcome in outcomes:
        budget = outcome.budget
        rule = "the 95 % bound of the drop" if budget.strict else "the measured drop"
        yield from ("", f"## {outcome.recipe}", "", f"{outcome.sentence}.", "")
        yield (
            f"Allowed: {budget.max_drop_points:g} points, judged by {rule}, on {outcome.images} pictures of "
            f"{outcome.data} that did not calibrate; computed with {outcome.arithmetic.value}. "
            f"{_told(outcome)}The bound is the upper end of Tango's score interval (1998), one-sided."
        )
        yield from ("", "| try | why | INT8 layers | MACs | bytes | drop | bound | agreement | SNR | p | |")
        yield f"|{'---|' * 11}"
        for number, found in enumerate(outcome.ladder.tries, 1):
            yield f"| {number} | {' | '.join(_cells(outcome, number - 1, found))} |"
        for number, found in enumerate(outcome.ladder.tries, 1):
            if found.float_layers:
                yield from ("", f"Try {number} in float: {', '.join(found.float_layers)}")


def _told(outcome: BudgetOutcome) -> str:
    if outcome.labelled:
        return ""
    return f"The drop is the share of changed decisions ({outcome.note}). "


def _cells(outcome: BudgetOutcome, index: int, found: Try) -> tuple[str, ...]:
    cost = found.cost
    accepted = "**chosen**" if index == outcome.ladder.chosen else "fits" if found.fits else "rejected"
    return (
        found.stage.value,
        f"{outcome.layer_count - len(found.float_layers)} of {outcome.layer_count}",
        f"{found.macs_share:.1%}",
        f"{found.bytes_share:.1%}",
        f"{cost.drop_points:+.2f} (−{cost.lost} +{cost.won})",
        f"{cost.bound_points:+.2f}",
        f"{cost.agreement:.1%}",
        "–" if cost.logit_snr_db is None else f"{cost.logit_snr_db:.1f} dB",
        "–" if cost.mcnemar_p is None else f"{cost.mcnemar_p:.2g}",
        accepted,
    )
