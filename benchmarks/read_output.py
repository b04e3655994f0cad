"""How quickly what jobs write is read: by Docker's command, by docker-py and through flynn-host, in one run.

usage: python -m benchmarks.read_output [options], as root, from the root of the checkout

All containers are made alike and keep their output alike. Readers take turns, and count bytes only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from benchmarks.host_process import HostProcess
from benchmarks.output.contents import Content
from benchmarks.output.findings import OURS, Findings
from benchmarks.output.flynn_host import Host
from benchmarks.output.memory import Watched
from benchmarks.output.raw_docker import RawDocker
from benchmarks.program import conditions, end_when_told, publish, tell, workplace
from flynnhost.http.media import MULTIPLEXED
from tests.support.dockerd import Dockerd, missing

QUICK = {"rounds": 1, "megabytes": 50}

JOBS_LISTED = 100

_numbers = count()


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description="Measure how quickly the output of jobs is read.")
    parser.add_argument("--quick", action="store_true", help="a minute, for a first impression")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--megabytes", type=int, default=200, help="written by each job [%(default)s]")
    parser.add_argument("--lines", default="70,1000", help="lengths of lines, in bytes [%(default)s]")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the tables there, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--directory", type=Path, help="where the engine keeps its data")
    given = parser.parse_args(words)
    if given.quick:
        parser.set_defaults(**QUICK)
        given = parser.parse_args(words)
    given.contents = [Content(int(line), given.megabytes * 1_000_000) for line in given.lines.split(",")]
    return given


def measure(given: argparse.Namespace, directory: Path, undo: ExitStack) -> Findings:
    """Set up what is compared, and compare it."""
    findings = Findings(conditions() | {"rounds": str(given.rounds)})
    tell("starting an engine and flynn-host")
    engine = Dockerd(directory / "docker")
    undo.callback(engine.destroy)
    engine.start()
    process = HostProcess(directory / "host", engine.url, "bench", directory / "bytecode")
    undo.callback(process.stop)
    process.start()
    raw = RawDocker(engine)
    undo.callback(raw.close)
    host = Host(process)
    for content in given.contents:
        _logs(findings, content, host, raw, given.rounds)
        _follow(findings, content, host, raw, given.rounds)
        _attach(findings, content, host, raw, given.rounds)
    _commands(findings, host, engine)
    return findings


def _logs(findings: Findings, content: Content, host: Host, raw: RawDocker, rounds: int) -> None:
    """What an ended job wrote."""
    job_id = f"b{next(_numbers)}"
    host.run(job_id, content)
    container_id = host.container_of(job_id)
    readers: dict[str, Callable[[], int]] = {
        "docker logs": lambda: raw.command_logs(container_id),
        "docker-py": lambda: raw.library_logs(container_id),
        OURS: lambda: host.log(job_id),
        f"{OURS}, streams apart": lambda: host.log(job_id, accept=MULTIPLEXED),
    }
    _turns(findings, "The log of an ended job", content, host, readers, rounds)
    raw.remove_all()


def _follow(findings: Findings, content: Content, host: Host, raw: RawDocker, rounds: int) -> None:
    """What a job writes, from before its start to its end, through its log."""

    def ours() -> int:
        job_id = f"b{next(_numbers)}"
        host.run(job_id, content)
        return host.log(job_id, "?follow=true")

    def command() -> int:
        job_id = f"b{next(_numbers)}"
        host.run(job_id, content)
        # Docker's own follower may lose lines when it is slower than the job: then it is no match.
        return raw.command_logs(host.container_of(job_id))

    readers = {"docker logs, once the job has ended": command, OURS: ours}
    _turns(findings, "The log of a job that writes, to its end", content, host, readers, rounds)
    raw.remove_all()


def _attach(findings: Findings, content: Content, host: Host, raw: RawDocker, rounds: int) -> None:
    """What a job writes, by attaching before its start."""
    readers: dict[str, Callable[[], int]] = {
        "docker start --attach": lambda: raw.command_attach(f"b{next(_numbers)}", content),
        "docker-py": lambda: raw.library_attach(f"b{next(_numbers)}", content),
        OURS: lambda: host.attach(f"b{next(_numbers)}", content),
    }
    _turns(findings, "Attached from before the start", content, host, readers, rounds)
    raw.remove_all()


def _turns(
    findings: Findings,
    what: str,
    content: Content,
    host: Host,
    readers: dict[str, Callable[[], int]],
    rounds: int,
) -> None:
    """Let the readers take turns, each time beginning with another one."""
    order = list(readers)
    for number in range(rounds):
        tell(f"{what}, {content.name}, round {number + 1} of {rounds}")
        for reader in order:
            with Watched(host.process) as memory:
                began = time.monotonic()
                size = readers[reader]()
                took = time.monotonic() - began
            if size < content.size or (OURS not in reader and size > content.size):
                raise RuntimeError(f"{reader} gave {size} bytes of {content.size}")
            findings.add(what, content.name, reader, content.size / took)
            if reader.startswith(OURS):
                key = f"{what}, {content.name}"
                before, most = findings.memory.get(key, (memory.before, 0))
                findings.memory[key] = (before, max(most, memory.most))
        order.append(order.pop(0))


def _commands(findings: Findings, host: Host, engine: Dockerd) -> None:
    """How long people wait for a list of jobs."""
    tell(f"listing {JOBS_LISTED} jobs")
    content = Content(70, 700)
    jobs = [f"b{next(_numbers)}" for _ in range(JOBS_LISTED)]
    for job_id in jobs:
        host.run(job_id, content)
    for job_id in jobs:
        host.container_of(job_id)
    program = str(Path(sys.executable).with_name("flynn-host"))
    ours = [program, "--host-url", f"http://127.0.0.1:{host.process.port}", "ps", "--all"]
    for name, command in (
        (f"flynn-host ps, {JOBS_LISTED} jobs", ours),
        (f"docker ps, {JOBS_LISTED} containers", ["docker", "--host", engine.url, "ps", "--all"]),
    ):
        findings.commands[name] = [_seconds(command) for _ in range(11)][1:]


def _seconds(command: Sequence[str]) -> float:
    began = time.monotonic()
    told = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    took = time.monotonic() - began
    if told.count(b"\n") < JOBS_LISTED:
        raise RuntimeError(f"{' '.join(command)} listed too little:\n{told.decode()}")
    return took


def main() -> None:
    """Run from the command line."""
    given = options()
    if reason := missing():
        sys.exit(reason)
    end_when_told()
    with workplace(given.directory) as (directory, undo):
        findings = measure(given, directory, undo)
    publish(findings.text(), findings.json(), given.report, given.json)


if __name__ == "__main__":
    main()
