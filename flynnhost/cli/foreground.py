"""Runs a job with this process at its streams."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from flynnhost.cli.context import is_terminal
from flynnhost.cli.exit_codes import ExitCode, job_exit_code
from flynnhost.cli.failures import CommandFailed, say
from flynnhost.cli.in_reactor import Signals, in_reactor
from flynnhost.cli.placing import Place
from flynnhost.cli.progress import working
from flynnhost.cli.session import Ending, Session, Wishes
from flynnhost.client.attach import AttachStream, Ready
from flynnhost.client.client import Client
from flynnhost.client.errors import AttachFailed, ClientError
from flynnhost.client.values import ActiveJob, Job, Status

_BETWEEN_LOOKS = 0.3

NO_PROGRAM = re.compile(r"executable file not found|no such file or directory", re.IGNORECASE)
NOT_EXECUTABLE = re.compile(r"permission denied|exec format error|is a directory", re.IGNORECASE)


def run_in_foreground(place: Place, job: Job, *, tty: bool, stdin: bool) -> int:
    """Run a job and be at its streams to its end; the exit code to exit with."""

    async def main(reactor: Any, signals: Signals) -> int:
        foreground = Foreground(reactor, signals, place, job, Wishes(stdin=stdin, tty=tty))
        return await foreground.run()

    return in_reactor(main)


@define(eq=False)
class Foreground:
    """One job, from before it is created."""

    _reactor: Any
    _signals: Signals
    _place: Place
    _job: Job
    _wishes: Wishes
    _client: Client = field(init=False)
    _created: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._client = Client(self._reactor, self._place.at)

    async def run(self) -> int:
        """Attach first, then create the job: not a byte of its output is lost."""
        stream: AttachStream | None = None
        try:
            stream = await self._client.attach(
                self._job.id, stdin=self._wishes.stdin, size=self._wishes.size()
            )
            first = await anext(stream)
            await self._create()
            return await self._ended(await self._session(stream, first == Ready(attached=True)))
        except AttachFailed as e:
            return await self._failed(e)
        except CancelledError:
            await self._abandon()
            raise
        finally:
            if stream is not None:
                stream.close()
            await self._client.close()

    async def _create(self) -> None:
        asked = Client(self._reactor, self._place.asked)
        try:
            await asked.run(self._place.creating(self._job))
            self._created = True
        finally:
            await asked.close()

    async def _session(self, stream: AttachStream, attached: bool) -> Ending:
        with ExitStack() as shown:
            progress = Progress(self._reactor, self._client, self._job)
            shown.callback(progress.stop)
            session = Session(self._reactor, self._signals, self._wishes, stream, progress.stop)
            shown.callback(session.end)
            progress.start()
            if attached:
                session.begin()
            return await session.run()

    async def _ended(self, ending: Ending) -> int:
        if ending.stop:
            say(f"stopping job {self._job.id}")
            await self._client.stop_job(self._job.id)
            return ending.code
        if ending.status is None:
            say(f"left job {self._job.id}; 'flynn-host attach {self._job.id}' returns to it")
            return ending.code
        return await tell_ending(self._client, self._job.id, ending.status)

    async def _failed(self, error: AttachFailed) -> int:
        """It was not attached to the end: for the most part since the job could not be started."""
        if self._created:
            active = await self._client.job(self._job.id)
            if active.status is Status.FAILED:
                raise not_started(active) from error
        raise CommandFailed(f"job {self._job.id}: {error}") from error

    async def _abandon(self) -> None:
        """Nobody waits for the job any more, and it has not begun."""
        if not self._created:
            return
        try:
            await self._client.stop_job(self._job.id)
        except ClientError as e:
            say(f"job {self._job.id} could not be stopped: {e}")


async def tell_ending(client: Client, job_id: str, status: int) -> int:
    """The exit code for a job's exit status; when that does not tell why it ended, it is said."""
    if status in (-1, 137):
        try:
            active = await client.job(job_id)
        except ClientError:
            return job_exit_code(status)
        if active.oom_killed:
            say(f"job {job_id} was ended for lack of memory; --memory gives it more")
        elif status < 0:
            say(f"job {job_id} was lost with its container" + (f": {active.error}" if active.error else ""))
    return job_exit_code(status)


def not_started(active: ActiveJob) -> CommandFailed:
    """The error for a job that failed, with the code that a shell would give where there is one."""
    reason = " ".join(active.error.split()) or "no reason was given"
    code = ExitCode.NOT_STARTED
    if NO_PROGRAM.search(reason):
        code = ExitCode.NO_SUCH_PROGRAM
    elif NOT_EXECUTABLE.search(reason):
        code = ExitCode.NOT_EXECUTABLE
    return CommandFailed(f"job {active.id} could not be started: {reason}", code)


@define(eq=False)
class Progress:
    """Tells on stderr what a job waits for until it runs."""

    _reactor: Any
    _client: Client
    _job: Job
    _looking: Deferred[None] | None = field(init=False, default=None)
    _shown: ExitStack = field(init=False, factory=ExitStack)

    def start(self) -> None:
        """Begin."""
        looking = Deferred.fromCoroutine(self._look())
        # It is only for people, and whatever is wrong is told by the attachment too.
        self._looking = looking.addErrback(lambda failure: failure.trap(CancelledError, ClientError) and None)

    def stop(self) -> None:
        """End, and leave nothing on the screen. May be called again."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
        self._shown.close()

    async def _look(self) -> None:
        image = self._job.artifact.url if self._job.artifact else ""
        tell: Callable[[str], None] | None = None
        said = False
        while True:
            await deferLater(self._reactor, _BETWEEN_LOOKS)
            active = await self._client.job(self._job.id)
            if active.status is not Status.STARTING:
                return
            if is_terminal(sys.stderr):
                tell = tell or self._shown.enter_context(working(""))
                tell(f"{active.phase} {active.detail or image}")
            elif active.phase == "pulling" and not said:
                said = True
                say(f"pulling {image}")
