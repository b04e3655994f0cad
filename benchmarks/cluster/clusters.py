"""A leader with its simulated hosts: from their registration to the leader's death."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from attrs import define, field, frozen

from benchmarks.cluster.processes import HostsProcess, LeaderProcess
from benchmarks.cluster.turns import Held

_REST = 6.0
"""Seconds for which a cluster is watched that has nothing to do: more than from beat to beat."""


@frozen
class Joined:
    """How all hosts came into a cluster.

    :param jobs: that they reported.
    :param seconds: until all had reported.
    :param cpu_seconds: of the leader.
    :param memory_bytes: by how much the leader's memory has grown.
    """

    hosts: int
    jobs: int
    seconds: float
    cpu_seconds: float
    memory_bytes: int
    held: Held


@frozen
class Rested:
    """A cluster that has nothing to do.

    :param busy: the share of a core that the leader needs for its hosts' signs of life.
    """

    hosts: int
    busy: float
    held: Held


@define(eq=False)
class Cluster:
    """All of it, with processes that end with the stack.

    :param directory: for what the processes say.
    """

    directory: Path
    count: int
    _undo: ExitStack
    hosts: HostsProcess = field(init=False)
    leader: LeaderProcess = field(init=False)
    _term: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.hosts = HostsProcess(self.directory / "hosts.log", self.count)
        self._undo.callback(self.hosts.kill)
        self.leader = self._new_leader()

    def join(self) -> Joined:
        """Have all hosts register with the leader."""
        return self._lead(time.perf_counter())

    def replace_leader(self) -> Joined:
        """Kill the leader, and have all hosts register with another one; the clock runs from the kill."""
        next_one = self._new_leader()
        began = time.perf_counter()
        self.leader.kill()
        self.leader = next_one
        return self._lead(began)

    def rest(self) -> Rested:
        """Watch it do nothing."""
        self.leader.held()
        began, used = time.perf_counter(), self.leader.cpu_seconds()
        time.sleep(_REST)
        used = self.leader.cpu_seconds() - used
        return Rested(self.count, used / (time.perf_counter() - began), self.leader.held())

    def _lead(self, began: float) -> Joined:
        self._term += 1
        cpu, memory = self.leader.cpu_seconds(), self.leader.resident()
        self.leader.lead(self._term, self.count)
        self.hosts.follow(self.leader)
        self.leader.until_complete()
        seconds = time.perf_counter() - began
        joined = Joined(
            hosts=self.count,
            jobs=self.hosts.counts()["jobs"],
            seconds=seconds,
            cpu_seconds=self.leader.cpu_seconds() - cpu,
            memory_bytes=self.leader.resident() - memory,
            held=self.leader.held(),
        )
        # A leader goes on without hosts that it has waited for in vain.
        if self.leader.hosts() != self.count:
            raise RuntimeError(f"of {self.count} hosts only {self.leader.hosts()} have come")
        return joined

    def _new_leader(self) -> LeaderProcess:
        leader = LeaderProcess(self.directory / "leader.log")
        self._undo.callback(leader.kill)
        return leader
