"""results.json as report.csv, as report.md, and as one self-contained report.html."""

import logging
from pathlib import Path

import edgepress
from benchmark.measurement import RESULTS, Results
from benchmark.report.csv_table import csv_text
from benchmark.report.html_page import html
from benchmark.report.markdown_page import markdown
from edgepress.errors import InputError
from edgepress.files import sha256_of_file, write_bytes
from edgepress.lock import exclusive

logger = logging.getLogger(__name__)

_TABLE = "report.csv"
_PAGES = ("report.md", "report.html")


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
