"""Kills, pauses and cuts off hosts of a cluster, one after the other."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

from attrs import define

from tests.support.cluster_rig import ETCD, ClusterRig, leading
from tests.support.host_process import HostProcess


@define(eq=False)
class Disturbances:
    """What can happen to a cluster; each is over when it returns, but for what follows from it.

    :param over: nothing goes on any longer when it is set.
    """

    cluster: ClusterRig
    chance: random.Random
    over: threading.Event

    def go_on(self) -> None:
        """Let one thing after the other happen until it is over."""
        for disturb in self._order():
            self._await_leader()
            if self.over.wait(self.chance.uniform(0.5, 3.0)):
                return
            print(f"{time.monotonic():.1f} {disturb.__name__}", flush=True)
            disturb()

    def _order(self) -> Iterator[Callable[[], None]]:
        """The kills first, in case that there is no time for more."""
        yield self.kill_the_leader
        yield self.kill_a_follower
        while True:
            yield self.chance.choice(
                [
                    self.kill_the_leader,
                    self.kill_a_follower,
                    self.kill_all_hosts,
                    self.end_the_leader,
                    self.pause_the_leader,
                    self.pause_a_follower,
                    self.cut_off_from_the_leader,
                    self.cut_off_from_etcd,
                    self.restart_etcd,
                ]
            )

    def kill_the_leader(self) -> None:
        self._kill(self._leader())

    def kill_a_follower(self) -> None:
        self._kill(self._follower())

    def kill_all_hosts(self) -> None:
        for host in self.cluster.hosts:
            host.kill9()
        for host in self.cluster.hosts:
            host.begin()

    def end_the_leader(self) -> None:
        leader = self._leader()
        leader.signal(signal.SIGTERM)
        status = leader.wait_exit(within=15)
        # One that has not begun to listen for signals ends by it.
        assert status in (0, -signal.SIGTERM), f"flynn-host ended with {status}"
        leader.begin()

    def pause_the_leader(self) -> None:
        self._pause(self._leader(), self.cluster.ttl + 1)

    def pause_a_follower(self) -> None:
        self._pause(self._follower(), 3)

    def cut_off_from_the_leader(self) -> None:
        leader = self._leader()
        self._cut_off(self.chance.choice(self.cluster.others(leader)), leader.host_id)

    def cut_off_from_etcd(self) -> None:
        self._cut_off(self.chance.choice(self.cluster.hosts), ETCD)

    def restart_etcd(self) -> None:
        for member in self.cluster.etcd.members:
            member.kill()
        self.over.wait(self.chance.uniform(0, 2))
        self.cluster.bring_back_etcd()

    def _kill(self, host: HostProcess) -> None:
        host.kill9()
        self.over.wait(self.chance.choice([0.0, 0.0, 2.0]))
        host.begin()

    def _pause(self, host: HostProcess, seconds: float) -> None:
        host.signal(signal.SIGSTOP)
        self.over.wait(seconds)
        host.signal(signal.SIGCONT)

    def _cut_off(self, host: HostProcess, end: str) -> None:
        self.cluster.network.cut(host.host_id, end)
        self.over.wait(self.chance.uniform(1, 6))
        self.cluster.network.heal(host.host_id, end)

    def _await_leader(self) -> None:
        """Let jobs be taken between two disturbances, as long as there is time at all."""
        while not self.over.wait(0.2):
            if any(leading(host, within=1.0) for host in self.cluster.hosts):
                return

    def _leader(self) -> HostProcess:
        """Who leads, or anybody if nobody does now."""
        named = [leading(host, within=1.0).get("id") for host in self.cluster.hosts if host.alive]
        found = [host for host in self.cluster.hosts if host.host_id in named]
        return found[0] if found else self.chance.choice(self.cluster.hosts)

    def _follower(self) -> HostProcess:
        return self.chance.choice(self.cluster.others(self._leader()))
