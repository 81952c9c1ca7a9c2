"""report.html for those who read it with a keyboard or a screen reader."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from benchmark.measurement import Results
from benchmark.report.html_page import html

VOID = {"meta", "img", "br", "link", "input", "hr"}
AA_TEXT = 4.5  # WCAG 2.2, success criterion 1.4.3


class Page(HTMLParser):
    """All elements, and whether each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture
def page(filled: Results) -> Page:
    return Page(html(filled))


def test_every_element_is_closed(page: Page) -> None:
    assert page.open == []


def test_ids_are_unique_and_all_references_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    wanted = [
        target
        for _, attributes in page.elements
        for name in ("aria-labelledby", "aria-describedby")
        for target in attributes.get(name, "").split()
    ]
    wanted += [a["href"][1:] for a in page.all("a")]
    wanted += [use["xlink:href"][1:] for use in page.all("use")]
    assert set(wanted) <= set(ids)


def test_headings_go_down_one_level_at_a_time(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_page_has_a_language_a_title_landmarks_and_a_skip_link(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) == 1 + len(page.all("svg"))
    for landmark in ("header", "main", "nav"):
        assert len(page.all(landmark)) == 1
    assert page.all("nav")[0]["aria-label"] == "Contents"
    tag, first = next((t, a) for t, a in page.elements if t in {"a", "button", "summary"})
    assert (tag, first["class"]) == ("a", "skip")
    for section in page.all("section"):
        assert {"aria-label", "aria-labelledby"} & section.keys()


def test_tables_have_captions_and_scopes(page: Page) -> None:
    assert len(page.all("table")) == len(page.all("caption")) > 10
    assert all(cell.get("scope") in {"col", "row"} for cell in page.all("th"))


def test_pictures_and_drawings_have_alternatives(page: Page) -> None:
    assert page.all("img")
    assert all(image["alt"] for image in page.all("img"))
    for drawing in page.all("svg"):
        assert drawing["role"] == "img"
        assert len(drawing["aria-labelledby"].split()) == 2
    assert len(page.all("desc")) == len(page.all("svg"))
    charts = [attributes for attributes in page.all("div") if attributes.get("class") == "chart"]
    assert charts
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)


def test_what_scrolls_can_be_reached_with_the_keyboard(page: Page) -> None:
    scrolled = [attributes for attributes in page.all("div") if attributes.get("class") == "scroll"]
    assert len(scrolled) == len(page.all("table")) + len(page.all("svg"))
    for area in scrolled:
        assert (area["tabindex"], area["role"]) == ("0", "region")
        assert {"aria-label", "aria-labelledby"} & area.keys()
    assert all(line["tabindex"] == "0" for line in page.all("pre"))


def test_drawings_say_in_words_what_they_show(filled: Results) -> None:
    told = re.findall(r"<desc [^>]*>([^<]*)</desc>", html(filled))
    assert len(told) == 4
    for row in filled.results:
        if row.latency is not None:
            assert all(f"{row.artifact} on " in text for text in told)


def test_text_has_contrast_in_light_and_dark(filled: Results) -> None:
    palettes = re.findall(r":root \{ (--ink[^}]*)\}", html(filled))
    assert len(palettes) == 2
    for palette in palettes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", palette))
        for ink in ("ink", "dim", "accent", "bad"):
            for ground in ("page", "card"):
                assert contrast(colours[ink], colours[ground]) >= AA_TEXT


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: (lighter + 0.05) / (darker + 0.05), relative luminances."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(factor * part for factor, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
