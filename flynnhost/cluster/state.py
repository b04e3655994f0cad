"""The cluster's state: hosts, and the jobs that are meant to be on them. In memory only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field
from twisted.logger import Logger

from flynnhost.cluster.stored import Placed, StoredJobs
from flynnhost.errors import JobConflict, UnknownHost
from flynnhost.interfaces import Part
from flynnhost.model import Host


@define(eq=False)
class Hold:
    """A job of a batch, whose ID is taken until it was committed or abandoned.

    :ivar removed: the job was taken out meanwhile, as it has ended.
    """

    placed: Placed
    removed: bool = False


@define(eq=False)
class _HostJobs:
    id: str
    attributes: Mapping[str, str]
    down: bool = False
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
        return [_as_host(host) for host in self._hosts.values()]

    def host(self, host_id: str) -> Host:
        """One host with its jobs.

        :raises UnknownHost: when there is no such host.
        """
        return _as_host(self._get(host_id))

    def count(self) -> int:
        """How many hosts there are."""
        return len(self._hosts)

    def has_host(self, host_id: str) -> bool:
        """Whether the cluster has this host."""
        return host_id in self._hosts

    def has_job(self, host_id: str, job_id: str) -> bool:
        """Whether a job is on this host."""
        host = self._hosts.get(host_id)
        return host is not None and job_id in host.jobs

    def add_host(self, host_id: str, attributes: Mapping[str, str], jobs: Iterable[Placed]) -> None:
        """Add a host with the jobs it has, or take its report in place of an earlier one."""
        self.remove_host(host_id)
        self._hosts[host_id] = _HostJobs(host_id, attributes)
        for placed in jobs:
            self._put(placed)

    def set_down(self, host_id: str) -> None:
        """Say of a host that it is not connected; its jobs stay."""
        self._get(host_id).down = True

    def remove_host(self, host_id: str) -> None:
        """Remove a host and its jobs, if it is there."""
        host = self._hosts.get(host_id)
        if host is not None:
            for placed in list(host.jobs.values()):
                self._take_out(placed)
            del self._hosts[host_id]

    def report(self, placed: Placed) -> None:
        """Keep a job that a host says it has, unless it is known there or about to be."""
        held = any(hold.placed.host_id == placed.host_id for hold in self._held.get(placed.job_id, ()))
        if not held and placed.host_id in self._hosts:
            self._put(placed)

    def remove_job(self, host_id: str, job_id: str) -> None:
        """Take a job out, if it is there."""
        for hold in self._held.get(job_id, ()):
            if hold.placed.host_id == host_id:
                hold.removed = True
        host = self._hosts.get(host_id)
        if host is not None and job_id in host.jobs:
            self._take_out(host.jobs[job_id])

    def begin(self, batch: Mapping[str, Part]) -> dict[str, list[Hold]]:
        """Check a whole batch, and hold its IDs until each was committed or abandoned.

        :return: for each host of the batch with jobs what is held for it; a job that is there
            twice is held once.
        :raises UnknownHost: when there is no such host.
        :raises JobConflict: when an ID is taken by other content or on another host.
        """
        wanted: dict[str, Placed] = {}
        for host_id, part in batch.items():
            known_as = self._get(host_id).id  # one string for all jobs of a host
            for job, encoded in zip(part.jobs, part.encoded, strict=True):
                placed = Placed(known_as, job.id, encoded)
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
        holds = self._held[hold.placed.job_id]
        del holds[hold]
        if not holds:
            del self._held[hold.placed.job_id]

    def _get(self, host_id: str) -> _HostJobs:
        try:
            return self._hosts[host_id]
        except KeyError:
            raise UnknownHost(host_id) from None

    def _known(self, asked: Placed) -> Placed | None:
        """The job that has this ID, first of all on the host that it is asked for."""
        job_id = asked.job_id
        for hold in self._held.get(job_id, ()):
            return hold.placed  # the others are the same
        return self._hosts[asked.host_id].jobs.get(job_id) or self._jobs.get(job_id)

    def _put(self, placed: Placed) -> None:
        job_id = placed.job_id
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
        job_id = placed.job_id
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


def _as_host(host: _HostJobs) -> Host:
    return Host(host.id, host.attributes, StoredJobs(host.jobs), host.down)


def _check_same(asked: Placed, known: Placed) -> None:
    if asked.host_id != known.host_id:
        raise JobConflict(asked.job_id, f"is on host {known.host_id}, not to be put on {asked.host_id}")
    if not asked.same_content(known):
        raise JobConflict(asked.job_id, f"is on host {known.host_id} already, with other content")
