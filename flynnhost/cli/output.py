"""Listings: tables for people, JSON for programs, or only IDs."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import click
import msgspec
from attrs import field, frozen

from flynnhost.cli.context import colours_wanted

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_GAP = "  "


class Format(enum.Enum):
    """How something is shown."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    QUIET = "quiet"


@frozen
class Column(Generic[T]):
    """A column of a table.

    :param text: what it says of a row.
    :param wide: whether only wide tables have it.
    :param style: the colour of it, in rich's words; empty for none.
    """

    title: str
    text: Callable[[T], str]
    wide: bool = False
    style: Callable[[T], str] = field(default=lambda _: "")


@frozen
class Listing(Generic[T]):
    """How things of some kind are listed.

    :param name: what identifies one.
    :param plain: what JSON has of one.
    """

    columns: Sequence[Column[T]]
    name: Callable[[T], str]
    plain: Callable[[T], Any]

    def show(self, items: Iterable[T], form: Format) -> None:
        """Write a list of them to stdout."""
        items = list(items)
        if form is Format.QUIET:
            for item in items:
                click.echo(self.name(item))
        elif form is Format.JSON:
            show_json([self.plain(item) for item in items])
        else:
            columns = [each for each in self.columns if form is Format.WIDE or not each.wide]
            _show_table(columns, items)


def output_option(command: F) -> F:
    """``--output`` and ``--quiet``, which every listing has; the command gets them as ``form``."""
    quiet = click.option(
        "--quiet", "-q", is_flag=True, expose_value=False, callback=_take_quiet, help="Only IDs."
    )
    output = click.option(
        "--output",
        "-o",
        "form",
        type=click.Choice(["table", "json", "wide"]),
        default="table",
        show_default=True,
        callback=_take_format,
        help="How to show it.",
    )
    return output(quiet(command))


def _take_format(ctx: click.Context, _: click.Parameter, value: str) -> Format:
    return Format.QUIET if ctx.meta.get(_QUIET) else Format(value)


def _take_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_QUIET] = True
        if isinstance(ctx.params.get("form"), Format):
            ctx.params["form"] = Format.QUIET


_QUIET = f"{__name__}.quiet"


def show_json(value: Any) -> None:
    """Write something as JSON to stdout."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def _show_table(columns: Sequence[Column[T]], items: Sequence[T]) -> None:
    if colours_wanted():
        _show_coloured(columns, items)
    else:
        show_rows(
            [[each.title for each in columns], *([_cell(each, item) for each in columns] for item in items)]
        )


def _cell(column: Column[T], item: T) -> str:
    """What is in a table; nothing of it moves the cursor or changes the terminal, whoever wrote it."""
    text = column.text(item)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def show_rows(rows: Sequence[Sequence[str]]) -> None:
    """Write columns one beside the other, nothing cut off."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(_GAP.join(cells).rstrip())


def _show_coloured(columns: Sequence[Column[T]], items: Sequence[T]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, len(_GAP), 0, 0))
    for number, column in enumerate(columns):
        # What identifies a row is whole however narrow the terminal is: it is there to be typed.
        least = None if number else max(map(len, [column.title, *(_cell(column, item) for item in items)]))
        table.add_column(column.title, no_wrap=True, overflow="ellipsis", min_width=least)
    for item in items:
        table.add_row(*(Text(_cell(each, item), style=each.style(item)) for each in columns))
    Console(highlight=False).print(table)
