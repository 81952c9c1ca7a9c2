"""What words on the command line and in a job file may mean: converters that raise an InputError."""

import math
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TypeVar

from edgepress.errors import InputError, unknown_choice

Choice = TypeVar("Choice", bound=Enum)


def choice(kind: str, values: Iterable[Choice]) -> Callable[[str], Choice]:
    """A converter to the member of that value, or an error with a suggestion.

    Args:
        kind: What the word stands for, e.g. "format".
        values: The members that are accepted.
    """
    members = {member.value: member for member in values}

    def convert(text: str) -> Choice:
        if text not in members:
            raise unknown_choice(kind, text, members)
        return members[text]

    return convert


def known_target(text: str) -> str:
    """The name of a target that exists."""
    from edgepress.target import target_of

    target_of(text)
    return text


def count(text: str) -> int:
    """A positive whole number."""
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"Wanted a whole number of at least 1. Received: {text!r}.")
    return int(text)


def seed(text: str) -> int:
    """A whole number of 32 bits."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise InputError(f"Wanted a seed from 0 to 4294967295. Received: {text!r}.")
    return int(text)


def whole(text: str) -> int:
    """A whole number, 0 included."""
    if not text.isdecimal():
        raise InputError(f"Wanted a whole number of at least 0. Received: {text!r}.")
    return int(text)


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"Wanted a number. Received: {text!r}.")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if value <= 0:
        raise InputError(f"Wanted a number above 0. Received: {text!r}.")
    return value


def amount(text: str) -> float:
    """A finite number of at least 0."""
    value = number(text)
    if value < 0:
        raise InputError(f"Wanted a number of at least 0. Received: {text!r}.")
    return value
