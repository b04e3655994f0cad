"""A flynn-host that ends itself, as a kill -9 would, at one step of the life of a job.

Run as ``armed_host.py STEP JOB FILE OPTION...``. The steps are the calls to its engine and
its journal, made and answered. They count from the moment when the journal is to write the job
JOB for the first time, or from the start if JOB is ``-``. What they were is in FILE at the end.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import define
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver
from zope.interface import implementer

from flynnhost.agent.journal import SqliteJournal
from flynnhost.agent.state_dir import lock_state_dir
from flynnhost.containers.client import DockerClient
from flynnhost.etcd.clocks import boottime
from flynnhost.host import build_host
from flynnhost.interfaces import IJournal, JournalContents
from flynnhost.model import ActiveJob
from flynnhost.tap import Options
from flynnhost.testing.seams import Steps, armed_containers, armed_journal

FROM_THE_START = "-"


@define(eq=False)
class LaterSteps(Steps):
    """Steps that count from some moment on."""

    armed: bool = False

    def reach(self, name: str) -> bool:
        """See ``Steps``."""
        return super().reach(name) if self.armed else True


@implementer(IJournal)
@define(eq=False)
class ArmingJournal:
    """Arms the steps when a job is to be written."""

    _inner: IJournal
    _steps: LaterSteps
    _job_id: str

    def open(self) -> Deferred[JournalContents]:
        """See ``IJournal``."""
        return self._inner.open()

    def write(self, jobs: Sequence[ActiveJob], term: int = 0) -> Deferred[None]:
        """See ``IJournal``."""
        if any(job.id == self._job_id for job in jobs):
            self._steps.armed = True
        return self._inner.write(jobs, term)

    def forget(self, job_ids: Sequence[str]) -> Deferred[None]:
        """See ``IJournal``."""
        return self._inner.forget(job_ids)

    def keep_draining(self, draining: bool) -> Deferred[None]:
        """See ``IJournal``."""
        return self._inner.keep_draining(draining)

    def keep_attribute(self, name: str, value: str | None) -> Deferred[None]:
        """See ``IJournal``."""
        return self._inner.keep_attribute(name, value)

    def forget_attribute(self, name: str) -> Deferred[None]:
        """See ``IJournal``."""
        return self._inner.forget_attribute(name)

    def close(self) -> Deferred[None]:
        """See ``IJournal``."""
        return self._inner.close()


def main(step: str, job_id: str, file: str, *arguments: str) -> None:
    """Run the host until it is ended, or ends itself."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    options = Options()
    options.parseOptions(arguments)

    def write_steps() -> None:
        Path(file).write_text("\n".join(steps.names))

    def end() -> None:
        write_steps()
        os.kill(os.getpid(), signal.SIGKILL)

    steps = LaterSteps(end, int(step), armed=job_id == FROM_THE_START)
    loop: Any = reactor
    state_dir = lock_state_dir(options.settings.state_dir)
    journal = armed_journal(SqliteJournal(loop, state_dir.journal), steps)
    host = build_host(
        loop,
        options.settings,
        journal=ArmingJournal(journal, steps, job_id),
        containers=armed_containers(DockerClient(loop, options.settings.docker), steps),
        state_dir=state_dir,
        now=lambda: datetime.now(UTC),
        boottime=boottime,
        epoch=secrets.token_hex(4),
        resources={},
    )
    host.privilegedStartService()
    host.startService()
    loop.addSystemEventTrigger("before", "shutdown", host.stopService)
    loop.addSystemEventTrigger("after", "shutdown", write_steps)
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
