"""Batches posted one after the other by one caller, and what that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from attrs import frozen

from benchmarks.cluster.batches import BatchMaker
from benchmarks.cluster.caller import Caller
from benchmarks.cluster.processes import HostsProcess, LeaderProcess
from benchmarks.cluster.turns import Held


@frozen
class Kind:
    """What is posted.

    :param hosts: how many there are in the cluster.
    :param batch: jobs in a request.
    :param spread: hosts that these are divided among.
    :param jobs: how many in all.
    :param minimal: whether the answer is of the batch's jobs only, instead of the whole cluster.
    """

    hosts: int
    batch: int
    spread: int
    jobs: int
    minimal: bool = True


@frozen
class Trial:
    """What came of it.

    :param before: jobs that the cluster had before.
    :param latencies: seconds of each request.
    :param ends: when each was answered, in seconds from the begin.
    :param cpu_seconds: of the leader, until the end of each tenth of the requests.
    :param memory_bytes: by how much the leader's memory has grown.
    """

    kind: Kind
    before: int
    latencies: Sequence[float]
    ends: Sequence[float]
    cpu_seconds: Sequence[float]
    memory_bytes: int
    held: Held

    @property
    def per_second(self) -> float:
        """Jobs acknowledged in a second."""
        return self.kind.batch * len(self.ends) / self.ends[-1]

    @property
    def first_tenth(self) -> float:
        """The same, in the first tenth of the requests."""
        count = max(1, len(self.ends) // 10)
        return self.kind.batch * count / self.ends[count - 1]

    @property
    def last_tenth(self) -> float:
        """The same, in the last tenth."""
        count = max(1, len(self.ends) // 10)
        began = self.ends[-count - 1] if len(self.ends) > count else 0.0
        return self.kind.batch * count / (self.ends[-1] - began)

    @property
    def cpu_per_thousand(self) -> float:
        """CPU seconds of the leader for a thousand jobs."""
        return 1000 * self.cpu_seconds[-1] / (self.kind.batch * len(self.ends))

    @property
    def cpu_growth(self) -> float:
        """How much CPU time the last tenth took, for that of the first."""
        return (self.cpu_seconds[-1] - self.cpu_seconds[-2]) / max(self.cpu_seconds[0], 0.01)

    @property
    def bytes_per_job(self) -> float:
        """Memory of the leader for each job."""
        return self.memory_bytes / (self.kind.batch * len(self.ends))


def run(
    kind: Kind, leader: LeaderProcess, hosts: HostsProcess, tell: Callable[[str], None] | None = None
) -> Trial:
    """Post all of it to a leader that is complete.

    :param tell: is told ten times how far it is.
    :raises RuntimeError: when the hosts have not got exactly the jobs that were acknowledged.
    """
    maker = BatchMaker(kind.hosts, kind.batch, kind.spread)
    before = hosts.counts()
    requests = kind.jobs // kind.batch
    latencies: list[float] = []
    ends: list[float] = []
    used: list[float] = []
    caller = Caller(leader.port)
    leader.held()
    memory, cpu, began = leader.resident(), leader.cpu_seconds(), time.perf_counter()
    for number in range(requests):
        latencies.append(caller.post_jobs(maker.body(), minimal=kind.minimal).seconds)
        ends.append(time.perf_counter() - began)
        if (number + 1) * 10 // requests > len(used):
            used.append(leader.cpu_seconds() - cpu)
            if tell is not None:
                tell(f"{(number + 1) * kind.batch} jobs in {ends[-1]:.1f} s")
    trial = Trial(
        kind=kind,
        before=before["jobs"],
        latencies=latencies,
        ends=ends,
        cpu_seconds=used,
        memory_bytes=leader.resident() - memory,
        held=leader.held(),
    )
    caller.close()
    _check(kind, requests, before, hosts.counts())
    return trial


def _check(kind: Kind, requests: int, before: dict[str, int], after: dict[str, int]) -> None:
    got = after["jobs"] - before["jobs"]
    if got != kind.batch * requests or after["lost"] != before["lost"]:
        raise RuntimeError(f"{kind.batch * requests} jobs were acknowledged, but the hosts have {after}")
