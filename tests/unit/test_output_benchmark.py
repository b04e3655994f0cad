"""The benchmark of output: what is written, and how figures are put; what it measures is never asserted."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime

from benchmarks.output.contents import Content
from benchmarks.output.findings import OURS, Findings
from benchmarks.read_output import options
from flynnhost.http.decode import decode_job


def findings() -> Findings:
    """Figures of two readers and flynn-host."""
    found = Findings({"machine": "one"})
    for reader, speeds in {"docker logs": [10e6, 30e6, 20e6], "docker-py": [1e6], OURS: [15e6]}.items():
        for speed in speeds:
            found.add("The log", "some MB", reader, speed)
    found.memory["The log"] = (50_000_000, 51_500_000)
    found.commands["flynn-host ps"] = [0.2, 0.1, 0.3]
    return found


def test_a_job_writes_what_its_content_says() -> None:
    content = Content(7, 23)
    job = decode_job(content.wire_job("b1"), "b1")
    written = subprocess.run(job.config.cmd, capture_output=True, check=True, timeout=20).stdout
    assert written == b"xxxxxx\nxxxxxx\nxxxxxx\nxx"


def test_docker_is_asked_for_the_same_container() -> None:
    content = Content(70, 1000)
    body = content.docker_body("b1", datetime.now(UTC))
    assert tuple(body["Cmd"]) == content.job("b1").config.cmd
    assert body["HostConfig"]["LogConfig"]


def test_the_share_is_of_the_best_other() -> None:
    lines = findings().text().splitlines()
    (ours,) = [line for line in lines if line.startswith("| flynn-host  ")]
    assert [cell.strip() for cell in ours.strip("|").split("|")] == [
        OURS,
        "1",
        "15.0",
        "15.0",
        "15.0",
        "0.75",
    ]


def test_all_figures_are_there() -> None:
    text = findings().text()
    for figure in ("machine: one", "| 3      | 20.0", "51.5 MB", "1.5 MB", "0.200 s", "0.300 s"):
        assert figure in text
    assert json.loads(json.dumps(findings().json()))["bytes_per_second"][0]["readers"]["docker-py"] == [1e6]


def test_options() -> None:
    given = options(["--quick", "--lines=10,20", "--rounds=2"])
    assert given.rounds == 2
    assert [content.name for content in given.contents] == [
        "50 MB in lines of 10 bytes",
        "50 MB in lines of 20 bytes",
    ]
