"""The cluster's state: hosts, and the jobs that are meant to be on them. In memory only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import define, field, frozen
from twisted.logger import Logger

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
class Hold:
    """A job of a batch, whose ID is taken until it was committed or abandoned.

    :ivar removed: the job was taken out meanwhile, as it has ended.
    """

    placed: Placed
    removed: bool = False


@define(eq=False)
class _HostJobs:
    attributes: Mapping[str, str]
    jobs: dict[str, Placed] = field(factory=dict)


@define(eq=False)
class ClusterState:
    """All hosts with their jobs, and all jobs by ID.

    What a batch costs here depends on the batch alone: everything is found by its ID, and
    nothing goes through all hosts or jobs but what lists them.
    """

    log = Logger()

    _hosts: dict[str, _HostJobs] = field(init=False, factory=dict)
    _jobs: dict[str, Placed] = field(init=False, factory=dict)
    # Jobs that another host has too, which comes of putting them on hosts directly.
    _twice: dict[str, dict[str, Placed]] = field(init=False, factory=dict)
    _held: dict[str, dict[Hold, None]] = field(init=False, factory=dict)

    def hosts(self) -> Sequence[Host]:
        """All hosts with their jobs."""
        return [
            Host(host_id, host.attributes, tuple(placed.job for placed in host.jobs.values()))
            for host_id, host in self._hosts.items()
        ]

    def has_host(self, host_id: str) -> bool:
        """Whether the cluster has this host."""
        return host_id in self._hosts

    def add_host(self, host: Host) -> None:
        """Add a host with the jobs it has, or take its report in place of an earlier one."""
        self.remove_host(host.id)
        self._hosts[host.id] = _HostJobs(host.attributes)
        for job in host.jobs:
            self._put(Placed(host.id, job, digest(job)))

    def remove_host(self, host_id: str) -> None:
        """Remove a host and its jobs, if it is there."""
        host = self._hosts.get(host_id)
        if host is not None:
            for placed in list(host.jobs.values()):
                self._take_out(placed)
            del self._hosts[host_id]

    def report(self, host_id: str, job: Job) -> None:
        """Keep a job that a host says it has, unless it is known there or about to be."""
        held = any(hold.placed.host_id == host_id for hold in self._held.get(job.id, ()))
        if not held and host_id in self._hosts:
            self._put(Placed(host_id, job, digest(job)))

    def remove_job(self, host_id: str, job_id: str) -> None:
        """Take a job out, if it is there."""
        for hold in self._held.get(job_id, ()):
            if hold.placed.host_id == host_id:
                hold.removed = True
        host = self._hosts.get(host_id)
        if host is not None and job_id in host.jobs:
            self._take_out(host.jobs[job_id])

    def begin(self, batch: Mapping[str, Sequence[Job]]) -> dict[str, list[Hold]]:
        """Check a whole batch, and hold its IDs until each was committed or abandoned.

        :return: for each host of the batch with jobs what is held for it; a job that is there
            twice is held once.
        :raises UnknownHost: when there is no such host.
        :raises JobConflict: when an ID is taken by other content or on another host.
        """
        wanted: dict[str, Placed] = {}
        for host_id, jobs in batch.items():
            if host_id not in self._hosts:
                raise UnknownHost(host_id)
            for job in jobs:
                placed = Placed(host_id, job, digest(job))
                for known in (wanted.get(job.id), self._known(placed)):
                    if known is not None:
                        _check_same(placed, known)
                wanted[job.id] = placed
        held: dict[str, list[Hold]] = {}
        for job_id, placed in wanted.items():
            hold = Hold(placed)
            self._held.setdefault(job_id, {})[hold] = None
            held.setdefault(placed.host_id, []).append(hold)
        return held

    def commit(self, hold: Hold) -> None:
        """Keep a job that was begun, unless it or its host was removed since."""
        self.abandon(hold)
        if not hold.removed and hold.placed.host_id in self._hosts:
            self._put(hold.placed)

    def abandon(self, hold: Hold) -> None:
        """Let go of a job that was begun, and came to nothing."""
        holds = self._held[hold.placed.job.id]
        del holds[hold]
        if not holds:
            del self._held[hold.placed.job.id]

    def _known(self, asked: Placed) -> Placed | None:
        """The job that has this ID, first of all on the host that it is asked for."""
        job_id = asked.job.id
        for hold in self._held.get(job_id, ()):
            return hold.placed  # the others are the same
        return self._hosts[asked.host_id].jobs.get(job_id) or self._jobs.get(job_id)

    def _put(self, placed: Placed) -> None:
        job_id = placed.job.id
        self._hosts[placed.host_id].jobs[job_id] = placed
        first = self._jobs.setdefault(job_id, placed)
        if first.host_id == placed.host_id:
            self._jobs[job_id] = placed
        else:
            self._twice.setdefault(job_id, {})[placed.host_id] = placed
            self.log.error(
                "Job {job_id} is on host {host_id} and on host {other_host_id}",
                job_id=job_id,
                host_id=placed.host_id,
                other_host_id=first.host_id,
            )

    def _take_out(self, placed: Placed) -> None:
        job_id = placed.job.id
        del self._hosts[placed.host_id].jobs[job_id]
        others = self._twice.get(job_id, {})
        if self._jobs[job_id].host_id != placed.host_id:
            del others[placed.host_id]
        elif others:
            self._jobs[job_id] = others.pop(next(iter(others)))
        else:
            del self._jobs[job_id]
        if not others:
            self._twice.pop(job_id, None)


def _check_same(asked: Placed, known: Placed) -> None:
    if asked.host_id != known.host_id:
        raise JobConflict(asked.job.id, f"is on host {known.host_id}, not to be put on {asked.host_id}")
    if asked.digest != known.digest:
        raise JobConflict(asked.job.id, f"is on host {known.host_id} already, with other content")
