"""Attaching to jobs, from before they are known to after their end."""

from __future__ import annotations

from typing import Any, cast

import pytest
from attrs import define, field
from twisted.internet.interfaces import IPushProducer
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from flynnhost.agent import attachments
from flynnhost.agent.attachment import BROKE_OFF, ENDED_WITHIN, KNOWN_WITHIN
from flynnhost.agent.before_start import PREPARE_WITHIN
from flynnhost.agent.spool import BLOCK_BYTES, SpoolLimits
from flynnhost.agent.typed_input import EARLY_BYTES
from flynnhost.errors import (
    ContainerNotRunning,
    EngineUnavailable,
    NotReady,
    PortTaken,
    TooManyRequests,
    UnknownJob,
)
from flynnhost.interfaces import AttachQuery
from flynnhost.model import JobStatus, Port
from flynnhost.testing.container_process import Program
from flynnhost.testing.containers import PullScript
from flynnhost.testing.world import World, a_job
from tests.support.attach_recorder import Client


@pytest.fixture
def world() -> World:
    """A host that has started and is ready."""
    world = World()
    world.start()
    return world


def attach(world: World, job_id: str = "j1", **query: Any) -> Client:
    """Attach to a job, to what it writes from now on unless something else is asked for."""
    client = Client()
    asked = {"stdout": True, "stderr": True, "stream": True, **query}
    client.attachment = world.agent.attach(AttachQuery(job_id, **asked), client)
    world.pass_time(0)
    return client


def logs(world: World, job_id: str = "j1", **query: Any) -> Client:
    """Attach to what a job wrote so far."""
    return attach(world, job_id, **{"logs": True, "stream": False, **query})


def run(world: World, job_id: str = "j1", output: tuple[tuple[int, bytes], ...] = (), **config: Any) -> None:
    """Have a job run that writes something at once."""
    world.containers.programs = lambda _: Program(output=output)
    world.accept(a_job(job_id, **config))
    world.pass_time(0)
    assert world.job(job_id).status is JobStatus.RUNNING


def write(world: World, data: bytes, stream: int = 1, job_id: str = "j1") -> None:
    world.containers.write(f"flynn-{job_id}", data, stream)


def end(world: World, code: int = 0, job_id: str = "j1") -> None:
    world.containers.exit(f"flynn-{job_id}", code)
    world.pass_time(0)


def check_nothing_left(world: World) -> None:
    """Nothing is kept for anybody attached."""
    world.pass_time(0)
    kept: Any = world.agent._attachments
    around = kept._around
    assert (len(kept), len(around.live), len(around.starts), around.inputs) == (0, 0, 0, {})
    table: Any = around.table
    assert table._waiters == {}
    for container in world.containers.containers.values():
        assert [reader for reader in container.readers if not reader.stopped] == []
        assert [listener for listener in container.listeners if not listener.stopped] == []
        assert [way for way in container.inputs if not way.closed] == []


# --- live -----------------------------------------------------------------------


def test_live(world: World) -> None:
    """What a job writes from now on comes as it comes, and its exit status after all of it."""
    run(world, output=((1, b"before\n"),))
    client = attach(world)
    assert client.told == [("attached",)]
    write(world, b"out\n")
    write(world, b"err\n", 2)
    end(world, 7)
    assert client.told == [
        ("attached",), ("output", 1, b"out\n"), ("output", 2, b"err\n"), ("exited", 7)
    ]  # fmt: skip
    check_nothing_left(world)


def test_one_stream(world: World) -> None:
    """Who wants one stream gets no other."""
    run(world)
    out, err = attach(world, stderr=False), attach(world, stdout=False)
    write(world, b"out\n")
    write(world, b"err\n", 2)
    end(world)
    assert out.told == [("attached",), ("output", 1, b"out\n"), ("exited", 0)]
    assert err.told == [("attached",), ("output", 2, b"err\n"), ("exited", 0)]


