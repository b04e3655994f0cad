"""What a host's status tells beside its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from flynnhost.facts import HostFacts
from flynnhost.interfaces import EngineFacts
from flynnhost.looks import WITHIN, Looks
from flynnhost.settings import Settings
from flynnhost.testing.world import World
from tests.support.threads_reactor import ThreadsReactor

NOON = datetime(2026, 1, 2, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))


class Lease:
    """What facts want of a member of a cluster."""

    lease_remaining = 3.21


class Rig:
    """A host whose disks are looked at when the test says so."""

    def __init__(self, settings: Settings, member: Any = None) -> None:
        self.world = World()
        self.world.start()
        self.reactor = ThreadsReactor()
        self.facts = HostFacts(
            self.reactor,
            settings,
            self.world.agent,
            lambda: NOON,
            lambda: "192.0.2.7:1113",
            lambda: ["0.0.0.0:1113"],
            member,
        )

    def gather(self) -> Mapping[str, Any]:
        told: list[Mapping[str, Any]] = []
        self.facts.gather().addCallback(told.append)
        self.reactor.run_until(lambda: told)
        return told[0]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings("192.0.2.7", "h1", state_dir=tmp_path, solo=True)


def test_solo(settings: Settings) -> None:
    """It tells where it is, what time it is, and of its disks and its engine."""
    rig = Rig(settings)
    told = rig.gather()
    assert (told["addr"], told["listen"], told["solo"]) == ("192.0.2.7:1113", ["0.0.0.0:1113"], True)
    assert told["time"] == "2026-01-02T10:00:00.000005Z"
    assert told["state_dir"]["free_bytes"] > 0
    assert told["process"]["open_files"] > 0
    assert told["engine"]["version"] == rig.world.containers.facts.version
    assert told["engine"]["disk"]["path"] == rig.world.containers.facts.root_dir
    assert "etcd" not in told


def test_member(settings: Settings) -> None:
    """One of several tells whether etcd confirms its lease."""
    etcd = evolve(settings, solo=False, etcd=("http://a:1",), lease_ttl=9)
    told = Rig(etcd, Lease()).gather()
    assert told["solo"] is False
    assert told["etcd"] == {
        "endpoints": ["http://a:1"],
        "answers": True,
        "lease_remaining": 3.21,
        "lease_ttl": 9,
    }


def test_engine_elsewhere(settings: Settings) -> None:
    """The disk of an engine on another machine is not looked at, nor of one that has not said what it is."""
    rig = Rig(evolve(settings, docker="tcp://192.0.2.1:2375"))
    assert "disk" not in rig.gather()["engine"]
    rig = Rig(settings)
    rig.world.agent._engine.facts = None
    assert rig.gather()["engine"] == {"url": settings.docker}
    rig.world.agent._engine.facts = EngineFacts("1")
    assert "disk" not in rig.gather()["engine"]


def test_disk_hangs(settings: Settings) -> None:
    """All else is told when a disk does not answer."""
    rig = Rig(settings)
    rig.facts._looks = Looks(rig.reactor, lambda _: {}, lambda _: None)
    told: list[Mapping[str, Any]] = []
    rig.facts.gather().addCallback(told.append)
    rig.reactor.advance(WITHIN)
    (facts,) = told
    assert facts["state_dir"] == {
        "path": str(settings.state_dir),
        "error": "the disk has not answered yet",
    }
    assert (facts["process"], facts["addr"]) == ({}, "192.0.2.7:1113")
    assert facts["time"].startswith(NOON.astimezone(UTC).isoformat()[:10])
