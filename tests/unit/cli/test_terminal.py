"""Commands at a terminal and between pipes, with a host that plays the job."""

from __future__ import annotations

import json
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flynnhost.interfaces import AttachQuery, ExecSpec
from flynnhost.model import ContainerConfig, EventKind, Job, JobStatus, Phase, VolumeBinding
from flynnhost.testing.attachment import FakeAttachment
from tests.support.served_host import ServedHost, in_the_reactor, job
from tests.support.typed_command import TypedCommand
from tests.support.waiting import until

Start = Callable[..., TypedCommand]

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def start(served: ServedHost) -> Iterator[Start]:
    """Starts commands."""
    started: list[TypedCommand] = []

    def start(*args: str, **more: Any) -> TypedCommand:
        command = TypedCommand(args, served.address, **more)
        started.append(command)
        return command

    yield start
    for command in started:
        command.end()


async def attachment(served: ServedHost, command: TypedCommand, count: int = 1) -> FakeAttachment:
    """Who attached, as soon as somebody did."""

    def there() -> bool:
        assert not command.ended, (command.code, command.out, command.err)
        return len(served.agent.attachments) >= count

    await until(served.reactor, there, "an attachment")
    return served.agent.attachments[count - 1]


async def running(served: ServedHost, command: TypedCommand) -> FakeAttachment:
    """The attachment to the job of a ``run``, once the job runs."""
    attached = await attachment(served, command)
    attached.client.waiting()
    await until(served.reactor, lambda: served.agent.jobs(), "the job")
    (job_id,) = served.agent.jobs()
    served.agent.run(job_id)
    attached.client.attached()
    return attached


async def ends(served: ServedHost, command: TypedCommand) -> int:
    """Its exit code, as soon as it has ended."""
    await until(served.reactor, lambda: command.ended, "the end of the command")
    assert command.code is not None
    _ = (command.out, command.err)
    return command.code


@in_the_reactor
async def test_run_between_pipes(start: Start, served: ServedHost) -> None:
    """What the job writes goes where it is meant to go, and its exit code is that of the command."""
    command = start("run", "-e", "A=1", "--memory", "64m", "busybox", "sh", "-c", "exit 3")
    attached = await running(served, command)
    assert attached.query is not None
    assert (attached.query.stdin, attached.query.stream) == (False, True)
    (active,) = served.agent.jobs().values()
    assert active.job.config.cmd == ("sh", "-c", "exit 3")
    assert (active.job.config.tty, active.job.config.stdin) == (False, False)
    assert active.job.config.env == {"A": "1"}
    assert active.job.resources.memory.limit == 64 << 20
    attached.client.output_received(1, b"out\n")
    attached.client.output_received(2, b"err\n")
    attached.client.exited(3)
    assert await ends(served, command) == 3
    assert (command.out, command.err) == (b"out\n", b"err\n")


@in_the_reactor
async def test_attached_before_the_job_is_there(start: Start, served: ServedHost) -> None:
    """Or what it writes first would be lost."""
    command = start("run", "busybox", "true")
    attached = await attachment(served, command)
    assert served.agent.jobs() == {}
    attached.client.waiting()
    await until(served.reactor, lambda: served.agent.jobs(), "the job")
    attached.client.attached()
    attached.client.exited(0)
    assert await ends(served, command) == 0


@in_the_reactor
async def test_large_output(start: Start, served: ServedHost) -> None:
    command = start("run", "busybox", "cat")
    attached = await running(served, command)
    piece = bytes(range(256)) * 256
    for _ in range(256):
        attached.client.output_received(1, piece)
    attached.client.exited(0)
    assert await ends(served, command) == 0
    assert command.out == piece * 256


@in_the_reactor
async def test_stdin_is_passed_on(start: Start, served: ServedHost) -> None:
    command = start("run", "-i", "busybox", "cat", stdin=subprocess.PIPE)
    attached = await running(served, command)
    command.type(b"typed \x10\x11 and more")  # keys that only mean something at a terminal
    command.end_input()
    await until(served.reactor, lambda: ("end_input",) in attached.calls, "the end of input")
    assert attached.typed == b"typed \x10\x11 and more"
    attached.client.exited(0)
    assert await ends(served, command) == 0