def test_many_share_one_stream(world: World) -> None:
    """A hundred get the same bytes of one stream of the engine, which ends with the last of them."""
    run(world)
    clients = [attach(world) for _ in range(100)]
    assert world.containers.calls["attach_output"] == 1
    for number in range(50):
        write(world, b"%d\n" % number)
    leaving = clients.pop()
    leaving.there.detach()
    write(world, b"more\n")
    end(world)
    assert len({client.of(1) for client in clients}) == 1
    assert {client.last for client in clients} == {("exited", 0)}
    assert leaving.last == ("output", 1, b"49\n")
    check_nothing_left(world)


def test_detach_frees(world: World) -> None:
    """Who leaves hears no more; with the last, the engine's stream ends."""
    run(world, stdin=True)
    client = attach(world, stdin=True)
    freed = client.there.when_freed()
    client.there.detach()
    client.there.detach()
    world.pass_time(1)
    assert freed.called
    check_nothing_left(world)
    write(world, b"unheard\n")
    end(world)
    assert client.told == [("attached",)]


def test_thousand_come_and_go(world: World) -> None:
    """Nothing is left of a thousand who came and went, at whatever moment."""
    run(world, stdin=True, output=((1, b"x\n"),))
    world.containers.delays["attach_output"] = 0.2
    calls = len(world.clock.getDelayedCalls())
    for number in range(1000):
        client = attach(world, stdin=number % 3 == 0, logs=number % 2 == 0, stream=number % 5 != 0)
        world.pass_time(0.1 * (number % 4))
        client.there.detach()
        world.pass_time(0)
    world.pass_time(1)
    check_nothing_left(world)
    assert len(world.clock.getDelayedCalls()) <= calls


def test_detached_while_it_is_told(world: World) -> None:
    """A client may leave in the middle of any call."""
    for call in ("attached", "output_received", "exited", "stream_ended", "finished"):
        job_id = f"job-{call}"
        client = Client()

        def leave(*_: Any, client: Client = client) -> None:
            client.told.append(("left",))
            if client.attachment is not None:
                client.attachment.detach()

        setattr(client, call, leave)
        world.containers.programs = lambda _: Program(output=((1, b"x\n"),), exits_after=1)
        query = AttachQuery(job_id, stdout=True, stream=call != "finished", logs=call == "finished")
        client.attachment = world.agent.attach(query, client)
        world.accept(a_job(job_id))
        world.pass_time(3)
        check_nothing_left(world)


