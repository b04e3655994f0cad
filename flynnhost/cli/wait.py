"""flynn-host wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.exit_codes import ExitCode, job_exit_code
from flynnhost.cli.finding import FoundJob, find_jobs
from flynnhost.cli.program import Command
from flynnhost.client.values import ActiveJob, Status


@click.command("wait", cls=Command, examples=["flynn-host wait web", "flynn-host wait job1 job2"])
@click.argument("jobs", metavar="ID...", nargs=-1, required=True)
@host_url_option
@pass_context
def command(context: Context, jobs: tuple[str, ...]) -> int:
    """Wait until jobs have ended, and print the exit code of each.

    Exits with that of the last one named; 125 stands for a job that could not be started.
    """
    found = find_jobs(context, jobs)
    from flynnhost.cli.in_reactor import in_reactor

    context.close()
    return in_reactor(lambda reactor, _: _wait(reactor, found))


async def _wait(reactor: Any, jobs: Sequence[FoundJob]) -> int:
    from twisted.internet.defer import Deferred

    code: int = ExitCode.DONE
    waiting = [Deferred.fromCoroutine(_ended(reactor, job)) for job in jobs]
    try:
        for each in waiting:
            code = exit_code(await each)
            click.echo(code)
    finally:
        for each in waiting:
            each.addErrback(lambda _: None)
            each.cancel()
    return code


async def _ended(reactor: Any, job: FoundJob) -> ActiveJob:
    from flynnhost.client.client import Client
    from flynnhost.client.errors import BrokenOff

    client = Client(reactor, job.address)
    events = client.job_events(job.id, snapshot=True)
    try:
        async for event in events:
            if event.job is not None and event.job.ended:
                return event.job
    finally:
        events.close()
        await client.close()
    raise BrokenOff(f"the host at {job.address} has stopped")


def exit_code(active: ActiveJob) -> int:
    """The exit code for a job that has ended."""
    if active.status is Status.FAILED:
        return ExitCode.NOT_STARTED
    return job_exit_code(active.exit_status)