@in_the_reactor
async def test_stdin_from_a_file(start: Start, served: ServedHost, tmp_path: Any) -> None:
    (tmp_path / "in").write_bytes(b"x" * 300_000)
    with (tmp_path / "in").open("rb") as file:
        command = start("run", "-i", "busybox", "cat", stdin=file)
        attached = await running(served, command)
        await until(served.reactor, lambda: ("end_input",) in attached.calls, "the end of input")
    assert attached.typed == b"x" * 300_000
    attached.client.exited(0)
    assert await ends(served, command) == 0


@in_the_reactor
async def test_shell_at_a_terminal(start: Start, served: ServedHost) -> None:
    """Keys go through as they are typed, sizes of the window too, and all is put back in the end."""
    command = start("run", "busybox", "sh", terminal=True, lines=40, columns=100)
    before = command.settings
    attached = await running(served, command)
    assert attached.query is not None
    assert (attached.query.stdin, attached.query.height, attached.query.width) == (True, 40, 100)
    (active,) = served.agent.jobs().values()
    assert (active.job.config.tty, active.job.config.stdin) == (True, True)
    await until(served.reactor, lambda: command.settings != before, "raw mode")
    assert not command.settings[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    command.type(b"ls\r\x03\x04")
    await until(served.reactor, lambda: attached.typed == b"ls\r\x03\x04", "the keys")
    command.resize(50, 120)
    await until(served.reactor, lambda: ("resize", 50, 120) in attached.calls, "the size")
    attached.client.output_received(1, b"$ \r\n")
    attached.client.exited(130)
    assert await ends(served, command) == 130
    assert b"$ \r\n" in command.out
    assert command.settings == before


@in_the_reactor
async def test_detach_keys(start: Start, served: ServedHost) -> None:
    """The job goes on, and it is told how to return to it."""
    command = start("run", "--id", "web", "busybox", "sh", terminal=True)
    before = command.settings
    attached = await running(served, command)
    await until(served.reactor, lambda: command.settings != before, "raw mode")
    command.type(b"x\x10")
    await until(served.reactor, lambda: attached.typed == b"x", "the key before")
    command.type(b"\x11")
    assert await ends(served, command) == 0
    assert attached.typed == b"x"
    assert b"left job web; 'flynn-host attach web' returns to it" in command.out
    assert command.settings == before
    assert served.agent.job("web").status is JobStatus.RUNNING
    await until(served.reactor, lambda: ("detach",) in attached.calls, "the end of the attachment")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@in_the_reactor
async def test_terminal_is_put_back_by_signals(
    number: signal.Signals, start: Start, served: ServedHost
) -> None:
    command = start("run", "busybox", "sh", terminal=True)
    before = command.settings
    await running(served, command)
    await until(served.reactor, lambda: command.settings != before, "raw mode")
    command.signal(number)
    assert await ends(served, command) == 128 + number
    assert command.settings == before


async def listening(served: ServedHost, command: TypedCommand, attached: FakeAttachment) -> None:
    """It shows what the job writes, and so is at its streams."""
    attached.client.output_received(1, b"ready\r\n")
    await until(served.reactor, lambda: b"ready" in command.out, "the output")


@in_the_reactor
async def test_interrupt_without_a_terminal(start: Start, served: ServedHost) -> None:
    """The job gets the signal, as it does others; who insists has it stopped."""
    command = start("run", "--id", "j1", "busybox", "sleep", "100")
    attached = await running(served, command)
    await listening(served, command, attached)
    command.signal(signal.SIGUSR1)
    command.signal(signal.SIGTERM)
    await until(served.reactor, lambda: len(attached.calls) == 2, "two signals")
    command.signal(signal.SIGINT)
    await until(served.reactor, lambda: ("signal", 2) in attached.calls, "the signal")
    command.signal(signal.SIGINT)
    assert await ends(served, command) == 130
    assert served.agent.job("j1").exit_status == 143
    assert {("signal", 10), ("signal", 15)} <= set(attached.calls)


@pytest.mark.parametrize(
    ("answer", "code", "ended"), [(b"s\n", 130, True), (b"d\n", 0, False), (b"c\n", 7, False)]
)
@in_the_reactor
async def test_interrupted_twice(
    answer: bytes, code: int, ended: bool, start: Start, served: ServedHost
) -> None:
    """Somebody who is there is asked what to do."""
    command = start("run", "--no-tty", "--no-stdin", "busybox", "sleep", "100", terminal=True)
    attached = await running(served, command)
    await listening(served, command, attached)
    command.type(b"\x03")
    await until(served.reactor, lambda: ("signal", 2) in attached.calls, "the signal")
    command.type(b"\x03")
    await until(served.reactor, lambda: b"[d]etach" in command.out, "the question")
    command.type(answer)
    if code == 7:
        attached.client.output_received(1, b"going on\n")
        await until(served.reactor, lambda: b"going on" in command.out, "more output")
        attached.client.exited(7)
    assert await ends(served, command) == code
    (active,) = served.agent.jobs().values()
    assert active.ended == ended


@in_the_reactor
async def test_interrupt_before_the_job_runs(start: Start, served: ServedHost) -> None:
    """Nobody waits for it any more, so it is stopped."""
    command = start("run", "--id", "j1", "busybox", "true")
    attached = await attachment(served, command)
    attached.client.waiting()
    await until(served.reactor, lambda: served.agent.jobs(), "the job")
    served.agent.change("j1", EventKind.CREATE, phase=Phase.PULLING, detail="3 of 5 MB")
    await until(served.reactor, lambda: b"pulling busybox" in command.err, "the progress")
    command.signal(signal.SIGINT)
    assert await ends(served, command) == 130
    assert served.agent.job("j1").ended


@in_the_reactor
async def test_progress_at_a_terminal(start: Start, served: ServedHost) -> None:
    """It is shown while the image is pulled, and gone before there is output."""
    command = start("run", "busybox", "true", terminal=True)
    attached = await attachment(served, command)
    attached.client.waiting()
    await until(served.reactor, lambda: served.agent.jobs(), "the job")
    (job_id,) = served.agent.jobs()
    served.agent.change(job_id, EventKind.CREATE, phase=Phase.PULLING, detail="3 of 5 MB")
    await until(served.reactor, lambda: b"pulling 3 of 5 MB" in command.out, "the progress")
    served.agent.run(job_id)
    attached.client.attached()
    attached.client.exited(0)
    assert await ends(served, command) == 0
    assert command.out.endswith(b"\x1b[2K")


@in_the_reactor
async def test_job_that_can_not_be_started(start: Start, served: ServedHost) -> None:
    command = start("run", "--id", "j1", "none:1", "true")
    attached = await attachment(served, command)
    attached.client.waiting()
    await until(served.reactor, lambda: served.agent.jobs(), "the job")
    served.agent.fail("j1", "manifest for none:1 not found")
    attached.client.failed("manifest for none:1 not found")
    assert await ends(served, command) == 125
    assert command.err == b"flynn-host: job j1 could not be started: manifest for none:1 not found\n"


@in_the_reactor
async def test_job_that_is_refused(start: Start, served: ServedHost) -> None:
    """Its attachment does not outlive it."""
    served.add(job("j1", "other"))
    command = start("run", "--id", "j1", "busybox", "true")
    attached = await attachment(served, command)
    attached.client.waiting()
    assert await ends(served, command) == 5
    assert b"j1 is there already, with other content" in command.err
    await until(served.reactor, lambda: ("detach",) in attached.calls, "the end of the attachment")


@in_the_reactor
async def test_killed_for_lack_of_memory(start: Start, served: ServedHost) -> None:
    command = start("run", "busybox", "true")
    attached = await running(served, command)
    (job_id,) = served.agent.jobs()
    served.agent.end(job_id, 137)
    served.agent.change(job_id, EventKind.STOP, oom_killed=True)
    attached.client.exited(137)
    assert await ends(served, command) == 137
    assert b"ended for lack of memory" in command.err


@in_the_reactor
async def test_host_that_goes_away(start: Start, served: ServedHost) -> None:
    command = start("run", "busybox", "sh", terminal=True)
    before = command.settings
    attached = await running(served, command)
    await listening(served, command, attached)
    await served.streams.close_all()
    code = await ends(served, command)
    assert code in (1, 3)
    assert command.settings == before
    assert b"Traceback" not in command.out


@in_the_reactor
async def test_nobody_reads_the_output(start: Start, served: ServedHost) -> None:
    command = start("run", "busybox", "yes")
    attached = await running(served, command)
    await listening(served, command, attached)
    command.close_output()
    attached.client.output_received(1, b"y\n")
    assert await ends(served, command) == 141
    assert command.err == b""


@in_the_reactor
async def test_detached(start: Start, served: ServedHost) -> None:
    command = start("run", "-d", "--port", "0", "-v", "data:/data:ro", "--attr", "app=shop", "busybox")
    assert await ends(served, command) == 0
    (job_id,) = served.agent.jobs()
    assert command.out.decode() == f"{job_id}\n"
    made = served.agent.job(job_id).job
    assert made.metadata == {"app": "shop"}
    assert made.config.volumes == (VolumeBinding("/data", "data"),)
    assert len(made.config.ports) == 1


@in_the_reactor
async def test_on_another_host(start: Start, served: ServedHost, other: ServedHost) -> None:
    """It goes there by way of the cluster, and is attached to there."""
    command = start("run", "-d", "--host", "h1", "busybox")
    assert await ends(served, command) == 0
    assert len(served.agent.jobs()) == 1


@in_the_reactor
async def test_attaching(start: Start, served: ServedHost) -> None:
    """As the job is: with a terminal if it has one, and with stdin if it has that."""
    served.add(Job("sh1", config=ContainerConfig(tty=True, stdin=True)), job("plain"))
    command = start("attach", "sh", terminal=True)
    attached = await attachment(served, command)
    assert attached.query == AttachQuery(
        "sh1", stdin=True, stdout=True, stderr=True, stream=True, wait=False, height=24, width=80
    )
    attached.client.attached()
    await listening(served, command, attached)
    command.type(b"exit\r")
    await until(served.reactor, lambda: attached.typed == b"exit\r", "the keys")
    attached.client.exited(4)
    assert await ends(served, command) == 4
    command = start("attach", "--logs", "plain")
    attached = await attachment(served, command, 2)
    assert attached.query == AttachQuery(
        "plain", stdout=True, stderr=True, stream=True, logs=True, wait=False
    )
    attached.client.attached()
    attached.client.failed("it broke off")
    assert await ends(served, command) == 1
    assert command.err == b"flynn-host: job plain: it broke off\n"


@in_the_reactor
async def test_exec(start: Start, served: ServedHost) -> None:
    served.add(job("web"))
    command = start("exec", "-e", "A=1", "-w", "/srv", "-u", "www", "web", "ls", "-l", "-t")
    attached = await attachment(served, command)
    assert attached.spec == ExecSpec(("ls", "-l", "-t"), {"A": "1"}, user="www", working_dir="/srv")
    attached.client.attached()
    await listening(served, command, attached)
    command.signal(signal.SIGINT)
    await until(served.reactor, lambda: ("signal", 2) in attached.calls, "the signal")
    attached.client.exited(2)
    assert await ends(served, command) == 2
    command = start("exec", "web", "--", "sh", terminal=True)
    attached = await attachment(served, command, 2)
    assert attached.spec == ExecSpec(("sh",), tty=True, stdin=True, height=24, width=80)
    attached.client.failed("executable file not found in $PATH")
    assert await ends(served, command) == 127
    served.agent.end("web", 0)
    command = start("exec", "web", "sh")
    assert await ends(served, command) in (1, 5)
    assert b"not running" in command.err


@in_the_reactor
async def test_waiting_for_jobs(start: Start, served: ServedHost) -> None:
    served.add(job("j1"), job("j2"), job("j3"))
    served.agent.end("j1", 3)
    command = start("wait", "j1", "j2")
    await until(served.reactor, lambda: command.out == b"3\n", "the first")
    served.agent.end("j2", 5)
    assert await ends(served, command) == 5
    assert command.out == b"3\n5\n"
    served.agent.fail("j3", "no")
    command = start("wait", "j3")
    assert (await ends(served, command), command.out) == (125, b"125\n")


@in_the_reactor
async def test_following_events(start: Start, served: ServedHost) -> None:
    served.add(job("j1"))
    command = start("events", "--snapshot", "--output", "json")
    await until(served.reactor, lambda: b"\n" in command.out, "the snapshot")
    served.agent.end("j1", 3)
    await until(served.reactor, lambda: command.out.count(b"\n") == 2, "the change")
    first, second = map(json.loads, command.out.splitlines())
    assert (first["event"], second["event"], second["job"]["exit_status"]) == ("start", "stop", 3)
    command.signal(signal.SIGINT)
    assert await ends(served, command) == 130
    assert command.err.strip() == b""
    command = start("events", "--hosts", "-s")
    await until(served.reactor, lambda: b"add     h1" in command.out, "the host")
    command.signal(signal.SIGTERM)
    assert await ends(served, command) == 143
