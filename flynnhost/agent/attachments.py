"""All who are attached to jobs of this host, or to commands in them."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList

from flynnhost.agent.attached import Attached
from flynnhost.agent.attachment import Attachment, Surroundings
from flynnhost.agent.execution import Execution
from flynnhost.agent.typed_input import TypedInput
from flynnhost.errors import JobNotRunning, TooManyRequests, UnknownJob
from flynnhost.interfaces import AttachQuery, ExecSpec, IAttachClient, IAttachment
from flynnhost.model import JobStatus

MAX_WAITING = 1_000
"""Clients that may wait for jobs that this host does not know."""

MAX_ATTACHED = 4_000
"""Clients in all. Each takes one or two of the files that the host may have open."""

MAX_COMMANDS = 200
"""Commands under way. The engine is asked for each of them on the way that jobs need as well."""


@define(eq=False)
class Attachments:
    """Makes attachments, and ends them when the host stops."""

    _around: Surroundings
    _all: dict[Attached, None] = field(init=False, factory=dict)
    _commands: int = field(init=False, default=0)

    def __len__(self) -> int:
        return len(self._all)

    def attach(self, query: AttachQuery, client: IAttachClient) -> IAttachment:
        """See ``IAgent.attach``."""
        known = self._around.table.jobs
        if query.job_id not in known:
            if not query.wait:
                raise UnknownJob(query.job_id)
            waiting = sum(isinstance(each, Attachment) and each.job_id not in known for each in self._all)
            if waiting >= MAX_WAITING:
                raise TooManyRequests(f"{waiting} requests that wait for jobs to come")
        whose = f"job {query.job_id}"
        typed = TypedInput(query.stdin)
        self._check_room()
        return self._begin(Attachment(self._around.clock, client, whose, typed, self._around, query))

    def exec(self, job_id: str, spec: ExecSpec, client: IAttachClient) -> IAttachment:
        """See ``IAgent.exec``."""
        around = self._around
        job = around.table.get(job_id)
        if job.status is not JobStatus.RUNNING:
            raise JobNotRunning(job_id, job.phase.value)
        self._check_room()
        if self._commands >= MAX_COMMANDS:
            raise TooManyRequests(f"{self._commands} commands")
        typed = TypedInput(spec.stdin)
        execution = Execution(
            around.clock,
            client,
            f"job {job_id}",
            typed,
            around.background,
            around.containers,
            job.container_id,
            spec,
        )
        self._commands += 1
        # The engine may still be at it when the client has gone and needs nothing more.
        over = DeferredList([execution.when_freed(), execution.when_begun()])
        over.addCallback(self._command_over)
        return self._begin(execution)

    def stop(self) -> Deferred[None]:
        """End them all. Fires when all they used is freed; never fails."""
        freed = [attached.when_freed() for attached in self._all]
        for attached in list(self._all):
            attached.end("this host is shutting down")
        return DeferredList(freed).addCallback(lambda _: None)

    def _check_room(self) -> None:
        if len(self._all) >= MAX_ATTACHED:
            raise TooManyRequests(f"{len(self._all)} clients attached")

    def _command_over(self, _: object) -> None:
        self._commands -= 1

    def _begin(self, attached: Attached) -> IAttachment:
        self._all[attached] = None
        attached.when_freed().addCallback(lambda _: self._all.pop(attached, None))
        attached.begin()
        return attached
