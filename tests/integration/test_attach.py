"""Clients at the streams of jobs and of commands in them, with a real engine."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from flynnhost.attach_frames import Exited, Failed
from tests.conftest import Engine
from tests.support.attach_client import ERR, IN, LOGS, OUT, STREAM, AttachClient, Refused
from tests.support.host_containers import HostContainers
from tests.support.host_process import HostProcess
from tests.support.waiting import wait_until
from tests.support.wire_jobs import shell_job, sleeper, wire_job

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

MEGABYTE = 1 << 20


def attach(
    host: HostProcess, job: Any, flags: int = OUT | ERR | STREAM, query: str = "", **more: Any
) -> AttachClient:
    """Attach to a job of a host."""
    return AttachClient.attach(host.api, job, flags, query, **more)


def descriptors(host: HostProcess) -> int:
    return psutil.Process(host.pid).num_fds()


def threads(host: HostProcess) -> int:
    return psutil.Process(host.pid).num_threads()


def processes(dockerd: Engine, job_id: str) -> list[str]:
    """The commands that run in a job's container."""
    client = dockerd.client()
    try:
        return [row[-1] for row in client.top(f"flynn-{job_id}")["Processes"]]
    finally:
        client.close()


def test_before_the_job_exists(host: HostProcess) -> None:
    """Who comes first gets the first byte, and the exit status; again and again."""
    for number in range(5):
        job = shell_job(f"echo first; echo second >&2; exit {number + 3}")
        with attach(host, job) as client:
            host.api.run(job)
            assert client.wait_attached()
            assert client.rest() == (b"first\n", b"second\n", number + 3)


def test_no_wait(host: HostProcess) -> None:
    """Who does not want to wait is told at once, without an upgrade."""
    with pytest.raises(Refused) as refused:
        attach(host, sleeper(), query="?wait=false")
    assert refused.value.status == 404
    assert refused.value.json["code"] == "object_not_found"


def test_end_of_input(host: HostProcess) -> None:
    """What is typed goes through the process and back, and the end of it ends the process."""
    job = shell_job("cat; exit 4", stdin=True)
    data = b"".join(b"%d\n" % number for number in range(300_000))
    with attach(host, job, OUT | ERR | IN | STREAM) as client:
        host.api.run(job)
        client.wait_attached()

        def type_it() -> None:
            client.write(data)
            client.end_input()

        typing = threading.Thread(target=type_it)
        typing.start()
        out, err, status = client.rest()
        typing.join()
    assert (hashlib.sha256(out).digest(), err, status) == (hashlib.sha256(data).digest(), b"", 4)


def test_client_that_closes_its_direction(host: HostProcess) -> None:
    """Who has ended the input and closed that direction still gets the output."""
    job = shell_job("cat; sleep 1; echo done", stdin=True)
    with attach(host, job, OUT | IN | STREAM) as client:
        host.api.run(job)
        client.wait_attached()
        client.write(b"typed\n")
        client.end_input()
        client.connection.shutdown(1)
        assert client.rest() == (b"typed\ndone\n", b"", 0)


def test_input_that_nobody_reads(host: HostProcess) -> None:
    """A client that goes on typing when the process has ended still gets the exit status."""
    job = shell_job("sleep 1; echo out; exit 6", stdin=True)
    with attach(host, job, OUT | IN | STREAM) as client:
        host.api.run(job)
        client.wait_attached()

        def type_it() -> None:
            try:
                for _ in range(1000):
                    client.write(b"x" * 65536)
            except OSError:
                return

        typing = threading.Thread(target=type_it, daemon=True)
        typing.start()
        assert client.rest() == (b"out\n", b"", 6)
    typing.join(10)
    assert not typing.is_alive()


def test_terminal(host: HostProcess, dockerd: Engine) -> None:
    """A terminal is a terminal: it echoes, has the client's size, and Ctrl-C is a signal."""
    job = wire_job("sh", tty=True, stdin=True)
    with attach(host, job, OUT | ERR | IN | STREAM, height=24, width=80) as client:
        host.api.run(job)
        client.wait_attached()
        host.api.running(job)
        client.write(b"PS1=; stty size; echo re''ady\n")
        assert b"24 80" in client.until(b"ready")
        client.resize(50, 132)
        # The size is set by a request of its own, which what is typed can overtake.
        client.write(b"until stty size | grep -q '^50 132'; do sleep 0.1; done; echo wi''der\n")
        client.until(b"wider")
        client.write(b"sleep 1000\n")
        wait_until(lambda: "sleep 1000" in processes(dockerd, job["id"]), "the command")
        client.write(b"\x03")
        client.write(b"echo af''ter; exit 3\n")
        client.until(b"after")
        assert client.rest()[2] == 3


