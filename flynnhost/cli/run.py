"""flynn-host run."""

from __future__ import annotations

import sys
from typing import Any

import click

from flynnhost.cli.context import Context, host_url_option, is_terminal, pass_context
from flynnhost.cli.new_job import job_options, make_job
from flynnhost.cli.placing import place
from flynnhost.cli.program import Command

_OF_DOCKER = {
    "--rm": "the container of a job that has ended is kept, for 'flynn-host log' to show what it wrote.",
    "--name": "the name of a job is its --id.",
    "--network": "--host-network gives a job the network of its host.",
    "--net": "--host-network gives a job the network of its host.",
    "--publish": "--port 8080 gives a job that port, and the same one of its host.",
    "--publish-all": "--port 0 gives a job a port that its host chooses.",
    "-P": "--port 0 gives a job a port that its host chooses.",
    "--restart": "a job runs once; a scheduler starts another one.",
    "--label": "--attr NAME=VALUE says something of a job.",
    "-l": "--attr NAME=VALUE says something of a job.",
}
"""What to do instead of options that hands know from docker."""


class _Run(Command):
    """Tells what there is in place of docker's options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See ``click.BaseCommand``."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as e:
            instead = _OF_DOCKER.get(e.option_name)
            if instead is None:
                raise
            raise click.UsageError(f"there is no {e.option_name} here: {instead}", ctx) from e


@click.command(
    "run",
    cls=_Run,
    context_settings={"allow_interspersed_args": False},
    examples=[
        "flynn-host run busybox sh",
        "flynn-host run --detach --id web --port 8080 --memory 512m nginx",
        "flynn-host run --host h2 -e TOKEN -v data:/data --cpus 0.5 busybox ls -l /data",
    ],
)
@click.argument("image")
@click.argument("cmd", nargs=-1, type=click.UNPROCESSED)
@click.option("--detach", "-d", is_flag=True, help="Print its ID and return; don't wait for it.")
@click.option("--tty/--no-tty", "-t/-T", default=None, help="Give it a terminal, or not.")
@click.option("--interactive/--no-stdin", "-i/-I", "stdin", default=None, help="Pass on stdin, or not.")
@click.option("--host", "host_id", metavar="HOST", help="The host of the cluster to run it on.")
@job_options
@host_url_option
@pass_context
def command(
    context: Context,
    /,
    image: str,
    cmd: tuple[str, ...],
    detach: bool,
    tty: bool | None,
    stdin: bool | None,
    host_id: str | None,
    **options: Any,
) -> int:
    """Run a command in a new job, and exit as it does.

    By default with what is typed here, at a terminal of its own, if stdin and stdout are a terminal. Ctrl-P
    Ctrl-Q leaves the job running; without a terminal Ctrl-C sends it SIGINT, and twice within a second
    asks what to do.
    """
    seated = is_terminal(sys.stdin) and is_terminal(sys.stdout) and not detach
    wants_tty = seated if tty is None else tty
    wants_stdin = seated if stdin is None else stdin
    job = make_job(image, cmd, tty=wants_tty, stdin=wants_stdin or (wants_tty and detach), options=options)
    where = place(context, host_id)
    if detach:
        context.client_of(where.asked).run(where.creating(job))
        click.echo(job.id)
        return 0
    from flynnhost.cli.foreground import run_in_foreground  # takes Twisted with it

    context.close()
    return run_in_foreground(where, job, tty=wants_tty, stdin=wants_stdin)
