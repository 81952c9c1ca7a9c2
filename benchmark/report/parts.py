"""What a report consists of, before it becomes Markdown or HTML."""

from dataclasses import dataclass

NOTES = "Notes"


@dataclass(frozen=True)
class Table:
    """Rows of finished text.

    Attributes:
        caption: What the table shows.
        headers: Of the columns; the first column names the row.
        rows: As many cells as headers each.
        numeric: Headers of the columns that hold figures.
        notes: Footnotes. Where the last column is `NOTES`, a row names them there by number, counted from 1.
        pictures: A small JPEG in base64 for each row, empty where there is none; or none at all.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()

    @property
    def numbered(self) -> bool:
        """Whether the last column names footnotes by number."""
        return self.headers[-1] == NOTES


@dataclass(frozen=True)
class Bar:
    """One bar of a chart.

    Attributes:
        label: What it stands for.
        share: Its length, in [0, 1] of the longest.
        text: Its value, with the unit.
    """

    label: str
    share: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Horizontal bars.

    Attributes:
        title: What they show.
        bars: From top to bottom.
    """

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Fold:
    """What is shown when it is asked for.

    Attributes:
        title: A sentence.
        tables: All that there is to tell.
        chart: Drawn above; None without.
        brief: What a page that cannot fold shows instead of `tables`; empty if these are short.
    """

    title: str
    tables: tuple[Table, ...]
    chart: Chart | None = None
    brief: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part with a heading.

    Attributes:
        key: Unique; a page's anchor, and what plots are hung on.
        title: The heading.
        text: Paragraphs.
        items: Points of a list.
        tables: Those that have rows are shown.
        chart: None without.
        folds: After the tables.
        commands: Command lines, each with what it does.
    """

    key: str
    title: str
    text: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    chart: Chart | None = None
    folds: tuple[Fold, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell (a plot may be there all the same)."""
        told = (*self.text, *self.items, *self.folds, *self.commands)
        return not told and not any(table.rows for table in self.tables)


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        svg: Inline SVG with a title and a description of its own.
        caption: Under it.
    """

    svg: str
    caption: str
