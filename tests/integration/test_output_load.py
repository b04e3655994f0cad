"""Much output, many readers, and readers that come and go: nothing is lost, and nothing is left."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from attrs import frozen

from flynnhost.attach_frames import STDOUT
from tests.support.attach_client import ERR, IN, LOGS, OUT, STREAM, AttachClient
from tests.support.host_api import WireJob
from tests.support.host_containers import HostContainers
from tests.support.host_process import HostProcess
from tests.support.waiting import wait_until
from tests.support.wire_jobs import shell_job, sleeper

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

MEGABYTE = 1_000_000
MUCH = 200 * MEGABYTE
FLAT = 48 << 20
"""How much more than before a host may hold while much passes through it, in bytes."""

KEPT_CONNECTIONS = 4
"""How many connections to the engine may stay open for the next calls."""

KEPT_THREADS = 12
"""How many threads for calls and files may stay once they were needed."""

LINE = b"x" * 79 + b"\n"


def writer(size: int, before: str = "", after: str = "") -> WireJob:
    """A job that writes so many bytes in numbered lines of equal length, as quickly as it can."""
    return shell_job(f"{before} yes {'x' * 79} | head -c {size}; {after}")


def digest_of_writer(size: int) -> str:
    """What all of it comes to."""
    whole, rest = divmod(size, len(LINE))
    state = hashlib.sha256()
    for _ in range(whole // 1000):
        state.update(LINE * 1000)
    state.update(LINE * (whole % 1000) + LINE[:rest])
    return state.hexdigest()


@contextmanager
def memory_stays_flat(host: HostProcess) -> Iterator[None]:
    """Look at the host's memory again and again while something is done."""
    before, most, over = host.resident_bytes(), 0, threading.Event()

    def thd_look() -> None:
        nonlocal most
        while not over.wait(0.05):
            most = max(most, host.resident_bytes())

    looking = threading.Thread(target=thd_look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
    assert most - before < FLAT, f"{before / MEGABYTE:.0f} MB grew to {most / MEGABYTE:.0f} MB"


def read_log(host: HostProcess, job: WireJob, query: str = "") -> tuple[int, str]:
    """How long a job's log is, and its digest."""
    connection = http.client.HTTPConnection("127.0.0.1", host.api.port, timeout=60)
    try:
        connection.request("GET", f"/host/jobs/{job['id']}/log{query}")
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        size, state = 0, hashlib.sha256()
        while piece := answer.read(1 << 18):
            size += len(piece)
            state.update(piece)
        return size, state.hexdigest()
    finally:
        connection.close()


def read_attached(client: AttachClient) -> tuple[int, str]:
    """How much comes on stdout from now to the exit, which must be 0, and its digest."""
    size, state = 0, hashlib.sha256()
    for data in client.data():
        assert data.stream == STDOUT, data
        size += len(data.data)
        state.update(data.data)
    assert client.status == 0
    return size, state.hexdigest()


@frozen
class Resources:
    """What a process has of the system."""

    descriptors: int
    threads: int
    children: int

    @classmethod
    def of(cls, host: HostProcess) -> Resources:
        """Those of a host."""
        process = psutil.Process(host.pid)
        return cls(process.num_fds(), process.num_threads(), len(process.children()))


def descriptors(host: HostProcess) -> list[str]:
    """What a host has open."""
    directory = Path(f"/proc/{host.pid}/fd")
    return sorted(str(each.readlink()) for each in directory.iterdir())


def wait_until_freed(host: HostProcess, before: Resources) -> None:
    """Wait until the host has no more than before, but for what it keeps for the next calls."""

    def freed() -> bool:
        now = Resources.of(host)
        return (
            now.descriptors <= before.descriptors + KEPT_CONNECTIONS
            and now.threads <= before.threads + KEPT_THREADS
            and now.children <= before.children
        )

    try:
        wait_until(freed, f"{before} again", within=30)
    except AssertionError as e:
        raise AssertionError(f"{e}, not {Resources.of(host)}: {descriptors(host)}") from None


def settled(host: HostProcess, use: Callable[[], None]) -> Resources:
    """What a host has after it was used once: threads for calls stay."""
    for _ in range(6):
        use()
    before = Resources.of(host)
    wait_until_freed(host, before)
    return Resources.of(host)


# --- much ---------------------------------------------------------------------


def test_much_output_through_the_log(host: HostProcess) -> None:
    """All of it comes, in order, to a reader that follows and to one that comes later, in little memory."""
    job = writer(MUCH)
    with memory_stays_flat(host):
        host.api.run(job)
        assert read_log(host, job, "?follow=true") == (MUCH, digest_of_writer(MUCH))
        assert read_log(host, job) == (MUCH, digest_of_writer(MUCH))


def test_much_output_through_attach(host: HostProcess) -> None:
    """All of it comes, in order, to one who was there before the start, in little memory."""
    job = writer(MUCH)
    with memory_stays_flat(host), AttachClient.attach(host.api, job) as client:
        host.api.run(job)
        assert client.wait_attached()
        assert read_attached(client) == (MUCH, digest_of_writer(MUCH))


def test_much_output_through_attach_to_the_log(host: HostProcess) -> None:
    """Who comes while the job writes, and wants what was written so far too, gets all of it."""
    size = 20 * MEGABYTE
    job = writer(size)
    host.api.run(job)
    host.api.running(job)
    with AttachClient.attach(host.api, job, OUT | ERR | LOGS | STREAM) as client:
        assert read_attached(client) == (size, digest_of_writer(size))


# --- many ---------------------------------------------------------------------


def test_a_hundred_readers(host: HostProcess) -> None:
    """All of them get the same bytes, though ten of them take nothing, who hold up nobody."""
    size = 5 * MEGABYTE
    job = writer(size)
    before = Resources.of(host)
    with ExitStack() as undo, memory_stays_flat(host):
        clients = [undo.enter_context(AttachClient.attach(host.api, job)) for _ in range(100)]
        stalled, readers = clients[:10], clients[10:]
        host.api.run(job)
        with ThreadPoolExecutor(len(readers)) as threads:
            found = set(threads.map(read_attached, readers))
        assert found == {(size, digest_of_writer(size))}
        host.api.ended(job)
        # What they did not take was kept for them.
        assert {read_attached(client) for client in stalled} == found
    wait_until_freed(host, before)


def test_readers_that_take_nothing_do_not_slow_the_job(host: HostProcess) -> None:
    """The job writes to its end, and another job is not disturbed."""
    job, other = writer(50 * MEGABYTE), shell_job("echo well")
    with ExitStack() as undo:
        for _ in range(3):
            undo.enter_context(AttachClient.attach(host.api, job, within=120))
        host.api.run(job)
        assert host.api.ended(job, within=120).get("exit_status", 0) == 0
        with AttachClient.attach(host.api, other) as client:
            host.api.run(other)
            assert client.rest() == (b"well\n", b"", 0)


# --- coming and going ---------------------------------------------------------


def test_a_thousand_attach_and_detach(host: HostProcess) -> None:
    """Nothing is left of any of them."""
    job = shell_job("trap exit TERM; while :; do echo tick; sleep 0.02; done", stdin=True)
    host.api.run(job)
    host.api.running(job)

    def come_and_go(flags: int = OUT | ERR | STREAM) -> None:
        with AttachClient.attach(host.api, job, flags) as client:
            client.wait_attached()

    before = settled(host, come_and_go)
    resident = host.resident_bytes()
    for number in range(1000):
        come_and_go(OUT | STREAM if number % 2 else OUT | ERR | STREAM)
    wait_until_freed(host, before)
    assert host.resident_bytes() - resident < 16 << 20
    assert host.api.stop(job).status == 200


def test_readers_that_go_in_the_middle(host: HostProcess, containers: HostContainers) -> None:
    """However they go, and whatever they did, nothing is left of them."""
    job = shell_job("trap exit TERM; while :; do head -c 100000 /dev/zero; sleep 0.01; done", stdin=True)
    host.api.run(job)
    host.api.running(job)

    def go_in_the_middle() -> None:
        for flags in (OUT | STREAM, OUT | LOGS | STREAM):
            with AttachClient.attach(host.api, job, flags) as client:
                client.wait_attached()
                client.next()
                reset(client)
        connection = http.client.HTTPConnection("127.0.0.1", host.api.port, timeout=30)
        connection.request("GET", f"/host/jobs/{job['id']}/log?follow=true")
        connection.getresponse().read(10)
        connection.close()
        with AttachClient.exec(host.api, job, "sh", "-c", "echo there; sleep 1234", stdin=True) as client:
            client.until(b"there\n")
            reset(client)
        wait_until(lambda: not commands(containers, job, "sleep 1234"), "the end of the command")

    before = settled(host, go_in_the_middle)
    for _ in range(5):
        go_in_the_middle()
    wait_until_freed(host, before)
    assert host.api.stop(job).status == 200


def test_who_waits_for_a_job_and_goes(host: HostProcess) -> None:
    """Nothing is left of those who went before the job came; it starts all the same."""
    job = sleeper()
    before = Resources.of(host)
    for _ in range(50):
        with AttachClient.attach(host.api, job, IN | OUT | STREAM) as client:
            client.next()
    wait_until_freed(host, before)
    host.api.run(job)
    host.api.running(job)
    assert host.api.stop(job).status == 200


def reset(client: AttachClient) -> None:
    """Go as one does whose machine is gone: without a proper end."""
    client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.connection.close()


def commands(containers: HostContainers, job: WireJob, words: str) -> list[str]:
    """The commands in a job's container that have these words."""
    client = containers.engine.client()
    try:
        listed = client.top(containers.only(job)["Id"], "-o pid,args")["Processes"]
    finally:
        client.close()
    return [line[-1] for line in listed if words in line[-1]]
