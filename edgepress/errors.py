"""Every exception that edgepress raises on purpose.

EdgepressError
 ├── InputError              wrong use or bad input: the user can mend it           exit code 2
 │    ├── MissingRuntimeError   a framework that the task needs is not installed    exit code 2
 │    └── MissingDeviceError    the framework cannot reach the device from here     exit code 2
 ├── DeviceFaultError        a device is there and fails: full, or lost             exit code 1
 ├── ProofError              a result did not prove what its name promises          exit code 1
 ├── LimitError              nothing keeps to the limits that the user set          exit code 1
 └── NotComparableError      two results that must not be compared                  exit code 3

A message says what was wanted, what was got and what to do next, on one line.
"""

import difflib
from collections.abc import Iterable


class EdgepressError(Exception):
    """Base of all errors that end the program with one line and no traceback."""

    exit_code = 1


class InputError(EdgepressError):
    """Wrong use or bad input. Nothing was left half-written."""

    exit_code = 2


class MissingRuntimeError(InputError):
    """A framework that the task needs is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"The package {package!r} is not installed here, and this step needs it. "
            f"Run `make setup`, or: pip install 'edgepress[{extra}]'."
        )


class MissingDeviceError(InputError):
    """The framework is installed, but this build or machine does not give it the device."""


class DeviceFaultError(EdgepressError):
    """A device is there, and failed at what was asked of it. What was measured before is kept."""

    exit_code = 1


class ProofError(EdgepressError):
    """A produced file did not pass the check that its name promises."""

    exit_code = 1


class LimitError(EdgepressError):
    """Nothing keeps to the limits of loss, time or size that the user set."""

    exit_code = 1


class NotComparableError(EdgepressError):
    """Two results come from different machines, data or boundaries."""

    exit_code = 3


def unknown_choice(kind: str, value: str, known: Iterable[str]) -> InputError:
    """An error for a name that is not in a closed list, with the nearest name as a suggestion.

    Args:
        kind: What the name stands for, e.g. "recipe".
        value: What the user wrote.
        known: All names that are accepted.
    """
    names = sorted(known)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return InputError(f"Unknown {kind} {value!r}. {hint}Known: {', '.join(names)}.")
