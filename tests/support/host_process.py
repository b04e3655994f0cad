"""A flynn-host of one's own, as a process: started, killed and ended properly by a test."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
from attrs import define, field

from tests.support.host_api import HostApi
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]

EXTERNAL_IP = "192.0.2.7"
"""What the hosts of tests are told that their address is; one that is kept for examples."""

_LISTENS = re.compile(r"The API listens on IPv4Address\(.*port=(\d+)\)")


def twistd() -> tuple[str, ...]:
    """How twistd is run by the Python of the tests."""
    beside_python = Path(sys.executable).with_name("twistd")
    if beside_python.exists():
        return (str(beside_python),)
    return (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")


@define(eq=False)
class HostProcess:
    """``twistd -n flynn-host`` on loopback; a cluster of its own unless it is told otherwise.

    :param directory: for its state, and for the log of all its runs.
    :param options: more options of flynn-host.
    :param program: what is run instead of twistd and its plugin, with the same options.
    :param cluster: the options that say which cluster it is in.
    :param external: the address at which others are told to reach it.
    :param address: where it listens.
    :param listen_port: where it listens; 0 for a port that the kernel chooses.
    """

    docker_url: str
    host_id: str
    directory: Path
    options: Sequence[str] = ()
    program: Sequence[str] = field(factory=lambda: (*twistd(), "-n", "--pidfile=", "flynn-host"))
    cluster: Sequence[str] = ("--solo",)
    external: str = EXTERNAL_IP
    address: str = "127.0.0.1"
    listen_port: int = 0
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)
    _log_begins: int = field(init=False, default=0)
    _port: int = field(init=False, default=0)

    @property
    def state_dir(self) -> Path:
        """What outlives it."""
        return self.directory / "state"

    @property
    def log_path(self) -> Path:
        """What all its runs said."""
        return self.directory / "flynn-host.log"

    @property
    def api(self) -> HostApi:
        """Its API, once it listens, or from the start if it is told where."""
        assert self._port, f"flynn-host does not listen:\n{self.log()}"
        return HostApi(self._port, self.host_id, self.address)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None, "flynn-host was not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, *options: str) -> None:
        """Start it and wait until it is ready.

        :param options: more options for this run.
        """
        self.begin(*options)
        self.wait_listening()
        self.wait_ready()

    def begin(self, *options: str) -> None:
        """Start it, and wait for nothing."""
        assert not self.alive, "flynn-host runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._port = self.listen_port
        with self.log_path.open("ab") as log:
            self._log_begins = log.tell()
            self._process = subprocess.Popen(
                self.command(*options),
                env=environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def command(self, *options: str) -> list[str]:
        """What is executed."""
        given = {
            "id": self.host_id,
            "docker": self.docker_url,
            "state-dir": str(self.state_dir),
            "listen": f"tcp:{self.listen_port}:interface={self.address}",
            "external": self.external,
        }
        named = [f"--{name}={value}" for name, value in given.items()]
        return [*self.program, *self.cluster, *named, *self.options, *options]

    def wait_listening(self, within: float = 60.0) -> None:
        """Wait until its API answers at all."""
        found = wait_until(self._listens, "flynn-host to listen", within)
        self._port = int(found.group(1))

    def wait_ready(self, within: float = 60.0) -> None:
        """Wait until it says that it is ready."""
        wait_until(lambda: self._must_live() and self.api.get("/ready").status == 200, "/ready", within)

    def kill9(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def terminate(self, within: float = 5.0) -> None:
        """End it as an operator would; it must end well, and soon."""
        assert self._process is not None
        self._process.terminate()
        status = self.wait_exit(within)
        assert status == 0, f"flynn-host ended with {status}"
        assert "Server Shut Down." in self.log()

    def wait_exit(self, within: float = 20.0) -> int:
        """The status with which it ends by itself."""
        assert self._process is not None
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"flynn-host has not ended within {within:g} s") from None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def restart(self) -> None:
        """End it properly, start it again, and wait until it is ready."""
        self.terminate()
        self.start()

    def end(self) -> None:
        """End it whatever state it is in."""
        if self._process is not None and self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait(10)

    def resident_bytes(self) -> int:
        """What it holds in memory."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def log(self, *, all_runs: bool = False) -> str:
        """What this run said, or all of them."""
        if not self.log_path.exists():
            return "nothing"
        with self.log_path.open("rb") as log:
            log.seek(0 if all_runs else self._log_begins)
            return log.read().decode(errors="replace")

    def _listens(self) -> re.Match[str] | None:
        self._must_live()
        return _LISTENS.search(self.log())

    def _must_live(self) -> bool:
        assert self.alive, f"flynn-host ended:\n{self.log()[-3000:]}"
        return True


def environment() -> dict[str, str]:
    """The variables for a process that runs the code of this checkout."""
    unwanted = {"DOCKER_HOST", "PYTHONDONTWRITEBYTECODE"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
