"""A model as Triton Inference Server is told of it: config.pbtxt, from an artifact.

Source: Triton's guide, "Model Configuration", and `model_config.proto` (see `deploy.triton.schema`). What the
server refuses is refused here: fixed and free batches, and sizes that do not go together.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from deploy.triton.protobuf_text import TRUE, Message, Value, Word, text_of
from deploy.triton.schema import checked
from edgepress.artifact import Artifact, Format, Runtime, TensorSpec
from edgepress.errors import InputError
from edgepress.interface import Layout

MODEL_SHA256 = "edgepress_sha256"
"""Parameter that says which artifact this is. Triton's backends leave keys alone that they do not know."""
THREADS = "intra_op_thread_count"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_FREE = -1
_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
}


class Backend(Enum):
    """What executes a model in Triton: its name there, and the file name that it looks for."""

    ONNXRUNTIME = ("onnxruntime", "model.onnx")
    TENSORRT = ("tensorrt", "model.plan")

    @property
    def title(self) -> str:
        """As `backend` in the configuration."""
        return self.value[0]

    @property
    def file(self) -> str:
        """Name of the model file, or of the folder of a model that one ONNX file cannot hold."""
        return self.value[1]


class InstanceKind(str, Enum):
    """Where instances of a model run."""

    AUTO = "KIND_AUTO"  # on the GPUs, or on the CPU where there is none
    GPU = "KIND_GPU"
    CPU = "KIND_CPU"


@dataclass(frozen=True)
class InstanceGroup:
    """Instances of a model that work side by side.

    Attributes:
        kind: Where.
        count: How many, on each GPU or on the CPU.
        gpus: Indices of the GPUs; none stands for all of them.
    """

    kind: InstanceKind = InstanceKind.CPU
    count: int = 1
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class DynamicBatching:
    """Requests that come at nearly the same time become one batch.

    Attributes:
        preferred_sizes: Batches that are run at once when they are full; none stands for the largest.
        max_queue_delay_us: Longest time that a request waits for others, in µs.
    """

    preferred_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0


@dataclass(frozen=True)
class Serving:
    """How a model is to be served: what does not follow from the artifact.

    Attributes:
        max_batch_size: Most pictures that are computed at once, where the artifact's batch is free.
        instance_groups: Where it runs.
        dynamic_batching: None for one request after the other; only where the artifact's batch is free.
        threads: For each instance, by ONNX Runtime on the CPU; 0 for as many as there are cores.
        versions: Folders of the model's versions that are served.
        warm_up: Batches that are computed before the model counts as ready.
    """

    max_batch_size: int = 8
    instance_groups: tuple[InstanceGroup, ...] = (InstanceGroup(),)
    dynamic_batching: DynamicBatching | None = None
    threads: int = 0
    versions: tuple[int, ...] = (1,)
    warm_up: tuple[int, ...] = ()


@dataclass(frozen=True)
class TritonTensor:
    """An input or output, as Triton sees it.

    Attributes:
        name: As in the model file.
        type: A member of Triton's `DataType`, e.g. "TYPE_FP32".
        dims: Without the batch if Triton makes batches, otherwise with it; -1 is free.
        reshape: What the model itself has instead of `dims`; None for the same.
    """

    name: str
    type: str
    dims: tuple[int, ...]
    reshape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TritonModel:
    """A model of a model repository. One that exists is one that Triton's rules allow.

    Attributes:
        name: Of its folder.
        backend: What executes it.
        max_batch_size: Most pictures in one batch; 0 if the artifact's batch is fixed, and is part of `dims`.
        inputs: In the order of the artifact.
        outputs: In the order of the artifact.
        layout: Of the pictures, where Triton makes the batches; None otherwise.
        label_file: Names of the classes of the first output; None without.
        serving: The rest.
        parameters: Texts by key, for the backend.

    Raises:
        InputError: The name, a size or a combination is one that Triton refuses.
    """

    name: str
    backend: Backend
    max_batch_size: int
    inputs: tuple[TritonTensor, ...]
    outputs: tuple[TritonTensor, ...]
    layout: Layout | None = None
    label_file: str | None = None
    serving: Serving = field(default_factory=Serving)
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_name(self.name)
        _require_sizes(self)
        _require_instances(self)

    @property
    def file(self) -> str:
        """Name of the model file in its version's folder."""
        return self.backend.file


