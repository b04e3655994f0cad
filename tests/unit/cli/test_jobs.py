"""Commands about jobs that are there: how they are found, stopped, signalled and shown."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import fail

from flynnhost.cli.signals import signal_number
from flynnhost.errors import EngineUnavailable
from flynnhost.model import ContainerConfig, Host, Job
from tests.support.host_process import environment
from tests.support.served_host import Run, ServedHost, in_the_reactor, job


@in_the_reactor
async def test_beginning_of_an_id(run: Run, served: ServedHost) -> None:
    served.add(job("web-1"), job("web-2"), job("web"), job("db"))
    assert json.loads((await run("inspect", "d")).output)["job"]["id"] == "db"
    # The whole of one ID may be the beginning of others.
    assert json.loads((await run("inspect", "web")).output)["job"]["id"] == "web"
    result = await run("inspect", "we")
    assert result.exit_code == 4
    assert "'we' is the beginning of several jobs: web, web-1, web-2. Type more of it." in result.stderr


@in_the_reactor
async def test_many_candidates(run: Run, served: ServedHost) -> None:
    served.add(*(job(f"x{n}") for n in range(20)))
    assert "x0, x1, x10, x11, x12 and 15 more" in (await run("inspect", "x")).stderr


@in_the_reactor
async def test_host_before_the_id(run: Run, served: ServedHost) -> None:
    """It may be, also where IDs have dashes."""
    served.add(job("a-1"), job("h1-x"))
    for typed, meant in (("h1-a-1", "a-1"), ("h1-a", "a-1"), ("h1-x", "h1-x"), ("h1-h1", "h1-x")):
        assert json.loads((await run("inspect", typed)).output)["job"]["id"] == meant, typed


@in_the_reactor
async def test_job_of_another_host(run: Run, served: ServedHost, other: ServedHost) -> None:
    """It is found through the cluster and asked for at its host, which knows of ended ones too."""
    there = job("there-1")
    other.add(there, job("over"))
    other.agent.end("over", 0)
    served.cluster.remove_host("h2")
    served.cluster.add_host(Host("h2", addr=other.address.netloc, jobs=(there,)))
    for typed in ("there-1", "there", "h2-there-1", "h2-the"):
        assert json.loads((await run("inspect", typed)).output)["host_id"] == "h2", typed
    assert (await run("inspect", "h2-over")).exit_code == 0
    result = await run("inspect", "h2-none")
    assert (result.exit_code, "no job none on host h2" in result.stderr) == (4, True)


@in_the_reactor
async def test_no_such_job(run: Run, served: ServedHost) -> None:
    result = await run("inspect", "none")
    assert result.exit_code == 4
    assert result.stderr == (
        "flynn-host: no job none in this cluster. 'flynn-host ps --all --cluster' lists the jobs.\n"
    )
    served.cluster.leading = False
    result = await run("inspect", "none")
    assert (result.exit_code, "no job none on this host" in result.stderr) == (4, True)
    assert (await run("inspect", "../status")).exit_code == 4


@in_the_reactor
async def test_stopping(run: Run, served: ServedHost) -> None:
    """What has ended already is stopped."""
    served.add(job("j1"), job("j2"), job("j3"))
    served.agent.end("j3", 0)
    result = await run("stop", "j1", "j2", "j3", "j1")
    assert (sorted(result.stdout.split()), result.exit_code) == (["j1", "j2", "j3"], 0)
    assert served.agent.job("j1").exit_status == 143
    assert served.agent.job("j3").exit_status == 0


@in_the_reactor
async def test_stopping_what_is_not_there(run: Run, served: ServedHost) -> None:
    """The others are stopped all the same."""
    served.add(job("j1"))
    result = await run("stop", "none", "j1")
    assert (result.stdout, result.exit_code) == ("j1\n", 4)
    assert "no job none" in result.stderr


@in_the_reactor
async def test_stopping_fails(run: Run, served: ServedHost) -> None:
    served.add(job("j1"))
    served.agent.hold = fail(EngineUnavailable("it hangs"))
    result = await run("stop", "j1")
    assert (result.stdout, result.exit_code) == ("", 6)
    assert "job j1: " in result.stderr
    assert "it hangs" in result.stderr


@in_the_reactor
async def test_signals(run: Run, served: ServedHost) -> None:
    served.add(job("j1"))
    for typed in ("15", "TERM", "sigterm"):
        assert (await run("signal", "j1", typed)).exit_code == 0
    assert served.agent.signals == [("j1", 15)] * 3
    for wrong in ("0", "65", "NO", "", "1.5", "9" * 5000):
        assert (await run("signal", "j1", wrong)).exit_code == 2, wrong
    served.agent.end("j1", 0)
    result = await run("signal", "j1", "9")
    assert (result.exit_code, "not running" in result.stderr) == (5, True)


@given(st.text())
def test_any_signal(text: str) -> None:
    try:
        assert 1 <= signal_number(text) <= 64
    except ValueError as e:
        assert str(e)


@in_the_reactor
async def test_inspecting(run: Run, served: ServedHost) -> None:
    """One job is shown as it is, several as a list, and secrets only to those who may see them."""
    secret = uuid.uuid4().hex
    served.agent.accept([Job("j1", config=ContainerConfig(env={"TOKEN": secret}))], 0)
    served.add(job("j2"))
    told = json.loads((await run("inspect", "j1")).output)
    assert told["job"]["config"]["env"] == {"TOKEN": secret}
    redacted = await run("inspect", "--redact-env", "j1", "j2")
    assert secret not in redacted.output
    assert json.loads(redacted.output)[0]["job"]["config"]["env"] == {"TOKEN": "(redacted)"}
    assert [each["job"]["id"] for each in json.loads(redacted.output)] == ["j1", "j2"]


@pytest.mark.parametrize("command", ["stop", "inspect", "signal"])
@in_the_reactor
async def test_nothing_named(command: str, run: Run) -> None:
    result = await run(command)
    assert (result.exit_code, "Missing argument 'ID" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    "args",
    [
        ("inspect", "--redact-env", ""),
        ("stop", ""),
        ("wait", ""),
        ("attach", ""),
        ("log", ""),
        ("signal", "", "HUP"),
        ("exec", "", "ls"),
    ],
)
@in_the_reactor
async def test_empty_id(args: tuple[str, ...], run: Run, served: ServedHost) -> None:
    """As a shell gives it for a variable that is not set: it is not taken for all jobs."""
    served.add(job("web"))
    result = await run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the ID of a job is empty" in result.stderr


def test_interrupted_while_stopping() -> None:
    """It ends at once, however long the jobs take."""
    script = """if True:
        import os, signal, sys, threading
        from flynnhost.cli import stop
        from flynnhost.cli.failures import exit_code_from
        begun = threading.Event()
        def last(job):
            begun.set()
            threading.Event().wait()
        def interrupt():
            begun.wait()
            os.kill(os.getpid(), signal.SIGINT)
        stop._stop = last
        threading.Thread(target=interrupt, daemon=True).start()
        sys.exit(exit_code_from(lambda: stop._stop_all([None])))
    """
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (130, "\n")
