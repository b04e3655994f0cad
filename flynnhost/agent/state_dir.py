"""The directory where a host keeps what must outlive it."""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path

from attrs import define, field

from flynnhost.errors import InvalidField, StateDirInUse

_INSTANCE = re.compile("[0-9a-f]{32}")


@define(eq=False)
class StateDir:
    """A state directory that is this process's alone until it ends."""

    path: Path
    _lock: int
    _released: bool = field(init=False, default=False)

    @property
    def journal(self) -> Path:
        """The file of the job journal."""
        return self.path / "journal.db"

    def instance(self) -> str:
        """What tells the host that has this directory from all others: made by chance, once.

        :raises InvalidField: when it can't be kept.
        """
        path = self.path / "instance"
        try:
            if not path.exists():
                _write_whole(path, uuid.uuid4().hex)
            kept = path.read_text(encoding="ascii").strip()
        except OSError as e:
            raise _unusable(self.path, e) from e
        except UnicodeDecodeError:
            kept = ""
        if not _INSTANCE.fullmatch(kept):
            raise InvalidField("state-dir", f"{path} is damaged: remove it if no other host has this ID")
        return kept

    def release(self) -> None:
        """Let others have it. The end of the process does so too, however it ends."""
        if not self._released:
            self._released = True
            os.close(self._lock)


def lock_state_dir(path: Path) -> StateDir:
    """Make the directory if need be, and lock it.

    The lock stays with the process through the fork of a daemon.

    :raises StateDirInUse: when another process has it.
    :raises InvalidField: when it can't be made or written.
    """
    try:
        with suppress(FileExistsError):  # if it is no directory, that is said next
            path.mkdir(mode=0o700, parents=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as e:
        raise _unusable(path, e) from e
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(lock)
        raise StateDirInUse(str(path)) from e
    except OSError as e:
        os.close(lock)
        raise _unusable(path, e) from e
    return StateDir(path, lock)


def _write_whole(path: Path, text: str) -> None:
    """Write a file such that it is there as a whole or not at all, whatever happens."""
    unfinished = path.with_name(f"{path.name}.new")
    with unfinished.open("w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _unusable(path: Path, error: OSError) -> InvalidField:
    return InvalidField("state-dir", f"{path} can't be used: {error.strerror}")
