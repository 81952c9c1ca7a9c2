"""Which tensor takes its range from where: what a graph says about it, whatever its format."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """An operator as calibration sees it.

    Attributes:
        inputs: Names of the activations that it reads, the data first; constants are left out.
        outputs: Names of what it makes.
        moves: It only selects or moves values of its first input.
        is_affine: It scales, shifts, casts or joins what it reads, and all else that it reads is constant.
        clips: A Relu or the like: what it reads needs no integers of its own, since the two fuse.
        scores: It turns logits into probabilities.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    moves: bool = False
    is_affine: bool = False
    clips: bool = False
    scores: bool = False


@dataclass(frozen=True)
class QuantizedTensors:
    """How the activations of a graph get their ranges.

    Attributes:
        source: Activation → the one whose range it takes; itself where it holds new values.
        clippable: The sources that a method may clip: new values that get quantized. Not among them are

            - what only a Relu reads;
            - the pictures themselves, before the first layer: the range of pixels is known, each value of it
              is usual, and there is no tail to clip;
            - the outputs of the graph, logits under probabilities included: the largest logit is the answer,
              and clipping would make the best classes equal.
    """

    source: Mapping[str, str]
    clippable: frozenset[str]


def quantized_tensors(
    operations: Iterable[Operation], inputs: Iterable[str], outputs: Iterable[str]
) -> QuantizedTensors:
    """Trace each activation to where its values come from.

    Args:
        operations: In order of execution.
        inputs: Of the graph.
        outputs: Of the graph.
    """
    operations, inputs, outputs = list(operations), list(inputs), list(outputs)
    source = dict(_sources(operations, inputs))
    pictures, fused = _pictures(operations, inputs), _before_clipping(operations, outputs)
    kept = {source[name] for name in (*pictures, *outputs) if name in source}
    for operation in operations:
        if operation.scores and kept.intersection(operation.outputs):
            kept.update(source[name] for name in operation.inputs)
    clippable = frozenset(name for name in source.values() if name not in kept and name not in fused)
    return QuantizedTensors(source, clippable)


def _sources(operations: list[Operation], inputs: list[str]) -> Iterator[tuple[str, str]]:
    known = {name: name for name in inputs}
    for operation in operations:
        origin = known.get(operation.inputs[0]) if operation.moves and operation.inputs else None
        known.update((name, origin or name) for name in operation.outputs)
    yield from known.items()


def _pictures(operations: list[Operation], inputs: list[str]) -> set[str]:
    found = set(inputs)
    for operation in operations:
        if (
            (operation.moves or operation.is_affine)
            and operation.inputs
            and found.issuperset(operation.inputs)
        ):
            found.update(operation.outputs)
    return found


def _before_clipping(operations: list[Operation], outputs: list[str]) -> set[str]:
    readers: dict[str, list[Operation]] = {}
    for operation in operations:
        for name in operation.inputs:
            readers.setdefault(name, []).append(operation)
    return {name for name, by in readers.items() if len(by) == 1 and by[0].clips and name not in outputs}
