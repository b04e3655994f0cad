"""The other processes of the benchmark, and what they use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from attrs import define, field

from benchmarks.cluster.caller import Caller
from benchmarks.cluster.turns import Held
from benchmarks.host_process import ROOT, free_port

PATIENCE = 120.0
_BETWEEN_LOOKS = 0.01


@define(eq=False)
class _Child:
    """A Python process of this benchmark.

    :param log: where it writes what it has to say to people.
    """

    log: Path
    _process: subprocess.Popen[bytes] = field(init=False)

    def _start(self, module: str, *arguments: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.cluster.{module}", *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def kill(self) -> None:
        """End it as by a kill -9, if it was not ended."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def cpu_seconds(self) -> float:
        """What it has used until now, user and system."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def last_words(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-2000:]

    def _check(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"a process has ended:\n{self.last_words()}")


@define(eq=False)
class LeaderProcess(_Child):
    """A process that can lead, and serves its API.

    :param bare: that only answers POSTs instead.
    """

    bare: bool = False
    port: int = field(init=False, factory=free_port)

    def __attrs_post_init__(self) -> None:
        self._start("leader", *(["--bare"] if self.bare else []), str(self.port))
        self.until_it_listens()

    def until_it_listens(self) -> None:
        """Return when it takes connections."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self._check()
            try:
                return Caller(self.port).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the leader does not listen:\n{self.last_words()}") from None
            time.sleep(_BETWEEN_LOOKS)

    def lead(self, term: int, hosts: int) -> None:
        """Have it lead, and wait for so many hosts."""
        self._control(f"lead?term={term}&hosts={hosts}")

    def held(self) -> Held:
        """How long its reactor was held since this was last asked."""
        return Held(**self._control("turns"))

    def until_complete(self) -> None:
        """Return when all hosts that it waits for have reported."""
        caller = Caller(self.port)
        deadline = time.monotonic() + PATIENCE
        while b"x-cluster-complete: true" not in caller.ask("GET", "/cluster/leader").head.lower():
            self._check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"not all hosts have come:\n{self.last_words()}")
            time.sleep(_BETWEEN_LOOKS)
        caller.close()

    def hosts(self) -> int:
        """How many hosts are in its cluster."""
        caller = Caller(self.port)
        listed = caller.ask("GET", "/cluster/hosts?jobs=none").body
        caller.close()
        return listed.count(b'"id":')

    def _control(self, what: str) -> dict[str, Any]:
        caller = Caller(self.port)
        found: dict[str, Any] = json.loads(caller.ask("POST", f"/bench/{what}").body)
        caller.close()
        return found


@define(eq=False)
class HostsProcess(_Child):
    """A process with simulated hosts."""

    count: int

    def __attrs_post_init__(self) -> None:
        self._start("lean_hosts", str(self.count))

    def follow(self, leader: LeaderProcess) -> None:
        """Have all hosts connect to a leader, and return at once."""
        self._command(f"follow {leader.port}")

    def counts(self) -> dict[str, Any]:
        """What they have; see ``LeanHosts.counts``."""
        return self._command("counts")

    def _command(self, line: str) -> dict[str, Any]:
        self._check()
        commands, answers = self._process.stdin, self._process.stdout
        assert commands is not None
        assert answers is not None
        commands.write(line.encode() + b"\n")
        commands.flush()
        found: dict[str, Any] = json.loads(answers.readline())
        return found
