"""What a host tells of itself and its machine."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve

from flynnhost import __version__
from tests.support.host_process import EXTERNAL_IP, HostProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker


def test_status(host: HostProcess) -> None:
    """It tells what an operator asks, and what is wrong is to be found by."""
    host.wait_ready()

    def told() -> Any:
        status = host.api.get("/host/status").json
        return status if status["engine"].get("version") else None

    status = wait_until(told, "the engine to say what it is")
    assert (status["id"], status["version"], status["solo"]) == (host.host_id, __version__, True)
    assert status["addr"] == f"{EXTERNAL_IP}:{host.api.port}"
    assert status["listen"] == [f"127.0.0.1:{host.api.port}"]
    assert "etcd" not in status
    assert abs((datetime.now(UTC) - datetime.fromisoformat(status["time"])).total_seconds()) < 5
    assert status["state_dir"]["path"] == str(host.state_dir)
    assert status["state_dir"]["total_bytes"] > status["state_dir"]["free_bytes"] > 0
    process = status["process"]
    assert process["pid"] == host.pid
    assert process["memory_bytes"] > 10 * 2**20
    assert 10 < process["open_files"] < process["open_files_limit"]
    engine = status["engine"]
    assert engine["url"] == host.docker_url
    assert engine["storage_driver"]
    assert engine["memory_limit"] is True
    assert os.statvfs(engine["root_dir"]).f_blocks > 0
    assert engine["disk"]["total_bytes"] > 0


def test_own_address(host: HostProcess) -> None:
    """The list of hosts has its address, on which it could be reached if it were there."""
    (listed,) = host.api.get("/cluster/hosts").json
    address, _, port = listed["addr"].rpartition(":")
    assert (address, int(port)) == (EXTERNAL_IP, host.api.port)
    assert evolve(host.api, port=int(port)).get("/host/status").json["id"] == host.host_id
