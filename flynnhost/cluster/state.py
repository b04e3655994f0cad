"""The cluster's state: hosts, and the jobs that are meant to be on them. In memory only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import define, field, frozen

from flynnhost.errors import JobConflict, UnknownHost
from flynnhost.model import Host, Job, digest


@frozen
class Placed:
    """A job and the host it belongs to.

    :param digest: what ``digest(job)`` is.
    """

    host_id: str
    job: Job
    digest: str


@define(eq=False)
class _HostJobs:
    attributes: Mapping[str, str]
    jobs: dict[str, Job] = field(factory=dict)


@define(eq=False)
class _Held:
    """A job of one batch or more that its host has not acknowledged yet."""

    placed: Placed
    holders: int = 0
    removed: bool = False


@define(eq=False)
class ClusterState:
    """All hosts with their jobs, and all jobs by ID.

    What a batch costs here depends on the batch alone: everything is found by its ID, and
    nothing goes through all hosts or jobs but what lists them.
    """

    _hosts: dict[str, _HostJobs] = field(init=False, factory=dict)
    _jobs: dict[str, Placed] = field(init=False, factory=dict)
    _held: dict[str, _Held] = field(init=False, factory=dict)

    def hosts(self) -> Sequence[Host]:
        """All hosts with their jobs."""
        return [
            Host(id=host_id, attributes=host.attributes, jobs=tuple(host.jobs.values()))
            for host_id, host in self._hosts.items()
        ]

    def has_host(self, host_id: str) -> bool:
        """Whether the cluster has this host."""
        return host_id in self._hosts

    def add_host(self, host: Host) -> None:
        """Add a host with the jobs it has, or take its report in place of an earlier one."""
        if host.id in self._hosts:
            self.remove_host(host.id)
        self._hosts[host.id] = _HostJobs(host.attributes)
        for job in host.jobs:
            self._put(Placed(host.id, job, digest(job)))

    def remove_host(self, host_id: str) -> None:
        """Remove a host and its jobs."""
        for job_id in self._hosts.pop(host_id).jobs:
            del self._jobs[job_id]

    def report(self, host_id: str, job: Job) -> None:
        """Keep a job that a host says it has, unless it is known or about to be."""
        if self._known(job.id) is None and host_id in self._hosts:
            self._put(Placed(host_id, job, digest(job)))

    def remove_job(self, host_id: str, job_id: str) -> None:
        """Take a job out, if it is there."""
        if job_id in self._held:
            self._held[job_id].removed = True
        placed = self._jobs.get(job_id)
        if placed is not None and placed.host_id == host_id:
            del self._jobs[job_id]
            del self._hosts[host_id].jobs[job_id]

    def begin(self, batch: Mapping[str, Sequence[Job]]) -> list[Placed]:
        """Check a whole batch, and hold its IDs until each was committed or abandoned.

        :raises UnknownHost: when there is no such host.
        :raises JobConflict: when an ID is taken by other content or on another host.
        """
        wanted: dict[str, Placed] = {}
        for host_id, jobs in batch.items():
            if host_id not in self._hosts:
                raise UnknownHost(host_id)
            for job in jobs:
                placed = Placed(host_id, job, digest(job))
                _check_same(placed, self._known(job.id) or wanted.setdefault(job.id, placed))
                wanted[job.id] = placed
        for job_id, placed in wanted.items():
            self._held.setdefault(job_id, _Held(placed)).holders += 1
        return list(wanted.values())

    def commit(self, placed: Placed) -> None:
        """Keep a job that was begun, unless it was removed since."""
        held = self._let_go(placed.job.id)
        if not held.removed and placed.host_id in self._hosts and placed.job.id not in self._jobs:
            self._put(placed)

    def abandon(self, placed: Placed) -> None:
        """Let go of a job that was begun, and came to nothing."""
        self._let_go(placed.job.id)

    def _known(self, job_id: str) -> Placed | None:
        if job_id in self._held:
            return self._held[job_id].placed
        return self._jobs.get(job_id)

    def _let_go(self, job_id: str) -> _Held:
        held = self._held[job_id]
        held.holders -= 1
        if not held.holders:
            del self._held[job_id]
        return held

    def _put(self, placed: Placed) -> None:
        self._jobs[placed.job.id] = placed
        self._hosts[placed.host_id].jobs[placed.job.id] = placed.job


def _check_same(asked: Placed, known: Placed) -> None:
    if asked.host_id != known.host_id:
        raise JobConflict(asked.job.id, f"is on host {known.host_id}, not to be put on {asked.host_id}")
    if asked.digest != known.digest:
        raise JobConflict(asked.job.id, f"is on host {known.host_id} already, with other content")
