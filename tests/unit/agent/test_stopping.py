"""How jobs are stopped."""

from __future__ import annotations

import pytest

from flynnhost.errors import EngineUnavailable, JobNotRunning, TookTooLong, UnknownJob
from flynnhost.model import EventKind, JobStatus, Phase
from flynnhost.testing.container_process import Program
from flynnhost.testing.containers import PullScript
from flynnhost.testing.world import World, a_job


@pytest.fixture
def world() -> World:
    """A host that has started and is ready."""
    world = World()
    world.start()
    return world


def test_stop_on_term(world: World) -> None:
    """A job that heeds TERM has ended when the stop is answered."""
    world.accept(a_job("j1"))
    job = world.answer(world.agent.stop_job("j1"), within=1)
    assert (job.status, job.exit_status, job.force_stop) == (JobStatus.CRASHED, 143, True)


def test_stop_on_kill(world: World) -> None:
    """A job that does not heed TERM is killed after ten seconds."""
    world.containers.programs = lambda _: Program(on_signal={9: 137})
    world.accept(a_job("j1"))
    stopped = world.agent.stop_job("j1")
    world.pass_time(9)
    assert world.job("j1").phase is Phase.STOPPING
    assert world.answer(stopped, within=2).exit_status == 137


def test_stop_with_own_grace(world: World) -> None:
    """A job's own grace counts instead of the host's."""
    world.containers.programs = lambda _: Program(on_signal={9: 137})
    world.accept(a_job("j1", stop_timeout=2.0))
    assert world.answer(world.agent.stop_job("j1"), within=3).exit_status == 137


def test_stop_twice(world: World) -> None:
    """Two who stop a job at the same time both hear of its end."""
    world.accept(a_job("j1"))
    first, second = world.agent.stop_job("j1"), world.agent.stop_job("j1")
    assert world.answer(first, within=1) is world.answer(second, within=1)


def test_stop_unknown_and_ended(world: World) -> None:
    """A job that is not there or has ended can't be stopped."""
    with pytest.raises(UnknownJob):
        world.answer(world.agent.stop_job("j1"))
    world.accept(a_job("j1"))
    world.containers.exit("flynn-j1")
    world.pass_time(1)
    with pytest.raises(JobNotRunning):
        world.answer(world.agent.stop_job("j1"))


def test_stop_while_pulling(world: World) -> None:
    """A job that waits for its image ends at once, and the pull goes on for the others."""
    world.containers.every_image = False
    world.containers.pulls["big:latest"] = PullScript(seconds=60)
    world.accept(a_job("j1", "big"), a_job("j2", "big"))
    job = world.answer(world.agent.stop_job("j1"))
    assert (job.status, job.error) == (JobStatus.FAILED, "stopped before it was started")
    world.pass_time(70)
    assert world.job("j2").status is JobStatus.RUNNING
    assert world.starts("j1") == 0


def test_stop_while_waiting_for_a_slot() -> None:
    """A job that waits for others to start ends at once, and gives its place in the line back."""
    world = World()
    world.start(starts_at_once=1)
    world.containers.delays["create"] = 5.0
    world.accept(a_job("j1"), a_job("j2"), a_job("j3"))
    assert world.answer(world.agent.stop_job("j2")).status is JobStatus.FAILED
    world.pass_time(20)
    assert world.job("j1").status is world.job("j3").status is JobStatus.RUNNING


@pytest.mark.parametrize("method", ["create", "start", "inspect"])
def test_stop_while_starting(world: World, method: str) -> None:
    """A job in the middle of its start ends, and no container of it is left running."""
    world.containers.delays[method] = 3.0
    world.accept(a_job("j1"))
    job = world.answer(world.agent.stop_job("j1"), within=15)
    assert job.ended
    assert not [c for c in world.containers.containers.values() if c.running]


def test_stop_while_the_engine_is_gone(world: World) -> None:
    """A job that has no container yet ends at once, though the engine is gone."""
    world.containers.go_down()
    world.accept(a_job("j1"))
    world.pass_time(5)
    assert world.answer(world.agent.stop_job("j1")).status is JobStatus.FAILED
    world.containers.come_back()
    world.pass_time(60)
    assert world.starts("j1") == 0


def test_stop_of_a_running_job_while_the_engine_is_gone(world: World) -> None:
    """The one who asked is told in time that it lasts; the job is stopped when the engine is back."""
    world.accept(a_job("j1"))
    world.containers.go_down()
    with pytest.raises(TookTooLong):
        world.answer(world.agent.stop_job("j1"), within=30)
    world.containers.come_back()
    world.pass_time(60)
    assert world.job("j1").exit_status == 143


def test_stop_when_it_is_not_known_whether_the_job_was_started(world: World) -> None:
    """A job whose start was not answered is not given up before the engine says how it is."""
    world.containers.fail("start", EngineUnavailable("timed out"), after=True)
    world.accept(a_job("j1"))
    job = world.answer(world.agent.stop_job("j1"), within=15)
    assert (job.status, job.exit_status) == (JobStatus.CRASHED, 143)


def test_stop_goes_on_after_a_restart(world: World) -> None:
    """A stop that was asked for before a crash is carried out after it."""
    world.containers.programs = lambda _: Program(on_signal={9: 137})
    world.accept(a_job("j1"))
    world.forget(world.agent.stop_job("j1"))
    world.pass_time(1)
    world.kill()
    world.start()
    world.pass_time(25)
    assert world.job("j1").exit_status == 137
    assert world.events("j1")[-1] is EventKind.STOP


def test_end_missed_while_stopping(world: World) -> None:
    """A job whose end nobody told of is looked at when it is being stopped."""
    world.accept(a_job("j1"))
    world.containers.drop_events()
    assert world.answer(world.agent.stop_job("j1"), within=15).exit_status == 143


def test_signal(world: World) -> None:
    """A signal reaches a running job, and only a running one."""
    world.containers.programs = lambda _: Program(on_signal={2: 130})
    world.accept(a_job("j1"))
    world.answer(world.agent.signal_job("j1", 10))
    assert world.job("j1").status is JobStatus.RUNNING
    world.answer(world.agent.signal_job("j1", 2))
    world.pass_time(1)
    assert world.job("j1").exit_status == 130
    with pytest.raises(JobNotRunning):
        world.answer(world.agent.signal_job("j1", 2))


def test_disk_hangs(world: World) -> None:
    """Who asks while the disk hangs is told in time what is known; it is done when the disk is back."""
    world.accept(a_job("j1"))
    world.journal.hold()
    with pytest.raises(TookTooLong, match="may be on disk"):
        world.answer(world.agent.accept([a_job("j2")], 1), within=35)
    with pytest.raises(TookTooLong, match="still being stopped"):
        world.answer(world.agent.stop_job("j1"), within=35)
    world.journal.release()
    world.pass_time(5)
    assert world.job("j1").exit_status == 143
    assert world.job("j2").status is JobStatus.RUNNING
