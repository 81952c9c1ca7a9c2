"""results.json as report.csv, as report.md, and as one self-contained report.html."""

import logging
from pathlib import Path

import edgepress
from benchmark.measurement import RESULTS, Results
from benchmark.report_csv import csv_text
from benchmark.report_plots import distributions_svg, trade_off_svg
from benchmark.report_text import (
    HEADERS,
    METHOD,
    Table,
    absent_table,
    details,
    facts,
    measured_table,
    summary,
)
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.files import sha256_of_file, write_bytes
from edgepress.lock import exclusive

logger = logging.getLogger(__name__)

_TABLE = "report.csv"
_PAGES = ("report.md", "report.html")
_TEMPLATE = Path(__file__).with_name("report.html.j2")
_NUMERIC = range(HEADERS.index("Median ms"), HEADERS.index("Notes"))


def refresh_report(folder: Path) -> tuple[Path, ...]:
    """Write the report unless the one that is there was made from the same results.json by this edgepress.

    Returns and raises what `write_report` does.
    """
    stamp = _stamp(folder)
    table, pages = folder / _TABLE, tuple(folder / name for name in _PAGES)
    stamped = all(page.is_file() and page.read_text(encoding="utf-8").endswith(stamp) for page in pages)
    if stamped and table.is_file():
        logger.info("%s is up to date", pages[-1])
        return (table, *pages)
    return write_report(folder)


def write_report(folder: Path) -> tuple[Path, ...]:
    """Write `folder`/report.csv, report.md and report.html from its results.json.

    Returns:
        Their paths.

    Raises:
        InputError: There is no results.json, or it is damaged.
        MissingRuntimeError: jinja2 or matplotlib is not installed.
    """
    with exclusive(folder):
        results = Results.load(folder)
        try:
            table, texts = csv_text(results), (markdown(results), html(results))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"{folder / RESULTS} is damaged ({error!r}). Remove it and measure anew: "
                f"edgepress benchmark {folder}"
            ) from error
        write_bytes(folder / _TABLE, table.encode())  # first: the pages' stamps vouch for it, too
        pages = tuple(folder / name for name in _PAGES)
        for page, text in zip(pages, texts, strict=True):
            write_bytes(page, (text + _stamp(folder)).encode())
        return (folder / _TABLE, *pages)


def _stamp(folder: Path) -> str:
    """The last line of a page, which says what it was made from."""
    path = folder / RESULTS
    digest = sha256_of_file(path) if path.is_file() else "none"
    return f"<!-- edgepress {edgepress.__version__}, {RESULTS} {digest} -->\n"


def _title(results: Results) -> str:
    return f"{results.model.name}, pressed for the edge"


def markdown(results: Results) -> str:
    """The report as Markdown."""
    measured, absent = measured_table(results), absent_table(results)
    parts = [f"# {_title(results)}", *summary(results), "## Measured", _markdown_table(measured)]
    if measured.notes:
        parts.append("\n".join(f"{i}. {note}" for i, note in enumerate(measured.notes, 1)))
    if absent.rows:
        parts += ["## Not run", _markdown_table(absent)]
    for detail in details(results):
        parts += [f"### {detail.title}", _markdown_table(detail.flips), *detail.flips.notes]
        parts += [_markdown_table(detail.classes)] if detail.classes.rows else []
    parts += ["## How it was measured", "\n".join(f"- {line}" for line in METHOD)]
    parts += ["## Environment and data", "\n".join(f"- {name}: {value}" for name, value in facts(results))]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = tuple(
        "---:" if table.headers == HEADERS and i in _NUMERIC else "---" for i in range(len(table.headers))
    )
    return "\n".join(line(cells) for cells in (table.headers, rule, *table.rows))


def html(results: Results) -> str:
    """The report as one HTML file that needs nothing else and no script."""
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingRuntimeError("jinja2", "report") from error
    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    machine = results.environment.machine
    page: str = pages.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=_title(results),
        subtitle=f"Measured on {machine['cpu']}, {machine['cores']} cores, "
        f"{results.data.evaluated} pictures of {results.data.source}",
        summary=summary(results),
        measured=measured_table(results),
        absent=absent_table(results),
        details=details(results),
        numeric=_NUMERIC,
        trade_off=Markup(trade_off_svg(results)),  # noqa: S704  # our own drawing
        distributions=Markup(distributions_svg(results)),  # noqa: S704
        boundary=METHOD[0],
        method=METHOD,
        facts=facts(results),
    )
    return page
