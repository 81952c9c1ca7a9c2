"""Protobuf's text format: what is written comes back, and what is no text format is refused with its line."""

import contextlib

import numpy as np
import pytest

from deploy.triton.protobuf_text import FALSE, TRUE, Message, Word, message_of, quoted, text_of
from edgepress.errors import InputError, ProofError
from tests.deploy.triton_variants import HOSTILE

MESSAGE = Message(
    (
        ("name", HOSTILE),
        ("count", -3),
        ("dims", 1),
        ("dims", 2),
        ("kind", Word("KIND_CPU")),
        ("on", TRUE),
        ("off", FALSE),
        ("empty", Message()),
        ("inner", Message((("a", 1), ("deeper", Message((("b", "é"),)))))),
        ("dims", 3),
    )
)


def test_what_is_written_comes_back() -> None:
    assert message_of(text_of(MESSAGE)) == MESSAGE


def test_text_is_this_one() -> None:
    assert text_of(MESSAGE) == (
        'name: "in\\"put\\\\ \\n\\t{ [\\303\\251]: 1 } # \\177"\n'
        "count: -3\n"
        "dims: [1, 2]\n"
        "kind: KIND_CPU\n"
        "on: true\n"
        "off: false\n"
        "empty { }\n"
        "inner {\n"
        "  a: 1\n"
        '  deeper { b: "\\303\\251" }\n'
        "}\n"
        "dims: 3\n"
    )


def test_any_string_comes_back() -> None:
    draw = np.random.default_rng(0)
    alphabet = [chr(code) for code in (*range(256), 0x2028, 0xFFFF, 0x1F600)]
    for length in range(200):
        text = "".join(alphabet[i] for i in draw.integers(0, len(alphabet), length % 12))
        assert quoted(text).isascii()
        assert message_of(f"x: {quoted(text)}") == Message((("x", text),))


def test_no_unicode_text_is_refused() -> None:
    with pytest.raises(InputError, match="is no Unicode text, which a configuration of Triton wants. Use"):
        quoted("\ud800")


@pytest.mark.parametrize(
    "text",
    [
        "a: 1, b { c: 2 }",
        "a: 1; b: { c: [2] };",
        "# first\na:1 b{c:2}# last",
        "\n\ta :\n1\r\nb [ { c: 2 } ]",
    ],
)
def test_other_ways_of_writing_the_same(text: str) -> None:
    assert message_of(text) == Message((("a", 1), ("b", Message((("c", 2),)))))


def test_other_escapes_and_empty_lists() -> None:
    assert message_of(r"""a: "\'\101\7" b: [] c: [{ }]""") == Message((("a", "'A\x07"), ("c", Message())))


@pytest.mark.parametrize(
    ("text", "wanted", "got", "line"),
    [
        ("a", "`:` or `{`", "the end", 1),
        ("a:", "a value", "the end", 1),
        ("a: 1\nb {", "the name of a field", "the end", 2),
        ("a: 1\n}", "the name of a field", "}", 2),
        ("a: [1 2]", "`,` or `]`", "2", 1),
        ("a: [1", "`,` or `]`", "the end", 1),
        ("a 1", "`:` or `{`", "1", 1),
        ("a [1]", "`:` or `{`", "1", 1),
        ("1: 2", "the name of a field", "1", 1),
        ("a: 01", "a name, a number, a string or a bracket", "01", 1),
        ("a: 1.5", "a name, a number, a string or a bracket", "1.5", 1),
        ("a: 1x", "a name, a number, a string or a bracket", "1x", 1),
        ('\n\na: "b', "a name, a number, a string or a bracket", '"b', 3),
        ('a: "b\nc"', "a name, a number, a string or a bracket", '"b', 1),
        (r'a: "\q"', "a known escape", r'"\q"', 1),
        (r'a: "\777"', "a known escape", r'"\777"', 1),
        (r'a: "\377"', "UTF-8", r'"\377"', 1),
        ("a: 'b'", "a name, a number, a string or a bracket", "'b'", 1),
        ("a: \x00", "a name, a number, a string or a bracket", "\x00", 1),
    ],
)
def test_what_is_no_text_format_is_refused(text: str, wanted: str, got: str, line: int) -> None:
    with pytest.raises(ProofError) as caught:
        message_of(text)
    assert (
        str(caught.value) == f"Protobuf text, line {line}: wanted {wanted}, got {got!r}. Nothing was written."
    )


def test_torn_texts_are_refused_or_read() -> None:
    """Never another exception, wherever a text ends, and whatever letter of it is another one."""
    text = text_of(MESSAGE)
    letters = '"\\{}[]:,;#1a \n'
    for end in range(len(text)):
        for changed in (text[:end], *(text[:end] + letter + text[end + 1 :] for letter in letters)):
            with contextlib.suppress(ProofError):
                message_of(changed)
