"""Sets a damaged journal aside, and carries over what can still be read of it. All of it blocks.

The new file is complete before the damaged one is touched, and wherever the process is ended
between, the next open goes on from there: no job that could be read is lost on the way.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from attrs import evolve

from flynnhost.agent.journal_file import (
    SELECT_ATTRIBUTES,
    SELECT_DRAINING,
    SELECT_JOBS,
    SELECT_TERM,
    Change,
    JournalFile,
    Unreadable,
    decode_attribute,
    decode_draining,
    decode_row,
    decode_term,
    encode,
    encode_attribute,
)
from flynnhost.errors import JournalFailed
from flynnhost.interfaces import JournalContents
from flynnhost.model import ActiveJob

_PARTS = ("", "-wal", "-shm")
"""What SQLite adds to the names of the files that make up a database."""

_DAMAGE = (sqlite3.Error, ValueError)
"""What comes of reading a damaged file; the second when SQLite quotes what is no text any more."""


def open_journal(file: JournalFile, now: datetime) -> JournalContents:
    """Open a journal. A damaged file is renamed, and what can be read of it is carried over to a new one.

    :param now: for the name of a file that is set aside.
    :raises JournalFailed: when no journal can be had at this path.
    """
    try:
        if _rescued(file.path).exists():
            _swap(file.path, now)  # an earlier rescue was ended here
        return file.open(now)
    except sqlite3.DatabaseError as e:
        return _rescue(file, now, str(e))
    except OSError as e:
        raise JournalFailed(f"{file.path}: {e.strerror}") from e


def _rescue(file: JournalFile, now: datetime, damage: str) -> JournalContents:
    jobs, rest = _salvage(file.path)
    try:
        _write_rescued(file.path, jobs, rest, now)
        aside = _swap(file.path, now)
        contents = file.open(now)
    except (OSError, sqlite3.Error) as e:
        raise JournalFailed(f"{file.path} is damaged ({damage}) and can't be set aside: {e}") from e
    lost = f"the whole journal ({damage}), now {aside}; {len(jobs)} jobs could still be read"
    return evolve(contents, set_aside=(lost,))


def _write_rescued(path: Path, jobs: dict[str, ActiveJob], rest: Change, now: datetime) -> None:
    """Make the file that is to be the journal; it has its name only when it is complete."""
    draft = JournalFile(path.with_name(f"{path.name}.draft"))
    for part in _PARTS:
        Path(f"{draft.path}{part}").unlink(missing_ok=True)
    draft.open(now)
    try:
        draft.write([Change(records=[encode(job) for job in jobs.values()]), rest])
    finally:
        draft.close()  # which makes one file of it
    draft.path.rename(_rescued(path))
    _sync_directory(path.parent)


def _swap(path: Path, now: datetime) -> Path:
    """Put the rescued file in place of the damaged one, which is renamed to what is returned."""
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S%f}")
    for part in _PARTS:
        with suppress(FileNotFoundError):
            Path(f"{path}{part}").rename(f"{aside}{part}")
    # The damaged file's log must be out of the way, or SQLite would take it for the new one's.
    _sync_directory(path.parent)
    _rescued(path).rename(path)
    _sync_directory(path.parent)
    return aside


def _rescued(path: Path) -> Path:
    return path.with_name(f"{path.name}.rescued")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _salvage(path: Path) -> tuple[dict[str, ActiveJob], Change]:
    """What can be read of a damaged file: the jobs, and the rest."""
    jobs: dict[str, ActiveJob] = {}
    term, draining = 0, None
    attributes: list[tuple[str, bytes | None]] = []
    with suppress(*_DAMAGE), closing(_read_only(path)) as db:
        db.execute("PRAGMA writable_schema=ON")  # or SQLite reads nothing of a file that was cut short
        # Past a damaged page SQLite gives nothing more, so the rest is read from the other end.
        for order in ("ASC", "DESC"):
            jobs.update((job.id, job) for job in _readable(db, order))
        with suppress(*_DAMAGE):
            term = max((decode_term(*row) for row in db.execute(SELECT_TERM)), default=0)
        with suppress(*_DAMAGE):
            draining = any(decode_draining(*row) for row in db.execute(SELECT_DRAINING))
        with suppress(*_DAMAGE):
            for row in db.execute(SELECT_ATTRIBUTES):
                with suppress(Unreadable):
                    attributes.append(encode_attribute(*decode_attribute(*row)))
    term = max([term, *(job.term for job in jobs.values())])
    return jobs, Change(term=term, draining=draining, attributes=attributes)


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _readable(db: sqlite3.Connection, order: str) -> Iterator[ActiveJob]:
    with suppress(*_DAMAGE):
        for row in db.execute(f"{SELECT_JOBS} ORDER BY id {order}"):
            with suppress(Unreadable):
                yield decode_row(*row)
