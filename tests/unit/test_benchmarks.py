"""The benchmarks' arithmetic and order; what they measure is never asserted."""

from __future__ import annotations

import json
from itertools import count

from attrs import define, field

from benchmarks.figures import Figures, Results, percentile
from benchmarks.host_process import Memory
from benchmarks.jobs import Jobs, Network, docker_bodies, flynn_batch, group_of
from benchmarks.report import DOCKER, HOST, SWARM, Report
from benchmarks.rounds import Rounds
from benchmarks.trials import Trial
from flynnhost.agent.spec import LABEL_HOST, LABEL_JOB
from flynnhost.http.decode import decode_batch


@define(eq=False)
class Scripted:
    """A system that takes given seconds for each job, and writes down what is asked of it."""

    name: str
    seconds: float
    diary: list[str]
    there: set[str] = field(factory=set)

    def start(self, jobs: Jobs) -> Trial:
        self.diary.append(self.name)
        self.there.add(jobs.group)
        return Trial([self.seconds * (n + 1) for n in range(jobs.count)], 0.01 * jobs.count)

    def clear(self, jobs: Jobs) -> None:
        self.there.remove(jobs.group)


def measured(*systems: Scripted, singles: int, batch: int, rounds: int) -> Results:
    turns = Rounds(systems, [Network.HOST], "busybox:latest", singles, batch, 0, lambda _: None)
    turns.run(rounds)
    return turns.results


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (0, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 50) == 7.0


def test_throughput_counts_until_the_last_job_has_started() -> None:
    figures = Figures.of([Trial([0.5, 2.0], 0.1), Trial([1.0, 1.0], 0.3), Trial([4.0, 1.0], 0.2)])
    assert (figures.slowest, figures.per_second, figures.quickest) == (0.5, 1.0, 2.0)
    assert figures.cpu_per_job is not None
    assert round(figures.cpu_per_job, 6) == 0.1


def test_docker_has_no_time_of_its_own() -> None:
    assert Figures.of([Trial([1.0])]).cpu_per_job is None


def test_systems_take_turns_in_short_blocks_each_time_beginning_with_another_one() -> None:
    diary: list[str] = []
    results = measured(Scripted("a", 1, diary), Scripted("b", 1, diary), singles=6, batch=3, rounds=1)
    assert "".join(diary) == "aaaabbbb" + "bbaa" + "ab"
    assert results.kinds() == [("host", 1), ("host", 3)]
    assert {name: f.trials for name, f in results.figures("host", 1).items()} == {"a": 6, "b": 6}


def test_all_that_is_started_is_cleared_away() -> None:
    system = Scripted("a", 1, [])
    measured(system, singles=5, batch=2, rounds=2)
    assert system.there == set()


def test_the_report_sets_the_figures_beside_the_targets() -> None:
    systems = [Scripted(DOCKER, 0.100, []), Scripted(HOST, 0.104, []), Scripted(SWARM, 0.208, [])]
    results = measured(*systems, singles=4, batch=100, rounds=1)
    report = Report({"machine": "none"}, results, [0.5, 0.7, 0.6], Memory(50, 40), {100: Memory(90, 80)})
    text = report.text()
    assert "+4.0 ms, +4.0%" in text
    assert "2.00 times" in text
    assert "0.96 times" in text
    assert "0.60 s" in text
    starts = json.loads(json.dumps(report.json()))["starts"]
    assert {(start["system"], start["at_once"]) for start in starts} == {
        (name, count) for name in (DOCKER, HOST, SWARM) for count in (1, 100)
    }


def test_docker_alone_is_asked_for_the_same_as_flynn_host_asks_for() -> None:
    """Both are made from the same jobs, so neither can be given less to do."""
    jobs = Jobs("b1", 2, Network.PORTS, "busybox:latest")
    posted = decode_batch(flynn_batch(jobs, "h1"))["h1"]
    assert posted == list(jobs.each)
    ports: set[str] = set()
    for (name, body), job in zip(docker_bodies(jobs, "raw", count(40000)), posted, strict=True):
        assert name == f"flynn-{job.id}"
        assert (body["Labels"][LABEL_HOST], body["Labels"][LABEL_JOB]) == ("raw", job.id)
        assert group_of(job.id) == "b1"
        ports.update(body["HostConfig"]["PortBindings"])
    assert ports == {"40000/tcp", "40001/tcp"}
