"""The program as a whole: how it ends, what it says of failures, and how quick it is to start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flynnhost.cli.exit_codes import ExitCode, exit_code_of, job_exit_code
from flynnhost.cli.failures import CommandFailed, exit_code_from, explained
from flynnhost.cli.main import main
from flynnhost.client import errors
from tests.support.host_process import environment
from tests.support.served_host import Run, ServedHost, in_the_reactor, job

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = [sys.executable, "-c", "from flynnhost.cli.main import main; main()"]


def commands() -> list[str]:
    return main.list_commands(click.Context(main))


@pytest.mark.parametrize("name", [name for name in commands() if name != "daemon"])
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"], prog_name="flynn-host")
    assert result.exit_code == 0
    assert "\nExample" in result.output
    assert f"\n  flynn-host {name}" in result.output


def test_help_of_the_daemon_has_an_example() -> None:
    done = subprocess.run(
        [*PROGRAM, "daemon", "--help"], env=environment(), capture_output=True, text=True, timeout=60
    )
    told = " ".join(done.stdout.split())
    assert (done.returncode, "flynn-host daemon --solo" in told) == (0, True), done.stderr


def test_help_lists_all_commands_and_the_exit_codes() -> None:
    result = CliRunner().invoke(main, ["--help"], prog_name="flynn-host")
    assert [name for name in commands() if f"\n  {name} " not in result.output] == []
    assert "3 host" in result.output


def test_a_command_that_is_not_there() -> None:
    """It is told with what may have been meant."""
    result = CliRunner().invoke(main, ["pss"], prog_name="flynn-host")
    assert result.exit_code == ExitCode.USAGE
    assert "no command 'pss'. Did you mean ps?" in result.stderr


def test_host_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = CliRunner().invoke(main, ["ps", "--host-url", url], prog_name="flynn-host")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert result.stdout == ""
    assert f"can't reach {url}: Connection refused. Is the host running?" in result.stderr
    assert "--host-url" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["https://h", "http://h/x", "h:port", "::1"])
def test_bad_address(url: str) -> None:
    result = CliRunner().invoke(main, ["--host-url", url, "ps"], prog_name="flynn-host")
    assert result.exit_code == ExitCode.USAGE
    assert repr(url) in result.stderr


@in_the_reactor
async def test_host_url_before_and_behind_the_command(run: Run, served: ServedHost) -> None:
    """The option overrules the environment."""
    served.add(job("j1"))
    url = served.address.url
    elsewhere = {"FLYNN_HOST_URL": "http://127.0.0.1:1"}
    assert (await run("--host-url", url, "ps", "-q", env=elsewhere)).output == "j1\n"
    assert (await run("ps", "-q", "--host-url", url, env=elsewhere)).output == "j1\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.HostUnreachable("http://h", "refused"), 3),
        (errors.NoAnswer("http://h", 3), 3),
        (errors.refused(404, "object_not_found", "no job j", {}), 4),
        (errors.refused(409, "conflict", "taken", {}), 5),
        (errors.refused(503, "no_leader", "nobody", {}), 6),
        (errors.refused(400, "validation_error", "wrong", {"field": "x"}), 1),
        (errors.refused(500, "unknown_error", "Something went wrong", {"incident": "abc"}), 1),
        (CommandFailed("no", 42), 42),
        (click.UsageError("no"), 2),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
    ],
)
def test_exit_codes(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    assert exit_code_from(fail) == code
    assert "Traceback" not in capsys.readouterr().err


def test_unexpected_failure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one line, and a traceback only for those who ask."""

    def fail() -> None:
        raise RuntimeError("of all\nthings")

    assert exit_code_from(fail) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "RuntimeError: of all things" in told
    monkeypatch.setenv("FLYNN_HOST_TRACEBACK", "1")
    assert exit_code_from(fail) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_to_look_for_in_the_log() -> None:
    error = errors.refused(500, "unknown_error", "Something went wrong", {"incident": "abc"})
    assert explained(error) == "Something went wrong. The host's log tells more: look for abc."
    assert exit_code_of(error) is ExitCode.FAILED


def test_exit_code_of_a_job() -> None:
    assert [job_exit_code(status) for status in (0, 3, 255, 256 + 7, -1)] == [0, 3, 255, 7, 1]


def test_short_commands_import_neither_twisted_nor_treq() -> None:
    """They would take longer to import than the command takes for all the rest."""
    script = """
import sys
from flynnhost.cli.main import main
try:
    main(["ps", "--host-url", "127.0.0.1:9"])
except SystemExit as e:
    assert e.code == 3, e.code
slow = {"twisted", "treq", "zope", "docker", "rich"}
print(sorted({name.partition(".")[0] for name in sys.modules} & slow))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n", done.stderr


def test_output_that_nobody_reads() -> None:
    """The reader of a pipe may go away at any time; nothing is said of that."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*PROGRAM, "--help"],
            env=environment(),
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(closed: str) -> None:
    """They are like /dev/null, and nothing that is opened later takes their place."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *PROGRAM, "version", "--client"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_disk_that_is_full() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "version", "--client"],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == "flynn-host: the output can't be written: No space left on device\n"


def test_characters_that_stdout_does_not_have() -> None:
    script = "import click; from flynnhost.cli.program import prepare_streams as p; p(); click.echo('a…b')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment(), "PYTHONIOENCODING": "iso-8859-1:strict"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("a?b\n", "")


def test_argument_that_is_not_utf_8() -> None:
    """It is said what is wrong, before anything is asked of the host."""
    done = subprocess.run(
        [*map(str.encode, PROGRAM), b"run", b"--detach", b"-H", b"127.0.0.1:1", b"busybox", b"\xff"],
        env=environment(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert b"is to be UTF-8" in done.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--rm", "busybox"], "there is no --rm here: the container of a job that has ended is kept"),
        (["--name", "web", "busybox"], "there is no --name here: the name of a job is its --id."),
        (["--restart=always", "busybox"], "there is no --restart here: a job runs once"),
        (["-itP", "busybox"], "there is no -P here: --port 0"),
        (["--privileged", "busybox"], "No such option '--privileged'"),
        (["-u", "root", "busybox"], "'root' is no user: it is to be a number"),
    ],
)
def test_options_of_docker(args: list[str], told: str) -> None:
    """It is said what there is in their place."""
    result = CliRunner().invoke(main, ["run", *args], prog_name="flynn-host")
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_command_that_is_missing_behind_dashes() -> None:
    result = CliRunner().invoke(main, ["exec", "web", "--"], prog_name="flynn-host")
    assert (result.exit_code, "Missing argument 'CMD...'" in result.stderr) == (2, True)


def test_interrupted_while_it_is_imported() -> None:
    script = """if True:
        import os, signal, sys
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "click":
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Finder())
        from flynnhost.cli.entry import main
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
