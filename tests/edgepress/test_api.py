import doctest
import inspect
import os
from pathlib import Path

import pytest

import edgepress
from edgepress import api
from edgepress.cli.commands import COMMANDS
from edgepress.errors import InputError

ORDER = (
    "train",
    "export",
    "optimize",
    "sensitivity",
    "parity",
    "benchmark",
    "bundle",
    "unpack",
)  # one example goes on where another ends


def test_examples_of_the_functions_give_what_they_say(
    tmp_path: Path, session_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(session_cache))
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    names = {"edgepress": edgepress}
    assert set(ORDER) == {*edgepress.__all__, "parity"}  # `edgepress.parity` is a package
    for name in ORDER:
        text = inspect.getdoc(getattr(api, name)) or ""
        example = parser.get_doctest(text, names, name, None, None)
        assert example.examples, f"{name} has no example"
        assert runner.run(example, clear_globs=False).failed == 0, name
        names = example.globs
    assert os.listdir(tmp_path) == ["out"]


def test_functions_are_named_like_the_commands() -> None:
    assert set(edgepress.__all__) <= {command.name for command in COMMANDS}


def test_member_suggests_the_nearest_value() -> None:
    with pytest.raises(InputError, match="Unknown format 'onx'. Did you mean 'onnx'?"):
        api.export("vgg16-digits", "nowhere", formats=["onx"])
