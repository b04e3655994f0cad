"""The command line against a real host with real containers."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flynnhost.client.address import HostAddress
from flynnhost.model import JobStatus
from tests.support.host_process import HostProcess
from tests.support.typed_command import TypedCommand
from tests.support.waiting import wait_until
from tests.support.wire_jobs import shell_job, sleeper, wire_job

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

Start = Callable[..., TypedCommand]


@pytest.fixture
def start(host: HostProcess) -> Iterator[Start]:
    """Starts commands that ask the host."""
    started: list[TypedCommand] = []

    def start(*args: str, **more: Any) -> TypedCommand:
        command = TypedCommand(args, HostAddress("127.0.0.1", host.api.port), **more)
        started.append(command)
        return command

    yield start
    for command in started:
        command.end()


def ended(command: TypedCommand, within: float = 60.0) -> int:
    """Its exit code, as soon as it has ended."""
    wait_until(lambda: command.ended, "the end of the command", within)
    assert command.code is not None
    _ = (command.out, command.err)
    return command.code


def test_output(host: HostProcess, start: Start) -> None:
    """Each stream goes to its own, whole, with its times, and while it is written."""
    job = shell_job("for n in 1 2 3; do echo out$n; echo err$n >&2; done; printf '\\377'")
    host.api.run(job)
    host.api.ended(job)
    command = start("log", job["id"])
    assert ended(command) == 0
    assert (command.out, command.err) == (b"out1\nout2\nout3\n\xff", b"err1\nerr2\nerr3\n")
    command = start("log", "--stdout", "-n", "2", job["id"][:12])
    assert (ended(command), command.out, command.err) == (0, b"out3\n\xff", b"")
    command = start("log", "--stderr", "--timestamps", job["id"])
    assert ended(command) == 0
    times, words = zip(*(line.split(b" ") for line in command.err.splitlines()), strict=True)
    assert words == (b"err1", b"err2", b"err3")
    assert list(times) == sorted(times)
    command = start("log", "--since", times[-1].decode(), job["id"])
    assert (ended(command), b"err1" in command.err) == (0, False)
    assert ended(start("log", "--since", "2100-01-01", job["id"])) == 0


def test_output_that_is_followed(host: HostProcess, start: Start) -> None:
    job = shell_job("trap 'echo over; exit 3' TERM; echo begun; while :; do sleep 0.1; done")
    host.api.run(job)
    following, timed = start("log", "-f", job["id"]), start("log", "-f", "-t", job["id"])
    waiting = start("wait", job["id"])
    wait_until(lambda: following.out == b"begun\n" and timed.out.endswith(b"begun\n"), "the first line")
    stopping = start("stop", job["id"])
    assert (ended(stopping), stopping.out.decode()) == (0, f"{job['id']}\n")
    assert (ended(following), following.out) == (0, b"begun\nover\n")
    assert (ended(timed), timed.out.endswith(b" over\n")) == (0, True)
    assert (ended(waiting), waiting.out) == (3, b"3\n")


def test_log_is_whole(host: HostProcess, start: Start) -> None:
    """A pipe that is read slowly loses nothing."""
    job = shell_job("yes 123456789012345 | head -c 33554432")
    host.api.run(job)
    host.api.ended(job)
    command = start("log", job["id"])
    wait_until(lambda: command.unread >= 32_768, "the pipe to fill up")
    assert command.code is None
    assert ended(command, 120) == 0
    assert command.out == b"123456789012345\n" * (33554432 // 16)


def test_listing_a_hundred_jobs(host: HostProcess, start: Start) -> None:
    jobs = [sleeper() for _ in range(100)]
    host.api.run(*jobs)
    host.api.all_are(jobs, JobStatus.RUNNING)
    command = start("ps", "-q")
    assert ended(command) == 0
    assert set(command.out.decode().split()) >= {job["id"] for job in jobs}


def test_leader_and_hosts(host: HostProcess, start: Start) -> None:
    job = wire_job("true")
    host.api.run(job)
    command = start("ps", "--cluster", "--all", "--output", "json")
    wait_until(lambda: command.ended, "the list")
    # The address that the host was given is one that nobody has; here it is asked by another.
    assert command.code in (0, 3)
    if command.code == 0:
        assert job["id"] in {each["id"] for each in json.loads(command.out)}


@pytest.fixture
def job_id() -> str:
    return uuid.uuid4().hex


def run_args(job_id: str, *cmd: str) -> tuple[str, ...]:
    return ("--id", job_id, "--host-network", "busybox:latest", *cmd)


def test_run(start: Start, job_id: str) -> None:
    """All that a job writes comes, from the first byte, and its exit code."""
    script = "echo out; echo err >&2; echo $A; exit 7"
    command = start("run", "-e", "A=x y", *run_args(job_id, "sh", "-c", script))
    assert ended(command) == 7
    assert (command.out, command.err) == (b"out\nx y\n", b"err\n")


def test_run_with_input(start: Start, job_id: str) -> None:
    command = start("run", "-i", *run_args(job_id, "md5sum"), stdin=subprocess.PIPE)
    command.type(b"x" * 1_000_000)
    command.end_input()
    assert ended(command) == 0
    assert command.out.decode() == f"{hashlib.md5(b'x' * 1_000_000).hexdigest()}  -\n"


def test_run_of_what_is_not_there(start: Start, job_id: str) -> None:
    command = start("run", *run_args(job_id, "/no/such/program"))
    assert ended(command) == 127
    assert command.err.startswith(f"flynn-host: job {job_id} could not be started: ".encode())


def test_shell_at_a_terminal(start: Start, host: HostProcess, job_id: str) -> None:
    """Typing, the size of the window, Ctrl-C and the exit code, as if the shell were here."""
    command = start("run", *run_args(job_id, "sh"), terminal=True, lines=33, columns=99)
    before = command.settings

    def says(text: bytes) -> None:
        wait_until(lambda: text in command.out, repr(text))

    says(b"# ")
    command.type(b"stty size; tty\r")
    says(b"\r\n33 99\r\n/dev/pts/0\r\n")
    command.resize(50, 120)
    wait_until(lambda: _asked(command, b"stty size\r", b"\r\n50 120\r\n"), "the new size")
    command.type(b"sleep 1000\r")
    says(b"sleep 1000\r\n")
    prompts = command.out.count(b"# ")
    # Until it has come at a moment when the shell waits for the program.
    wait_until(lambda: _asked(command, b"\x03", b"# ", prompts + 1), "the prompt")
    command.type(b"exit 42\r")
    assert ended(command) == 42
    assert command.settings == before
    assert host.api.job({"id": job_id})["exit_status"] == 42


def _asked(command: TypedCommand, question: bytes, answer: bytes, times: int = 1) -> bool:
    command.type(question)
    return command.out.count(answer) >= times


def test_leaving_and_returning(start: Start, job_id: str) -> None:
    """Ctrl-P Ctrl-Q leaves a job running; attach returns to it, and exec looks inside."""
    command = start("run", *run_args(job_id, "sh"), terminal=True)
    wait_until(lambda: b"# " in command.out, "the shell")
    command.type(b"X=kept\r")
    wait_until(lambda: b"# " in command.out.partition(b"X=kept\r\n")[2], "the next prompt")
    command.type(b"\x10\x11")
    assert ended(command) == 0
    inside = start("exec", job_id, "sh", "-c", "hostname; cat; exit 9")
    assert (ended(inside), inside.out.decode()) == (9, f"{job_id}\n")
    command = start("attach", job_id, terminal=True)
    # The prompt comes when something is typed.
    wait_until(lambda: _asked(command, b"echo $X\r", b"\r\nkept\r\n"), "the shell")
    command.type(b"exit 3\r")
    assert ended(command) == 3
    again = start("attach", job_id, terminal=True)
    assert ended(again) == 3
    assert b"kept" in again.out
    gone = start("exec", job_id, "true")
    assert ended(gone) in (1, 5)


def test_interrupt(start: Start, job_id: str) -> None:
    """Without a terminal, Ctrl-C is a signal for the job."""
    script = "trap 'echo told; exit 5' INT; echo ready; while :; do sleep 0.1; done"
    command = start("run", *run_args(job_id, "sh", "-c", script))
    wait_until(lambda: command.out == b"ready\n", "the job")
    command.signal(signal.SIGINT)
    assert (ended(command), command.out) == (5, b"ready\ntold\n")


def test_exec_at_a_terminal(start: Start, host: HostProcess) -> None:
    job = sleeper()
    host.api.run(job)
    host.api.running(job)
    command = start("exec", job["id"], "sh", terminal=True, lines=20, columns=60)
    wait_until(lambda: b"# " in command.out, "the shell")
    command.type(b"stty size\r")
    wait_until(lambda: b"20 60" in command.out, "the size")
    command.type(b"\x04")
    assert ended(command) == 0
    missing = start("exec", job["id"], "/no/such/program")
    assert ended(missing) == 127