def require_name(name: str) -> None:
    """Refuse a name that is no name of a folder, or would have to be escaped in an address.

    Raises:
        InputError: It is.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:120]!r} cannot be the name of a model in Triton: wanted 1 to 100 letters, digits and "
            f"`_.-`, not beginning with `.` or `-`. Use {name_from(name)!r}, say."
        )


def name_from(text: str) -> str:
    """The nearest name that `require_name` takes; "model" where nothing is left."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).lstrip(".-")[:100] or "model"


def triton_model_of(
    artifact: Artifact, name: str, serving: Serving | None = None, label_file: str | None = None
) -> TritonModel:
    """What Triton is told of an artifact.

    A free batch becomes Triton's own: it is left out of `dims`, and `max_batch_size` limits it. With a fixed
    one Triton makes no batches: `max_batch_size` is 0, and `dims` are all dimensions, as the model has them.

    Args:
        artifact: An ONNX file or folder for ONNX Runtime, or a TensorRT plan.
        name: Of the model in the repository.
        serving: The rest; the defaults for None.
        label_file: Names of the classes of the first output; None without.

    Raises:
        InputError: Triton has no backend for this artifact, or refuses the name, a type or a size.
    """
    serving = serving or Serving()
    tensors = (*artifact.inputs, *artifact.outputs)
    # Both backends want it so: every input and output has the batch first, and free.
    is_batched = all(tensor.shape and tensor.shape[0] is None for tensor in tensors)
    if is_batched and serving.max_batch_size < 1:
        raise InputError(
            f"{name}: wanted a max_batch_size of 1 or more, since this artifact takes any batch, got "
            f"{serving.max_batch_size}. Choose another."
        )
    backend = _backend_of(artifact)
    threads = {THREADS: str(serving.threads)} if backend is Backend.ONNXRUNTIME else {}
    return TritonModel(
        name=name,
        backend=backend,
        max_batch_size=serving.max_batch_size if is_batched else 0,
        inputs=tuple(_tensor(each, is_batched=is_batched) for each in artifact.inputs),
        outputs=tuple(_tensor(each, is_batched=is_batched) for each in artifact.outputs),
        layout=artifact.interface.layout if is_batched else None,
        label_file=label_file,
        serving=serving,
        parameters={**threads, MODEL_SHA256: artifact.sha256},
    )


def _backend_of(artifact: Artifact) -> Backend:
    if artifact.format is Format.ONNX:
        return Backend.ONNXRUNTIME
    if artifact.format is Format.ENGINE and Runtime.TENSORRT in artifact.runtimes:
        return Backend.TENSORRT
    runtimes = ", ".join(runtime.value for runtime in artifact.runtimes)
    raise InputError(
        f"Triton has no backend for {artifact.id}: wanted an ONNX file or a plan of TensorRT, got "
        f"{artifact.format.value} for {runtimes or 'no runtime'}. Bundle another --variant."
    )


def _tensor(spec: TensorSpec, *, is_batched: bool) -> TritonTensor:
    if spec.dtype not in _TYPES:
        raise InputError(
            f"Triton has no type for {spec.dtype!r} of {spec.name!r}: wanted one of {', '.join(_TYPES)}. "
            "Bundle another --variant."
        )
    shape = spec.shape[1:] if is_batched else spec.shape
    dims = tuple(_FREE if size is None else size for size in shape)
    # Triton wants at least one dimension beside the batch, and is told that the model has none.
    return TritonTensor(spec.name, _TYPES[spec.dtype], dims or (1,), None if dims else ())


def _require_sizes(model: TritonModel) -> None:
    batching = model.serving.dynamic_batching
    if model.max_batch_size == 0 and batching is not None:
        raise InputError(
            f"{model.name}: dynamic batching needs a free batch, and this artifact's is fixed. Leave dynamic "
            "batching out, or export without --batch."
        )
    largest = max(1, model.max_batch_size)
    sizes = {
        "max_batch_size": (model.max_batch_size,) if model.max_batch_size else (),
        "preferred_sizes": batching.preferred_sizes if batching else (),
        "warm_up": model.serving.warm_up,
    }
    for what, found in sizes.items():
        for size in found:
            if not 1 <= size <= largest:
                raise InputError(
                    f"{model.name}: {what} wants batches of 1 to {largest}, got {size}. Choose another."
                )
    if batching is not None and batching.max_queue_delay_us < 0:
        raise InputError(
            f"{model.name}: max_queue_delay_us wants 0 µs or more, got {batching.max_queue_delay_us}."
        )
    for tensor in (*model.inputs, *model.outputs):
        if any(size < 1 and size != _FREE for size in tensor.dims):
            raise InputError(
                f"{model.name}: {tensor.name!r} has dims {tensor.dims}, and Triton wants sizes of 1 or more, "
                "-1 where free. Export the model again."
            )


