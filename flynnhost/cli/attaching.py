"""Puts this process at the streams of a job that is there, or of a command in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from flynnhost.cli.exit_codes import ExitCode, job_exit_code
from flynnhost.cli.failures import CommandFailed, say
from flynnhost.cli.foreground import NO_PROGRAM, NOT_EXECUTABLE, not_started, tell_ending
from flynnhost.cli.in_reactor import Signals, in_reactor
from flynnhost.cli.session import Session, Wishes
from flynnhost.client.address import HostAddress
from flynnhost.client.client import Client
from flynnhost.client.errors import AttachFailed
from flynnhost.client.values import ActiveJob, Status


def attach_to(address: HostAddress, active: ActiveJob, *, stdin: bool, logs: bool) -> int:
    """Be at the streams of a job to its end; the exit code to exit with.

    :param logs: with what it wrote so far, which one that has ended always has.
    """
    config = active.job.config
    tty = config is not None and config.tty
    has_stdin = config is not None and config.stdin and not active.ended
    wishes = Wishes(stdin=stdin and has_stdin, tty=tty)

    async def main(reactor: Any, signals: Signals) -> int:
        client = Client(reactor, address)
        try:
            stream = await client.attach(
                active.id, stdin=wishes.stdin, logs=logs or active.ended, wait=False, size=wishes.size()
            )
            ending = await Session(reactor, signals, wishes, stream).run()
            if ending.stop:
                say(f"stopping job {active.id}")
                await client.stop_job(active.id)
            elif ending.status is not None:
                return await tell_ending(client, active.id, ending.status)
            return ending.code
        except AttachFailed as e:
            now = await client.job(active.id)
            if now.status is Status.FAILED:
                raise not_started(now) from e
            raise CommandFailed(f"job {active.id}: {e}") from e
        finally:
            await client.close()

    return in_reactor(main)


@frozen
class ExecWishes:
    """A command in a job. What is empty is as in the job."""

    cmd: tuple[str, ...]
    env: Mapping[str, str]
    user: str
    working_dir: str


def exec_in(address: HostAddress, job_id: str, command: ExecWishes, *, tty: bool, stdin: bool) -> int:
    """Run a command in a job and be at its streams; the exit code to exit with."""
    wishes = Wishes(stdin=stdin, tty=tty, what="the command", can_stop=False)

    async def main(reactor: Any, signals: Signals) -> int:
        client = Client(reactor, address)
        stream = await client.exec(
            job_id,
            command.cmd,
            env=command.env,
            tty=tty,
            stdin=stdin,
            user=command.user,
            working_dir=command.working_dir,
            size=wishes.size(),
        )
        try:
            ending = await Session(reactor, signals, wishes, stream).run()
        except AttachFailed as e:
            raise CommandFailed(f"{command.cmd[0]!r} could not be run: {e}", _code(e.reason)) from e
        return ending.code if ending.status is None else job_exit_code(ending.status)

    return in_reactor(main)


def _code(reason: str) -> int:
    if NO_PROGRAM.search(reason):
        return ExitCode.NO_SUCH_PROGRAM
    return ExitCode.NOT_EXECUTABLE if NOT_EXECUTABLE.search(reason) else ExitCode.FAILED
