"""How the host finds the truth about its jobs after something was missed."""

from __future__ import annotations

import pytest

from flynnhost.model import EventKind, JobStatus, Port
from flynnhost.testing.journal import MemoryJournal
from flynnhost.testing.world import World, a_job

CREATE, START, STOP, ERROR = EventKind.CREATE, EventKind.START, EventKind.STOP, EventKind.ERROR


@pytest.fixture
def world() -> World:
    """A host that has started and is ready."""
    world = World()
    world.start()
    return world


def test_end_while_the_host_was_down(world: World) -> None:
    """A job that ended while the host was down has the right code and time afterwards."""
    world.accept(a_job("j1"), a_job("j2"))
    world.kill()
    world.pass_time(100)
    ended = world.clock.seconds()
    world.containers.exit("flynn-j1", 9)
    world.pass_time(100)
    world.start()
    world.pass_time(1)
    job = world.job("j1")
    assert (job.status, job.exit_status) == (JobStatus.CRASHED, 9)
    assert job.ended_at is not None
    assert job.ended_at.timestamp() == ended
    assert world.job("j2").status is JobStatus.RUNNING
    assert world.starts("j2") == 1


def test_events_lost_in_silence(world: World) -> None:
    """An end of which no event came is found within half a minute or so."""
    world.accept(a_job("j1"))
    world.containers.drop_events()
    world.containers.exit("flynn-j1", 5)
    world.pass_time(35)
    assert world.job("j1").exit_status == 5


def test_event_stream_broken(world: World) -> None:
    """What ended while the event stream was broken is known as soon as it flows again."""
    world.accept(*(a_job(f"j{n}") for n in range(5)))
    world.containers.go_down()
    world.pass_time(60)
    world.containers.come_back()
    for n in range(5):
        world.containers.exit(f"flynn-j{n}", n)
    world.pass_time(35)
    assert [world.job(f"j{n}").exit_status for n in range(5)] == [0, 1, 2, 3, 4]


def test_engine_restarted_under_jobs(world: World) -> None:
    """When the engine's end takes the jobs with it, they have ended when it is back."""
    world.accept(a_job("j1"), a_job("j2"))
    world.containers.go_down(exit_code=137)
    world.pass_time(10)
    assert world.job("j1").status is JobStatus.RUNNING
    world.containers.come_back()
    world.pass_time(35)
    assert world.job("j1").exit_status == world.job("j2").exit_status == 137
    assert world.starts("j1") == 1


def test_container_removed_by_somebody(world: World) -> None:
    """A job whose container was removed while the host was down is lost, and says so."""
    world.accept(a_job("j1"))
    world.kill()
    world.containers.vanish("flynn-j1")
    world.start()
    world.pass_time(1)
    job = world.job("j1")
    assert (job.status, job.exit_status) == (JobStatus.CRASHED, -1)
    assert "removed" in job.error


def test_adoption_after_the_journal_was_lost(world: World) -> None:
    """What runs is adopted whole by a host whose journal is gone, and is the same job as before."""
    asked = a_job("j1", env={"A": "b"}, ports=(Port(),))
    world.accept(asked, a_job("j2"), term=4)
    world.containers.exit("flynn-j2", 3)
    world.kill()
    world.journal = MemoryJournal(world.clock)
    world.start()
    world.pass_time(1)
    job = world.job("j1")
    assert (job.job, job.host_ports, job.term, job.status) == (asked, (55000,), 4, JobStatus.RUNNING)
    assert world.job("j2").exit_status == 3
    world.accept(asked, term=4)
    assert world.starts("j1") == 1
    world.accept(a_job("j3", ports=(Port(),)), term=4)
    assert world.job("j3").host_ports == (55001,)


def test_containers_of_others_are_left_alone(world: World) -> None:
    """Reconcile and --force touch this host's containers only."""
    other = World(settings=world.settings, clock=world.clock)
    other.containers = world.containers
    other.start(host_id="h2")
    other.accept(a_job("theirs"))
    world.accept(a_job("ours"))
    world.kill()
    world.start(force=True)
    world.pass_time(5)
    assert [c.spec.name for c in world.containers.containers.values()] == ["flynn-theirs"]
    assert (world.job("ours").status, world.job("ours").error) == (JobStatus.CRASHED, "ended by --force")
    assert "theirs" not in world.agent.jobs()


def test_force_waits_for_the_engine(world: World) -> None:
    """With --force nothing is accepted before everything was ended."""
    world.accept(a_job("j1"))
    world.kill()
    world.containers.go_down()
    world.start(force=True)
    world.pass_time(10)
    assert "--force" in world.agent.readiness()[0].detail
    world.containers.come_back()
    world.pass_time(30)
    assert world.job("j1").ended
    assert not world.containers.containers


def test_late_create_of_a_job_that_was_given_up(world: World) -> None:
    """A container that a hung engine makes after its job was stopped does not stay."""
    world.containers.hang()
    world.accept(a_job("j1"))
    world.forget(world.agent.stop_job("j1"))
    world.pass_time(70)
    assert world.job("j1").ended
    world.containers.come_back()
    world.pass_time(60)
    assert not world.containers.containers
    assert world.starts("j1") == 0


def test_end_is_on_disk_before_it_is_told(world: World) -> None:
    """While the disk does not take the end of a job, nobody is told of it."""
    world.accept(a_job("j1"))
    world.journal.delay = 5.0
    world.containers.exit("flynn-j1", 1)
    world.pass_time(3)
    assert world.job("j1").status is JobStatus.RUNNING
    assert STOP not in world.events("j1")
    world.pass_time(3)
    assert world.job("j1").exit_status == 1


def test_ports_are_kept_over_a_restart(world: World) -> None:
    """A running job's ports are not given to another after a restart."""
    world.accept(a_job("j1", ports=(Port(), Port())))
    world.kill()
    world.start()
    world.accept(a_job("j2", ports=(Port(),)))
    assert world.job("j2").host_ports == (55002,)


def test_shutdown_leaves_containers_running(world: World) -> None:
    """The end of the service touches no container, and ends in bounded time even if the engine hangs."""
    world.accept(a_job("j1"))
    world.containers.hang()
    world.accept(a_job("j2"))
    world.answer(world.agent.stopService(), within=5)
    assert world.containers.container("flynn-j1").running


def test_end_seen_twice(world: World) -> None:
    """An end that is seen by an event and by a look at everything at the same time is told once."""
    world.accept(a_job("j1"))
    world.containers.delays["inspect"] = 0.5
    world.journal.delay = 2.0
    world.containers.exit("flynn-j1", 1)
    world.containers.break_events()
    world.pass_time(10)
    assert world.events("j1") == [CREATE, START, STOP]
