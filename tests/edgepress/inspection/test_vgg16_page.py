from pathlib import Path

import pytest

from edgepress.inspection.vgg16_page import PAGE, alexnet, page, peers, write_page

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_peers_have_the_parameters_that_are_known() -> None:
    found = {peer.name.split()[0].strip("*"): peer.parameters for peer in peers()}
    assert found == {
        "AlexNet": 60_965_224,
        "VGG16": 138_357_544,
        "ResNet50": 25_636_712,
        "InceptionV3": 23_851_784,
    }
    assert alexnet()[1] == pytest.approx(0.72e9, rel=0.02)


def test_page_in_the_docs_is_the_one_that_is_written_now() -> None:
    assert (DOCS / PAGE).read_text(encoding="utf-8") == page(), "run: make docs"


def test_write_page_writes_page_and_picture(tmp_path: Path) -> None:
    write_page(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vgg16.md", "vgg16.svg"]
    assert "138,357,544 parameters" in (tmp_path / PAGE).read_text(encoding="utf-8")
