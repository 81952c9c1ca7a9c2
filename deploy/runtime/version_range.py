"""Whether a version lies in a range such as ">=1.26,<3". A device has no `packaging` for it.

SPDX-License-Identifier: Apache-2.0
"""

import operator
import re

_COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)([0-9]+(?:\.[0-9]+)*)(\.\*)?")


def accepts(wanted: str, version: str) -> bool:
    """Whether a released version satisfies every clause; pre-releases count as their release.

    Args:
        wanted: Clauses by commas: >=, <=, ==, !=, > or < with numbers, which may end in `.*` after == and
            !=. Empty for any.
        version: Starts with numbers, e.g. "2.1.0+cpu".

    Raises:
        ValueError: One of them is not of that form.
    """
    return all(_holds(clause.strip(), version) for clause in wanted.split(",") if clause.strip())


def _holds(clause: str, version: str) -> bool:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        raise ValueError(f"{clause!r} is no clause of a version range")
    comparison, limit, any_rest = match.groups()
    wanted, found = _numbers(limit), _numbers(version)
    if any_rest:
        found = found[: len(wanted)]
    length = max(len(wanted), len(found))
    padded = [numbers + (0,) * (length - len(numbers)) for numbers in (found, wanted)]
    return bool(_COMPARISONS[comparison](*padded))


def _numbers(version: str) -> "tuple[int, ...]":
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    if match is None:
        raise ValueError(f"{version!r} is no version")
    return tuple(int(part) for part in match.group().split("."))
