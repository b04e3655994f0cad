"""A host that is told to end does so soon, in an orderly way, and leaves the containers alone."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import threading

import pytest

from flynnhost.model import JobStatus
from tests.conftest import Engine
from tests.integration.conftest import StartHost
from tests.support.host_api import status
from tests.support.host_containers import HostContainers
from tests.support.host_process import environment
from tests.support.wire_jobs import shell_job, sleeper

pytestmark = pytest.mark.docker


def test_an_orderly_end(make_host: StartHost, dockerd: Engine, host_id: str) -> None:
    """Streams of events end properly, no work is taken any more, and jobs go on."""
    host = make_host(dockerd.url)
    host.start()
    stubborn = shell_job("trap '' TERM; while :; do echo on; sleep 0.1; done", stop_timeout=5 * 10**9)
    jobs = [sleeper(), stubborn]
    host.api.run(*jobs)
    for job in jobs:
        host.api.running(job)
    containers = HostContainers(dockerd, host_id)
    pids = containers.pids()
    port = host.api.port
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        stream.sendall(
            b"GET /host/jobs?snapshot=true HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n"
        )
        got = b""
        while b"event: current" not in got:
            got += stream.recv(65536)
        # Requests that would go on for long don't hold it up.
        waiting = [
            threading.Thread(target=_ask, args=(port, method, path))
            for method, path in (
                ("DELETE", f"/host/jobs/{jobs[1]['id']}"),
                ("GET", f"/host/jobs/{jobs[1]['id']}/log?follow=true"),
            )
        ]
        for thread in waiting:
            thread.start()
        host.api.until(jobs[1], lambda active: active["phase"] == "stopping", "be stopping")
        host.terminate(within=5)
        while piece := stream.recv(65536):
            got += piece
    assert got.endswith(b"\r\n0\r\n\r\n")
    for thread in waiting:
        thread.join(10)
        assert not thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert containers.pids() == pids
    assert "Traceback" not in host.log()
    assert "Unhandled" not in host.log()

    # What was asked for is on disk: the next run goes on to stop the job.
    host.start()
    assert status(host.api.ended(jobs[1])) is JobStatus.CRASHED
    assert containers.pids() == {jobs[0]["id"]: pids[jobs[0]["id"]]}


def _ask(port: int, method: str, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request(method, path)
        connection.getresponse().read()
    connection.close()


def test_a_second_one_on_the_same_state(make_host: StartHost, dockerd: Engine) -> None:
    """It is told in one line, and the first one is not disturbed."""
    host = make_host(dockerd.url)
    host.start()
    job = sleeper()
    host.api.run(job)
    second = subprocess.run(
        host.command(),
        env=environment(),
        cwd=host.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    told = [line for line in (second.stdout + second.stderr).splitlines() if line]
    assert len(told) == 1, told
    assert told[0].startswith("flynn-host: ")
    assert str(host.state_dir) in told[0]
    host.api.running(job)
