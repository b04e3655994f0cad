"""What is said of a host at run time, and where it is reached, whoever leads and whatever is started anew."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.cluster_rig import ClusterRig
from tests.support.host_api import HostApi
from tests.support.host_process import HostProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(240)]


def listed(host: HostProcess) -> dict[str, Any]:
    """All hosts by ID, as one of them tells of them."""
    return {each["id"]: each for each in host.api.get("/cluster/hosts?jobs=none").json}


def put(api: HostApi, name: str, value: str) -> None:
    """Say something of a host."""
    answer = api.request("PUT", f"/host/attributes/{quote(name)}", {"value": value})
    assert answer.status == 200, answer.body


def test_seen_by_all(cluster: ClusterRig) -> None:
    """It is seen through any host, and outlives the leader's process and the host's own."""
    leader = cluster.leader()
    said, other = cluster.others(leader)
    for host in (leader, said):
        put(host.api, "zone/ä", host.host_id)
        put(host.api, "gone", "1")
        assert host.api.request("DELETE", "/host/attributes/gone").status == 200

        def seen(host: HostProcess = host) -> bool:
            found: bool = listed(other)[host.host_id].get("metadata") == {"zone/ä": host.host_id}
            return found

        wait_until(seen, "the leader to be told", within=2)
    expected = {host.host_id: {"zone/ä": host.host_id} for host in (leader, said)} | {other.host_id: None}
    try:
        leader.kill9()
        leader.begin()
        said.kill9()
        said.start()
        cluster.whole()
        found = listed(other)
        assert {host_id: each.get("metadata") for host_id, each in found.items()} == expected
    finally:
        cluster.restore()
        for host in (leader, said):
            assert host.api.request("DELETE", f"/host/attributes/{quote('zone/ä')}").status == 200


def test_addresses(cluster: ClusterRig) -> None:
    """The list of hosts tells where the others reach each of them."""
    leader = cluster.leader()
    expected = {host.host_id: f"{host.external}:{host.listen_port}" for host in cluster.hosts}
    for asked in (leader, cluster.others(leader)[0]):
        assert {host_id: host["addr"] for host_id, host in listed(asked).items()} == expected