def _require_instances(model: TritonModel) -> None:
    serving = model.serving
    if not serving.instance_groups or any(group.count < 1 for group in serving.instance_groups):
        raise InputError(f"{model.name}: wanted one instance or more in each group. Give a count of 1, say.")
    for group in serving.instance_groups:
        if group.kind is InstanceKind.CPU and group.gpus:
            raise InputError(
                f"{model.name}: instances on the CPU have no GPUs, got {group.gpus}. Leave them out."
            )
        if group.kind is InstanceKind.CPU and model.backend is Backend.TENSORRT:
            raise InputError(
                f"{model.name}: a TensorRT plan runs on a GPU, got {group.kind.value}. Use "
                f"{InstanceKind.GPU.value}."
            )
    if serving.threads < 0 or not serving.versions or min(serving.versions) < 1:
        raise InputError(
            f"{model.name}: wanted 0 threads or more and versions from 1, got {serving.threads} threads and "
            f"versions {serving.versions}."
        )


def config_text(model: TritonModel) -> str:
    """config.pbtxt: the same model gives the same text, byte by byte; it is read back and checked.

    Raises:
        InputError: A name is no Unicode text.
        ProofError: What was written is not by Triton's schema.
    """
    text = _HEADER + text_of(_message(model))
    checked(text)
    return text


_HEADER = "# Written by edgepress. Triton's guide, Model Configuration, says what else can be set here.\n"


def _message(model: TritonModel) -> Message:
    serving = model.serving
    fields: list[tuple[str, Value]] = [
        ("name", model.name),
        ("backend", model.backend.title),
        ("default_model_filename", model.file),
        ("max_batch_size", model.max_batch_size),
        *(("input", _io(tensor, model.layout)) for tensor in model.inputs),
    ]
    for i, tensor in enumerate(model.outputs):
        fields.append(("output", _io(tensor, None, model.label_file if i == 0 else None)))
    fields += [("instance_group", _instances(group)) for group in serving.instance_groups]
    if serving.dynamic_batching is not None:
        fields.append(("dynamic_batching", _batching(serving.dynamic_batching)))
    specific = Message(tuple(("versions", version) for version in serving.versions))
    fields.append(("version_policy", Message((("specific", specific),))))
    for key in sorted(model.parameters):
        entry = ("key", key), ("value", Message((("string_value", model.parameters[key]),)))
        fields.append(("parameters", Message(entry)))
    fields += [("model_warmup", _warm_up(size, model.inputs)) for size in serving.warm_up]
    return Message(tuple(fields))


def _io(tensor: TritonTensor, layout: Layout | None, label_file: str | None = None) -> Message:
    fields: list[tuple[str, Value]] = [("name", tensor.name), ("data_type", Word(tensor.type))]
    if layout is not None and len(tensor.dims) == 3:
        fields.append(("format", Word(f"FORMAT_{layout.name}")))
    fields += [("dims", size) for size in tensor.dims]
    if tensor.reshape is not None:
        fields.append(("reshape", Message(tuple(("shape", size) for size in tensor.reshape))))
    if label_file is not None:
        fields.append(("label_filename", label_file))
    return Message(tuple(fields))


def _instances(group: InstanceGroup) -> Message:
    gpus: list[tuple[str, Value]] = [("gpus", index) for index in group.gpus]
    return Message((("kind", Word(group.kind.value)), ("count", group.count), *gpus))


def _batching(batching: DynamicBatching) -> Message:
    fields: list[tuple[str, Value]] = [("preferred_batch_size", size) for size in batching.preferred_sizes]
    if batching.max_queue_delay_us:
        fields.append(("max_queue_delay_microseconds", batching.max_queue_delay_us))
    return Message(tuple(fields))


def _warm_up(size: int, inputs: tuple[TritonTensor, ...]) -> Message:
    """A request of zeros; a free dimension is 1 in it."""
    fields: list[tuple[str, Value]] = [("name", f"zeros-{size}"), ("batch_size", size)]
    for tensor in inputs:
        dims: list[tuple[str, Value]] = [("dims", max(1, each)) for each in tensor.dims]
        value = Message((("data_type", Word(tensor.type)), *dims, ("zero_data", TRUE)))
        fields.append(("inputs", Message((("key", tensor.name), ("value", value)))))
    return Message(tuple(fields))
