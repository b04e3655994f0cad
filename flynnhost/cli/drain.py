"""flynn-host drain."""

from __future__ import annotations

import click

from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.program import Command
from flynnhost.client import calls


@click.command(
    "drain",
    cls=Command,
    examples=["flynn-host drain h2", "flynn-host drain $(flynn-host list --quiet | grep ^rack7)"],
)
@click.argument("host_ids", nargs=-1, required=True, metavar="HOST...")
@host_url_option
@pass_context
def command(context: Context, host_ids: tuple[str, ...]) -> None:
    """Have hosts get no more jobs.

    The jobs that they have go on. It outlives the hosts' restarts; 'flynn-host undrain' ends it.
    """
    for host_id in host_ids:
        context.client.run(calls.drain(host_id, True))
