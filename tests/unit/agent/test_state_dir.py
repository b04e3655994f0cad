"""The state directory, which one host has for itself."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flynnhost.agent.state_dir import lock_state_dir
from flynnhost.errors import InvalidField, StateDirInUse


def test_made(tmp_path: Path) -> None:
    """The directory is made with all above it, for its owner alone, and the journal has its place there."""
    path = tmp_path / "a" / "b"
    state_dir = lock_state_dir(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "lock").stat().st_mode) == 0o600
    assert state_dir.path == path
    assert state_dir.journal == path / "journal.db"
    state_dir.release()


def test_held(tmp_path: Path) -> None:
    """It is one's own until it is released; to release it twice does no harm."""
    state_dir = lock_state_dir(tmp_path)
    with pytest.raises(StateDirInUse) as caught:
        lock_state_dir(tmp_path)
    assert str(tmp_path) in str(caught.value)
    state_dir.release()
    state_dir.release()
    lock_state_dir(tmp_path).release()


def test_refusal_leaves_nothing_open(tmp_path: Path) -> None:
    """Being refused leaves no file open, so that the lock goes when its holder does."""
    state_dir = lock_state_dir(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StateDirInUse):
            lock_state_dir(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    state_dir.release()


def test_holder_that_was_killed(tmp_path: Path) -> None:
    """The end of a process sets its directory free, however it ends, and not before."""
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from flynnhost.agent.state_dir import lock_state_dir;"
            f"held = lock_state_dir(Path({str(tmp_path)!r})); print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(StateDirInUse):
        lock_state_dir(tmp_path)
    holder.kill()
    holder.communicate()
    lock_state_dir(tmp_path).release()


def test_not_inherited(tmp_path: Path) -> None:
    """A program that is started meanwhile does not keep the directory locked."""
    state_dir = lock_state_dir(tmp_path)
    program = subprocess.Popen(["sleep", "60"], close_fds=False)
    state_dir.release()
    lock_state_dir(tmp_path).release()
    program.kill()
    program.wait()


def test_file_in_its_place(tmp_path: Path) -> None:
    """Where there is a file there can be no directory, and that is said."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(InvalidField) as caught:
            lock_state_dir(path)
        assert str(caught.value) == f"state-dir {path} can't be used: Not a directory"


def test_no_locks_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that has no locks the directory can't be used."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(InvalidField, match="No locks available"):
        lock_state_dir(tmp_path)


def test_instance(tmp_path: Path) -> None:
    """A directory tells its host from all others, and goes on doing so."""
    state_dir = lock_state_dir(tmp_path / "a")
    instance = state_dir.instance()
    assert state_dir.instance() == instance
    state_dir.release()
    assert lock_state_dir(tmp_path / "a").instance() == instance
    assert lock_state_dir(tmp_path / "b").instance() != instance


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 32])
def test_damaged_instance(tmp_path: Path, content: bytes) -> None:
    """What can't have been written here is not taken for it."""
    state_dir = lock_state_dir(tmp_path)
    (tmp_path / "instance").write_bytes(content)
    with pytest.raises(InvalidField, match=r"state-dir .*instance is damaged"):
        state_dir.instance()