@pytest.mark.parametrize("broken", ["waiting", "attached", "output_received", "stream_ended", "exited"])
def test_client_that_breaks(world: World, broken: str, logged_failures: Any) -> None:
    """A client that fails when it is told something is let go; the others notice nothing."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    client = Client()
    for call in (broken, "failed"):
        setattr(client, call, fail)
    query = AttachQuery("j1", stdout=True, logs=broken == "stream_ended", stream=broken != "stream_ended")
    if broken == "waiting":
        world.agent.attach(query, client)
    run(world)
    if broken != "waiting":
        world.agent.attach(query, client)
    other = attach(world)
    write(world, b"x")
    write(world, b"y")
    end(world)
    assert other.told == [("attached",), ("output", 1, b"x"), ("output", 1, b"y"), ("exited", 0)]
    check_nothing_left(world)
    logged_failures.flush(ZeroDivisionError)


def test_slow_client(world: World) -> None:
    """A client that takes nothing for a while gets everything later; others wait for nothing."""
    world.spool_limits = SpoolLimits(memory=4 * BLOCK_BYTES)
    run(world)
    quick, slow = attach(world), attach(world)
    slow.there.pauseProducing()
    lines = [b"%d" % number * 1000 + b"\n" for number in range(5000)]
    for line in lines:
        write(world, line)
    assert quick.of(1) == b"".join(lines)
    end(world, 3)
    assert quick.last == ("exited", 3)
    assert slow.told == [("attached",)]
    slow.there.resumeProducing()
    world.pass_time(0)
    assert slow.of(1) == b"".join(lines)
    assert slow.last == ("exited", 3)
    check_nothing_left(world)


def test_client_that_falls_behind(world: World) -> None:
    """A client that never takes anything is cut off alone."""
    world.spool_limits = SpoolLimits(memory=4 * BLOCK_BYTES, total=1 << 20)
    run(world)
    quick, stuck = attach(world), attach(world)
    stuck.there.pauseProducing()
    for _ in range(200):
        write(world, b"x" * 10_000)
    assert stuck.last == ("failed", "fell behind: 1 MiB of output were not read")
    assert len(quick.of(1)) == 2_000_000
    end(world)
    assert quick.last == ("exited", 0)
    check_nothing_left(world)


def test_exit_waits_for_the_disk(world: World) -> None:
    """No exit status is told before it is on disk."""
    run(world)
    client = attach(world)
    world.journal.hold()
    end(world, 5)
    world.pass_time(5)
    assert client.told == [("attached",)]
    world.journal.release()
    world.pass_time(1)
    assert client.last == ("exited", 5)


def test_stream_that_breaks(world: World) -> None:
    """When the output ends and the job does not, something may be missing: that is no proper end."""
    run(world)
    client = attach(world)
    write(world, b"half")
    world.containers.container("flynn-j1").close_readers()
    world.pass_time(ENDED_WITHIN - 1)
    assert client.last == ("output", 1, b"half")
    world.pass_time(2)
    assert client.last == ("failed", BROKE_OFF)
    again = attach(world)
    write(world, b"other half")
    assert again.last == ("output", 1, b"other half")
    end(world)
    assert again.last == ("exited", 0)
    check_nothing_left(world)


def test_engine_dies_with_the_job(world: World) -> None:
    """When the engine is lost, nobody claims to know all of the output, even if the exit is found out."""
    run(world)
    client = attach(world)
    world.containers.go_down(exit_code=137)
    world.pass_time(3)
    world.containers.come_back()
    world.pass_time(5)
    assert world.job("j1").ended
    assert client.last == ("failed", BROKE_OFF)
    check_nothing_left(world)


def test_engine_gone(world: World) -> None:
    """A client is told at once when the engine is not there."""
    run(world)
    world.containers.go_down()
    assert attach(world).last[0] == "failed"
    world.containers.come_back()
    world.pass_time(30)
    check_nothing_left(world)


def test_lost_exit(world: World) -> None:
    """An exit status that was lost with its container is told as such."""
    run(world)
    client = attach(world, stdout=False, stderr=False, stdin=False)
    world.containers.drop_events()
    world.containers.vanish("flynn-j1")
    world.containers.drop_events(False)
    world.pass_time(40)
    assert client.last == ("exited", -1)


def test_job_that_has_just_ended(world: World) -> None:
    """Who comes between the end of the process and the news of it is served as by an ended job."""
    run(world)
    world.containers.delays["inspect"] = 1.0
    world.containers.exit("flynn-j1", 4)
    client = attach(world)
    world.pass_time(2)
    assert client.told == [("attached",), ("end", 1), ("end", 2), ("exited", 4)]


# --- before the job is there, or runs ---------------------------------------------


def test_before_the_job_exists(world: World) -> None:
    """Who comes before the job waits for it, and gets all it writes."""
    world.containers.programs = lambda _: Program(output=((1, b"first\n"), (2, b"second\n")), exits_after=0)
    client = attach(world)
    assert client.told == [("waiting",)]
    world.pass_time(30)
    world.accept(a_job("j1"))
    world.pass_time(1)
    assert client.told == [
        ("waiting",), ("attached",), ("output", 1, b"first\n"), ("output", 2, b"second\n"), ("exited", 0)
    ]  # fmt: skip
    check_nothing_left(world)


def test_job_that_never_comes(world: World) -> None:
    """The wait has an end."""
    client = attach(world, "later")
    world.pass_time(KNOWN_WITHIN - 1)
    assert client.told == [("waiting",)]
    world.pass_time(2)
    assert client.last[0] == "failed"
    assert "no job later came" in client.last[1]
    check_nothing_left(world)


def test_no_wait(world: World) -> None:
    """Who does not want to wait is told at once."""
    with pytest.raises(UnknownJob):
        attach(world, wait=False)
    run(world)
    assert attach(world, wait=False).told == [("attached",)]


def test_too_many_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many wait for jobs that may never come; others are served as ever."""
    monkeypatch.setattr(attachments, "MAX_WAITING", 3)
    run(world)
    waiting = [attach(world, f"later{number}") for number in range(3)]
    with pytest.raises(TooManyRequests):
        attach(world, "later3")
    assert attach(world).told == [("attached",)]
    waiting[0].there.detach()
    world.pass_time(0)
    attach(world, "later3")


