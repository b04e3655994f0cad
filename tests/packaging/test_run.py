"""The last steps of "make run" on a real engine, and the lines that it tells people to copy."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flynnhost.agent.spec import host_labels
from tests.support.waiting import wait_until

SETUP = Path(__file__).resolve().parents[2] / "etc" / "setup"

pytestmark = pytest.mark.docker


def shell(line: str, timeout: float = 60) -> str:
    """What a line prints that was copied to a shell."""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def until_true(line: str, wanted: str) -> None:
    """Repeat a line until what it prints has the wanted text."""
    wait_until(lambda: wanted in shell(line), f"{wanted!r} of {line}", within=30)


def watched(line: str, wanted: str) -> None:
    """Let a line go on printing until the wanted text has come, then end it."""
    process = subprocess.Popen(["bash", "-c", f"exec timeout 30 {line}"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = ""
    while wanted not in seen and (more := process.stdout.readline()):
        seen += more
    process.terminate()
    process.communicate()
    assert wanted in seen


@pytest.fixture
def serving(dockerd: Any, host_id: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """flynn-host as "make run" starts it, with what it prints in a pipe."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(SETUP / "serve.py")],
        env={
            **os.environ,
            "DOCKER_HOST": dockerd.url,
            "HOST_ID": host_id,
            "LISTEN": f"tcp:{port}:interface=127.0.0.1",
            "STATE_DIR": str(tmp_path / "state"),
        },
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


COMMAND = f"{sys.executable} -c 'from flynnhost.cli.main import main; main()'"
"""What is run for flynn-host, which is not installed for each Python that runs the tests."""


def copied(process: subprocess.Popen[str]) -> list[str]:
    """The lines to copy, once the host is ready."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("Ctrl-C ends"):
            break
    lines = re.findall(r"^  ((?:curl|\.venv/bin/flynn-host) .*)$", text, flags=re.M)
    return [line.replace(".venv/bin/flynn-host", COMMAND) for line in lines]


def test_what_it_says_to_try_works(serving: subprocess.Popen[str], dockerd: Any, host_id: str) -> None:
    """Every printed line, in order; then Ctrl-C, after which the job that was left goes on."""
    run, log, status, watch, stop, hello, ps = copied(serving)
    shell(run)
    job = log.split("/")[-2]
    assert f'"id": "{job}"' in run
    until_true(log, f"hello from {job}\n")
    until_true(status, '"phase":"running"')
    watched(watch, '"event":"current"')
    shell(stop)
    until_true(status, '"phase":"ended"')
    assert shell(hello) == "hello\n"
    assert job in shell(ps)

    shell(run.replace('"id": "', '"id": "again'))
    until_true(status.replace("/jobs/", "/jobs/again"), '"phase":"running"')
    serving.send_signal(signal.SIGINT)
    assert serving.wait(30) == 0
    labels = [f"{key}={value}" for key, value in host_labels(host_id).items()]
    client = dockerd.client()
    try:
        assert len(client.containers(filters={"label": labels})) == 1
    finally:
        client.close()


def engine(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SETUP / "engine.py"), *arguments],
        env={**os.environ, "DOCKER_HOST": url},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_state_of_an_engine_is_told_by_the_exit_status(dockerd: Any) -> None:
    assert engine(dockerd.url, "state", "busybox:latest").returncode == 0
    assert engine(dockerd.url, "state", "nosuchimage:latest").returncode == 3


def test_an_engine_that_is_not_there_is_said_in_few_words(tmp_path: Path) -> None:
    done = engine(f"unix://{tmp_path}/none", "state", "busybox:latest")
    assert done.returncode == 1
    assert done.stdout == "[Errno 2] No such file or directory\n"


def test_an_image_is_made_from_a_tar_file(dockerd: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "image.tar"), "file"], check=True)
    name = "flynn-host-test-import:latest"
    assert engine(dockerd.url, "import", name, str(tmp_path / "image.tar")).returncode == 0
    client = dockerd.client()
    try:
        assert client.inspect_image(name)["Config"]["Cmd"] == ["sh"]
        client.remove_image(name)
    finally:
        client.close()


def test_waiting_for_an_engine_ends_with_its_process(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    done = engine(f"unix://{tmp_path}/none", "wait", "60", str(ended.pid))
    assert done.returncode == 1
