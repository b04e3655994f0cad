"""The journal's file: SQLite in WAL mode, synced at each commit. All of it blocks.

A record is one job as JSON with a CRC-32 over it. SQLite notices damage to its own
structure; the checksum notices damage inside a page.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

import msgspec
from attrs import define, field, frozen

from flynnhost.errors import JournalFailed
from flynnhost.interfaces import JournalContents
from flynnhost.model import ActiveJob

FORMAT = 1
"""Kept in the file; a file of a later format is refused, not guessed at."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS set_aside (id TEXT, body BLOB, reason TEXT, at TEXT);
"""


@frozen
class Change:
    """Something to be written: records to put, IDs to drop, a term to remember."""

    records: Sequence[tuple[str, bytes]] = ()
    drop: Sequence[str] = ()
    term: int = 0


def encode(job: ActiveJob) -> tuple[str, bytes]:
    """A job as a record."""
    return job.id, msgspec.json.encode(job)


@define(eq=False)
class JournalFile:
    """An open journal file. Used by one thread at a time."""

    path: Path
    _db: sqlite3.Connection | None = field(init=False, default=None)

    def open(self, now: datetime) -> JournalContents:
        """Open or make the file and read it.

        A damaged file is renamed, and what can be read of it is carried over to a new one.

        :param now: for the name of a file that is set aside.
        :raises JournalFailed: when no journal can be had at this path.
        """
        try:
            return self._open_whole(now)
        except sqlite3.OperationalError as e:
            raise JournalFailed(f"{self.path}: {e}") from e
        except sqlite3.DatabaseError as e:
            return self._open_damaged(now, str(e))

    def write(self, changes: Iterable[Change]) -> None:
        """Write all the changes in one transaction, and sync it to the disk.

        :raises JournalFailed: when none of them was written.
        """
        db = self._connected()
        try:
            db.execute("BEGIN IMMEDIATE")
            for change in changes:
                _apply(db, change)
            db.execute("COMMIT")
        except sqlite3.Error as e:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise JournalFailed(str(e)) from e

    def close(self) -> None:
        """Close the file; it can be opened again."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _connected(self) -> sqlite3.Connection:
        if self._db is None:
            raise JournalFailed("it is closed")
        return self._db

    def _open_whole(self, now: datetime) -> JournalContents:
        self._db = db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if found > FORMAT:
                raise JournalFailed(f"{self.path} is of format {found}; this flynn-host knows up to {FORMAT}")
            trouble = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if trouble != "ok":
                raise sqlite3.DatabaseError(trouble)
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA user_version={FORMAT}")
            return self._read(now)
        except BaseException:
            self.close()
            raise

    def _read(self, now: datetime) -> JournalContents:
        db = self._connected()
        jobs, bad = [], []
        for job_id, crc, body in db.execute("SELECT id, crc, body FROM jobs"):
            try:
                jobs.append(_decode(job_id, crc, body))
            except ValueError as e:
                bad.append((job_id, body, str(e), now.isoformat()))
        if bad:
            self._set_records_aside(bad)
        return JournalContents(
            jobs=tuple(jobs),
            highest_term=_highest_term(db),
            set_aside=tuple(
                f"the record of job {job_id} ({reason}), now in the table set_aside of {self.path}"
                for job_id, _, reason, _ in bad
            ),
        )

    def _set_records_aside(self, bad: Sequence[tuple[str, bytes, str, str]]) -> None:
        db = self._connected()
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO set_aside VALUES (?, ?, ?, ?)", bad)
        db.executemany("DELETE FROM jobs WHERE id = ?", [(job_id,) for job_id, *_ in bad])
        db.execute("COMMIT")

    def _open_damaged(self, now: datetime, reason: str) -> JournalContents:
        aside = self.path.with_name(f"{self.path.name}.damaged-{now:%Y%m%dT%H%M%S%f}")
        saved, term = _salvage(self.path)
        try:
            for suffix in ("", "-wal", "-shm"):
                part = Path(f"{self.path}{suffix}")
                if part.exists():
                    part.rename(f"{aside}{suffix}")
            self._open_whole(now)
            self.write([Change(records=[encode(job) for job in saved], term=term)])
        except (OSError, sqlite3.Error) as e:
            raise JournalFailed(f"{self.path} is damaged ({reason}) and can't be set aside: {e}") from e
        return JournalContents(
            jobs=tuple(saved),
            highest_term=term,
            set_aside=(f"the whole journal ({reason}), now {aside}; {len(saved)} jobs could still be read",),
        )


def _apply(db: sqlite3.Connection, change: Change) -> None:
    db.executemany(
        "INSERT INTO jobs VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET crc=excluded.crc, body=excluded.body",
        [(job_id, zlib.crc32(body), body) for job_id, body in change.records],
    )
    db.executemany("DELETE FROM jobs WHERE id = ?", [(job_id,) for job_id in change.drop])
    if change.term:
        db.execute(
            "INSERT INTO meta VALUES ('highest_term', ?)"
            " ON CONFLICT (key) DO UPDATE SET value=max(value, excluded.value)",
            (change.term,),
        )


def _decode(job_id: str, crc: int, body: bytes) -> ActiveJob:
    if zlib.crc32(body) != crc:
        raise ValueError("its checksum is wrong")
    job = msgspec.json.decode(body, type=ActiveJob)
    if job.id != job_id:
        raise ValueError(f"it is of job {job.id}")
    return job


def _highest_term(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = 'highest_term'").fetchone()
    return int(row[0]) if row else 0


def _salvage(path: Path) -> tuple[list[ActiveJob], int]:
    """What can be read of a damaged file: the jobs, and the highest term."""
    jobs: list[ActiveJob] = []
    term = 0
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            jobs.extend(_readable(db))
            term = _highest_term(db)
    except sqlite3.Error:
        return jobs, term  # the damage is reported by the caller; this is all there was
    return jobs, term


def _readable(db: sqlite3.Connection) -> Iterator[ActiveJob]:
    rows = db.execute("SELECT id, crc, body FROM jobs")
    while True:
        try:
            row = rows.fetchone()
        except sqlite3.DatabaseError:
            return  # past a damaged page SQLite gives nothing more
        if row is None:
            return
        with suppress(ValueError, TypeError):  # a damaged record: the next may be whole
            yield _decode(*row)
