"""Which layers stay in INT8 so that the accuracy is within a budget: a pure search with few evaluations.

1. All layers in INT8. If that fits, it stays.
2. Layers are ranked by noise per share: the noise power that quantizing a layer alone leaves in the logits,
   over the share of MACs and bytes that INT8 gains by it. By bisection the fewest first layers of the
   ranking that go to float are found.
3. Layers are brought back one by one, the largest share first, as long as the result fits.

What only adds layers to a set that did not fit is not tried: noise adds up. So the result is a set that was
measured to fit, not in every case the best one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from optimize.accuracy.cost import AccuracyCost

Layers = frozenset[str]
Evaluate = Callable[[Layers], AccuracyCost]
Fits = Callable[[AccuracyCost], bool]

MOST_TRIES = 24


@dataclass(frozen=True)
class Candidate:
    """A layer that INT8 may gain something by.

    Attributes:
        name: As the graph has it.
        macs: Multiply-accumulates for one picture.
        weight_bytes: Size of its weights in FP32.
        noise: Noise power over signal power in the logits if it alone is quantized; ≥ 0.
    """

    name: str
    macs: int
    weight_bytes: int
    noise: float


class Stage(str, Enum):
    """Why a set of layers was tried."""

    EVERYTHING = "everything"
    BISECTION = "bisection"
    ONE_BACK = "one back"


@dataclass(frozen=True)
class Try:
    """One evaluated set of layers.

    Attributes:
        stage: Why it was tried.
        float_layers: What it leaves in float, in the order of the graph.
        macs_share: Share in [0, 1] of the MACs that are in INT8.
        bytes_share: Share in [0, 1] of the bytes of the weights that are.
        cost: As measured.
        fits: Whether that is within the budget.
    """

    stage: Stage
    float_layers: tuple[str, ...]
    macs_share: float
    bytes_share: float
    cost: AccuracyCost
    fits: bool


@dataclass(frozen=True)
class Ladder:
    """All tries of a search, in order.

    Attributes:
        tries: Rejected ones included.
        chosen: Index of the best one that fits; None if none does.
    """

    tries: tuple[Try, ...]
    chosen: int | None

    @property
    def best(self) -> Try | None:
        """The chosen try."""
        return None if self.chosen is None else self.tries[self.chosen]


def search_layers(
    candidates: Sequence[Candidate],
    rank: Callable[[], Sequence[str]],
    evaluate: Evaluate,
    fits: Fits,
    most_tries: int = MOST_TRIES,
) -> Ladder:
    """Find the layers that stay in INT8.

    Args:
        candidates: In the order of the graph; at least one.
        rank: Gives all names, those that are to go to float first at the beginning (see `ranking`). It is
            called only if not everything fits.
        evaluate: Measures a set of layers in INT8; each set is asked for once.
        fits: Whether that is within the budget.
        most_tries: Bound of the number of evaluations; ≥ 1.
    """
    search = _Search(candidates, evaluate, fits, most_tries)
    everything = frozenset(candidate.name for candidate in candidates)
    if not search.try_out(everything, Stage.EVERYTHING) and most_tries > 1:
        order = list(rank())
        kept = search.bisect(order)
        search.bring_back(kept, [name for name in order if name not in kept])
    return search.ladder()


def ranking(candidates: Sequence[Candidate]) -> list[str]:
    """Names by noise per share of MACs and bytes, the noisiest first; equal ones as they come."""
    shares = _shares(candidates)
    return sorted(
        (candidate.name for candidate in candidates),
        key=lambda name: -_ratio(next(c.noise for c in candidates if c.name == name), shares[name]),
    )


def _ratio(noise: float, share: float) -> float:
    if share > 0:
        return noise / share
    return math.inf if noise > 0 else 0.0


def _shares(candidates: Sequence[Candidate]) -> dict[str, float]:
    """What each layer brings: the mean of its shares of MACs and of bytes."""
    macs = sum(candidate.macs for candidate in candidates) or 1
    size = sum(candidate.weight_bytes for candidate in candidates) or 1
    return {c.name: (c.macs / macs + c.weight_bytes / size) / 2 for c in candidates}


class _Search:
    """Evaluates sets of layers once each, and keeps the record."""

    def __init__(
        self, candidates: Sequence[Candidate], evaluate: Evaluate, fits: Fits, most_tries: int
    ) -> None:
        self._candidates = candidates
        self._shares = _shares(candidates)
        self._evaluate = evaluate
        self._fits = fits
        self._left = most_tries
        self._tries: list[Try] = []
        self._sets: list[Layers] = []

    def try_out(self, kept: Layers, stage: Stage) -> bool:
        """Evaluate a set of layers; a set that holds one which did not fit does not fit either."""
        if kept in self._sets:
            return self._tries[self._sets.index(kept)].fits
        if self._is_hopeless(kept) or self._left <= 0:
            return False
        self._left -= 1
        cost = self._evaluate(kept)
        self._sets.append(kept)
        self._tries.append(self._record(kept, stage, cost))
        return self._tries[-1].fits

    def bisect(self, order: list[str]) -> Layers:
        """The largest end of the ranking that fits; the empty set if none does."""
        low, high = 0, len(order)  # float: the first `low` do not fit, the first `high` do
        while high - low > 1:
            middle = (low + high) // 2
            if self.try_out(frozenset(order[middle:]), Stage.BISECTION):
                high = middle
            else:
                low = middle
        return frozenset(order[high:])

    def bring_back(self, kept: Layers, left_out: list[str]) -> None:
        """Add each left-out layer, the largest share first, as long as it fits."""
        for name in sorted(left_out, key=lambda layer: -self._shares[layer]):
            if self.try_out(kept | {name}, Stage.ONE_BACK):
                kept |= {name}

    def ladder(self) -> Ladder:
        """The record; chosen is the fitting try with the largest share, the first of equal ones."""
        fitting = [i for i, found in enumerate(self._tries) if found.fits]
        best = max(fitting, key=lambda i: self._share(self._sets[i]), default=None)
        return Ladder(tuple(self._tries), best)

    def _is_hopeless(self, kept: Layers) -> bool:
        return any(
            not found.fits and tried <= kept for tried, found in zip(self._sets, self._tries, strict=True)
        )

    def _share(self, kept: Layers) -> float:
        return sum(self._shares[name] for name in kept)

    def _record(self, kept: Layers, stage: Stage, cost: AccuracyCost) -> Try:
        macs = sum(c.macs for c in self._candidates)
        size = sum(c.weight_bytes for c in self._candidates)
        return Try(
            stage,
            tuple(c.name for c in self._candidates if c.name not in kept),
            sum(c.macs for c in self._candidates if c.name in kept) / (macs or 1),
            sum(c.weight_bytes for c in self._candidates if c.name in kept) / (size or 1),
            cost,
            self._fits(cost),
        )
