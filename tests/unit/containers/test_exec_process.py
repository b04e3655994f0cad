"""Which processes are taken for those of a command in a container: here, none."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Iterator

import pytest

from flynnhost.containers import exec_process
from flynnhost.containers.exec_process import ExecProcess

CONTAINER = "c" * 64


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this machine, the leader of its session, that is in no container."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def seen_as_ours(monkeypatch: pytest.MonkeyPatch, process: subprocess.Popen[bytes]) -> None:
    """Let that process look as if it were in the container."""
    there, real = f"container's {process.pid}", exec_process._namespace
    monkeypatch.setattr(exec_process, "_namespace", lambda pid: there if pid == process.pid else real(pid))
    monkeypatch.setattr(exec_process, "_within", lambda pid, _container: pid == process.pid)


def test_same_namespace(process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in our own namespace is in no container, whatever else speaks for it."""
    monkeypatch.setattr(exec_process, "_within", lambda _pid, _container: True)
    assert ExecProcess.thd_open(process.pid, CONTAINER) is None


def test_other_container(process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in another namespace that nothing connects with the container is another one's."""
    real = exec_process._namespace
    monkeypatch.setattr(exec_process, "_namespace", lambda pid: "other" if pid == process.pid else real(pid))
    assert ExecProcess.thd_open(process.pid, CONTAINER) is None


def test_no_process() -> None:
    """A number that nobody has means nobody."""
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    assert ExecProcess.thd_open(ended.pid, CONTAINER) is None


def test_nothing_stays_open(process: subprocess.Popen[bytes]) -> None:
    """What is not the right process is let go of."""
    before = len(os.listdir("/proc/self/fd"))
    ExecProcess.thd_open(process.pid, CONTAINER)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("seen_as_ours")
def test_found_too_late(process: subprocess.Popen[bytes]) -> None:
    """Nothing stays open of a process that was asked for by somebody who waits no more."""
    before = len(os.listdir("/proc/self/fd"))
    found = ExecProcess.thd_open(process.pid, CONTAINER)
    assert found is not None
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del found
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("seen_as_ours")
def test_signals(process: subprocess.Popen[bytes]) -> None:
    """The right one gets signals until it has ended; then there is nobody to get any."""
    found = ExecProcess.thd_open(process.pid, CONTAINER)
    assert found is not None
    assert not found.thd_is_beside(os.getpid())
    assert not found.ended
    assert found.thd_signal(15)
    assert process.wait(10) == -15
    assert found.ended
    assert not found.thd_signal(15)
    found.close()
    found.close()


@pytest.mark.usefixtures("seen_as_ours")
def test_session(process: subprocess.Popen[bytes]) -> None:
    """So does its whole session."""
    found = ExecProcess.thd_open(process.pid, CONTAINER)
    assert found is not None
    found.thd_signal_session(9)
    assert process.wait(10) == -9
    found.close()
