"""flynn-host ps."""

from __future__ import annotations

import json
import uuid

import pytest

from flynnhost.cli.output import Column, Format, Listing
from flynnhost.model import ContainerConfig, Host, Job, Port
from tests.support.served_host import Run, ServedHost, in_the_reactor, job


@in_the_reactor
async def test_active_jobs_and_all(run: Run, served: ServedHost) -> None:
    served.add(job("web", "serve", "--all"), job("over"))
    served.add(job("new"), running=False)
    served.agent.end("over", 3)
    lines = (await run("ps")).output.splitlines()
    assert lines[0].split() == ["ID", "IMAGE", "COMMAND", "STATE", "PORTS"]
    assert sorted(line.split()[0] for line in lines[1:]) == ["new", "web"]
    assert "serve --all" in (await run("ps")).output
    assert "exited (3)" in (await run("ps", "--all")).output


@in_the_reactor
async def test_only_ids(run: Run, served: ServedHost) -> None:
    """They are whole, to be given to other commands, and with whatever else is asked for."""
    job_id = uuid.uuid4().hex
    served.add(job(job_id))
    assert (await run("ps", "-q")).output == f"{job_id}\n"
    assert (await run("ps", "--output", "json", "--quiet")).output == f"{job_id}\n"
    assert (await run("ps", "--quiet", "--output", "json")).output == f"{job_id}\n"
    assert job_id[:12] in (await run("ps")).output
    assert job_id not in (await run("ps")).output
    assert job_id in (await run("ps", "--output", "wide")).output


@in_the_reactor
async def test_json(run: Run, served: ServedHost) -> None:
    """It has all fields always, and nothing of the environment."""
    served.add(job("j1", "true", metadata={"app": "shop"}))
    served.agent.accept([Job("j2", config=ContainerConfig(env={"S": "secret"}, ports=(Port(),)))], 0)
    text = (await run("ps", "-a", "--output", "json")).output
    listed = {each["id"]: each for each in json.loads(text)}
    assert listed["j1"].keys() == listed["j2"].keys()
    assert listed["j1"]["state"] == "running"
    assert listed["j1"]["command"] == ["true"]
    assert listed["j1"]["metadata"] == {"app": "shop"}
    assert listed["j1"]["exit_status"] is None
    assert listed["j1"]["started_at"].endswith("Z")
    assert listed["j2"]["started_at"] is None
    assert listed["j2"]["ports"] == [{"port": 0, "proto": "tcp"}]
    assert "secret" not in text


@in_the_reactor
async def test_nothing_to_list(run: Run) -> None:
    assert (await run("ps")).output.split() == ["ID", "IMAGE", "COMMAND", "STATE", "PORTS"]
    assert (await run("ps", "--output", "json")).output == "[]\n"
    assert (await run("ps", "-q")).output == ""


@in_the_reactor
async def test_jobs_of_the_cluster(run: Run, served: ServedHost, other: ServedHost) -> None:
    served.add(job("j1"))
    other.add(job("j2"))
    assert (await run("ps", "-q")).output == "j1\n"
    assert sorted((await run("ps", "-q", "--cluster")).output.split()) == ["j1", "j2"]
    assert "HOST" in (await run("ps", "--cluster")).output


@in_the_reactor
async def test_host_that_does_not_answer(run: Run, served: ServedHost) -> None:
    """The others' jobs are listed, and it is said that some are missing."""
    served.add(job("j1"))
    served.cluster.add_host(Host("h2", addr="127.0.0.1:9"))
    served.cluster.add_host(Host("h3"))
    result = await run("ps", "-q", "--cluster")
    assert result.stdout == "j1\n"
    assert "host h2 is missing: can't reach http://127.0.0.1:9" in result.stderr
    assert "where the API of host h3 is" in result.stderr
    assert result.exit_code == 3


def test_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What identifies a row is whole, whatever else has room."""
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr("flynnhost.cli.output.colours_wanted", lambda: True)
    columns = [Column[str]("ID", lambda row: row), *(Column[str](x * 20, lambda _: "x" * 20) for x in "AB")]
    Listing(columns, str, str).show(["e89fd5c0e8ef", "web"], Format.TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", "e89fd5c0e8ef", "web"]
    assert [line for line in lines if len(line) > 30] == []


@pytest.mark.parametrize("coloured", [True, False])
def test_control_characters(
    coloured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What somebody wrote into a job does nothing to the terminal of who lists it."""
    monkeypatch.setattr("flynnhost.cli.output.colours_wanted", lambda: coloured)
    Listing([Column[str]("ID", lambda row: row)], str, str).show(["a\x1b[31mb\rc"], Format.TABLE)
    assert capsys.readouterr().out.split() == ["ID", "a?[31mb?c"]
