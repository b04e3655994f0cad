"""This host, as others see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from flynnhost.interfaces.attach import AttachQuery, IAttachClient, IAttachment
from flynnhost.interfaces.containers import ExecSpec, IEntryReceiver, ILogReceiver, ILogStream, LogQuery
from flynnhost.interfaces.feeds import ISubscription
from flynnhost.model import ActiveJob, Job


@frozen
class Check:
    """One line of a readiness report."""

    name: str
    ok: bool
    detail: str


class IAgent(Interface):
    """This host and its jobs.

    Until the journal was read, everything but ``readiness`` raises or fails with
    ``NotReady``: a short list is not an empty host.
    """

    host_id: str = Attribute("this host's ID")
    attributes: Mapping[str, str] = Attribute("what is said of this host for schedulers")
    resources: Mapping[str, int] = Attribute(
        "what the machine has: memory in bytes, cpu in thousandths of a core"
    )
    draining: bool = Attribute("whether this host is to get no more jobs from leaders")
    events: Any = Attribute("IFeed[JobEvent] of all jobs; the key is the job's ID")

    def jobs() -> Mapping[str, ActiveJob]:
        """All jobs of this host by ID, ended ones too. A view: don't keep it."""

    def job(job_id: str) -> ActiveJob:
        """One job.

        :raises UnknownJob: when this host has no such job.
        """

    def latest_ended(limit: int) -> Sequence[str]:
        """The IDs of the jobs that have ended last, the latest first; fewer than all of them may be known.

        :param limit: how many are wanted at the most.
        """

    def accept(jobs: Sequence[Job], term: int) -> Deferred[list[ActiveJob]]:
        """Take these jobs, all or none, and run them. Fires with them in the given order when
        they are on disk; what was accepted before with the same content is not run again.

        :param term: of the leader that sends them; 0 for somebody at this very host.
        :raises InvalidField: when this host can't honour one; the path begins ``[INDEX].``.
        :raises JobConflict: when an ID is taken by other content.
        :raises StaleTerm: when a later leader was heard already.
        :raises JournalFailed: when they could not be written.
        """

    def set_draining(draining: bool, term: int) -> Deferred[None]:
        """Say whether this host is to get no more jobs from leaders. Jobs go on, and so do those that are
        put on this very host. Fires when that is on disk; also when it was so already.

        :param term: of the leader that says so.
        :raises StaleTerm: when a later leader was heard already.
        :raises JournalFailed: when it could not be written.
        """

    def watch_draining(listener: Callable[[bool], None]) -> ISubscription:
        """Call a listener with each change of ``draining``."""

    def set_attribute(name: str, value: str) -> Deferred[None]:
        """Say something of this host, until something else is said. Fires when that is on disk.

        :raises InvalidField: when the ``name`` or the ``value`` can't be, or these were too many.
        :raises JournalFailed: when it could not be written.
        """

    def remove_attribute(name: str) -> Deferred[None]:
        """Say no more of this, until it is said again. Fires when that is on disk.

        :raises UnknownAttribute: when this host has no such attribute.
        :raises JournalFailed: when it could not be written.
        """

    def watch_attributes(listener: Callable[[Mapping[str, str]], None]) -> ISubscription:
        """Call a listener with each change of ``attributes``."""

    def stop_job(job_id: str) -> Deferred[ActiveJob]:
        """End a job: TERM, a grace, KILL. Fires with the job when it has ended.

        :raises UnknownJob: when this host has no such job.
        :raises JobNotRunning: when it has ended already.
        :raises TookTooLong: when it did not end in time; the host goes on trying.
        """

    def signal_job(job_id: str, signal: int) -> Deferred[None]:
        """Send a signal to a running job. Fires when it was sent.

        :raises UnknownJob: when this host has no such job.
        :raises JobNotRunning: when it has ended or has not started.
        """

    def job_output(job_id: str, query: LogQuery, receiver: ILogReceiver) -> Deferred[ILogStream]:
        """Begin to pass on a job's output; for one that has not started yet, from its start.

        :raises UnknownJob: when this host has no such job.
        :raises OutputGone: when there is none to be had, or not what comes after the query's position.
        """

    def job_entries(job_id: str, query: LogQuery, receiver: IEntryReceiver) -> Deferred[ILogStream]:
        """The same as ``job_output``, entry by entry, each with its position."""

    def attach(query: AttachQuery, client: IAttachClient) -> IAttachment:
        """Connect a client to a job's streams. The client may be called before this returns.

        :raises UnknownJob: when this host has no such job, and the query is not to wait for it.
        :raises TooManyRequests: when too many wait for jobs that this host does not know.
        """

    def exec(job_id: str, spec: ExecSpec, client: IAttachClient) -> IAttachment:
        """Run a command in a running job, with the client at its streams. It ends with the client.
        The client may be called before this returns.

        :raises UnknownJob: when this host has no such job.
        :raises JobNotRunning: when it has ended or has not started.
        """

    def readiness() -> tuple[Check, ...]:
        """Whether this host can run jobs, point by point."""

    def status() -> Mapping[str, Any]:
        """What an operator wants to know of this host at a glance, as JSON values."""
