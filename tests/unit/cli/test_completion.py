"""What shells offer as somebody types."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest
from click.testing import CliRunner

from flynnhost.cli.completing import WITHIN
from flynnhost.cli.main import main
from flynnhost.model import Host
from tests.support.served_host import Run, ServedHost, in_the_reactor, job


def completing(*words: str) -> dict[str, str]:
    """The environment in which bash asks what may follow these words; the last one is begun."""
    return {
        "_FLYNN_HOST_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("flynn-host", *words)),
        "COMP_CWORD": str(len(words)),
    }


def offered(output: str) -> list[str]:
    return [line.partition(",")[2] for line in output.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script(shell: str) -> None:
    """The script is one for the shell, and names the program."""
    result = CliRunner().invoke(main, ["completion", shell], prog_name="flynn-host")
    assert result.exit_code == 0
    assert "flynn-host" in result.stdout
    assert f"_FLYNN_HOST_COMPLETE={shell}_complete" in result.stdout


def test_bash_takes_the_script() -> None:
    """bash understands it, and then completes flynn-host."""
    script = CliRunner().invoke(main, ["completion", "bash"], prog_name="flynn-host").stdout
    told = subprocess.run(
        ["bash", "-euc", 'eval "$1"; complete -p flynn-host', "bash", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "flynn-host" in told.stdout


def test_unknown_shell() -> None:
    result = CliRunner().invoke(main, ["completion", "tcsh"], prog_name="flynn-host")
    assert result.exit_code == 2


@in_the_reactor
async def test_commands(run: Run) -> None:
    assert offered((await run(env=completing("attr"))).stdout) == ["attributes"]
    assert offered((await run(env=completing("attributes", ""))).stdout) == ["get", "rm", "set"]
    assert "--host-url" in offered((await run(env=completing("list", "--"))).stdout)


@in_the_reactor
async def test_hosts(run: Run, served: ServedHost) -> None:
    """Hosts are offered for arguments and options, also with an address on the line."""
    served.cluster.add_host(Host("h22"))
    assert offered((await run(env=completing("drain", ""))).stdout) == ["h1", "h22"]
    assert offered((await run(env=completing("drain", "h2"))).stdout) == ["h22"]
    assert offered((await run(env=completing("attributes", "get", "--host", "h2"))).stdout) == ["h22"]
    assert offered((await run(env=completing("run", "--host", ""))).stdout) == ["h1", "h22"]
    line = completing("undrain", "--host-url", served.address.url, "h2")
    assert offered((await run(env=line | {"FLYNN_HOST_URL": "http://127.0.0.1:1"})).stdout) == ["h22"]


@in_the_reactor
async def test_jobs(run: Run, served: ServedHost) -> None:
    """Jobs are offered wherever a command takes some, those that have not ended first."""
    served.add(job("over"), job("web1"), job("web2"))
    served.agent.end("over", 0)
    for command in ("stop", "signal", "inspect", "attach", "exec", "log", "wait"):
        assert offered((await run(env=completing(command, ""))).stdout) == ["web1", "web2", "over"]
    assert offered((await run(env=completing("stop", "web1", "web"))).stdout) == ["web1", "web2"]


@pytest.mark.parametrize("listens", [True, False])
def test_no_host(listens: bool) -> None:
    """Without an answer nothing is offered, nothing is told, and nobody waits for long."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        env = completing("drain", "") | {"FLYNN_HOST_URL": f"127.0.0.1:{silent.getsockname()[1]}"}
        began = time.monotonic()
        result = CliRunner().invoke(main, [], prog_name="flynn-host", env=env)
        assert time.monotonic() - began < WITHIN + 2
    assert (result.stdout.strip(), result.stderr) == ("", "")


def test_wrong_address() -> None:
    env = completing("drain", "") | {"FLYNN_HOST_URL": "https://h/x"}
    result = CliRunner().invoke(main, [], prog_name="flynn-host", env=env)
    assert (result.stdout.strip(), result.stderr) == ("", "")
