"""What a bundle can be made for: profiles in TOML, those in `targets/` and the user's own."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any

import tomllib

from deploy.runtime_choice import RuntimeChoice
from edgepress.artifact import Artifact, Format, Runtime
from edgepress.errors import InputError, unknown_choice
from edgepress.isa import Isa
from edgepress.record import from_json
from edgepress.target import target_names, target_of

_PROFILES = Path(__file__).parent / "targets"
_ENDING = ".toml"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Delivery(str, Enum):
    """In what form the model goes into a bundle; the value is its name in a profile."""

    FILE = "file"  # as it is: the runtime loads it
    MOBILE = "mobile"  # as it is, with TFLite Metadata, for an app
    PLANS = "plans"  # one plan for each compute capability, built beforehand
    BUILD = "build"  # strongly typed ONNX; the engine is built on the device
    REPOSITORY = "repository"  # in a model repository for Triton


_FORMATS: Mapping[Runtime, Mapping[Delivery, Format]] = {
    Runtime.ONNXRUNTIME: {Delivery.FILE: Format.ONNX, Delivery.REPOSITORY: Format.ONNX},
    Runtime.LITERT: {Delivery.FILE: Format.TFLITE, Delivery.MOBILE: Format.TFLITE},
    Runtime.TENSORRT: {Delivery.BUILD: Format.ONNX},
    Runtime.TENSORRT_RTX: {Delivery.BUILD: Format.ONNX, Delivery.PLANS: Format.ENGINE},
}
_TENSORRTS = {Runtime.TENSORRT, Runtime.TENSORRT_RTX, Runtime.ONNXRUNTIME_TENSORRT}


@dataclass(frozen=True)
class BundleTarget:
    """A kind of device.

    Attributes:
        name: As given to --target: the name of the profile's file.
        purpose: Which devices, and how the model gets there, in words.
        delivery: In what form the model goes into the bundle.
        machines: Names that the system may give its CPU architecture; none where it does not matter.
        runtimes: What may execute it.
        isas: An INT8 file for a CPU must be accurate and fast on each of these; none for a GPU.
        capabilities: Compute capabilities of the GPUs; none for a CPU.
        most_bytes: Size of the largest model file that fits; None for any.
        brings: Packages that the device's system brings, and that pip must not install.
        steps: What the person on the device does after installing the rest, a line each, for README.md.
    """

    name: str
    purpose: str
    delivery: Delivery
    machines: tuple[str, ...]
    runtimes: tuple[RuntimeChoice, ...]
    isas: tuple[Isa, ...] = ()
    capabilities: tuple[str, ...] = ()
    most_bytes: int | None = None
    brings: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()

    def format_of(self, runtime: Runtime) -> Format:
        """Form of the files that a runtime takes here."""
        return _FORMATS[runtime][self.delivery]

    def runtime_of(self, artifact: Artifact) -> RuntimeChoice | None:
        """The first of the runtimes that an artifact is for; None for none."""
        return next(
            (
                choice
                for choice in self.runtimes
                if artifact.format is self.format_of(choice.runtime)
                and (choice.runtime in artifact.runtimes or self._builds_from(artifact))
            ),
            None,
        )

    def _builds_from(self, artifact: Artifact) -> bool:
        """Whether engines can be built from the file: what its precision is, TensorRT reads out of it."""
        is_for_tensorrt = not _TENSORRTS.isdisjoint(artifact.runtimes)
        return self.delivery is Delivery.BUILD and is_for_tensorrt

    def refusal(self, artifact: Artifact) -> str | None:
        """Why an artifact is not for this target; None if it is."""
        if self.runtime_of(artifact) is None:
            return f"is not for {' or '.join(choice.runtime.value for choice in self.runtimes)}"
        if artifact.format is Format.ONNX and PurePosixPath(artifact.path).suffix != ".onnx":
            return "is a folder, since one ONNX file cannot hold its weights, and a bundle has one file"
        if self.most_bytes is not None and artifact.size_bytes > self.most_bytes:
            return (
                f"has {artifact.size_bytes / 1e6:.1f} MB, and {self.name} takes "
                f"{self.most_bytes / 1e6:.1f} MB at most"
            )
        return self._refusal_of_isa(artifact)

    def _refusal_of_isa(self, artifact: Artifact) -> str | None:
        is_for_a_cpu = artifact.format is Format.ONNX and bool(self.isas)
        if artifact.target is None or not is_for_a_cpu:
            return None
        known = [target_of(name) for name in target_names()[1:]]
        made_for = next((target for target in known if target.name == artifact.target), None)
        if made_for is not None and made_for.isa in self.isas:
            return None
        fitting = next((target.name for target in known if target.isa in self.isas), None)
        hint = f"; `edgepress optimize --target {fitting}` makes one" if fitting else ""
        isas = ", ".join(sorted(isa.value for isa in self.isas))
        return f"was made for {artifact.target}, and {self.name} needs one for each of {isas}{hint}"


def bundle_target_names() -> tuple[str, ...]:
    """Names of the profiles that come with edgepress."""
    return tuple(sorted(path.stem for path in _PROFILES.glob(f"*{_ENDING}")))


def bundle_target_of(name: str) -> BundleTarget:
    """The profile of that name, or of a TOML file.

    Args:
        name: Of a profile that comes with edgepress, or the path of the user's own `NAME.toml`.

    Raises:
        InputError: There is none, or it is not a profile.
    """
    if name.endswith(_ENDING):
        return _read(Path(name))
    if name not in bundle_target_names():
        raise unknown_choice("target", name, bundle_target_names())
    return _read(_PROFILES / f"{name}{_ENDING}")


def _read(path: Path) -> BundleTarget:
    optional = {
        field.name: _default(field.default) for field in fields(BundleTarget) if field.default is not MISSING
    }
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
        target = from_json(BundleTarget, {**optional, **value, "name": path.stem})
        _require(target)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}). Give the path of a target's profile."
        ) from error
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no profile of a target ({error}). docs/deploying.md says what one consists of."
        ) from error
    return target


def _default(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _require(target: BundleTarget) -> None:
    """Refuse a profile whose parts do not fit together.

    Raises:
        ValueError: They do not; the text says which.
    """
    if not _NAME.fullmatch(target.name):
        raise ValueError(f"its name {target.name!r} is not of lower-case letters, digits, '.', '_' and '-'")
    if not target.runtimes:
        raise ValueError("runtimes is empty")
    for choice in target.runtimes:
        if target.delivery not in _FORMATS.get(choice.runtime, {}):
            raise ValueError(f"{choice.runtime.value} takes no delivery {target.delivery.value!r}")
        choice.require()
    needs_gpu = target.delivery in {Delivery.PLANS, Delivery.BUILD}
    if needs_gpu != bool(target.capabilities):
        raise ValueError(
            f"capabilities are {'wanted' if needs_gpu else 'not wanted'} for {target.delivery.value!r}"
        )
    known = {package for choice in target.runtimes for package in choice.requirements}
    if unknown := sorted(set(target.brings) - known):
        raise ValueError(f"brings {unknown[0]}, which no runtime requires")
    if target.most_bytes is not None and target.most_bytes < 1:
        raise ValueError("most_bytes is not positive")
