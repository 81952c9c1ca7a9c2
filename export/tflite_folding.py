"""Clean-up of a converted TFLite graph whose kernels are still graph inputs.

What depends on kernels alone is a view of them here; what is left is the network, named after its layers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgepress.errors import ProofError
from export.conversion import IMAGES, Array, ReadWeight
from export.tflite_file import builtin_name
from export.tflite_names import NO_TENSOR, Layers, name_after_layers

_ON_KERNELS = frozenset({"TRANSPOSE", "RESHAPE"})


@dataclass(frozen=True)
class Kernel:
    """A weight.

    Attributes:
        layer: Path of the layer that it is of.
        read: Gives its value as the graph has it.
    """

    layer: str
    read: ReadWeight


@dataclass(frozen=True)
class FoldedTflite:
    """A TFLite model without its large values.

    Attributes:
        model: `ModelT`. The tensors that hold kernels have buffers without data.
        values: Reads what such a buffer holds, by its index.
    """

    model: Any
    values: Mapping[int, ReadWeight]


def fold_tflite(
    content: bytes,
    weights: Mapping[str, Kernel],
    outputs: Sequence[str],
    layers: Sequence[str],
    folded: Mapping[str, str],
) -> FoldedTflite:
    """Turn graph inputs into constants and clean the graph.

    Args:
        content: A TFLite file of one graph whose signature has `images` and all of `weights` as inputs.
        weights: What each other input stands for. Read here for its shape alone.
        outputs: Names in the signature, in the order that the file shall have.
        layers: Paths of the network's layers ("outer/inner") in the order of execution.
        folded: Path of a layer → path of the layer folded into it.

    Raises:
        ProofError: An operation on weights alone cannot be computed here.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    kernels = {
        mapping.tensorIndex: weights[mapping.name.decode()]
        for mapping in signature.inputs
        if mapping.name.decode() in weights
    }
    _compute_constants(model, kernels)
    _absorb_channel_order(model, kernels)
    _arrange_interface(graph, signature, outputs)
    of_kernels = {index: kernel.layer for index, kernel in kernels.items()}
    name_after_layers(model, Layers(layers, folded), of_kernels, outputs)
    _set_metadata(model)
    return FoldedTflite(model, _compact(model, kernels))


def _name_of(model: Any, operator: Any) -> str:
    return builtin_name(model.operatorCodes[operator.opcodeIndex])


def _constant(model: Any, index: int, dtype: type[np.generic]) -> Array | None:
    """Values of a small constant; None where the tensor is computed."""
    data = model.buffers[model.subgraphs[0].tensors[index].buffer].data
    return None if data is None else np.asarray(data, np.uint8).view(dtype)


def _compute_constants(model: Any, kernels: dict[int, Kernel]) -> None:
    """Take out the operations on kernels alone; their results become entries of `kernels`."""
    graph = model.subgraphs[0]
    left = []
    for operator in graph.operators:
        name, source = _name_of(model, operator), operator.inputs[0]
        if name not in _ON_KERNELS or source not in kernels:
            left.append(operator)
            continue
        argument = _constant(model, operator.inputs[1], np.int32)
        if argument is None:
            made = graph.tensors[operator.outputs[0]].name.decode()
            raise ProofError(
                f"The operation {name} ({made}) works on weights alone and cannot be computed ahead. "
                "Leave TFLite out with --format."
            )
        read = _rearranged(name, kernels[source].read, tuple(argument.tolist()))
        kernels[operator.outputs[0]] = replace(kernels[source], read=read)
    graph.operators = left


def _rearranged(operation: str, read: ReadWeight, argument: tuple[int, ...]) -> ReadWeight:
    if operation == "TRANSPOSE":
        return lambda: read().transpose(argument)
    return lambda: read().reshape(argument)


def _absorb_channel_order(model: Any, kernels: dict[int, Kernel]) -> None:
    """Bring a new order of the channels (RGB to BGR) into the kernel of the convolution behind it."""
    graph = model.subgraphs[0]
    uses = Counter(index for operator in graph.operators for index in operator.inputs)
    uses.update(graph.outputs)
    takers = {index: operator for operator in graph.operators for index in operator.inputs[:1]}
    for gather in [operator for operator in graph.operators if _name_of(model, operator) == "GATHER"]:
        order = _constant(model, gather.inputs[1], np.int32)
        result = gather.outputs[0]
        rank = len(graph.tensors[result].shape)
        if order is None or gather.builtinOptions.axis not in {-1, rank - 1}:
            continue
        path = []
        while uses[result] == 1 and result in takers:
            path.append(takers[result])
            if not _keeps_channels(model, path[-1]):
                break
            result = path[-1].outputs[0]
        if not path or _name_of(model, path[-1]) != "CONV_2D" or path[-1].inputs[1] not in kernels:
            continue
        kernel = path[-1].inputs[1]
        if uses[kernel] != 1 or sorted(order) != list(range(graph.tensors[kernel].shape[-1])):
            continue
        reordered = _with_inputs_reordered(kernels[kernel].read, np.argsort(order))
        kernels[kernel] = replace(kernels[kernel], read=reordered)
        path[0].inputs = np.asarray([gather.inputs[0], *path[0].inputs[1:]], np.int32)
        graph.operators.remove(gather)


