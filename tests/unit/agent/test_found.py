"""What real engines did to a host, told again with the engine in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flynnhost.agent.adoption import leased_ports
from flynnhost.errors import EngineRefused, EngineUnavailable, FlynnHostError
from flynnhost.model import JobStatus, Port
from flynnhost.testing.container_process import Program
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


def test_ports_that_only_the_container_remembers() -> None:
    """A job's ports are those of its container, also when the run that leased them was killed."""
    for step in range(1, 30):
        world = World()
        world.start(end_at=step)
        world.forget(world.agent.accept([a_job("j1", ports=(Port(),))], 1))
        world.pass_time(1)
        world.kill()
        world.busy_ports.add(55000)
        world.start()
        world.pass_time(40)
        world.accept(a_job("j1", ports=(Port(),)))
        world.pass_time(1)
        container = world.containers.container("flynn-j1")
        assert world.job("j1").host_ports == leased_ports(container.spec.labels), f"killed at step {step}"
        assert world.starts("j1") == 1


def test_killed_while_other_ports_are_sought() -> None:
    """A job whose port was taken gets another, whenever its host is killed over it."""
    for step in range(1, 40):
        world = World()
        world.containers.taken_ports.add(("tcp", 55000))
        world.start(end_at=step)
        world.forget(world.agent.accept([a_job("j1", ports=(Port(),))], 1))
        world.pass_time(1)
        world.kill()
        world.start()
        world.pass_time(40)
        world.accept(a_job("j1", ports=(Port(),)))
        world.pass_time(1)
        job = world.job("j1")
        assert job.status is JobStatus.RUNNING, f"{job.error}, killed at step {step}"
        assert job.host_ports == (55001,)


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("remove", EngineRefused("device or resource busy")),
        ("remove", EngineUnavailable("no answer in 30 s")),
        ("inspect", EngineUnavailable("no answer in 30 s")),
    ],
)
def test_one_container_in_the_way_of_others(method: str, error: FlynnHostError) -> None:
    """A container that the engine can't remove or tell of keeps no other job's end from being known."""
    world = World()
    world.containers.programs = lambda spec: Program(
        refused="no such file" if spec.name == "flynn-j1" else ""
    )
    world.start()
    world.containers.fail("remove", EngineRefused("device or resource busy"))
    world.accept(a_job("j1"))
    world.accept(a_job("j2"), a_job("j3"))
    assert world.job("j1").status is JobStatus.FAILED
    assert "flynn-j1" in [each.spec.name for each in world.containers.containers.values()]
    world.kill()
    world.containers.exit("flynn-j2", 2)
    world.containers.exit("flynn-j3", 3)
    world.containers.fail(method, error)
    world.start()
    world.pass_time(1)
    assert world.job("j3").exit_status == 3
    assert all(check.ok for check in world.agent.readiness())
    world.pass_time(31)
    assert world.job("j2").exit_status == 2
    assert [each.spec.name for each in world.containers.containers.values()] == ["flynn-j2", "flynn-j3"]
