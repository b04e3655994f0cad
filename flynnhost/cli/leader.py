"""flynn-host leader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from flynnhost.cli import words
from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.output import Column, Format, Listing, output_option, show_json
from flynnhost.cli.program import Command
from flynnhost.client import calls
from flynnhost.client.values import Leader, known_time


@click.command("leader", cls=Command, examples=["flynn-host leader", "flynn-host leader --quiet"])
@output_option
@host_url_option
@pass_context
def command(context: Context, form: Format) -> None:
    """Tell which host leads the cluster.

    The exit code is 6 when none does, or the host that is asked is not certain.
    """
    leader = context.client.run(calls.leader())
    if form is Format.JSON:
        show_json(_plain(leader))
    else:
        Listing(_COLUMNS, lambda each: each.id, _plain).show([leader], form)


def _since(leader: Leader) -> str:
    lasts = words.since(leader.since, words.now())
    return f"{lasts} ago" if lasts else ""


_COLUMNS: Sequence[Column[Leader]] = [
    Column("ID", lambda leader: leader.id),
    Column("ADDRESS", lambda leader: leader.addr),
    Column("TERM", lambda leader: str(leader.term)),
    Column("ELECTED", _since),
]


def _plain(leader: Leader) -> dict[str, Any]:
    return {
        "id": leader.id,
        "addr": leader.addr,
        "term": leader.term,
        "since": known_time(leader.since),
    }