def test_too_many_attached(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many are attached at a time, whatever to."""
    monkeypatch.setattr(attachments, "MAX_ATTACHED", 3)
    run(world)
    clients = [attach(world), logs(world), attach(world), attach(world, "later")]
    with pytest.raises(TooManyRequests, match="3 clients"):
        attach(world)
    assert [client.last for client in clients[2:]] == [("attached",), ("waiting",)]
    clients[3].there.detach()
    world.pass_time(0)
    assert attach(world).told == [("attached",)]


def test_during_the_pull(world: World) -> None:
    """Who comes while the image is pulled waits, and gets the first byte."""
    world.containers.every_image = False
    world.containers.pulls["busybox:latest"] = PullScript(seconds=20)
    world.containers.programs = lambda _: Program(output=((1, b"first\n"),), exits_after=1)
    world.accept(a_job("j1"))
    world.pass_time(5)
    client = attach(world)
    assert client.told == [("waiting",)]
    world.pass_time(20)
    assert client.told == [("waiting",), ("attached",), ("output", 1, b"first\n"), ("exited", 0)]


@pytest.mark.parametrize("step", ["create", "start", "inspect", "attach_output"])
@pytest.mark.parametrize("tty", [False, True])
def test_at_every_moment_of_the_start(world: World, step: str, tty: bool) -> None:
    """Whenever somebody comes before the job runs, the first byte is theirs."""
    world.containers.programs = lambda _: Program(output=((1, b"first\n"),), exits_after=10)
    world.containers.delays[step] = 1.0
    clients = [attach(world, f"j{number}") for number in range(12)]
    for number in range(12):
        world.accept(a_job(f"j{number}", tty=tty))
        world.pass_time(0.25 * number)
        if world.job(f"j{number}").status is JobStatus.STARTING:
            clients.append(attach(world, f"j{number}"))
    world.pass_time(25)
    assert len(clients) > 12
    # What a terminal got while somebody was being attached may come twice, but never not at all.
    expected = {b"first\n"} | ({b"first\nfirst\n"} if tty else set())
    assert {client.of(1) for client in clients} <= expected
    assert {client.last for client in clients} == {("exited", 0)}
    check_nothing_left(world)


def test_starts_when_all_are_attached(world: World) -> None:
    """A job with waiting clients is started only when they are attached."""
    client = attach(world, stdin=True)
    world.containers.delays["attach_output"] = 2.0
    world.accept(a_job("j1", stdin=True))
    world.pass_time(1)
    assert world.starts("j1") == 0
    assert client.told == [("waiting",)]
    world.pass_time(2)
    assert world.starts("j1") == 1
    assert client.told == [("waiting",), ("attached",)]


def test_attaching_that_hangs(world: World) -> None:
    """An engine that does not attach holds up the start for seconds only, and nothing is lost by that."""
    world.containers.programs = lambda _: Program(output=((1, b"first\n"),))
    world.containers.delays["attach_output"] = 1000.0
    client = attach(world)
    world.accept(a_job("j1"))
    world.pass_time(PREPARE_WITHIN - 1)
    assert world.starts("j1") == 0
    world.pass_time(2)
    assert world.job("j1").status is JobStatus.RUNNING
    write(world, b"second\n")
    end(world)
    world.pass_time(1)
    assert client.told[1:] == [
        ("attached",), ("output", 1, b"first\n"), ("output", 1, b"second\n"), ("exited", 0)
    ]  # fmt: skip
    world.pass_time(1000)
    check_nothing_left(world)


def test_input_of_a_job_that_is_over_at_once(world: World) -> None:
    """Who could not be connected in time to a job that then ends at once still gets all of it."""
    world.containers.programs = lambda _: Program(output=((1, b"all\n"),), exits_after=0.5, exit_code=3)
    world.containers.delays["attach_input"] = 1000.0
    client = attach(world, stdin=True)
    world.accept(a_job("j1", stdin=True))
    world.pass_time(PREPARE_WITHIN - 1)
    del world.containers.delays["attach_input"]
    # It ends before that is known here.
    world.containers.fail("attach_input", ContainerNotRunning("c1"))
    world.pass_time(3)
    assert client.told == [("waiting",), ("attached",), ("output", 1, b"all\n"), ("exited", 3)]
    world.pass_time(1000)
    check_nothing_left(world)


def test_input_only_of_a_job_that_is_over_at_once(world: World) -> None:
    """Who only writes gets the status of such a job; no log is read for that."""
    world.containers.programs = lambda _: Program(exits_after=0.5, exit_code=3)
    world.containers.delays["attach_input"] = 1000.0
    client = attach(world, stdin=True, stdout=False, stderr=False)
    world.accept(a_job("j1", stdin=True))
    world.pass_time(PREPARE_WITHIN - 1)
    del world.containers.delays["attach_input"]
    world.containers.fail("attach_input", ContainerNotRunning("c1"))
    world.pass_time(3)
    assert client.told == [("waiting",), ("attached",), ("exited", 3)]
    world.pass_time(1000)
    check_nothing_left(world)


def test_attaching_that_fails(world: World) -> None:
    """When somebody can't be attached before the start, the job starts all the same."""
    world.containers.programs = lambda _: Program(output=((1, b"first\n"),), exits_after=1)
    world.containers.fail("attach_output", EngineUnavailable("busy"))
    client = attach(world)
    world.accept(a_job("j1"))
    world.pass_time(3)
    assert client.told[1:] == [("attached",), ("output", 1, b"first\n"), ("exited", 0)]


def test_container_that_is_made_anew(world: World) -> None:
    """When a port is taken between the lease and the start, clients are attached to the next container."""
    world.containers.programs = lambda _: Program(output=((1, b"first\n"),), exits_after=1, reads_input=True)
    world.containers.fail("start", PortTaken("taken"))
    client = attach(world, stdin=True)
    client.there.write(b"typed\n")
    world.accept(a_job("j1", stdin=True, ports=(Port(),)))
    world.pass_time(3)
    assert world.containers.created["flynn-j1"] == 2
    assert client.of(1) == b"first\ntyped\n"
    assert client.last == ("exited", 0)
    check_nothing_left(world)


def test_engine_lost_during_the_start(world: World) -> None:
    """A start that has to be tried again takes those who wait with it."""
    world.containers.programs = lambda _: Program(output=((1, b"first\n"),), exits_after=30)
    world.containers.fail("start", EngineUnavailable("gone"))
    client = attach(world)
    world.accept(a_job("j1"))
    world.pass_time(0)
    world.containers.container("flynn-j1").close_readers()
    world.pass_time(60)
    assert client.told == [("waiting",), ("attached",), ("output", 1, b"first\n"), ("exited", 0)]


def test_job_that_can_not_start(world: World) -> None:
    """Who waits for a job that fails is told why."""
    world.containers.programs = lambda _: Program(refused="no such program")
    client, log = attach(world), logs(world)
    world.accept(a_job("j1"))
    world.pass_time(1)
    assert client.last == log.last == ("failed", "no such program")
    assert attach(world).told == attach(world, stdin=True).told == [("failed", "no such program")]
    check_nothing_left(world)


def test_stopped_before_its_start(world: World) -> None:
    """A job that was stopped early has failed too."""
    world.containers.every_image = False
    world.containers.pulls["busybox:latest"] = PullScript(seconds=20)
    world.accept(a_job("j1"))
    client = attach(world)
    world.answer(world.agent.stop_job("j1"), 1)
    assert client.last[0] == "failed"
    assert "stopped before" in client.last[1]


def test_thousand_wait(world: World) -> None:
    """Many who wait are attached together, and the job is started once."""
    world.containers.programs = lambda _: Program(output=((1, b"first\n"),), exits_after=1)
    clients = [attach(world) for _ in range(1000)]
    world.accept(a_job("j1"))
    world.pass_time(3)
    assert world.starts("j1") == 1
    assert world.containers.calls["attach_output"] == 1
    assert {client.of(1) for client in clients} == {b"first\n"}
    check_nothing_left(world)


def test_not_ready(world: World) -> None:
    """A host that has not read its journal does not know whether there is such a job."""
    world.answer(world.agent.stopService(), 1)
    with pytest.raises(NotReady):
        attach(world)


# --- logs -----------------------------------------------------------------------------


def test_logs_of_a_running_job(world: World) -> None:
    """The logs so far, the end of each stream, and that is all."""
    run(world, output=((1, b"out\n"), (2, b"err\n")))
    client = logs(world)
    assert client.told == [
        ("attached",), ("output", 1, b"out\n"), ("output", 2, b"err\n"), ("end", 1), ("end", 2), ("finished",)
    ]  # fmt: skip
    assert logs(world, stderr=False).told[-2:] == [("end", 1), ("finished",)]
    check_nothing_left(world)


def test_logs_of_a_job_that_has_not_started(world: World) -> None:
    """They are told when there are any."""
    client = logs(world)
    run(world, output=((1, b"out\n"),))
    assert client.told == [
        ("waiting",), ("attached",), ("output", 1, b"out\n"), ("end", 1), ("end", 2), ("finished",)
    ]  # fmt: skip


def test_logs_and_stream_of_a_running_job(world: World) -> None:
    """Everything from the start, once, to the exit status."""
    run(world, output=((1, b"before\n"),))
    client = attach(world, logs=True)
    write(world, b"after\n")
    end(world, 2)
    assert client.of(1) == b"before\nafter\n"
    assert client.last == ("exited", 2)
    check_nothing_left(world)


def test_logs_and_stream_of_a_terminal(world: World) -> None:
    """What was written so far, then what is written, in that order; nothing is missing."""
    run(world, tty=True, output=((1, b"before\n"),))
    world.containers.delays["logs"] = 1.0
    client = attach(world, logs=True)
    write(world, b"meanwhile\n")
    world.pass_time(2)
    write(world, b"after\n")
    end(world, 2)
    assert client.of(1) in (b"before\nmeanwhile\nafter\n", b"before\nmeanwhile\nmeanwhile\nafter\n")
    assert client.last == ("exited", 2)
    check_nothing_left(world)


def test_terminal_without_stream(world: World) -> None:
    """At a terminal one stays, whether that was said or not."""
    run(world, tty=True, output=((1, b"before\n"),))
    client = logs(world)
    write(world, b"after\n")
    end(world)
    assert client.told == [
        ("attached",), ("output", 1, b"before\n"), ("output", 1, b"after\n"), ("exited", 0)
    ]  # fmt: skip


def test_ended_job(world: World) -> None:
    """All it wrote, the end of each stream, and the exit status to who wanted to stay."""
    run(world, output=((1, b"out\n"),))
    end(world, 9)
    ends = [("end", 1), ("end", 2)]
    assert attach(world, logs=True).told == [("attached",), ("output", 1, b"out\n"), *ends, ("exited", 9)]
    assert logs(world).told == [("attached",), ("output", 1, b"out\n"), *ends, ("finished",)]
    assert attach(world).told == [("attached",), *ends, ("exited", 9)]
    assert logs(world, logs=False).told == [("attached",), *ends, ("finished",)]
    check_nothing_left(world)


def test_slow_client_of_logs(world: World) -> None:
    """Who takes no more holds back the reading of the log."""
    run(world, output=tuple((1, b"%d\n" % number) for number in range(10)))
    client = Client(pause_at_output=True)
    client.attachment = world.agent.attach(AttachQuery("j1", stdout=True, logs=True), client)
    world.pass_time(0)
    assert client.of(1) == b"0\n"
    client.pause_at_output = False
    client.there.resumeProducing()
    world.pass_time(0)
    assert client.of(1) == b"".join(b"%d\n" % number for number in range(10))
    assert client.last == ("finished",)


def test_nothing_was_kept(world: World) -> None:
    """A job whose output is not kept can be listened to, but has no logs."""
    run(world, disable_log=True, output=((1, b"before\n"),))
    assert logs(world).last[0] == "failed"
    assert "disable_log" in logs(world).last[1]
    client = attach(world, logs=True)
    write(world, b"after\n")
    end(world)
    assert client.told == [("attached",), ("output", 1, b"after\n"), ("exited", 0)]
    assert "disable_log" in attach(world, logs=True).last[1]


def test_log_that_breaks_off(world: World) -> None:
    """A log that does not come to its end is told as such."""
    run(world, output=((1, b"before\n"),))
    client = attach(world, logs=True)
    world.containers.go_down()
    world.pass_time(1)
    assert client.last[0] == "failed"
    assert "broke off" in client.last[1]
    check_nothing_left(world)


# --- input, signals, sizes ---------------------------------------------------------------


def test_input(world: World) -> None:
    """What is typed reaches the process, and so does the end of it."""
    world.containers.programs = lambda _: Program(reads_input=True, exit_code=4)
    world.accept(a_job("j1", stdin=True))
    client = attach(world, stdin=True)
    client.there.write(b"one\n")
    client.there.write(b"two\n")
    client.there.end_input()
    world.pass_time(1)
    assert client.of(1) == b"one\ntwo\n"
    assert client.last == ("exited", 4)
    check_nothing_left(world)


def test_input_before_the_start(world: World) -> None:
    """What is typed before the job runs is kept for it; who types too much is held back until then."""
    producer = Producer()
    world.containers.programs = lambda _: Program(reads_input=True)
    client = attach(world, stdin=True)
    client.there.registerProducer(producer, True)
    client.there.write(b"early\n")
    assert producer.calls == []
    client.there.write(b"x" * EARLY_BYTES)
    assert producer.calls == ["pause"]
    client.there.end_input()
    world.accept(a_job("j1", stdin=True))
    world.pass_time(1)
    assert client.of(1) == b"early\n" + b"x" * EARLY_BYTES
    assert client.last == ("exited", 0)
    assert producer.calls[:2] == ["pause", "resume"]


@implementer(IPushProducer)
@define(eq=False)
class Producer:
    """Remembers what it is told."""

    calls: list[str] = field(factory=list)

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


def test_input_of_one_at_a_time(world: World) -> None:
    """Only one client can write; when it is gone another one can."""
    run(world, stdin=True, tty=True)
    first = attach(world, stdin=True)
    assert "is taken" in attach(world, stdin=True).last[1]
    first.there.detach()
    world.pass_time(1)
    second = attach(world, stdin=True)
    second.there.write(b"x")
    world.pass_time(1)
    assert world.containers.container("flynn-j1").input == b"x"
    end(world)
    check_nothing_left(world)


def test_input_that_can_not_be(world: World) -> None:
    """Input needs a job that was made for it, and that runs."""
    run(world)
    assert "was not opened" in attach(world, stdin=True).last[1]
    end(world)
    run(world, "j2", stdin=True)
    end(world, job_id="j2")
    assert "has ended" in attach(world, "j2", stdin=True).last[1]
    check_nothing_left(world)


def test_client_gone_ends_the_input(world: World) -> None:
    """Without a terminal, the process reads the end when its client is gone."""
    world.containers.programs = lambda _: Program(reads_input=True)
    world.accept(a_job("j1", stdin=True))
    client = attach(world, stdin=True)
    client.there.detach()
    world.pass_time(1)
    assert world.job("j1").status is JobStatus.DONE


def test_input_of_a_job_that_has_just_ended(world: World) -> None:
    """Who comes too late to write is told so, also when the end is not on disk yet."""
    run(world, stdin=True)
    world.containers.fail("attach_input", ContainerNotRunning("c1"))
    client = attach(world, stdin=True)
    end(world)
    assert client.told == [("failed", "job j1 has ended: there is nothing to write to")]
    check_nothing_left(world)


def test_input_only(world: World) -> None:
    """Who only writes still hears how it ends."""
    world.containers.programs = lambda _: Program(reads_input=True, output=((1, b"x\n"),))
    client = attach(world, stdin=True, stdout=False, stderr=False, stream=False)
    world.accept(a_job("j1", stdin=True))
    world.pass_time(1)
    client.there.end_input()
    world.pass_time(1)
    assert client.told == [("waiting",), ("attached",), ("exited", 0)]


def test_typing_without_input(world: World) -> None:
    """What is typed by one who asked for no input is dropped."""
    run(world, stdin=True)
    client = attach(world)
    client.there.write(b"x")
    client.there.end_input()
    world.pass_time(1)
    assert world.containers.container("flynn-j1").input == b""
    assert not world.containers.container("flynn-j1").eof


def test_signals(world: World) -> None:
    """Signals are sent; those that can't be do no harm."""
    run(world)
    client = attach(world)
    for number in (0, 65, 1 << 31, 10, 2):
        client.there.signal(number)
    world.pass_time(1)
    assert world.containers.calls["kill"] == 2
    assert client.last == ("exited", 130)


def test_flood_of_signals(world: World) -> None:
    """Of signals by the thousand a few wait; the others cost next to nothing, not a line in the log each."""
    run(world)
    world.containers.delays["kill"] = 1000.0
    client = attach(world)
    said: list[Any] = []
    observer = cast(ILogObserver, said.append)
    globalLogPublisher.addObserver(observer)
    try:
        for _ in range(1000):
            client.there.signal(10)
            client.there.signal(99)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert len(said) <= 1
    assert world.containers.calls["kill"] == 1
    client.there.detach()
    world.pass_time(1001)
    check_nothing_left(world)


def test_sizes(world: World) -> None:
    """A terminal has the size of the client's, from the start and later."""
    client = attach(world, stdin=True, height=24, width=80)
    world.accept(a_job("j1", tty=True, stdin=True))
    world.pass_time(1)
    container = world.containers.container("flynn-j1")
    assert container.size == (24, 80)
    world.containers.delays["resize"] = 1.0
    for columns in range(100, 150):
        client.there.resize(50, columns)
    world.pass_time(5)
    assert container.size == (50, 149)
    assert world.containers.calls["resize"] <= 4
    world.containers.fail("resize", EngineUnavailable("busy"))
    client.there.resize(1, 1)
    world.pass_time(2)
    assert client.last == ("attached",)


# --- the end of the host -------------------------------------------------------------------


def test_host_stops(world: World) -> None:
    """Everybody is told, whatever they wait for, and nothing is left."""
    run(world, stdin=True)
    world.containers.delays["attach_output"] = 10.0
    connecting = attach(world)
    del world.containers.delays["attach_output"]
    run(world, "j2")
    clients = [
        connecting, attach(world, stdin=True), attach(world, "j2"), attach(world, "j2", logs=True),
        attach(world, "later"),
    ]  # fmt: skip
    stopped = world.agent.stopService()
    world.pass_time(6)
    assert stopped.called
    assert {client.last for client in clients} == {("failed", "this host is shutting down")}
    kept: Any = world.agent._attachments
    assert len(kept) == 0
