"""A report as Markdown: everything but the plots."""

from collections.abc import Iterator

from benchmark.measurement import Results
from benchmark.report.parts import Fold, Section, Table
from benchmark.report.sections import sections, title
from benchmark.report.summary import summary


def markdown(results: Results) -> str:
    """The report as Markdown."""
    parts = [f"# {title(results)}", *summary(results)]
    for section in sections(results):
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    yield from section.text
    if section.items:
        yield "\n".join(f"- {item}" for item in section.items)
    for table in section.tables:
        yield from _table(table)
    for fold in section.folds:
        yield from _fold(fold)
    if section.commands:
        lines = (f"{command}  # {what.lower()}" for what, command in section.commands)
        yield "\n".join(("```sh", *lines, "```"))


def _fold(fold: Fold) -> Iterator[str]:
    yield f"### {fold.title}"
    for table in fold.brief or fold.tables:
        yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    if not table.rows:
        return
    yield table.caption
    rule = tuple("---:" if header in table.numeric else "---" for header in table.headers)
    yield "\n".join(_line(cells) for cells in (table.headers, rule, *table.rows))
    if table.numbered:
        yield "\n".join(f"{number}. {note}" for number, note in enumerate(table.notes, 1))
    else:
        yield from table.notes


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
