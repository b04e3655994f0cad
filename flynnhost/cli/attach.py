"""flynn-host attach."""

from __future__ import annotations

import click

from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.finding import find_job
from flynnhost.cli.program import Command
from flynnhost.client import calls


@click.command(
    "attach",
    cls=Command,
    examples=["flynn-host attach web", "flynn-host attach --no-stdin --logs 3f2a"],
)
@click.argument("job", metavar="ID")
@click.option("--no-stdin", is_flag=True, help="Only read what it writes.")
@click.option("--logs", is_flag=True, help="Begin with what it wrote so far.")
@host_url_option
@pass_context
def command(context: Context, job: str, no_stdin: bool, logs: bool) -> int:
    """Be at the streams of a job, and exit as it does.

    Ctrl-P Ctrl-Q leaves a job with a terminal; without a terminal Ctrl-C sends it SIGINT, and twice within a
    second asks what to do. Of a job that has ended, all it wrote is shown.
    """
    found = find_job(context, job)
    active = found.client.run(calls.job(found.id))
    from flynnhost.cli.attaching import attach_to

    context.close()
    return attach_to(found.address, active, stdin=not no_stdin, logs=logs)
