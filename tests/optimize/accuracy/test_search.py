"""The search on costs that are known."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from optimize.accuracy.cost import AccuracyCost
from optimize.accuracy.search import Candidate, Ladder, Stage, ranking, search_layers

IMAGES = 10_000


def cost_of(points: float) -> AccuracyCost:
    return AccuracyCost(IMAGES, True, 1.0, None, round(points * IMAGES / 100), 0, 0.9, 0.9, 1.0)


def layers(**noise: float) -> list[Candidate]:
    """Layers of equal size."""
    return [Candidate(name, 100, 100, value) for name, value in noise.items()]


def found_in(
    candidates: list[Candidate],
    budget: float,
    drop_of: Callable[[frozenset[str]], float] | None = None,
    **more: int,
) -> tuple[Ladder, list[frozenset[str]]]:
    """A search in which each layer costs its noise in points, unless said otherwise."""
    noise = {candidate.name: candidate.noise for candidate in candidates}
    asked: list[frozenset[str]] = []

    def evaluate(kept: frozenset[str]) -> AccuracyCost:
        asked.append(kept)
        return cost_of(sum(noise[name] for name in kept) if drop_of is None else drop_of(kept))

    ladder = search_layers(
        candidates,
        lambda: ranking(candidates),
        evaluate,
        lambda cost: cost.drop_points <= budget,
        **more,
    )
    return ladder, asked


def test_search_keeps_everything_that_fits_with_one_evaluation() -> None:
    ladder, asked = found_in(layers(a=0.1, b=0.1), 0.5)
    assert len(asked) == 1
    assert ladder.best is not None
    assert ladder.best.float_layers == ()
    assert (ladder.best.macs_share, ladder.best.bytes_share, ladder.best.stage) == (1, 1, Stage.EVERYTHING)


@pytest.mark.parametrize("spoilt", range(16))
def test_search_leaves_exactly_the_spoilt_layer_in_float(spoilt: int) -> None:
    noise = {f"layer{i}": 5.0 if i == spoilt else 0.01 for i in range(16)}
    ladder, asked = found_in(layers(**noise), 0.5)
    assert ladder.best is not None
    assert ladder.best.float_layers == (f"layer{spoilt}",)
    assert ladder.best.macs_share == pytest.approx(15 / 16)
    assert len(asked) <= 6
    assert not ladder.tries[0].fits


def test_search_brings_a_large_layer_back_that_the_ranking_took_out() -> None:
    """`middle` is noisier per share than `calm`, so it goes to float with `worst`, and need not."""
    candidates = [
        Candidate("worst", 10, 10, 3.0),
        Candidate("middle", 50, 50, 0.3),
        Candidate("calm", 40, 40, 0.2),
    ]
    noise = {c.name: c.noise for c in candidates}
    wrong_order = ["middle", "worst", "calm"]
    ladder = search_layers(
        candidates,
        lambda: wrong_order,
        lambda kept: cost_of(sum(noise[name] for name in kept)),
        lambda cost: cost.drop_points <= 0.5,
    )
    assert ladder.best is not None
    assert ladder.best.float_layers == ("worst",)
    assert ladder.best.stage is Stage.ONE_BACK
    assert ladder.best.macs_share == pytest.approx(0.9)


def test_search_prefers_the_share_and_not_the_number_of_layers() -> None:
    candidates = [
        Candidate("large", 900, 900, 0.4),
        *(Candidate(f"small{i}", 25, 25, 0.3) for i in range(4)),
    ]
    ladder, _ = found_in(candidates, 0.5)
    assert ladder.best is not None
    assert "large" not in ladder.best.float_layers


def test_search_says_that_nothing_fits() -> None:
    ladder, _ = found_in(layers(a=2.0, b=3.0, c=4.0), 0.5)
    assert ladder.chosen is None
    assert ladder.best is None
    assert all(not found.fits for found in ladder.tries)


def test_search_asks_for_no_set_twice_and_for_nothing_above_a_rejected_one() -> None:
    noise = {f"layer{i:02}": 0.05 + 0.01 * (i * 7 % 16) for i in range(16)}
    ladder, asked = found_in(layers(**noise), 0.9)
    assert ladder.best is not None
    assert len(set(asked)) == len(asked) <= 24
    rejected: list[frozenset[str]] = []
    for kept, found in zip(asked, ladder.tries, strict=True):
        assert not any(other <= kept for other in rejected)
        if not found.fits:
            rejected.append(kept)


def test_search_keeps_to_its_number_of_tries() -> None:
    noise = {f"layer{i:02}": 0.05 + 0.01 * (i * 7 % 16) for i in range(16)}
    _, asked = found_in(layers(**noise), 0.5, most_tries=3)
    assert len(asked) == 3
    _, asked = found_in(layers(**noise), 0.5, most_tries=1)
    assert len(asked) == 1


def test_search_does_not_rank_where_everything_fits_or_nothing_else_may_be_tried() -> None:
    def refuse() -> list[str]:
        raise AssertionError("ranked")

    candidates = layers(a=1.0, b=1.0)
    search_layers(candidates, refuse, lambda kept: cost_of(2.0), lambda cost: True)
    search_layers(candidates, refuse, lambda kept: cost_of(2.0), lambda cost: False, most_tries=1)


@pytest.mark.parametrize("seed", range(10))
def test_search_comes_near_the_best_mix(seed: int) -> None:
    """Against all mixes, on additive costs of ten random layers."""
    draw = np.random.default_rng(seed)
    candidates = [
        Candidate(f"layer{i}", int(draw.integers(1, 1000)), int(draw.integers(1, 1000)), draw.exponential())
        for i in range(10)
    ]
    budget = 0.5 * sum(candidate.noise for candidate in candidates)
    ladder, asked = found_in(candidates, budget)
    assert ladder.best is not None
    macs, size = sum(c.macs for c in candidates), sum(c.weight_bytes for c in candidates)
    best = max(
        sum(c.macs / macs + c.weight_bytes / size for c in kept) / 2
        for count in range(11)
        for kept in itertools.combinations(candidates, count)
        if sum(c.noise for c in kept) <= budget
    )
    share = (ladder.best.macs_share + ladder.best.bytes_share) / 2
    assert best >= share - 1e-9
    assert share > 0.85 * best
    assert len(asked) < 15
    assert ladder.best.cost.drop_points <= budget


def test_ranking_is_by_noise_per_share() -> None:
    candidates = [
        Candidate("quiet", 100, 100, 0.001),
        Candidate("small", 1, 1, 0.5),
        Candidate("large", 500, 500, 1.0),
        Candidate("empty", 0, 0, 0.0),
    ]
    assert ranking(candidates) == ["small", "large", "quiet", "empty"]
