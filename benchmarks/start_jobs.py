"""How quickly jobs start: by Docker alone, by flynn-host and by Docker Swarm, in one run.

usage: python -m benchmarks.start_jobs [options], as root, from the root of the checkout

A start counts when the measuring process hears of it: the start event in Docker's stream of
events, or in flynn-host's. What is removed in between is not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.flynn_host import FlynnHost
from benchmarks.host_process import HostProcess
from benchmarks.jobs import Network
from benchmarks.program import conditions, end_when_told, publish, tell, workplace
from benchmarks.raw_docker import RawDocker
from benchmarks.report import Report
from benchmarks.rounds import Rounds
from benchmarks.swarm import Swarm
from benchmarks.trials import Contender
from tests.support.busybox import IMAGE
from tests.support.dockerd import Dockerd, missing

QUICK = {"rounds": 1, "singles": 4, "batch": 10, "cold_starts": 2}


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description="Measure how quickly jobs start.")
    parser.add_argument("--quick", action="store_true", help="a minute or two, for a first impression")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--singles", type=int, default=12, help="one by one in each round [%(default)s]")
    parser.add_argument("--batch", type=int, default=100, help="at once in each round [%(default)s]")
    parser.add_argument("--cold-starts", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--at-once", type=int, default=4, help="creates and starts under way [%(default)s]")
    parser.add_argument("--networks", default="host,bridge", help="of host,bridge,ports [%(default)s]")
    parser.add_argument("--without-swarm", action="store_true")
    parser.add_argument("--settle", type=float, default=0.5, help="seconds of rest in between [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument("--directory", type=Path, help="where the engines keep their data")
    given = parser.parse_args(words)
    if given.quick:
        parser.set_defaults(**QUICK)
        given = parser.parse_args(words)
    given.networks = [Network(name) for name in given.networks.split(",")]
    return given


def measure(given: argparse.Namespace, directory: Path, undo: ExitStack) -> Report:
    """Set up what is compared, and compare it."""
    tell("starting an engine")
    engine = _engine(directory / "docker", undo)
    tell("starting flynn-host from cold")
    cold_starts = [_cold_start(engine, directory, number) for number in range(given.cold_starts + 1)]
    process = _host(engine, directory, "bench", (f"--max-starts={given.at_once}",))
    undo.callback(process.stop)
    process.start()
    before = conditions()
    client = engine.client()
    undo.callback(client.close)
    flynn_host = FlynnHost(process, client)
    raw = RawDocker(engine, given.at_once)
    undo.callback(raw.close)
    contenders: list[Contender] = [raw, flynn_host]
    if not given.without_swarm:
        tell("starting another engine, for Swarm")
        swarm = Swarm(_engine(directory / "swarm", undo), IMAGE)
        undo.callback(swarm.close)
        contenders.append(swarm)
    rounds = Rounds(contenders, given.networks, IMAGE, given.singles, given.batch, given.settle, tell)
    rounds.warm_up()
    rounds.run(given.rounds)
    return Report(
        conditions=before | _conditions(given, engine),
        results=rounds.results,
        # The first one compiles what is already compiled on an installed host.
        cold_starts=cold_starts[1:],
        idle=flynn_host.idle,
        busiest=flynn_host.busiest,
    )


def main() -> None:
    """Run from the command line."""
    given = options()
    if reason := missing():
        sys.exit(reason)
    end_when_told()
    with workplace(given.directory) as (directory, undo):
        report = measure(given, directory, undo)
    publish(report.text(), report.json(), None, given.json)


def _engine(directory: Path, undo: ExitStack) -> Dockerd:
    engine = Dockerd(directory)
    undo.callback(engine.destroy)
    engine.start()
    return engine


def _host(engine: Dockerd, directory: Path, host_id: str, more: Sequence[str] = ()) -> HostProcess:
    return HostProcess(directory / host_id, engine.url, host_id, directory / "bytecode", more)


def _cold_start(engine: Dockerd, directory: Path, number: int) -> float:
    process = _host(engine, directory, f"cold{number}")
    with contextlib.ExitStack() as undo:
        undo.callback(process.stop)
        return process.start()


def _conditions(given: argparse.Namespace, engine: Dockerd) -> dict[str, str]:
    client = engine.client()
    version = client.version()["Version"]
    client.close()
    return {
        "engine": f"Docker {version}, private, without iptables",
        "rounds": f"{given.rounds}, each with {given.singles} jobs one by one and {given.batch} at once",
        "at the same time": f"{given.at_once} creates and starts, by Docker alone as by flynn-host",
    }


if __name__ == "__main__":
    main()
