"""flynn-host signal."""

from __future__ import annotations

import click

from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.finding import find_job
from flynnhost.cli.program import Command
from flynnhost.cli.signals import signal_number
from flynnhost.client import calls


@click.command(
    "signal",
    cls=Command,
    examples=["flynn-host signal web HUP", "flynn-host signal 3f2a 9"],
)
@click.argument("job", metavar="ID")
@click.argument("signal", metavar="SIGNAL")
@host_url_option
@pass_context
def command(context: Context, job: str, signal: str) -> None:
    """Send a job a signal, by name or number."""
    try:
        number = signal_number(signal)
    except ValueError as e:
        raise click.BadParameter(str(e), param_hint="SIGNAL") from e
    found = find_job(context, job)
    found.client.run(calls.signal_job(found.id, number))
