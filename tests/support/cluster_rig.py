"""A cluster of one's own: hosts as processes, etcd, and a network between them that can be cut."""

from __future__ import annotations

import functools
import http.client
import signal
import time
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field

from flynnhost.model import JobStatus
from tests.support.etcd import EtcdCluster
from tests.support.histories import Told, disagreements
from tests.support.host_api import Answer, HostApi, WireJob, status
from tests.support.host_containers import HasClient, HostContainers
from tests.support.host_process import HostProcess
from tests.support.network import Network, process_with_port
from tests.support.waiting import wait_until

ETCD = "etcd"
"""The end of the network at which etcd is."""

NO_ANSWER = (OSError, http.client.HTTPException)
"""What asking a host ends with that is gone, hangs or is cut off."""

_PORTS_EACH = 400


class Engine(HasClient, Protocol):
    """An engine that hosts can use."""

    @property
    def url(self) -> str:
        """Where it listens."""


@define(eq=False)
class ClusterRig:
    """Some hosts on one engine and one etcd.

    Each host is told that it is reached at an address where in truth the network listens, which
    passes connections on to it; and so it is with its way to etcd. The test itself speaks
    with hosts directly.

    :param ttl: of the hosts' leases, in seconds.
    """

    directory: Path
    engine: Engine
    etcd: EtcdCluster
    size: int = 3
    ttl: int = 5
    network: Network = field(init=False, factory=Network)
    hosts: list[HostProcess] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        prefix = f"t{uuid.uuid4().hex[:8]}h"
        self.hosts += [self._make(f"{prefix}{number}", number) for number in range(1, self.size + 1)]

    def _make(self, host_id: str, number: int) -> HostProcess:
        external, address = f"127.0.0.{10 + number}", f"127.0.1.{10 + number}"

        def to() -> tuple[str, int]:
            return address, port

        port = self.network.relay(external, to, host_id, process_with_port(self._processes))
        ports = 40000 + _PORTS_EACH * number
        return HostProcess(
            self.engine.url,
            host_id,
            self.directory / f"h{number}",
            options=("--ports", f"{ports}-{ports + _PORTS_EACH - 1}"),
            cluster=("--etcd", ",".join(self._ways_to_etcd(host_id)), "--lease-ttl", str(self.ttl)),
            external=external,
            address=address,
            listen_port=port,
        )

    def _ways_to_etcd(self, host_id: str) -> Sequence[str]:
        def to(port: int) -> tuple[str, int]:
            return "127.0.0.1", port

        ports = [
            self.network.relay("127.0.0.1", functools.partial(to, member.port), ETCD, lambda _: host_id)
            for member in self.etcd.members
        ]
        return [f"http://127.0.0.1:{port}" for port in ports]

    def _processes(self) -> dict[str, int]:
        return {host.host_id: host.pid for host in self.hosts if host.alive}

    # --- life -----------------------------------------------------------------

    def start(self) -> None:
        """Start everything, and wait until all hosts are in the cluster."""
        self.etcd.start()
        self.restore()

    def restore(self) -> None:
        """End all troubles, start what is down, and wait until all hosts are in the cluster."""
        self.network.heal_all()
        self.bring_back_etcd()
        for host in self.hosts:
            if host.alive:
                host.signal(signal.SIGCONT)
            else:
                host.begin()
        for host in self.hosts:
            host.wait_listening()
        self.whole()

    def bring_back_etcd(self) -> None:
        """Have all members of etcd serve again, whatever state they are in."""
        for member in self.etcd.members:
            member.signal(signal.SIGCONT)
            if member.process is not None and member.process.poll() is not None:
                self.etcd.run(member)
        self.etcd.wait_ready()

    def end(self) -> None:
        """End everything and remove all containers, whatever state it is in."""
        for host in self.hosts:
            host.end()
        self.network.close()
        self.etcd.stop()
        for host in self.hosts:
            self.containers(host).remove()
        self.hosts.clear()

    @property
    def over(self) -> bool:
        """Whether it was ended."""
        return not self.hosts

    def containers(self, host: HostProcess) -> HostContainers:
        """The containers of a host."""
        return HostContainers(self.engine, host.host_id)

    def remove_jobs(self) -> None:
        """End and remove all containers, and wait until the cluster has no job any more."""

        def none_active() -> bool:
            for host in self.hosts:
                self.containers(host).remove()  # what was started since the last look, too
            return not any(self.active(host) for host in self.hosts)

        wait_until(none_active, "the end of all jobs", within=60)

    # --- who leads ------------------------------------------------------------

    def host(self, host_id: str) -> HostProcess:
        """The host of an ID."""
        return next(host for host in self.hosts if host.host_id == host_id)

    def others(self, *but: HostProcess) -> list[HostProcess]:
        """All hosts but some."""
        return [host for host in self.hosts if host not in but]

    def leader(self, within: float = 60.0, but: Collection[HostProcess] = ()) -> HostProcess:
        """The leader as soon as all agree on one, and it is none of some.

        :param but: these are not asked, and not taken.
        """
        asked = self.others(*but)

        def look() -> HostProcess | None:
            named = {leading(host).get("id", "") for host in asked}
            ours = named <= {host.host_id for host in asked}
            return self.host(named.pop()) if ours and len(named) == 1 else None

        return wait_until(look, f"{len(asked)} hosts to agree on a leader", within)

    def whole(self, within: float = 90.0, but: Collection[HostProcess] = ()) -> HostProcess:
        """The leader as soon as it has heard from all hosts, but some, and is ready for jobs."""

        def look() -> HostProcess | None:
            leader = self.leader(within, but)
            answer = get(leader, "/cluster/hosts?jobs=none")
            if answer is None or answer.status != 200 or answer.headers["x-cluster-complete"] != "true":
                return None
            up = {host["id"] for host in answer.json if host.get("state") != "down"}
            return leader if up >= {host.host_id for host in self.others(*but)} else None

        return wait_until(look, "the cluster to be whole", within)

    # --- jobs -----------------------------------------------------------------

    def active(self, host: HostProcess) -> set[str]:
        """The jobs that a host says have not ended."""
        return {job_id for job_id, job in host.api.jobs().items() if not status(job).ended}

    def told(self) -> list[Told]:
        """What all hosts say of all jobs."""
        return [
            Told(host.host_id, job_id, status(job), job.get("exit_status", 0), job.get("error", ""))
            for host in self.hosts
            for job_id, job in host.api.jobs().items()
        ]

    def at_rest(self, within: float = 90.0) -> None:
        """Wait until no job is on its way to being started."""

        def look() -> bool:
            return all(each.status is not JobStatus.STARTING for each in self.told())

        wait_until(look, "all jobs to be started", within)

    def agreed(self, within: float = 30.0, but: Collection[HostProcess] = ()) -> None:
        """Wait until the leader and the hosts, but some, say the same of all jobs."""
        found: list[Any] = []

        def look() -> bool:
            hosts = {host.host_id: self.active(host) for host in self.others(*but)}
            found[:] = [disagreements(self._listed(self.whole(but=but), hosts), hosts)]
            return not found[0]

        try:
            wait_until(look, "leader and hosts to agree", within)
        except AssertionError as e:
            raise AssertionError(f"{e}: {found}") from None

    def _listed(self, leader: HostProcess, wanted: Collection[str]) -> dict[str, set[str]]:
        listed = leader.api.get("/cluster/hosts?jobs=ids").json
        return {
            host["id"]: {job["id"] for job in host.get("jobs", ())} for host in listed if host["id"] in wanted
        }


