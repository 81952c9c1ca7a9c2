"""Protobuf's text format, as much of it as a configuration file needs: written, and read back.

Source: the text format's specification, https://protobuf.dev/reference/protobuf/textformat-spec/.
Floating-point numbers, extensions, `Any`, and strings in several pieces are left out: nothing here writes
them, and what is not understood is refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Union

from edgepress.errors import InputError, ProofError

_INDENT = "  "
_LARGEST_LINE = 100
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
_UNESCAPED = {**{code[1]: text.encode() for text, code in _ESCAPES.items()}, "'": b"'"}
_TOKEN = re.compile(
    r"""(?P<gap>[ \t\r\n]+|\#[^\n]*)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>-?(?:0|[1-9][0-9]*)(?![0-9A-Za-z_.]))
    |(?P<text>"(?:[^"\\\n]|\\.)*")
    |(?P<mark>[{}\[\]:,;])""",
    re.VERBOSE,
)
_CODE = re.compile(r"\\(?P<octal>[0-7]{1,3})|\\(?P<letter>.)|(?P<plain>[^\\]+)", re.DOTALL)


@dataclass(frozen=True)
class Word:
    """A value without quotes: a member of an enumeration, or `true` and `false`."""

    name: str


@dataclass(frozen=True)
class Message:
    """Fields by name, in the order in which they stand; a repeated field stands there several times."""

    fields: "tuple[tuple[str, Value], ...]" = ()


Value = Union[int, str, Word, Message]  # noqa: UP007  # Message is named before it exists
TRUE = Word("true")
FALSE = Word("false")


def text_of(message: Message) -> str:
    """A message as text: a field a line, a line break at the end. Equal messages give equal text.

    Raises:
        InputError: A string is no Unicode text.
    """
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Message) -> Iterator[str]:
    for name, group in groupby(message.fields, key=lambda field: field[0]):
        values = [value for _, value in group]
        scalars = [_scalar(value) for value in values if not isinstance(value, Message)]
        if len(scalars) > 1:
            yield f"{name}: [{', '.join(scalars)}]"
        elif scalars:
            yield f"{name}: {scalars[0]}"
        for value in values:
            if isinstance(value, Message):
                yield from _block(name, value)


def _block(name: str, message: Message) -> Iterator[str]:
    """A field that is a message: on one line where that is short and there is no other message in it."""
    inner = list(_lines(message))
    line = " ".join([name, "{", *inner, "}"])
    if len(line) <= _LARGEST_LINE and not any(isinstance(value, Message) for _, value in message.fields):
        yield line
        return
    yield f"{name} {{"
    yield from (_INDENT + each for each in inner)
    yield "}"


def _scalar(value: "int | str | Word") -> str:
    if isinstance(value, Word):
        return value.name
    return quoted(value) if isinstance(value, str) else str(value)


def quoted(text: str) -> str:
    r"""A string between quotes; all that is not printable ASCII becomes `\ooo`, byte by byte of its UTF-8.

    Raises:
        InputError: It is no Unicode text.
    """
    try:
        parts = [_ESCAPES.get(c) or (c if " " <= c <= "~" else _octal(c)) for c in text]
    except UnicodeEncodeError as error:
        raise InputError(
            f"{text!r} is no Unicode text, which a configuration of Triton wants. Use another name."
        ) from error
    return f'"{"".join(parts)}"'


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode())


def message_of(text: str) -> Message:
    """The inverse of `text_of`; also takes `name: { … }`, `name: [ … ]`, commas, semicolons and comments.

    Raises:
        ProofError: It is no text format, or uses what this reader does not know. Says the line.
    """
    tokens = list(_tokens(text))
    reader = _Reader(tokens)
    fields = reader.fields(end=None)
    return Message(tuple(fields))


def _tokens(text: str) -> "Iterator[tuple[str, str, int]]":
    """(kind, text, line) of each token."""
    place, line = 0, 1
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            rest = text[place : place + 20].partition("\n")[0]
            raise _wrong("a name, a number, a string or a bracket", rest, line)
        if match.lastgroup != "gap":
            yield str(match.lastgroup), match.group(), line
        line += match.group().count("\n")
        place = match.end()
    yield "end", "the end", line


def _wrong(wanted: str, got: str, line: int) -> ProofError:
    return ProofError(f"Protobuf text, line {line}: wanted {wanted}, got {got!r}. Nothing was written.")


class _Reader:
    """Goes through tokens once."""

    def __init__(self, tokens: "Sequence[tuple[str, str, int]]") -> None:
        self._tokens = tokens
        self._at = 0

    def fields(self, end: "str | None") -> "Iterator[tuple[str, Value]]":
        """Fields until a closing brace, or the end of the text for None."""
        while not self._takes(end or "the end", "end" if end is None else "mark"):
            name = self._next("word", "the name of a field")
            yield from ((name, value) for value in self._values(has_colon=self._takes(":")))
            _ = self._takes(",") or self._takes(";")

    def _values(self, *, has_colon: bool) -> "Iterator[Value]":
        if self._takes("["):
            while not self._takes("]"):
                yield self._value(scalars=has_colon)
                if not self._takes(",") and self._tokens[self._at][1] != "]":
                    raise self._refusal("`,` or `]`")
        else:
            yield self._value(scalars=has_colon)

    def _value(self, *, scalars: bool) -> "Value":
        if self._takes("{"):
            return Message(tuple(self.fields(end="}")))
        if not scalars:
            raise self._refusal("`:` or `{`")
        kind, text, _ = self._tokens[self._at]
        if kind not in {"word", "number", "text"}:
            raise self._refusal("a value")
        self._at += 1
        if kind == "word":
            return Word(text)
        return int(text) if kind == "number" else self._unquoted(text)

    def _unquoted(self, text: str) -> str:
        content = bytearray()
        for code in _CODE.finditer(text[1:-1]):
            if code["plain"] is not None:
                content += code["plain"].encode()
            elif code["octal"] is not None and int(code["octal"], 8) <= 0xFF:
                content.append(int(code["octal"], 8))
            elif code["letter"] in _UNESCAPED:
                content += _UNESCAPED[code["letter"]]
            else:
                raise self._refusal("a known escape", back=1)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise self._refusal("UTF-8", back=1) from error

    def _takes(self, text: str, kind: str = "mark") -> bool:
        """Whether the next token is this one; then it is passed."""
        found = self._tokens[self._at][:2] == (kind, text)
        self._at += found
        return found

    def _next(self, kind: str, wanted: str) -> str:
        if self._tokens[self._at][0] != kind:
            raise self._refusal(wanted)
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _refusal(self, wanted: str, back: int = 0) -> ProofError:
        _, got, line = self._tokens[self._at - back]
        return _wrong(wanted, got, line)
