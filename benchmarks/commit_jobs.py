"""How quickly a leader commits jobs to hosts, which are simulated, and how it bears many of them.

usage: python -m benchmarks.commit_jobs [options], from the root of the checkout

The leader is a process of its own with all that a leading host has but Docker and etcd. All hosts are
in another process, and the caller in this one; they do as little as they can.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

from benchmarks.cluster import large, series
from benchmarks.cluster.batches import BatchMaker
from benchmarks.cluster.caller import Caller
from benchmarks.cluster.clusters import Cluster
from benchmarks.cluster.findings import Findings
from benchmarks.cluster.processes import LeaderProcess
from benchmarks.cluster.series import Kind
from benchmarks.program import conditions, end_when_told, publish, tell

QUICK = {"rounds": 1, "scale": 0.2, "challenge": 100_000}

BARE_POSTS = 3000


def kinds(hosts: int, scale: float) -> list[Kind]:
    """What is posted to a cluster of so many hosts.

    :param scale: of how much it is.
    """

    def kind(batch: int, spread: int, requests: int, minimal: bool = True) -> Kind:
        return Kind(hosts, batch, spread, batch * max(10, round(requests * scale)), minimal)

    found = [kind(1, 1, 3000), kind(100, 1, 200), kind(1000, 1, 100), kind(100, 10, 200)]
    if hosts >= 100:
        found.append(kind(1000, 100, 40))
    if hosts == 100:
        # As Flynn's own clients ask. What is to be sent grows with each batch.
        found += [kind(1, 1, 1000, minimal=False), kind(100, 1, 200, minimal=False)]
    return found


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description="Measure how quickly a leader commits jobs.")
    parser.add_argument("--quick", action="store_true", help="two minutes, for a first impression")
    parser.add_argument("--rounds", type=int, default=2, help="[%(default)s]")
    parser.add_argument("--hosts", default="10,100,1000,6100", help="sizes of clusters [%(default)s]")
    parser.add_argument("--scale", type=float, default=1.0, help="of how many jobs are posted [%(default)s]")
    parser.add_argument(
        "--challenge",
        type=int,
        default=2_000_000,
        help="jobs for the largest cluster, 0 for none [%(default)s]",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the tables there, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    given = parser.parse_args(words)
    if given.quick:
        parser.set_defaults(**QUICK)
        given = parser.parse_args(words)
    given.hosts = [int(count) for count in given.hosts.split(",")]
    return given


def measure(given: argparse.Namespace, directory: Path) -> Findings:
    """All of it."""
    findings = Findings(_conditions(given))
    for number in range(given.rounds):
        tell(f"round {number + 1} of {given.rounds}: Klein alone")
        findings.bare.append(_bare(directory))
        for count in given.hosts:
            for kind in kinds(count, given.scale):
                tell(f"round {number + 1} of {given.rounds}: {_in_words(kind)}")
                _series(findings, kind, directory)
    if given.challenge:
        _challenge(findings, max(given.hosts), given.challenge, directory)
    return findings


def _series(findings: Findings, kind: Kind, directory: Path) -> None:
    """One series with a leader of its own; after the largest, that leader dies."""
    with ExitStack() as undo:
        cluster = Cluster(directory, kind.hosts, undo)
        findings.joined.append(cluster.join())
        findings.add(series.run(kind, cluster.leader, cluster.hosts))
        if kind.batch == 1000 and kind.spread == 1:
            findings.replaced.append(cluster.replace_leader())


def _challenge(findings: Findings, count: int, jobs: int, directory: Path) -> None:
    with ExitStack() as undo:
        cluster = Cluster(directory, count, undo)
        findings.joined.append(cluster.join())
        tell(f"{count} hosts that do nothing")
        findings.rested.append(cluster.rest())
        kind = Kind(count, 1000, 10, jobs)
        tell(f"the challenge: {_in_words(kind)}")
        findings.challenge = series.run(kind, cluster.leader, cluster.hosts, tell)
        for more in (Kind(count, 1, 1, 1000), Kind(count, 100, 1, 20_000)):
            tell(f"beside these: {_in_words(more)}")
            findings.crowded.append(series.run(more, cluster.leader, cluster.hosts))
        for request in large.requests(count):
            tell(f"beside these: {request.what}")
            findings.served.append(large.serve(request, cluster.leader))
        tell("beside these: nothing")
        findings.rested.append(cluster.rest())
        tell("another leader")
        findings.replaced.append(cluster.replace_leader())


def _bare(directory: Path) -> float:
    """POSTs of one job that Klein alone answers in a second."""
    leader = LeaderProcess(directory / "bare.log", bare=True)
    try:
        caller, body = Caller(leader.port), BatchMaker(1, 1).body()
        began = monotonic()
        for _ in range(BARE_POSTS):
            caller.post_jobs(body)
        seconds = monotonic() - began
        caller.close()
        return BARE_POSTS / seconds
    finally:
        leader.kill()


def main() -> None:
    """Run from the command line."""
    given = options()
    end_when_told()
    began = monotonic()
    with tempfile.TemporaryDirectory(prefix="flynn-bench-") as directory:
        findings = measure(given, Path(directory))
    tell(f"all of it took {(monotonic() - began) / 60:.1f} minutes")
    publish(findings.text(), findings.json(), given.report, given.json)


def _in_words(kind: Kind) -> str:
    answer = "" if kind.minimal else ", answered with the whole cluster"
    among = "one host" if kind.spread == 1 else f"{kind.spread} hosts"
    return f"{kind.hosts} hosts, {kind.jobs} jobs, {kind.batch} at a time for {among}{answer}"


def _conditions(given: argparse.Namespace) -> dict[str, str]:
    return conditions() | {
        "rounds": f"{given.rounds}, each series with a new leader; from and to are the slowest and quickest",
        "a job": f"{len(BatchMaker(1, 1).body())} bytes as it is posted",
    }


if __name__ == "__main__":
    main()
