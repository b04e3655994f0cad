"""What "make run" does once the machine is set up."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import termios
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

SERVE = Path(__file__).resolve().parents[2] / "etc" / "setup" / "serve.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve", SERVE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


serve = load()


class TestCommand:
    def test_defaults_are_a_cluster_of_one_on_loopback(self) -> None:
        line = serve.command({})
        assert line[1:5] == ["--nodaemon", "--pidfile=", "flynn-host", "--solo"]
        assert line[line.index("--listen") + 1] == "tcp:1113:interface=127.0.0.1"
        assert "--id" not in line

    def test_every_setting_has_a_variable(self) -> None:
        line = serve.command(
            {
                "LISTEN": "tcp:9:interface=10.0.0.1",
                "HOST_ID": "h1",
                "EXTERNAL": "10.0.0.1",
                "STATE_DIR": "/tmp/state",
                "ARGS": "--tag 'a b'",
            }
        )
        assert line[line.index("--listen") :] == [
            *("--listen", "tcp:9:interface=10.0.0.1"),
            *("--state-dir", "/tmp/state"),
            *("--id", "h1"),
            *("--external", "10.0.0.1"),
            *("--tag", "a b"),
        ]

    def test_a_host_of_a_cluster_has_an_etcd(self) -> None:
        line = serve.command({"ETCD": "http://10.0.0.9:2379"})
        assert line[4:6] == ["--etcd", "http://10.0.0.9:2379"]
        assert "--solo" not in line

    def test_numbered_hosts_share_a_machine(self) -> None:
        line = serve.command(serve.numbered({"N": "2", "STATE_DIR": "/tmp/state", "HOST_ID": ""}))
        assert line[4:] == [
            *("--etcd", "http://127.0.0.1:2379"),
            *("--listen", "tcp:1113:interface=127.0.0.2"),
            *("--state-dir", "/tmp/state-2"),
            *("--id", "h2"),
            *("--external", "127.0.0.2"),
            *("--bind", "127.0.0.2"),
        ]

    def test_what_is_said_overrules_the_number(self) -> None:
        line = serve.command(serve.numbered({"N": "2", "HOST_ID": "web", "ETCD": "http://10.0.0.9:2379"}))
        assert line[line.index("--id") + 1] == "web"
        assert line[line.index("--etcd") + 1] == "http://10.0.0.9:2379"

    @pytest.mark.parametrize("number", ["0", "255", "x", "1.5", "٣"])
    def test_bad_number(self, number: str) -> None:
        with pytest.raises(SystemExit, match="N must be a number from 1 to 254"):
            serve.numbered({"N": number})

    def test_without_a_way_out_the_host_is_known_by_its_loopback_address(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serve, "has_default_route", lambda: False)
        assert serve.command({})[-2:] == ["--external", "127.0.0.1"]

    @pytest.mark.parametrize(
        ("listen", "url"),
        [
            ("tcp:1113:interface=127.0.0.1", "http://127.0.0.1:1113"),
            ("tcp:1113", "http://127.0.0.1:1113"),
            ("tcp:port=80:interface=0.0.0.0", "http://127.0.0.1:80"),
            (r"tcp:1113:interface=\:\:1", "http://[::1]:1113"),
            (r"unix:/run/flynn\:host.sock", ""),
            ("ssl:443:interface=10.0.0.1:privateKey=k", "https://10.0.0.1:443"),
        ],
    )
    def test_the_url_is_where_it_listens(self, listen: str, url: str) -> None:
        assert serve.url_of(listen) == url


class TestNextSteps:
    def lines(self) -> list[list[str]]:
        text = serve.next_steps("http://127.0.0.1:1113", "h1", "/state")
        return [shlex.split(line) for line in text.splitlines() if line.startswith("  curl")]

    def test_the_first_line_runs_a_job_on_this_host(self) -> None:
        first, *_ = self.lines()
        ((host, jobs),) = json.loads(first[first.index("-d") + 1]).items()
        assert host == "h1"
        assert jobs[0]["artifact"] == {"url": "busybox:latest"}
        assert "Content-Type: application/json" in first

    def test_the_other_lines_are_about_that_job(self) -> None:
        first, *others = self.lines()
        job = json.loads(first[-1])["h1"][0]["id"]
        assert [line[-1].removeprefix("http://127.0.0.1:1113") for line in others] == [
            f"/host/jobs/{job}/log",
            f"/host/jobs/{job}",
            "/host/jobs?snapshot=true",
            f"/host/jobs/{job}",
        ]

    def test_each_time_the_job_is_another_one(self) -> None:
        assert self.lines()[0] != self.lines()[0]


# Stands in for twistd: when it was signalled and the test has opened the pipe, it tells which
# signals it got, and who sent the first, and ends.
STAND_IN = """
import os, signal
signals = {{signal.SIGINT, signal.SIGTERM}}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("started", flush=True)
first = signal.sigwaitinfo(signals)
print("signalled", flush=True)
open({pipe!r}).close()
got = [signal.Signals(number).name for number in (first.si_signo, *signal.sigpending())]
print("got", *got, "by", "its parent" if first.si_pid == os.getppid() else "another", flush=True)
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def makefile(tmp_path: Path, listener: socket.socket) -> Path:
    """A Makefile whose goals run serve.py with a stand-in for twistd."""
    taken = f"http://127.0.0.1:{listener.getsockname()[1]}"
    os.mkfifo(tmp_path / "pipe")
    stand_in = STAND_IN.format(pipe=str(tmp_path / "pipe"))
    for name, code, url in (
        ("run", stand_in, ""),
        ("broken", "raise SystemExit(7)", ""),
        ("beside", stand_in, taken),
    ):
        (tmp_path / f"{name}.py").write_text(
            textwrap.dedent(f"""
                import sys
                sys.path.insert(0, {str(SERVE.parent)!r})
                import serve
                serve.command = lambda environment: [sys.executable, "-c", {code!r}]
                serve.url_of = lambda listen: {url!r}
                sys.exit(serve.main())
            """)
        )
    path = tmp_path / "Makefile"
    path.write_text(
        "".join(f"{name}:\n\t@{sys.executable} {name}.py\n" for name in ("run", "broken", "beside"))
    )
    return path


