"""Asks all hosts of a cluster, all the time, who leads and which hosts and jobs there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from attrs import define, field, frozen

from tests.support.cluster_rig import get
from tests.support.host_process import HostProcess

_BETWEEN_LOOKS = 0.1


@frozen
class Glance:
    """What a host has answered.

    :param began: when it was asked, in seconds of the monotonic clock.
    :param ended: when it had answered.
    :param status: of the answer to who leads; 0 if there was none.
    :param leader: who leads; empty if nobody does.
    :param hosts: by host that is there and up the IDs of its jobs; None if the list was not complete.
    """

    host_id: str
    began: float
    ended: float
    status: int = 0
    leader: str = ""
    term: int = 0
    hosts: Mapping[str, frozenset[str]] | None = None


@define(eq=False)
class Onlooker:
    """Looks from ``with`` to the end of it, at each host in a thread of its own."""

    watched: Sequence[HostProcess]
    _glances: list[Glance] = field(init=False, factory=list)
    _over: threading.Event = field(init=False, factory=threading.Event)
    _threads: list[threading.Thread] = field(init=False, factory=list)

    def __enter__(self) -> Onlooker:
        for host in self.watched:
            thread = threading.Thread(target=self._thd_look, args=(host,), name="onlooker", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    @property
    def glances(self) -> list[Glance]:
        """All until now, in the order of the answers."""
        return sorted(self._glances, key=lambda each: each.ended)

    def first_claim(self, after: int) -> Glance | None:
        """The first time that a leader of a later term has said that it leads."""
        return next((each for each in self.glances if _claims(each) and each.term > after), None)

    def first_complete(self, after: int) -> Glance | None:
        """The first complete list of a leader of a later term."""
        return next((each for each in self.glances if each.hosts is not None and each.term > after), None)

    def late_claims(self) -> list[Glance]:
        """Where a host said that it leads, though another was seen that was elected after it."""
        highest: list[tuple[float, int]] = []
        late = []
        for glance in self.glances:
            if _claims(glance):
                seen_before = [term for ended, term in highest if ended < glance.began]
                if max(seen_before, default=0) > glance.term:
                    late.append(glance)
                highest.append((glance.ended, glance.term))
        return late

    def gaps(self, hosts: Mapping[str, frozenset[str]]) -> list[Glance]:
        """Complete lists in which one of these hosts was missing or down, or one of its jobs missing."""
        return [
            glance
            for glance in self.glances
            if glance.hosts is not None
            and any(
                host_id not in glance.hosts or not jobs <= glance.hosts[host_id]
                for host_id, jobs in hosts.items()
            )
        ]

    def _thd_look(self, host: HostProcess) -> None:
        while not self._over.wait(_BETWEEN_LOOKS):
            self._glances.append(look(host))


def look(host: HostProcess) -> Glance:
    """Ask a host once."""
    began = time.monotonic()
    answer = get(host, "/cluster/leader")
    if answer is None:
        return Glance(host.host_id, began, time.monotonic())
    if answer.status != 200:
        return Glance(host.host_id, began, time.monotonic(), answer.status)
    ended, said = time.monotonic(), answer.json
    return Glance(host.host_id, began, ended, 200, said["id"], said["term"], _listed(host))


def _listed(host: HostProcess) -> Mapping[str, frozenset[str]] | None:
    answer = get(host, "/cluster/hosts?jobs=ids")
    if answer is None or answer.status != 200 or answer.headers["x-cluster-complete"] != "true":
        return None
    return {
        each["id"]: frozenset(job["id"] for job in each.get("jobs", ()))
        for each in answer.json
        if each.get("state") != "down"
    }


def _claims(glance: Glance) -> bool:
    return bool(glance.leader) and glance.leader == glance.host_id
