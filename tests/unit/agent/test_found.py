"""What real engines did to a host, told again with the engine in memory."""

from __future__ import annotations

from datetime import timedelta

from flynnhost.model import JobStatus
from flynnhost.testing.world import World, a_job


def test_an_end_before_its_start() -> None:
    """A job never ends before it started, whatever the engine's clock readings say."""
    world = World()
    world.start()
    world.accept(a_job("j1"))
    world.containers.drop_events()
    world.containers.exit("flynn-j1", 0)
    container = world.containers.container("flynn-j1")
    assert container.started_at is not None
    container.finished_at = container.started_at - timedelta(milliseconds=2)
    world.pass_time(35)
    job = world.job("j1")
    assert job.status is JobStatus.DONE
    assert job.ended_at == job.started_at
