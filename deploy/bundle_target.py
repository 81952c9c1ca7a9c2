"""What a bundle can be made for, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from edgepress.artifact import Artifact, Format, Runtime
from edgepress.errors import unknown_choice
from edgepress.machine import Isa
from edgepress.target import target_names, target_of


@dataclass(frozen=True)
class BundleTarget:
    """A kind of device.

    Attributes:
        name: As given to --target.
        machines: Names that the system may give its CPU architecture.
        format: Of the model file.
        runtime: What executes it.
        isas: An INT8 file must be accurate and fast on each of these.
        requirements: The versions that may run the bundle, by package, as pip reads them. A bundle's
            requirements.txt has the one of each that it was made with.
    """

    name: str
    machines: tuple[str, ...]
    format: Format
    runtime: Runtime
    isas: frozenset[Isa]
    requirements: Mapping[str, str]

    def refusal(self, artifact: Artifact) -> str | None:
        """Why an artifact is not for this target; None if it is."""
        if artifact.format is not self.format or self.runtime not in artifact.runtimes:
            return f"is not for {self.runtime.value}"
        if artifact.format is Format.ONNX and PurePosixPath(artifact.path).suffix != ".onnx":
            return "is a folder, since one ONNX file cannot hold its weights, and a bundle has one file"
        if artifact.target is None:
            return None
        made_for = next((t for t in map(target_of, target_names()[1:]) if t.name == artifact.target), None)
        if made_for is None or made_for.isa not in self.isas:
            isas = ", ".join(sorted(isa.value for isa in self.isas))
            fitting = next(t.name for t in map(target_of, target_names()[1:]) if t.isa in self.isas)
            return (
                f"was made for {artifact.target}, and {self.name} needs one for each of {isas}; "
                f"`edgepress optimize --target {fitting}` makes one"
            )
        return None


# An INT8 file made for x86 without VNNI keeps its weights in 7 bits, so it is right on every x86-64 CPU. One
# made for VNNI uses all 8 bits and saturates on a CPU without it.
_PROFILES = (
    BundleTarget(
        "linux-x64-cpu",
        ("x86_64", "AMD64"),
        Format.ONNX,
        Runtime.ONNXRUNTIME,
        frozenset({Isa.X86_AVX2, Isa.X86_AVX512}),
        {"numpy": ">=1.26,<3", "onnxruntime": ">=1.20,<2", "pillow": ">=10,<14"},
    ),
)


def bundle_target_of(name: str) -> BundleTarget:
    """The profile of that name.

    Raises:
        InputError: There is none.
    """
    found = next((profile for profile in _PROFILES if profile.name == name), None)
    if found is None:
        raise unknown_choice("target", name, [profile.name for profile in _PROFILES])
    return found
