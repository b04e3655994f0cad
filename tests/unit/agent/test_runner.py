"""How accepted jobs come to run."""

from __future__ import annotations

import pytest

from flynnhost.agent import table
from flynnhost.errors import (
    EngineRefused,
    EngineUnavailable,
    ImageMissing,
    InvalidField,
    JobConflict,
    JournalFailed,
    StaleTerm,
)
from flynnhost.interfaces import ContainerSpec
from flynnhost.model import EventKind, HealthCheck, JobStatus, Phase, Port, PortService
from flynnhost.testing.container_process import Program
from flynnhost.testing.containers import PullScript
from flynnhost.testing.world import World, a_job

CREATE, START, STOP, ERROR = EventKind.CREATE, EventKind.START, EventKind.STOP, EventKind.ERROR


@pytest.fixture
def world() -> World:
    """A host that has started and is ready."""
    world = World()
    world.start()
    return world


def test_job_runs(world: World) -> None:
    """An accepted job is created, started, and told of in that order."""
    world.accept(a_job("j1"))
    job = world.job("j1")
    assert (job.status, job.phase, job.term) == (JobStatus.RUNNING, Phase.RUNNING, 1)
    assert job.container_id == world.containers.container("flynn-j1").id
    assert world.events("j1") == [CREATE, START]


@pytest.mark.parametrize(("code", "status"), [(0, JobStatus.DONE), (7, JobStatus.CRASHED)])
def test_exit_is_recorded(world: World, code: int, status: JobStatus) -> None:
    """Exit 0 is done, any other crashed, with the engine's own time of the end."""
    world.accept(a_job("j1"))
    world.pass_time(5)
    ended = world.clock.seconds()
    world.containers.exit("flynn-j1", code)
    world.pass_time(1)
    job = world.job("j1")
    assert (job.status, job.exit_status, job.phase) == (status, code, Phase.ENDED)
    assert job.ended_at is not None
    assert job.ended_at.timestamp() == ended
    assert world.events("j1") == [CREATE, START, STOP]


def test_out_of_memory_is_recorded(world: World) -> None:
    """A process that the kernel killed for its memory is crashed, and says so."""
    world.accept(a_job("j1"))
    world.containers.exit("flynn-j1", 137, oom_killed=True)
    world.pass_time(1)
    job = world.job("j1")
    assert (job.status, job.oom_killed, job.error) == (JobStatus.CRASHED, True, "killed: out of memory")


def test_process_that_ends_before_it_is_looked_at(world: World) -> None:
    """A job that ends before the inspect that follows its start is started and ended all the same."""
    world.containers.programs = lambda _: Program(exits_after=0, exit_code=3)
    world.accept(a_job("j1"))
    world.pass_time(0)
    assert world.job("j1").exit_status == 3
    assert world.events("j1") == [CREATE, START, STOP]


def test_engine_refuses_the_start(world: World) -> None:
    """A job whose command does not exist fails with the engine's words, without a start event."""
    world.containers.programs = lambda _: Program(refused='exec: "nope": executable file not found')
    world.accept(a_job("j1"))
    world.pass_time(0)
    job = world.job("j1")
    assert job.status is JobStatus.FAILED
    assert "executable file not found" in job.error
    assert world.events("j1") == [CREATE, ERROR]
    assert "flynn-j1" not in {c.spec.name for c in world.containers.containers.values()}


def test_start_refused_but_done(world: World) -> None:
    """A job that runs although the engine said no is running."""
    world.containers.fail("start", EngineRefused("a late failure"), after=True)
    world.accept(a_job("j1"))
    assert world.job("j1").status is JobStatus.RUNNING


def test_starts_at_once_are_bounded() -> None:
    """No more jobs are being started at the same time than the operator wants."""
    world = World()
    world.start(starts_at_once=3)
    world.containers.delays["create"] = 1.0
    world.accept(*(a_job(f"j{n}") for n in range(7)))
    assert world.containers.calls["create"] == 3
    world.pass_time(1.1)
    assert world.containers.calls["create"] == 6
    world.pass_time(3)
    assert all(job.status is JobStatus.RUNNING for job in world.agent.jobs().values())


