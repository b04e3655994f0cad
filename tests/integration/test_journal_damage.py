"""A host whose journal is damaged starts all the same, and learns of its jobs from their containers."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flynnhost.model import JobStatus
from tests.conftest import Engine
from tests.integration.conftest import StartHost
from tests.support.host_api import status
from tests.support.host_containers import HostContainers
from tests.support.wire_jobs import shell_job, starts, tracing

pytestmark = pytest.mark.docker


def damaged_records(journal: Path) -> None:
    with closing(sqlite3.connect(journal)) as db, db:
        db.execute("UPDATE jobs SET body = substr(body, 1, 40)")


def truncated_file(journal: Path) -> None:
    os.truncate(journal, journal.stat().st_size * 2 // 3)


def overwritten_file(journal: Path) -> None:
    journal.write_bytes(b"not what was here before\n" * 1000)


@pytest.mark.parametrize("damage", [damaged_records, truncated_file, overwritten_file])
def test_damaged_journal(
    damage: Callable[[Path], None], make_host: StartHost, dockerd: Engine, host_id: str, tmp_path: Path
) -> None:
    """What can't be read is set aside with a word, and what Docker still has is known as before."""
    traces = tmp_path / "traces"
    host = make_host(dockerd.url)
    host.start()
    running, ended = (
        tracing(traces, "exec sleep 3600", ports=[{}], env={"A": "ä"}),
        tracing(traces, "exit 4"),
    )
    host.api.run(running, ended)
    before = {job["id"]: wait(job) for job, wait in ((running, host.api.running), (ended, host.api.ended))}
    pids = HostContainers(dockerd, host_id).pids()
    host.terminate()

    damage(host.state_dir / "journal.db")
    host.start()

    assert "The journal was damaged. Set aside: " in host.log()
    assert {running["id"], ended["id"]} <= set(host.api.jobs())
    for job in (running, ended):
        active = host.api.job(job)
        for key in ("job", "container_id", "started_at", "ended_at", "status", "exit_status"):
            assert active.get(key) == before[job["id"]].get(key), key
    host.api.run(running, ended)
    other = host.api.post(shell_job("true", job_id=running["id"]))
    assert other.status == 409
    assert HostContainers(dockerd, host_id).pids() == pids
    assert starts(traces, running) == starts(traces, ended) == 1

    # The new journal keeps what was found.
    host.kill9()
    host.start()
    assert "damaged" not in host.log()
    assert status(host.api.job(running)) is JobStatus.RUNNING
    assert host.api.job(ended)["exit_status"] == 4
