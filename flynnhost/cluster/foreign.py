"""Hosts that speak only Flynn's own way to register: jobs go to them, and nothing comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger

from flynnhost.cluster.arrival import Arrival
from flynnhost.cluster.membership import Membership
from flynnhost.cluster.past import FOREIGN
from flynnhost.cluster.state import ClusterState
from flynnhost.cluster.stored import placed_of
from flynnhost.errors import DuplicateHost, InvalidField
from flynnhost.interfaces import IPrepared, Part
from flynnhost.model import Host, Job, JobStatus


def check_host_id(host_id: str) -> None:
    """Refuse what can't be the ID of a host.

    :raises InvalidField: if it can't.
    """
    if not host_id:
        raise InvalidField("id", "must not be empty")
    if "-" in host_id or "/" in host_id or not host_id.isprintable():
        raise InvalidField("id", f"{host_id!r} is not a host ID: it must not hold a dash")


@define(eq=False)
class _ForeignLink:
    """The way to such a host. It may run a job as often as it is sent, so each is sent once."""

    _host_id: str
    _state: ClusterState
    _jobs: Callable[[Sequence[Job]], None]

    def submit(self, part: Part, term: int) -> Deferred[list[JobStatus]]:
        def written() -> list[JobStatus]:
            ids = part.jobs.ids()
            had = {job_id for job_id in ids if self._state.had_job(self._host_id, job_id)}
            new = {
                job.id: job
                for job in part.jobs
                if job.id not in had and not self._state.has_job(self._host_id, job.id)
            }
            if new:
                self._jobs(list(new.values()))
            # How one has ended the host never says.
            return [JobStatus.DONE if job_id in had else JobStatus.STARTING for job_id in ids]

        return maybeDeferred(written)

    def prepare(self, part: Part, term: int) -> Deferred[IPrepared]:
        return succeed(_Ready(self, part, term))

    def set_draining(self, draining: bool, term: int) -> Deferred[None]:
        return fail(InvalidField("host", f"{self._host_id} is a foreign host: it can't be told to drain"))


@define(eq=False)
class _Ready:
    _link: _ForeignLink
    _part: Part
    _term: int

    def submit(self) -> Deferred[list[JobStatus]]:
        return self._link.submit(self._part, self._term)

    def drop(self) -> None:
        """Nothing was kept."""


@define(eq=False)
class ForeignHosts:
    """Takes in such hosts, and lets them go as soon as their stream has ended, as Flynn does."""

    log = Logger()

    _state: ClusterState
    _membership: Membership

    def register(self, host: Host, jobs: Callable[[Sequence[Job]], None]) -> Callable[[], None]:
        """See ``IClusterHosts.register``."""
        check_host_id(host.id)
        if self._membership.instance(host.id) is not None:
            raise DuplicateHost(host.id)
        link = _ForeignLink(host.id, self._state, jobs)
        placed = placed_of(host.id, host.jobs)
        self._membership.join(Arrival(host.id, host.attributes, placed, FOREIGN), link)
        self.log.info("Foreign host {host_id} has registered", host_id=host.id)

        def gone() -> None:
            self.log.info("Foreign host {host_id} has gone", host_id=host.id)
            self._membership.leave(host.id, link)

        return gone