def test_one_pull_for_many_jobs(world: World) -> None:
    """Jobs that wait for an image share one pull, whose progress each shows, and hold up no other."""
    world.containers.every_image = False
    world.containers.images.add("busybox:latest")
    world.containers.pulls["big:latest"] = PullScript(seconds=60)
    world.accept(*(a_job(f"big{n}", "big:latest") for n in range(10)), a_job("small"))
    world.pass_time(30)
    assert world.containers.calls["pull"] == 1
    assert world.job("small").status is JobStatus.RUNNING
    assert {world.job(f"big{n}").phase for n in range(10)} == {Phase.PULLING}
    assert "layers" in world.job("big9").detail
    world.pass_time(40)
    assert {world.job(f"big{n}").status for n in range(10)} == {JobStatus.RUNNING}


def test_pull_fails(world: World) -> None:
    """A job whose image can't be had fails with the registry's words."""
    world.containers.every_image = False
    world.containers.pulls["no/such:latest"] = PullScript(error="repository does not exist")
    world.accept(a_job("j1", "no/such"))
    world.pass_time(1)
    assert "repository does not exist" in world.job("j1").error


def test_image_id_is_not_pulled(world: World) -> None:
    """An image ID that the engine does not know fails the job: no registry can be asked for it."""
    world.containers.every_image = False
    world.accept(a_job("j1", "sha256:" + "ab" * 32))
    world.pass_time(1)
    assert "can't be pulled" in world.job("j1").error
    assert not world.containers.calls["pull"]


def test_engine_gone_and_back(world: World) -> None:
    """Jobs are taken while the engine is gone, say that they wait, and run when it is back."""
    world.containers.go_down()
    world.accept(a_job("j1"))
    world.pass_time(20)
    assert world.job("j1").status is JobStatus.STARTING
    assert "waiting" in world.job("j1").detail
    assert not all(check.ok for check in world.agent.readiness())
    world.containers.come_back()
    world.pass_time(60)
    assert world.job("j1").status is JobStatus.RUNNING
    assert world.starts("j1") == 1
    assert all(check.ok for check in world.agent.readiness())


@pytest.mark.parametrize("method", ["create", "start", "inspect"])
def test_answer_lost(world: World, method: str) -> None:
    """A call that was done but not answered is not done again."""
    world.containers.fail(method, EngineUnavailable("timed out"), after=True)
    world.accept(a_job("j1"))
    world.pass_time(10)
    assert world.job("j1").status is JobStatus.RUNNING
    assert world.starts("j1") == 1


def test_short_process_whose_start_was_not_answered(world: World) -> None:
    """A process that ended while its start was not answered is not run again."""
    world.containers.programs = lambda _: Program(exits_after=0, exit_code=4)
    world.containers.fail("start", EngineUnavailable("timed out"), after=True)
    world.accept(a_job("j1"))
    world.pass_time(10)
    assert world.job("j1").exit_status == 4
    assert world.starts("j1") == 1


def test_foreign_container_of_the_same_name(world: World) -> None:
    """A container of the job's name that is not the job's is left alone, and the job fails."""
    theirs = ContainerSpec(name="flynn-j2", image="busybox:latest", labels={"somebody": "else"})
    foreign = world.answer(world.containers.create(theirs))
    world.accept(a_job("j2"))
    world.pass_time(1)
    assert "not made for this job" in world.job("j2").error
    assert foreign in world.containers.containers


def test_ports_are_leased_and_told(world: World) -> None:
    """Each port gets a number of its own, in the environment and published, free again at the end."""
    world.accept(a_job("j1", ports=(Port(), Port(proto="udp"), Port(port=8080))))
    job = world.job("j1")
    first, second, third = job.host_ports
    assert (first, second, third) == (55000, 55001, 8080)
    spec = world.containers.container("flynn-j1").spec
    assert {name: spec.env[name] for name in ("PORT", "PORT_0", "PORT_1", "PORT_2")} == {
        "PORT": "55000",
        "PORT_0": "55000",
        "PORT_1": "55001",
        "PORT_2": "8080",
    }
    assert [(p.container_port, p.host_port, p.proto) for p in spec.ports] == [
        (55000, 55000, "tcp"),
        (55001, 55001, "udp"),
        (8080, 8080, "tcp"),
    ]
    assert world.agent.status()["ports"]["leased"] == 3
    world.containers.exit("flynn-j1")
    world.pass_time(1)
    assert world.agent.status()["ports"]["leased"] == 0


def test_no_ports_left() -> None:
    """A job for which there is no port fails, and says so; the next one may have more luck."""
    world = World()
    world.start(ports=(55000, 55001))
    world.accept(a_job("j1", ports=(Port(), Port())), a_job("j2", ports=(Port(),)))
    world.pass_time(1)
    assert world.job("j2").error == "no ports left between 55000 and 55001"
    world.containers.exit("flynn-j1")
    world.pass_time(1)
    world.accept(a_job("j3", ports=(Port(),)))
    assert world.job("j3").status is JobStatus.RUNNING