def test_signal(host: HostProcess) -> None:
    """A signal reaches the process."""
    job = shell_job("trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.05; done")
    with attach(host, job) as client:
        host.api.run(job)
        client.wait_attached()
        client.until(b"ready")
        client.signal(10)
        out, _, status = client.rest()
        assert (out, status) == (b"caught\n", 9)


def test_ended_job(host: HostProcess) -> None:
    """Logs are replayed, and then comes the exit status."""
    job = shell_job("echo out; echo err >&2; exit 5")
    host.api.run(job)
    host.api.ended(job)
    with attach(host, job, OUT | ERR | LOGS | STREAM) as client:
        assert client.rest() == (b"out\n", b"err\n", 5)
        assert sorted(client.ends) == [1, 2]
        assert client.next() is None
    with attach(host, job, OUT | LOGS) as client:
        frames = list(client.frames())
        assert not any(isinstance(frame, Exited | Failed) for frame in frames)
    with attach(host, job, OUT | IN | STREAM) as client:
        assert "has ended" in client.failure()


def test_running_job(host: HostProcess) -> None:
    """Logs so far, or everything from the start to the exit status."""
    job = shell_job("echo begun; trap 'echo over; exit 2' TERM; while :; do sleep 0.05; done")
    host.api.run(job)
    host.api.running(job)
    wait_until(lambda: host.api.log(job).body == b"begun\n", "the first line")
    with attach(host, job, OUT | ERR | LOGS) as client:
        last = list(client.frames())[-1]
        assert not isinstance(last, Failed), last
    with attach(host, job, OUT | ERR | LOGS | STREAM) as all_of_it, attach(host, job) as live:
        all_of_it.wait_attached()
        live.wait_attached()
        host.api.stop(job)
        assert all_of_it.rest() == (b"begun\nover\n", b"", 2)
        assert live.rest() == (b"over\n", b"", 2)


def test_failed_job(host: HostProcess, containers: HostContainers) -> None:
    """Who waits for a job that can't be started is told the engine's words."""
    job = wire_job("/no/such/program")
    with attach(host, job) as client:
        host.api.run(job)
        assert "/no/such/program" in client.failure()
    wait_until(lambda: not containers.of(job), "the removal of what never ran")


def test_hundred_megabytes_and_a_slow_reader(host: HostProcess) -> None:
    """All of it reaches both the quick and the slow, the job does not wait, and memory stays small."""
    total = 100 * MEGABYTE
    job = shell_job(f"yes 123456789012345678901234567890123456789012345678901234567890123 | head -c {total}")
    expected = hashlib.sha256()
    for _ in range(100):
        expected.update(b"123456789012345678901234567890123456789012345678901234567890123\n" * 16384)
    with attach(host, job, OUT | STREAM) as quick, attach(host, job, OUT | STREAM) as slow:
        before = host.resident_bytes()
        highest = [before]
        host.api.run(job)
        quick.wait_attached()
        slow.wait_attached()
        for client in (quick, slow):
            digest = hashlib.sha256()
            for number, data in enumerate(client.data()):
                digest.update(data.data)
                if number % 512 == 0:
                    highest.append(host.resident_bytes())
            assert digest.digest() == expected.digest()
            assert client.status == 0
            assert host.api.job(job)["status"] == 2
    print(f"{(max(highest) - before) / MEGABYTE:.1f} MB more")
    assert max(highest) - before < 40 * MEGABYTE


def test_hundred_attachers(host: HostProcess) -> None:
    """All get the same, through one connection to the engine."""
    job = shell_job("sleep 1; seq 1 50000; exit 3")
    clients = [attach(host, job, OUT | STREAM) for _ in range(100)]
    try:
        before = descriptors(host)
        host.api.run(job)
        results = {client.rest() for client in clients}
        assert len(results) == 1
        out, _, status = results.pop()
        assert out == b"".join(b"%d\n" % number for number in range(1, 50001))
        assert status == 3
        assert descriptors(host) < before + 20
    finally:
        for client in clients:
            client.close()


def test_clients_that_come_and_go(host: HostProcess) -> None:
    """Nothing is left of many who attach and leave."""
    job = shell_job("while :; do echo x; sleep 0.01; done", stdin=True)
    host.api.run(job)
    host.api.running(job)
    idle = descriptors(host)
    with attach(host, job) as client:
        client.wait_attached()
    wait_until(lambda: descriptors(host) <= idle + 2, "the descriptors of the first client to be closed")
    before = descriptors(host), threads(host)
    for number in range(200):
        flags = OUT | STREAM | (LOGS if number % 2 else 0) | (IN if number % 5 == 0 else 0)
        with attach(host, job, flags) as client:
            client.next()
    wait_until(lambda: descriptors(host) <= before[0] + 2, "the descriptors to be closed")
    assert threads(host) <= before[1] + 4
    assert host.api.stop(job).status == 200


