"""A flynn-host process of one's own: how soon it is ready, and what it uses."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from attrs import define, field, frozen

from benchmarks.jobs import EXTERNAL_IP, PORTS

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0
_BETWEEN_LOOKS = 0.005


@frozen
class Memory:
    """What a process holds, in bytes.

    :param resident: all of its pages that are in memory.
    :param proportional: the same, with pages that others have too counted in proportion.
    """

    resident: int
    proportional: int


@define(eq=False)
class HostProcess:
    """``twistd flynn-host --solo`` on a loopback port, with its state below a directory.

    :param bytecode: where Python keeps what it has compiled, as it would be on an installed host.
    :param options: more options of flynn-host.
    """

    directory: Path
    docker_url: str
    host_id: str
    bytecode: Path
    options: Sequence[str] = ()
    port: int = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def start(self) -> float:
        """Start it. Returns the seconds from the exec until it says that it is ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        with (self.directory / "output").open("wb") as output:
            began = time.monotonic()
            self._process = subprocess.Popen(
                self._command(),
                env=self._environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > began + PATIENCE:
                raise RuntimeError(f"flynn-host is not ready:\n{self.last_words()}")
            time.sleep(_BETWEEN_LOOKS)
        return time.monotonic() - began

    def stop(self) -> None:
        """End it; its containers stay."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def connection(self) -> http.client.HTTPConnection:
        """A new connection to its API."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def cpu_seconds(self) -> float:
        """What it has used until now, user and system."""
        times = self._ps().cpu_times()
        return float(times.user + times.system)

    def memory(self) -> Memory:
        """What it holds now."""
        info = self._ps().memory_full_info()
        return Memory(resident=info.rss, proportional=info.pss)

    def last_words(self) -> str:
        """The end of what it said."""
        return (self.directory / "output").read_text(errors="replace")[-3000:]

    def _ps(self) -> psutil.Process:
        assert self._process is not None, "flynn-host was not started"
        return psutil.Process(self._process.pid)

    def _is_ready(self) -> bool:
        connection = self.connection()
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _command(self) -> list[str]:
        beside_python = Path(sys.executable).with_name("twistd")
        twistd = str(beside_python) if beside_python.exists() else shutil.which("twistd")
        if twistd is None:
            raise RuntimeError("there is no twistd beside this Python, nor in the PATH")
        options = {
            "id": self.host_id,
            "docker": self.docker_url,
            "state-dir": self.directory / "state",
            "listen": f"tcp:{self.port}:interface=127.0.0.1",
            "external": EXTERNAL_IP,
            "ports": "{}-{}".format(*PORTS),
        }
        given = [f"--{name}={value}" for name, value in options.items()]
        return [twistd, "--nodaemon", "--pidfile=", "flynn-host", "--solo", *given, *self.options]

    def _environment(self) -> dict[str, str]:
        without = {"PYTHONDONTWRITEBYTECODE", "DOCKER_HOST"}
        kept = {name: value for name, value in os.environ.items() if name not in without}
        return kept | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(self.bytecode)}


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