def test_port_taken_between_lease_and_start(world: World) -> None:
    """When a program takes a port after it was leased, the job gets another and runs once."""
    world.containers.taken_ports.add(("tcp", 55000))
    world.accept(a_job("j1", ports=(Port(),)))
    world.pass_time(1)
    assert world.job("j1").host_ports == (55001,)
    assert world.job("j1").status is JobStatus.RUNNING
    assert world.starts("j1") == 1


def test_fixed_port_taken(world: World) -> None:
    """A job that wants a port by its number fails when it is taken, naming the port."""
    world.busy_ports.add(8080)
    world.accept(a_job("j1", ports=(Port(port=8080),)))
    world.pass_time(1)
    assert "8080/tcp" in world.job("j1").error


def test_same_job_again(world: World) -> None:
    """The same ID with the same content is the same job, also when it has ended."""
    world.accept(a_job("j1"))
    world.accept(a_job("j1"), a_job("j1"))
    world.containers.exit("flynn-j1")
    world.pass_time(1)
    (job,) = world.accept(a_job("j1"))
    world.pass_time(60)
    assert job.status is JobStatus.DONE
    assert world.starts("j1") == 1
    assert world.events("j1") == [CREATE, START, STOP]


def test_same_id_with_other_content(world: World) -> None:
    """The same ID with other content is refused, and nothing of the batch is done."""
    world.accept(a_job("j1"))
    with pytest.raises(JobConflict):
        world.accept(a_job("j2"), a_job("j1", cmd=("other",)))
    assert set(world.agent.jobs()) == {"j1"}
    assert world.job("j1").status is JobStatus.RUNNING


def test_what_cannot_be_honoured(world: World) -> None:
    """What this host would have to ignore is refused by the name of the field."""
    port = Port(service=PortService("web", check=HealthCheck()))
    with pytest.raises(InvalidField) as refused:
        world.accept(a_job("j1"), a_job("j2", ports=(Port(port=80), port)))
    assert refused.value.field == "[1].config.ports[1].service"
    assert not world.agent.jobs()


def test_old_terms_are_refused(world: World) -> None:
    """A leader whose term is over commands nothing, also after a restart."""
    world.accept(a_job("j1"), term=7)
    world.kill()
    world.start()
    with pytest.raises(StaleTerm):
        world.accept(a_job("j2"), term=6)
    world.accept(a_job("j2"), term=7)
    assert world.agent.highest_term == 7


def test_image_that_never_stays(world: World) -> None:
    """A job whose image is gone again after each pull fails in the end."""
    world.containers.fail("create", ImageMissing("busybox:latest"), times=10)
    world.accept(a_job("j1"))
    world.pass_time(1)
    assert "again and again" in world.job("j1").error
    assert world.containers.calls["pull"] == 3


def test_latest_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known which jobs have ended last, also after a restart, up to a number."""
    monkeypatch.setattr(table, "ENDED_KEPT", 3)
    world.accept(*[a_job(f"j{number}") for number in range(5)])
    world.pass_time(1)
    for number in (3, 1, 4, 0):
        world.containers.exit(f"flynn-j{number}", 0)
        world.pass_time(1)
    assert list(world.agent.latest_ended(2)) == ["j0", "j4"]
    world.kill()
    world.start()
    assert list(world.agent.latest_ended(10)) == ["j0", "j4", "j1"]


def test_draining(world: World) -> None:
    """Whether the host drains is told when it is on disk, and outlives it; jobs go on as before."""
    told: list[bool] = []
    subscription = world.agent.watch_draining(told.append)
    world.journal.trouble = "full"
    with pytest.raises(JournalFailed):
        world.answer(world.agent.set_draining(True, 1))
    assert not world.agent.draining
    world.journal.trouble = ""
    for _ in range(2):
        world.answer(world.agent.set_draining(True, 1))
    assert (told, world.agent.draining, world.agent.status()["draining"]) == ([True], True, True)
    world.accept(a_job("j1"))
    subscription.cancel()
    world.kill()
    assert world.start().draining
    world.accept(a_job("j2"), term=3)
    with pytest.raises(StaleTerm):
        world.answer(world.agent.set_draining(False, 2))
    world.answer(world.agent.set_draining(False, 3))
    world.kill()
    assert not world.start().draining
    assert told == [True]
