"""Keras → ONNX, with no copy of the weights.

tf2onnx copies the graph, weights and all, for each of its optimizer's passes: `from_keras(VGG16)` was
killed at 24 GB. So it converts the architecture alone, with the kernels as inputs of the function; these
become initializers when the file is written, one at a time.
"""

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepress.errors import InputError, MissingRuntimeError, ProofError
from edgepress.interface import Pixels
from export.conversion import Conversion, ReadWeight, WeightedFunction, Write, weighted_function
from export.layer_scopes import marked_layers
from export.onnx_draft import BATCH, Draft, skeleton
from export.onnx_file import write_onnx, write_onnx_folder
from export.onnx_flatten import fold_flatten_order
from export.onnx_folding import (
    absorb_pads,
    absorb_scale_and_offset,
    compute_constants,
    make_gemm,
)
from export.onnx_layout import hoist_input_transpose, set_interface, sink_transposes
from export.onnx_names import name_after_layers
from export.onnx_operations import replace_operations, require_standard
from export.onnx_shapes import make_shapes_constant, settle_resizes
from export.onnx_views import collapse_views, write_moved_units_as_transposes
from export.onnx_weight import Weight

if TYPE_CHECKING:
    import keras
    import onnx

DEFAULT_OPSET = 17
OPSETS = range(17, 22)
_CONVERTED_OPSET = 17  # tf2onnx knows 18 at most, and gives pooling as ReduceMean there
_PROTOBUF_LIMIT_BYTES = 2**31
_GRAPH_BYTES = 64 << 20  # more than any graph without its weights has


def onnx_from_keras(conversion: Conversion) -> Write:
    """Convert the network; what is returned writes an ONNX file, or a folder (see `fits_one_file`).

    Input `images`, outputs by the names of `conversion.output_names`; other names: see `export.onnx_names`.
    What depends on weights alone is no part of the graph, so that it has no Shape, no Cast but that of RGB
    pixels, and a Transpose only where NHWC and NCHW meet.

    Raises:
        InputError: The opset is not one of `OPSETS`, or an operation has no counterpart in ONNX.
        ProofError: The graph breaks ONNX' specification, or an operation on weights alone would be left.
    """
    if conversion.opset not in OPSETS:
        raise InputError(
            f"ONNX opset {conversion.opset}: wanted {OPSETS[0]} to {OPSETS[-1]}. Give another --opset."
        )
    network = conversion.network
    plain = replace(conversion, interface=replace(conversion.interface, pixels=Pixels.PREPROCESSED))
    function = weighted_function(plain)
    model = _architecture(conversion, function)
    draft = Draft.of(model, {**function.weights, **_captured(function)})
    _clean(draft, conversion)
    weights = name_after_layers(draft, function.folded)
    _require_valid(draft.model, weights, network.name)
    write_file = write_onnx if fits_one_file(network) else write_onnx_folder

    def write(path: Path) -> None:
        write_file(path, draft.model, weights)

    return write


def fits_one_file(network: "keras.Model") -> bool:
    """Whether a network is written as one file: protobuf reads less than 2 GiB."""
    return 4 * int(network.count_params()) + _GRAPH_BYTES < _PROTOBUF_LIMIT_BYTES


def _clean(draft: Draft, conversion: Conversion) -> None:
    settle_resizes(draft)
    make_shapes_constant(draft)
    draft.merge_duplicates()
    compute_constants(draft)
    collapse_views(draft)
    write_moved_units_as_transposes(draft)
    sink_transposes(draft)
    collapse_views(draft)
    hoist_input_transpose(draft)
    absorb_pads(draft)
    absorb_scale_and_offset(draft)
    set_interface(draft, conversion)
    make_gemm(draft)
    fold_flatten_order(draft)
    draft.merge_duplicates()
    del draft.graph.value_info[:]
    for value in (draft.graph.input[0], *draft.graph.output):
        batch = value.type.tensor_type.shape.dim[0]
        batch.Clear()
        if conversion.interface.batch is None:
            batch.dim_param = BATCH
        else:
            batch.dim_value = conversion.interface.batch


def _require_valid(model: "onnx.ModelProto", weights: Mapping[str, Weight], name: str) -> None:
    """Check the specification, types and shapes, on the graph with weights of the true shapes.

    The values of weights are no part of that, so the file, whose encoding is tested, need not be read again.
    """
    import onnx

    try:
        onnx.checker.check_model(skeleton(model, weights), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ProofError(
            f"The ONNX graph of {name} is not valid ({reason}). Leave ONNX out with --format."
        ) from error


def _architecture(conversion: Conversion, function: WeightedFunction) -> "onnx.ModelProto":
    """The graph with every kernel as a graph input; vectors are constants, which tf2onnx folds itself."""
    try:
        import tf2onnx
    except ImportError as error:
        raise MissingRuntimeError(error.name or "tf2onnx", "onnx") from error

    name = conversion.network.name
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it cannot convert is said here
    try:
        with marked_layers(function.network), _functions_inlined(), _duplicates_kept():
            model, _ = tf2onnx.convert.from_function(
                function.call, input_signature=function.signature, opset=_CONVERTED_OPSET
            )
    except (ValueError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"tf2onnx cannot convert {name}: {reason}. Replace the layer, or leave ONNX out with --format."
        ) from error
    graph = model.graph
    graph.name = function.outputs[0]
    graph.ClearField("doc_string")  # a number that TensorFlow counts up
    if conversion.interface.batch is None:
        graph.input[0].type.tensor_type.shape.dim[0].dim_param = BATCH
    outputs = {output.name: output for output in graph.output}  # sorted by TensorFlow
    del graph.output[:]
    graph.output.extend(outputs[name] for name in function.outputs)
    replace_operations(graph)
    require_standard(model, name)
    return _of_opset(model, conversion.opset)


def _captured(function: WeightedFunction) -> dict[str, ReadWeight]:
    """Values that layers hold outside of their variables: the mean given to a Normalization, say."""
    traced = function.call.get_concrete_function(*function.signature)  # by tf2onnx, and kept
    return {inner.name: partial(np.asarray, outer) for outer, inner in traced.graph.captures}


@contextlib.contextmanager
def _functions_inlined() -> Iterator[None]:
    """While it is open, what Keras has compiled by XLA (a grouped convolution) is traced through."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(run_eagerly=True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextlib.contextmanager
def _duplicates_kept() -> Iterator[None]:
    """While it is open, tf2onnx merges no equal nodes; `Draft.merge_duplicates` does it.

    Which of them tf2onnx keeps goes by the order of a set of names, another one in each process.
    """
    import tf2onnx.optimizer as module

    before = module._optimizers
    kept = ((name, factory) for name, factory in before.items() if name != "merge_duplication")
    module._optimizers = OrderedDict(kept)
    try:
        yield
    finally:
        module._optimizers = before


def _of_opset(model: "onnx.ModelProto", opset: int) -> "onnx.ModelProto":
    import onnx

    if opset != _CONVERTED_OPSET:
        model = onnx.version_converter.convert_version(model, opset)
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    return model
