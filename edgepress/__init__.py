"""edgepress presses a Keras CNN for the edge: export, quantize, build engines, measure, prove.

The functions here are the commands of the same names; see `edgepress.api`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgepress.api import benchmark, bundle, export, optimize, train, unpack

__all__ = ["benchmark", "bundle", "export", "optimize", "sensitivity", "train", "unpack"]


def __getattr__(name: str) -> Any:
    """Import a verb when it is asked for: `edgepress doctor` must run where numpy does not (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not by an import statement: a bundle carries what those lead to, and a device needs no command.
    return getattr(importlib.import_module("edgepress.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
