"""A runtime that a device may have, and what it needs from pip."""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.runtime.version_range import accepts
from edgepress.artifact import Runtime


@dataclass(frozen=True)
class RuntimeChoice:
    """One runtime of a target.

    Attributes:
        runtime: What executes the model.
        requirements: The versions that may run the bundle, by package, as pip reads them. A bundle's
            requirements.txt has the one of each that it was made with.
    """

    runtime: Runtime
    requirements: Mapping[str, str]

    def require(self) -> None:
        """Refuse ranges that verify.py could not read on the device.

        Raises:
            ValueError: One is of another form.
        """
        for wanted in self.requirements.values():
            accepts(wanted, "0")
