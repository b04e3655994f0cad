"""The command line against a real host with real containers."""

from __future__ import annotations

import json
import time
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
    time.sleep(1)  # it writes, and is held back by the pipe
    assert command.code is None
    assert ended(command, 120) == 0
    assert command.out == b"123456789012345\n" * (33554432 // 16)


def test_listing_a_hundred_jobs_is_quick(host: HostProcess, start: Start) -> None:
    jobs = [sleeper() for _ in range(100)]
    host.api.run(*jobs)
    host.api.all_are(jobs, JobStatus.RUNNING)
    spent = []
    for _ in range(5):
        began = time.monotonic()
        command = start("ps", "-q")
        wait_until(lambda: command.ended, "the list")  # noqa: B023
        spent.append(time.monotonic() - began)
        assert set(command.out.decode().split()) >= {job["id"] for job in jobs}
    print(f"flynn-host ps with 100 jobs: {min(spent):.3f} s at best, {sorted(spent)[2]:.3f} s in the middle")
    assert min(spent) < 1.0  # machines that are busy with other tests are slow


def test_leader_and_hosts(host: HostProcess, start: Start) -> None:
    job = wire_job("true")
    host.api.run(job)
    command = start("ps", "--cluster", "--all", "--output", "json")
    wait_until(lambda: command.ended, "the list")
    # The address that the host was given is one that nobody has; here it is asked by another.
    assert command.code in (0, 3)
    if command.code == 0:
        assert job["id"] in {each["id"] for each in json.loads(command.out)}
