"""flynn-host exec."""

from __future__ import annotations

import os
import sys

import click

from flynnhost.cli.context import Context, host_url_option, is_terminal, pass_context
from flynnhost.cli.finding import find_job
from flynnhost.cli.job_texts import BadText, variables
from flynnhost.cli.program import Command


@click.command(
    "exec",
    cls=Command,
    context_settings={"allow_interspersed_args": False},
    examples=["flynn-host exec web sh", "flynn-host exec -e DEBUG=1 -w /srv web ls -l"],
)
@click.argument("job", metavar="ID")
@click.argument("cmd", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--tty/--no-tty", "-t/-T", default=None, help="Give it a terminal, or not.")
@click.option("--interactive/--no-stdin", "-i/-I", "stdin", default=None, help="Pass on stdin, or not.")
@click.option("--env", "-e", multiple=True, metavar="NAME[=VALUE]", help="A variable, or one of here.")
@click.option("--workdir", "-w", metavar="PATH", default="", help="The directory to run in.")
@click.option("--user", "-u", metavar="USER", default="", help="The user, by name or number.")
@host_url_option
@pass_context
def command(
    context: Context,
    /,
    job: str,
    cmd: tuple[str, ...],
    tty: bool | None,
    stdin: bool | None,
    env: tuple[str, ...],
    workdir: str,
    user: str,
) -> int:
    """Run a command in a running job, and exit as it does.

    By default with what is typed here, at a terminal of its own, if stdin and stdout are a terminal.
    """
    if cmd[0] == "--":  # some programs want it between the two, and no program has this name
        cmd = cmd[1:]
    if not cmd:
        raise click.UsageError("Missing argument 'CMD...'.")
    seated = is_terminal(sys.stdin) and is_terminal(sys.stdout)
    try:
        given = variables(env, os.environ)
    except BadText as e:
        raise click.BadParameter(str(e), param_hint="--env") from e
    found = find_job(context, job)
    from flynnhost.cli.attaching import ExecWishes, exec_in

    context.close()
    wishes = ExecWishes(cmd, given, user, workdir)
    return exec_in(
        found.address,
        found.id,
        wishes,
        tty=seated if tty is None else tty,
        stdin=seated if stdin is None else stdin,
    )