def _keeps_channels(model: Any, operator: Any) -> bool:
    """Whether it is a padding of rows and columns only."""
    if _name_of(model, operator) not in {"PAD", "PADV2"}:
        return False
    paddings = _constant(model, operator.inputs[1], np.int32)
    return paddings is not None and not paddings.reshape(-1, 2)[-1].any()


def _with_inputs_reordered(read: ReadWeight, order: Array) -> ReadWeight:
    return lambda: read()[..., order]


def _arrange_interface(graph: Any, signature: Any, outputs: Sequence[str]) -> None:
    """Pictures alone go in, and what comes out is in the wanted order."""
    signature.inputs = [mapping for mapping in signature.inputs if mapping.name.decode() == IMAGES]
    signature.outputs = sorted(
        signature.outputs, key=lambda mapping: list(outputs).index(mapping.name.decode())
    )
    graph.inputs = [mapping.tensorIndex for mapping in signature.inputs]
    graph.outputs = [mapping.tensorIndex for mapping in signature.outputs]


def _set_metadata(model: Any) -> None:
    """Keep what a runtime reads; what is left of the converter would tell of its versions and options."""
    model.description = b"edgepress"
    model.metadata = [entry for entry in model.metadata or () if entry.name == b"min_runtime_version"]


def _compact(model: Any, kernels: Mapping[int, Kernel]) -> Mapping[int, ReadWeight]:
    """Drop what nothing refers to, number the rest by its first use, and give each kernel a buffer.

    The converter's own numbers follow a hash table of the inputs.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    used = [*graph.inputs]
    for operator in graph.operators:
        used += [*operator.inputs, *operator.outputs]
    used += graph.outputs
    number = {index: i for i, index in enumerate(dict.fromkeys(i for i in used if i != NO_TENSOR))}
    number[NO_TENSOR] = NO_TENSOR
    buffers, values = [schema.BufferT()], {}
    tensors = [graph.tensors[index] for index in number if index != NO_TENSOR]
    places = {0: 0}
    for index, tensor in zip(number, tensors, strict=False):
        if index in kernels:
            tensor.shape = np.asarray(kernels[index].read().shape, np.int32)
            tensor.shapeSignature = None
            values[len(buffers)] = kernels[index].read
            tensor.buffer = len(buffers)
            buffers.append(schema.BufferT())
        else:
            tensor.buffer = _place(model, tensor.buffer, places, buffers)
    for entry in model.metadata:
        entry.buffer = _place(model, entry.buffer, places, buffers)
    graph.tensors, model.buffers = tensors, buffers
    _renumber(model, number)
    for mapping in (*signature.inputs, *signature.outputs):
        mapping.tensorIndex = number[mapping.tensorIndex]
    return values


def _place(model: Any, old: int, places: dict[int, int], buffers: list[Any]) -> int:
    """New number of a buffer, which is taken over; 0 (the empty one) where it has no data."""
    if model.buffers[old].data is None:
        return 0
    if old not in places:
        places[old] = len(buffers)
        buffers.append(model.buffers[old])
    return places[old]


def _renumber(model: Any, number: Mapping[int, int]) -> None:
    """Put the new numbers of tensors in, and drop operator codes without a use."""
    graph = model.subgraphs[0]
    graph.inputs = [number[index] for index in graph.inputs]
    graph.outputs = [number[index] for index in graph.outputs]
    for operator in graph.operators:
        operator.inputs = [number[index] for index in operator.inputs]
        operator.outputs = [number[index] for index in operator.outputs]
    codes = list(dict.fromkeys(operator.opcodeIndex for operator in graph.operators))
    model.operatorCodes = [model.operatorCodes[code] for code in codes]
    for operator in graph.operators:
        operator.opcodeIndex = codes.index(operator.opcodeIndex)
