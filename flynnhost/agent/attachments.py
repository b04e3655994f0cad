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


@define(eq=False)
class Attachments:
    """Makes attachments, and ends them when the host stops."""

    _around: Surroundings
    _all: dict[Attached, None] = field(init=False, factory=dict)

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
        return self._begin(Attachment(self._around.clock, client, whose, typed, self._around, query))

    def exec(self, job_id: str, spec: ExecSpec, client: IAttachClient) -> IAttachment:
        """See ``IAgent.exec``."""
        around = self._around
        job = around.table.get(job_id)
        if job.status is not JobStatus.RUNNING:
            raise JobNotRunning(job_id, job.phase.value)
        return self._begin(
            Execution(
                around.clock,
                client,
                f"job {job_id}",
                TypedInput(spec.stdin),
                around.background,
                around.containers,
                job.container_id,
                spec,
            )
        )

    def stop(self) -> Deferred[None]:
        """End them all. Fires when all they used is freed; never fails."""
        freed = [attached.when_freed() for attached in self._all]
        for attached in list(self._all):
            attached.end("this host is shutting down")
        return DeferredList(freed).addCallback(lambda _: None)

    def _begin(self, attached: Attached) -> IAttachment:
        self._all[attached] = None
        attached.when_freed().addCallback(lambda _: self._all.pop(attached, None))
        attached.begin()
        return attached
