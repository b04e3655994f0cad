"""The directory where a host keeps what must outlive it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from attrs import define

from flynnhost.errors import InvalidField, StateDirInUse


@define(eq=False)
class StateDir:
    """A state directory that is this process's alone until it ends."""

    path: Path
    _lock: IO[str]

    @property
    def journal(self) -> Path:
        """The file of the job journal."""
        return self.path / "journal.db"

    def release(self) -> None:
        """Let others have it. The end of the process does so too, however it ends."""
        self._lock.close()


def lock_state_dir(path: Path) -> StateDir:
    """Make the directory if need be, and lock it.

    The lock stays with the process through the fork of a daemon.

    :raises StateDirInUse: when another process has it.
    :raises InvalidField: when it can't be made or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Opened without truncating: the holder's process ID must stay readable.
        lock = os.fdopen(os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+")
    except OSError as e:
        raise InvalidField("state-dir", f"{path} can't be used: {e.strerror}") from e
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        lock.close()
        raise StateDirInUse(str(path)) from e
    return StateDir(path, lock)
