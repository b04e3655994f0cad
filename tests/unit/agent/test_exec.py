"""Commands in running jobs."""

from __future__ import annotations

from typing import Any

import pytest

from flynnhost.agent import attachments
from flynnhost.errors import EngineRefused, EngineUnavailable, JobNotRunning, TooManyRequests, UnknownJob
from flynnhost.interfaces import ExecSpec
from flynnhost.testing.container_exec import FakeExecution
from flynnhost.testing.container_process import Program
from flynnhost.testing.world import World, a_job
from tests.support.attach_recorder import Client


@pytest.fixture
def world() -> World:
    """A host on which a job runs."""
    world = World()
    world.start()
    world.accept(a_job("j1"))
    world.pass_time(0)
    return world


def run(world: World, program: Program | None = None, **spec: Any) -> Client:
    """Run a command in the job."""
    world.containers.commands = lambda _, __: program or Program()
    client = Client()
    client.attachment = world.agent.exec("j1", ExecSpec(("cmd",), **spec), client)
    world.pass_time(0)
    return client


def execution(world: World) -> FakeExecution:
    return world.containers.executions[-1]


def check_nothing_left(world: World) -> None:
    world.pass_time(11)
    kept: Any = world.agent._attachments
    assert len(kept) == 0
    assert not any(each.running for each in world.containers.executions)


def test_output_and_exit_status(world: World) -> None:
    """All it writes, then its exit status."""
    client = run(world, Program(output=((1, b"out\n"), (2, b"err\n")), exits_after=1, exit_code=3))
    world.pass_time(2)
    assert client.told == [("attached",), ("output", 1, b"out\n"), ("output", 2, b"err\n"), ("exited", 3)]
    check_nothing_left(world)


def test_input(world: World) -> None:
    """It reads what is typed, and the end of it."""
    client = run(world, Program(reads_input=True), stdin=True)
    client.there.write(b"one\n")
    client.there.end_input()
    world.pass_time(1)
    assert client.told == [("attached",), ("output", 1, b"one\n"), ("exited", 0)]


def test_without_input(world: World) -> None:
    """What is typed for a command without input is dropped."""
    client = run(world)
    client.there.write(b"one\n")
    client.there.end_input()
    world.pass_time(1)
    assert execution(world).input == b""
    assert client.told == [("attached",)]


def test_too_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many commands are under way at a time, with those counted that nobody waits for any more."""
    monkeypatch.setattr(attachments, "MAX_COMMANDS", 2)
    running = run(world)
    world.containers.delays["exec"] = 5.0
    left = run(world)
    left.there.detach()
    world.pass_time(1)
    with pytest.raises(TooManyRequests, match="2 commands"):
        run(world)
    world.pass_time(5)
    del world.containers.delays["exec"]
    assert run(world).told == [("attached",)]
    running.there.detach()
    world.pass_time(11)
    world.containers.fail("exec", EngineUnavailable("busy"))
    assert run(world).last[0] == "failed"
    assert run(world).told == [("attached",)]
    with pytest.raises(TooManyRequests):
        run(world)


def test_client_gone(world: World) -> None:
    """A command ends with its client."""
    client = run(world, stdin=True)
    freed = client.there.when_freed()
    client.there.detach()
    world.pass_time(1)
    assert execution(world).signals == [1]
    assert freed.called
    assert client.told == [("attached",)]
    check_nothing_left(world)


def test_client_gone_early(world: World) -> None:
    """A command that begins when its client is gone already is ended."""
    world.containers.delays["exec"] = 1.0
    client = run(world)
    client.there.detach()
    world.pass_time(2)
    assert client.told == []
    check_nothing_left(world)


def test_slow_client(world: World) -> None:
    """A client that takes no more holds its command back."""
    client = run(world)
    client.there.pauseProducing()
    execution(world).wrote((1, b"x"))
    assert client.told == [("attached",)]
    execution(world).exited(5)
    world.pass_time(1)
    assert client.told == [("attached",)]
    client.there.resumeProducing()
    world.pass_time(0)
    assert client.told == [("attached",), ("output", 1, b"x"), ("exited", 5)]


def test_signals_and_sizes(world: World) -> None:
    """They reach the command's own process."""
    client = run(world, tty=True, height=10, width=20)
    assert execution(world).size == (10, 20)
    client.there.resize(24, 80)
    client.there.signal(10)
    client.there.signal(2)
    world.pass_time(1)
    assert execution(world).size == (24, 80)
    assert execution(world).signals == [10, 2]
    assert client.last == ("exited", 130)


def test_command_that_can_not_be_run(world: World) -> None:
    """The client is told the engine's words."""
    assert run(world, Program(refused="no such file")).told == [("failed", "no such file")]
    check_nothing_left(world)


def test_engine_lost(world: World) -> None:
    """When its connection breaks, nobody claims to know how the command ended."""
    client = run(world)
    world.containers.go_down()
    world.pass_time(1)
    assert client.last[0] == "failed"
    kept: Any = world.agent._attachments
    assert len(kept) == 0


@pytest.mark.parametrize("error", [EngineUnavailable("gone"), EngineRefused("no")])
def test_engine_does_not(world: World, error: Exception) -> None:
    """Whatever the engine answers is told."""
    world.containers.fail("exec", error)
    assert run(world).told == [("failed", str(error))]


def test_job_ends(world: World) -> None:
    """A command does not outlive its job."""
    client = run(world)
    world.containers.exit("flynn-j1", 0)
    world.pass_time(1)
    assert client.last == ("exited", 137)
    check_nothing_left(world)


def test_job_that_does_not_run(world: World) -> None:
    """There must be such a job, and it must run."""
    with pytest.raises(UnknownJob):
        world.agent.exec("j2", ExecSpec(("cmd",)), Client())
    world.containers.delays["create"] = 5.0
    world.accept(a_job("j2"))
    with pytest.raises(JobNotRunning):
        world.agent.exec("j2", ExecSpec(("cmd",)), Client())
    world.containers.delays["inspect"] = 0.5
    world.containers.exit("flynn-j1", 0)
    assert run(world).told == [("failed", "job j1 does not run any more")]
    world.pass_time(1)
    with pytest.raises(JobNotRunning):
        world.agent.exec("j1", ExecSpec(("cmd",)), Client())


def test_thousand(world: World) -> None:
    """Nothing is left of a thousand commands."""
    for _ in range(1000):
        run(world).there.detach()
    check_nothing_left(world)
    assert world.containers.calls["exec"] == 1000
