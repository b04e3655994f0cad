"""flynn-host as twistd runs it: how it begins and ends as a process. No Docker is needed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.host_process import environment, twistd
from tests.support.waiting import wait_until


def command(
    directory: Path, *options: str, docker: str = "", twistd_options: Sequence[str] = ()
) -> list[str]:
    """What runs a host whose state and whose process ID are in a directory."""
    return [
        *twistd(),
        f"--pidfile={directory / 'twistd.pid'}",
        *twistd_options,
        "flynn-host",
        "--solo",
        "--id=h1",
        "--external=192.0.2.7",
        f"--state-dir={directory / 'state'}",
        f"--docker={docker or f'unix://{directory}/none.sock'}",
        "--listen=tcp:0:interface=127.0.0.1",
        *options,
    ]


def ended(command: Sequence[str]) -> tuple[int, str]:
    """The status of a host that ends by itself, and all that it said."""
    done = subprocess.run(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )
    assert "Traceback" not in done.stdout
    assert "Unhandled" not in done.stdout
    return done.returncode, done.stdout


class Host:
    """A host in the foreground, that was started."""

    def __init__(self, directory: Path, *options: str, docker: str = "") -> None:
        self.process = subprocess.Popen(
            command(directory, *options, docker=docker, twistd_options=["-n"]),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read what it says until it says this."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            found = re.search(pattern, line)
            if found is not None:
                return found
        raise AssertionError(f"it ended without saying {pattern}:\n{self.said}")

    def terminate(self) -> tuple[int, float]:
        """Tell it to end: the status with which it does, and the seconds that it takes."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=60)
        self.said += rest
        assert "Traceback" not in self.said
        assert "Unhandled" not in self.said
        return self.process.returncode, time.monotonic() - begin


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """Hosts that don't outlive the test."""
    hosts: list[Host] = []
    yield hosts
    for host in hosts:
        host.process.kill()
        host.process.communicate()


@pytest.fixture
def hung_docker(short_dir: Path) -> Iterator[str]:
    """The URL of an engine that takes connections and never answers."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(short_dir / "docker.sock"))
        listening.listen(100)
        connections = []

        def accept() -> None:
            try:
                while True:
                    connections.append(listening.accept()[0])
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield f"unix://{short_dir}/docker.sock"
        listening.shutdown(socket.SHUT_RDWR)
        for connection in connections:
            connection.close()


def test_bad_option(tmp_path: Path) -> None:
    """A bad option ends the process with status 1 and nothing but a line about it."""
    status, said = ended(command(tmp_path, "--ports=9-1"))
    assert status == 1
    assert said == "flynn-host: ports must be FROM-TO within 1-65535, not '9-1'\n"


def test_port_in_use(tmp_path: Path) -> None:
    """A port that is in use ends the process with status 1 and a line that names it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        description = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        status, said = ended(command(tmp_path, f"--listen={description}", twistd_options=["-n"]))
    assert status == 1
    (line,) = [line for line in said.splitlines() if "flynn-host:" in line]
    assert line.endswith(f"flynn-host: can't listen on {description}: Address already in use")
    assert "leads" not in said


def test_journal_that_can_not_be_opened(tmp_path: Path) -> None:
    """A host that can't open its journal says so as it should be said, tidies up, and ends with status 1."""
    (tmp_path / "state" / "journal.db").mkdir(parents=True)
    status, said = ended(command(tmp_path, twistd_options=["-n"]))
    assert status == 1
    (line,) = [line for line in said.splitlines() if "critical" in line]
    assert "This host can't work: " in line
    assert "journal.db: unable to open database file" in line
    assert "Server Shut Down." in said
    assert not (tmp_path / "twistd.pid").exists()


def get(url: str) -> int:
    """The status of a reply."""
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as e:
        with e:
            return e.code


@pytest.mark.parametrize("options", [[], ["--force"]])
@pytest.mark.parametrize("hangs", [False, True])
def test_terminated(
    tmp_path: Path, hosts: list[Host], hung_docker: str, hangs: bool, options: list[str]
) -> None:
    """Told to end, a host does so in seconds with status 0, whether Docker is absent or hangs."""
    host = Host(tmp_path, *options, docker=hung_docker if hangs else "")
    hosts.append(host)
    port = host.read_until(r"The API listens on .*port=(\d+)\)")[1]
    if not options:
        host.read_until("leads, in term 1")
    assert get(f"http://127.0.0.1:{port}/host/jobs") == (503 if options else 200)
    status, seconds = host.terminate()
    assert status == 0
    assert seconds < 5
    assert "Server Shut Down." in host.said
    assert not (tmp_path / "twistd.pid").exists()


def test_term_again(tmp_path: Path, hosts: list[Host]) -> None:
    """After a restart a host leads with a higher term."""
    for term in (1, 2):
        host = Host(tmp_path)
        hosts.append(host)
        host.read_until(f"leads, in term {term}$")
        assert host.terminate()[0] == 0


def test_daemon(tmp_path: Path) -> None:
    """In the background a host still has its state directory for itself, and ends when told to."""
    log = tmp_path / "log"
    options = [f"--logfile={log}", f"--rundir={tmp_path}"]
    started = subprocess.run(command(tmp_path, twistd_options=options), env=environment(), timeout=60)
    assert started.returncode == 0
    pid = int((tmp_path / "twistd.pid").read_text())
    try:
        wait_until(lambda: log.exists() and "leads, in term" in log.read_text(), "the host to lead")
        status, said = ended(command(tmp_path, twistd_options=["-n", f"--pidfile={tmp_path / 'second.pid'}"]))
        assert status == 1
        assert (
            said == f"flynn-host: the state directory {tmp_path / 'state'} is in use by another flynn-host\n"
        )
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not (tmp_path / "twistd.pid").exists(), "the host to end")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    assert "Traceback" not in log.read_text()
