"""docs/tensorrt.md says what the code does."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepress import local_gpu
from edgepress.engine_card import read_card
from optimize.recipe import RECIPES
from tests.fakes.fake_tensorrt import FAKE_VERSIONS, fake_tensorrt

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tensorrt.md"


@pytest.mark.parametrize("version", FAKE_VERSIONS)
def test_lines_for_a_jetson_build_a_plan_with_its_card(
    version: str, make_onnx: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    trt: Any = fake_tensorrt(version)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(local_gpu, "local_gpu", lambda: local_gpu.LocalGpu("Orin", "8.7", None))
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(make_onnx(), tmp_path / "onnx-wf16_af16.onnx")
    exec(compile(lines, str(PAGE), "exec"), {})  # noqa: S102  # our own page
    card = read_card(tmp_path / "engine-wf16_af16.plan")
    assert (card.version, card.gpu, card.capabilities) == (trt.__version__, "Orin", ("8.7",))
    assert len(list((tmp_path / "timings").iterdir())) == 1


def test_page_has_every_engine_recipe() -> None:
    rows = re.findall(
        r"^\| `(engine_\w+)`( \(on request\))? \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert dict(rows) == {
        recipe.name: "" if recipe.default else " (on request)"
        for recipe in RECIPES
        if recipe.family == "engine"
    }
