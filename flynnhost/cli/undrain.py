"""flynn-host undrain."""

from __future__ import annotations

import click

from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.program import Command
from flynnhost.client import calls


@click.command("undrain", cls=Command, examples=["flynn-host undrain h2"])
@click.argument("host_ids", nargs=-1, required=True, metavar="HOST...")
@host_url_option
@pass_context
def command(context: Context, host_ids: tuple[str, ...]) -> None:
    """Have hosts get jobs again that were drained."""
    for host_id in host_ids:
        context.client.run(calls.drain(host_id, False))
