"""flynn-host stop."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, as_completed

import click

from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.exit_codes import ExitCode, exit_code_of
from flynnhost.cli.failures import CommandFailed, explained, say
from flynnhost.cli.finding import FoundJob, find_jobs
from flynnhost.cli.program import Command
from flynnhost.cli.progress import working
from flynnhost.client import calls
from flynnhost.client.blocking import BlockingClient
from flynnhost.client.errors import ClientError, Conflict

_AT_A_TIME = 16
_DEFAULT_STOP_TIMEOUT = 10.0
_NANOSECONDS = 1e9


@click.command(
    "stop",
    cls=Command,
    examples=["flynn-host stop web", "flynn-host stop $(flynn-host ps -q)"],
)
@click.argument("jobs", metavar="ID...", nargs=-1, required=True)
@host_url_option
@pass_context
def command(context: Context, jobs: tuple[str, ...]) -> int:
    """Stop jobs: SIGTERM, and SIGKILL when they don't end in time.

    Returns when all have ended, and prints the ID of each as it ends. A job that has ended already is
    stopped, as far as this is concerned.
    """
    found, code = _find_all(context, jobs)
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        under_way = {pool.submit(_stop, job): job for job in found}
        return _follow(under_way) or code


def _find_all(context: Context, references: tuple[str, ...]) -> tuple[list[FoundJob], int]:
    """Those that there are; of the others it is said that there are none."""
    found: list[FoundJob] = []
    code: int = ExitCode.DONE
    for reference in references:
        try:
            found += find_jobs(context, [reference])
        except CommandFailed as e:
            if len(references) == 1:
                raise
            say(str(e))
            code = e.code
    return list({(job.address, job.id): job for job in found}.values()), code


def _follow(under_way: dict[Future[None], FoundJob]) -> int:
    code: int = ExitCode.DONE
    with working(f"stopping {len(under_way)} job{'s' if len(under_way) > 1 else ''}"):
        for done in as_completed(under_way):
            job = under_way[done]
            try:
                done.result()
            except ClientError as e:
                say(f"job {job.id}: {explained(e)}")
                code = exit_code_of(e)
            else:
                click.echo(job.id)
    return code


def _stop(job: FoundJob) -> None:
    with BlockingClient(job.address) as client:
        config = client.run(calls.job(job.id)).job.config
        nanoseconds = config.stop_timeout if config else None
        within = _DEFAULT_STOP_TIMEOUT if nanoseconds is None else nanoseconds / _NANOSECONDS
        try:
            client.run(calls.stop_job(job.id, within))
        except Conflict:
            # Perhaps it has ended meanwhile.
            if not client.run(calls.job(job.id)).ended:
                raise