def test_clients_that_wait_in_vain(host: HostProcess) -> None:
    """Who leaves before the job comes is gone at once, whatever was typed."""
    before = descriptors(host)
    clients = [attach(host, sleeper(), OUT | IN | STREAM) for _ in range(20)]
    for number, client in enumerate(clients):
        client.next()
        if number % 2:
            client.write(b"typed")
    assert descriptors(host) >= before + 20
    for client in clients:
        client.close()
    wait_until(lambda: descriptors(host) <= before + 1, "the descriptors to be closed", 5)


def test_broken_engine(make_host: Any, own_dockerd: Any) -> None:
    """When the engine dies, nobody takes the output for whole."""
    engine = own_dockerd()
    host = make_host(engine.url)
    host.start()
    job = sleeper()
    host.api.run(job)
    host.api.running(job)
    with attach(host, job) as client:
        client.wait_attached()
        engine.kill()
        assert "broke off" in client.failure()


def test_exec(host: HostProcess) -> None:
    """A command runs beside the job, with its own output, input and exit status."""
    job = sleeper()
    host.api.run(job)
    host.api.running(job)
    with AttachClient.exec(
        host.api, job, "sh", "-c", "echo $A; pwd; echo err >&2; exit 7", env={"A": "b"}, working_dir="/tmp"
    ) as client:
        assert client.rest() == (b"b\n/tmp\n", b"err\n", 7)
    with AttachClient.exec(host.api, job, "cat", stdin=True) as client:
        client.wait_attached()
        client.write(b"typed\n")
        client.end_input()
        assert client.rest() == (b"typed\n", b"", 0)
    with AttachClient.exec(host.api, job, "/no/such/program") as client:
        assert "/no/such/program" in client.failure()
    with pytest.raises(Refused) as refused:
        AttachClient.exec(host.api, job)
    assert refused.value.json["detail"] == {"field": "cmd"}
    host.api.stop(job)
    with pytest.raises(Refused) as refused:
        AttachClient.exec(host.api, job, "true")
    assert refused.value.status == 409


def test_exec_at_a_terminal(host: HostProcess) -> None:
    """A shell in a job, with a terminal of the client's size."""
    job = sleeper()
    host.api.run(job)
    host.api.running(job)
    with AttachClient.exec(host.api, job, "sh", tty=True, stdin=True, height=33, width=99) as client:
        client.wait_attached()
        client.write(b"PS1=; until stty size | grep '^33 99'; do sleep 0.1; done; echo re''ady\n")
        client.until(b"ready")
        client.write(b"exit 2\n")
        assert client.rest()[2] == 2


def test_exec_ends_with_its_client(host: HostProcess, dockerd: Engine) -> None:
    """When its client is gone, nothing of a command is left: no process and no descriptor."""
    job = sleeper()
    host.api.run(job)
    host.api.running(job)
    before, started = descriptors(host), 0
    for _ in range(3):
        clients = [AttachClient.exec(host.api, job, "sleep", "1234", stdin=True) for _ in range(5)]
        for client in clients:
            client.wait_attached()
        assert len(_sleeping(dockerd, job["id"])) == 5
        for client in clients:
            client.close()
        wait_until(lambda: not _sleeping(dockerd, job["id"]), "the commands to end", 30)
        # The first round may start threads that stay.
        started = started or threads(host)
    # What is asked next may have a connection to the engine that stays.
    wait_until(lambda: descriptors(host) <= before + 4, "the descriptors to be closed")
    wait_until(lambda: threads(host) <= started, "the threads to end")


def _sleeping(dockerd: Engine, job_id: str) -> list[str]:
    return [line for line in processes(dockerd, job_id) if "1234" in line]


def test_host_stops(make_host: Any, dockerd: Engine, tmp_path: Path) -> None:
    """A host that ends tells those who are attached, in time, and leaves the job alone."""
    del tmp_path
    host = make_host(dockerd.url)
    host.start()
    job = sleeper()
    host.api.run(job)
    host.api.running(job)
    with attach(host, job) as client, attach(host, sleeper()) as waiting:
        client.wait_attached()
        host.terminate()
        assert "stopping" in client.failure()
        assert "stopping" in waiting.failure()
    host.start()
    assert host.api.job(job)["status"] == 1
    assert host.api.stop(job).status == 200