def read_until(read: Callable[[], bytes], wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen and (data := read()):
        seen += data
    assert wanted in seen, seen
    return seen


def go_on(makefile: Path) -> None:
    """Have the stand-in tell its signals: all that were to come have come."""
    makefile.with_name("pipe").open("wb").close()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: the person's, the program's."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


class TestEnding:
    def test_ctrl_c_at_a_terminal_is_a_good_end_for_make_too(
        self, makefile: Path, terminal: tuple[int, int]
    ) -> None:
        ours, theirs = terminal

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        make = subprocess.Popen(
            ["make", "-C", str(makefile.parent), "run"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=take_terminal,
        )
        read_until(lambda: os.read(ours, 1000), b"started")
        os.write(ours, b"\x03")
        read_until(lambda: os.read(ours, 1000), b"signalled")
        go_on(makefile)
        output = read_until(lambda: os.read(ours, 1000), b"has ended")
        assert make.wait(10) == 0
        assert b"got SIGTERM by its parent\r\n" in output

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_to_all_processes_reaches_the_host_once(
        self, makefile: Path, number: signal.Signals
    ) -> None:
        process = subprocess.Popen(
            [sys.executable, "run.py"], cwd=makefile.parent, stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdout is not None
        read_until(process.stdout.readline, b"started")
        os.killpg(process.pid, number)
        read_until(process.stdout.readline, b"signalled")
        go_on(makefile)
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 0
        assert b"got SIGTERM by its parent\n" in output

    @pytest.mark.parametrize(
        ("script", "status", "reason"), [("broken.py", 7, b"status 7"), ("beside.py", 1, b"listens at")]
    )
    def test_a_host_that_cannot_run_is_a_failure(
        self, makefile: Path, script: str, status: int, reason: bytes
    ) -> None:
        done = subprocess.run(
            [sys.executable, script],
            cwd=makefile.parent,
            capture_output=True,
            check=False,
            start_new_session=True,
        )
        assert done.returncode == status
        assert reason in done.stderr