def get(host: HostProcess, path: str, within: float = 2.0) -> Answer | None:
    """What a host answers; None if it does not."""
    try:
        return host.api.get(path, within=within)
    except NO_ANSWER:
        return None


def leading(host: HostProcess, within: float = 2.0) -> dict[str, Any]:
    """Who leads, by what a host says; empty if it does not know or does not answer."""
    answer = get(host, "/cluster/leader", within)
    return answer.json if answer is not None and answer.status == 200 else {}


def post(
    api: HostApi,
    batch: dict[str, list[WireJob]],
    within: float = 60.0,
    connection: http.client.HTTPConnection | None = None,
) -> Answer:
    """Hand a batch to the cluster."""
    return api.request("POST", "/cluster/jobs", batch, {"Prefer": "return=minimal"}, within, connection)


def post_until_taken(host: HostProcess, batch: dict[str, list[WireJob]], within: float = 60.0) -> Answer:
    """Hand a batch to the cluster, again and again until it answers other than that it can't now."""
    deadline = time.monotonic() + within

    def tried() -> Answer | None:
        try:
            answer = post(host.api, batch, max(1.0, deadline - time.monotonic()))
        except NO_ANSWER:
            return None
        return None if answer.status in (503, 504) else answer

    return wait_until(tried, "the cluster to take a batch", within)
