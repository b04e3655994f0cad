"""flynn-host stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread

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
    stopped, as far as this is concerned. Ctrl-C ends only the waiting: what has been asked for goes on.
    """
    found, code = _find_all(context, jobs)
    return _stop_all(found) or code


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


def _stop_all(jobs: Sequence[FoundJob]) -> int:
    code: int = ExitCode.DONE
    with working(f"stopping {len(jobs)} job{'s' if len(jobs) > 1 else ''}"):
        for job, error in _each_stopped(jobs):
            if error is None:
                click.echo(job.id)
            elif isinstance(error, ClientError):
                say(f"job {job.id}: {explained(error)}")
                code = exit_code_of(error)
            else:
                raise error
    return code


def _each_stopped(jobs: Sequence[FoundJob]) -> Iterator[tuple[FoundJob, Exception | None]]:
    """Each job as it has ended, or what is wrong.

    The threads are not waited for when the program ends: Ctrl-C is not to take as long as the jobs do.
    """
    left: SimpleQueue[FoundJob] = SimpleQueue()
    done: SimpleQueue[tuple[FoundJob, Exception | None]] = SimpleQueue()
    for job in jobs:
        left.put(job)
    for _ in jobs[:_AT_A_TIME]:
        Thread(target=_work, args=(left, done), daemon=True).start()
    for _ in jobs:
        yield done.get()


def _work(left: SimpleQueue[FoundJob], done: SimpleQueue[tuple[FoundJob, Exception | None]]) -> None:
    while True:
        try:
            job = left.get_nowait()
        except Empty:
            return
        try:
            _stop(job)
        except Exception as e:
            done.put((job, e))
        else:
            done.put((job, None))


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
