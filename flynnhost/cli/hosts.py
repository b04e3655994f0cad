"""flynn-host list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from attrs import frozen

from flynnhost.cli import words
from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.exit_codes import ExitCode
from flynnhost.cli.failures import CommandFailed
from flynnhost.cli.output import Column, Format, Listing, output_option
from flynnhost.cli.program import Command
from flynnhost.client import calls
from flynnhost.client.errors import Unavailable
from flynnhost.client.values import Host

_COLOURS = {"up": "green", "draining": "yellow", "down": "red"}


@click.command(
    "list",
    cls=Command,
    examples=["flynn-host list", "flynn-host list --output wide", "flynn-host list --quiet"],
)
@output_option
@host_url_option
@pass_context
def command(context: Context, form: Format) -> None:
    """List the hosts of the cluster.

    The exit code is 6 when some may be missing, because they have not reported to the leader yet.
    """
    found = context.client.run(calls.hosts("ids"))
    leader = _leader(context) if form is not Format.QUIET else ""
    rows = [_Row(host, host.id == leader) for host in sorted(found.hosts, key=lambda host: host.id)]
    Listing(_COLUMNS, lambda row: row.host.id, _plain).show(rows, form)
    if not found.complete:
        raise CommandFailed(
            "some hosts have not reported to the leader yet: try again in some seconds", ExitCode.NOT_NOW
        )


@frozen
class _Row:
    host: Host
    leads: bool

    @property
    def state(self) -> str:
        return self.host.state or "up"

    @property
    def jobs(self) -> int:
        return len(self.host.jobs or ())


def _leader(context: Context) -> str:
    try:
        return context.client.run(calls.leader()).id
    except Unavailable:  # whoever led a moment ago does not any more
        return ""


def _resource(row: _Row, name: str) -> int:
    return (row.host.resources or {}).get(name, 0)


def _state(row: _Row) -> str:
    return f"{row.state}, leads" if row.leads else row.state


_COLUMNS: Sequence[Column[_Row]] = [
    Column("ID", lambda row: row.host.id),
    Column("STATE", _state, style=lambda row: _COLOURS.get(row.state, "")),
    Column("ADDRESS", lambda row: row.host.addr),
    Column("JOBS", lambda row: str(row.jobs)),
    Column("MEMORY", lambda row: words.size(_resource(row, "memory"))),
    Column("CPUS", lambda row: words.cpus(_resource(row, "cpu"))),
    Column("ATTRIBUTES", lambda row: words.pairs(row.host.metadata or {})),
]


def _plain(row: _Row) -> dict[str, Any]:
    return {
        "id": row.host.id,
        "state": row.state,
        "leads": row.leads,
        "addr": row.host.addr,
        "jobs": row.jobs,
        "resources": row.host.resources or {},
        "attributes": row.host.metadata or {},
    }
