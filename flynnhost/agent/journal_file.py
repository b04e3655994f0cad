"""The journal's file: SQLite in WAL mode, synced at each commit. All of it blocks.

A record is one job as JSON with a CRC-32 over it. SQLite notices damage to its own
structure; the checksum notices damage inside a page.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec
from attrs import define, field, frozen
from twisted.logger import Logger

from flynnhost.errors import JournalFailed
from flynnhost.interfaces import JournalContents
from flynnhost.model import ActiveJob

FORMAT = 1
"""Kept in the file; a file of a later format is refused, not guessed at."""

LOG_BYTES = 4 * 1024 * 1024
"""What SQLite lets the write-ahead log grow to before it begins anew at its start."""

_PLENTY = 64 * LOG_BYTES
"""Free space beside which the log does not matter."""

_SPILLING, _CACHE = 16, -2000
"""Sizes of the page cache in SQLite's terms: pages, or KiB if negative."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (
    key TEXT PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attributes (
    name TEXT PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS set_aside (id TEXT, body BLOB, reason TEXT, at TEXT);
"""

# Keys are read as bytes: one that is no text any more is a damaged record, not the end of the reading.
SELECT_JOBS = "SELECT CAST(id AS BLOB), crc, body FROM jobs"
SELECT_ATTRIBUTES = "SELECT CAST(name AS BLOB), crc, body FROM attributes"
SELECT_TERM = "SELECT crc, body FROM meta WHERE key = 'highest_term'"
SELECT_DRAINING = "SELECT crc, body FROM meta WHERE key = 'draining'"

_DROP_JOB = "DELETE FROM jobs WHERE CAST(id AS BLOB) = ?"
_DROP_ATTRIBUTE = "DELETE FROM attributes WHERE CAST(name AS BLOB) = ?"


class Unreadable(ValueError):
    """A record is damaged."""


@frozen
class Change:
    """Something to be written.

    :param records: of jobs, to put.
    :param drop: IDs of jobs.
    :param term: to remember, if it is the highest.
    :param draining: whether the host drains, if that is to be said.
    :param attributes: by their names records to put, or None to drop one.
    """

    records: Sequence[tuple[str, bytes]] = ()
    drop: Sequence[str] = ()
    term: int = 0
    draining: bool | None = None
    attributes: Sequence[tuple[str, bytes | None]] = ()


def encode(job: ActiveJob) -> tuple[str, bytes]:
    """A job as a record.

    :raises ValueError: when it holds what no record can.
    """
    job.id.encode()
    try:
        return job.id, msgspec.json.encode(job)
    except (TypeError, OverflowError) as e:
        raise ValueError(str(e)) from e


def decode(record: tuple[str, bytes]) -> ActiveJob:
    """The job of a record.

    :raises Unreadable: when there is none.
    """
    job_id, body = record
    try:
        job = msgspec.json.decode(body, type=ActiveJob)
    except (ValueError, TypeError) as e:
        raise Unreadable(str(e)) from e
    if job.id != job_id:
        raise Unreadable(f"it is of job {job.id}")
    return job


def decode_row(job_id: bytes, crc: object, body: object) -> ActiveJob:
    """The job of a row of ``SELECT_JOBS``.

    :raises Unreadable: when it is damaged.
    """
    try:
        return decode((job_id.decode(), _checked(crc, body)))
    except UnicodeDecodeError as e:
        raise Unreadable("its ID is no text") from e


def decode_term(crc: object, body: object) -> int:
    """The term of a row of ``SELECT_TERM``.

    :raises Unreadable: when it is damaged.
    """
    return int(_checked(crc, body))


def decode_draining(crc: object, body: object) -> bool:
    """What a row of ``SELECT_DRAINING`` says.

    :raises Unreadable: when it is damaged.
    """
    return _checked(crc, body) == b"1"


def encode_attribute(name: str, value: str | None) -> tuple[str, bytes]:
    """An attribute as a record."""
    return name, msgspec.json.encode((name, value))


def decode_attribute(name: bytes, crc: object, body: object) -> tuple[str, str | None]:
    """The attribute of a row of ``SELECT_ATTRIBUTES``.

    :raises Unreadable: when it is damaged.
    """
    try:
        found = msgspec.json.decode(_checked(crc, body), type=tuple[str, str | None])
    except ValueError as e:
        raise Unreadable(str(e)) from e
    if found[0].encode() != name:
        raise Unreadable(f"it is of {found[0]!r}")
    return found


@define(eq=False)
class JournalFile:
    """An open journal file. Used by one thread at a time."""

    log = Logger()

    path: Path
    _db: sqlite3.Connection | None = field(init=False, default=None)
    _inode: tuple[int, int] = field(init=False, default=(0, 0))
    _term: int = field(init=False, default=0)

    def open(self, now: datetime) -> JournalContents:
        """Open or make the file and read it. Damaged records go to the table ``set_aside``.

        :param now: noted with the records that are set aside.
        :raises JournalFailed: when it can't be opened, or is of a later format.
        :raises sqlite3.DatabaseError: when the file itself is damaged.
        """
        try:
            self._connect()
            return self._read(now)
        except (sqlite3.OperationalError, OSError) as e:
            self.close()
            raise JournalFailed(f"{self.path}: {e}") from e
        except UnicodeDecodeError as e:  # SQLite quotes what is damaged
            self.close()
            raise sqlite3.DatabaseError("its schema is no text") from e
        except BaseException:
            self.close()
            raise

    def write(self, changes: Iterable[Change]) -> None:
        """Write all the changes in one transaction, and sync it to the disk.

        :raises JournalFailed: when none of them was written.
        """
        db = self._connected()
        self._check_in_place()
        term = self._term
        try:
            db.execute("BEGIN IMMEDIATE")
            for change in changes:
                _apply(db, change)
                term = max(term, change.term)
            if term > self._term:
                _put_meta(db, "highest_term", b"%d" % term)
            db.execute("COMMIT")
        except Exception as e:
            with suppress(sqlite3.Error):  # as a rule SQLite has rolled back by itself
                db.execute("ROLLBACK")
            raise JournalFailed(str(e)) from e
        self._term = term

    def close(self) -> None:
        """Close the file; it can be opened again."""
        if self._db is not None:
            db, self._db = self._db, None
            db.close()

    def _connected(self) -> sqlite3.Connection:
        if self._db is None:
            raise JournalFailed("it is closed")
        return self._db

    def _connect(self) -> None:
        self._db = db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found > FORMAT:
            raise JournalFailed(f"{self.path} is of format {found}; this flynn-host knows up to {FORMAT}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        trouble = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if trouble != "ok":
            raise sqlite3.DatabaseError(trouble)
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version={FORMAT}")
        self._grow_log(db)
        self._inode = _inode(self.path)

    def _grow_log(self, db: sqlite3.Connection) -> None:
        """Give the write-ahead log its size at once: to sync a file that grows takes twice as long.

        What does not fit into the small cache spills into the log, and is overwritten by what
        is committed later, because it never is itself. Where space is short it is left alone.
        """
        if shutil.disk_usage(self.path.parent).free < _PLENTY:
            return
        db.execute(f"PRAGMA cache_size={_SPILLING}")
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO set_aside (body) VALUES (zeroblob(?))", (LOG_BYTES,))
        except sqlite3.OperationalError as e:
            self.log.info("The journal's log grows as it is needed: {reason}", reason=str(e))
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            db.execute(f"PRAGMA cache_size={_CACHE}")
        with suppress(FileNotFoundError), Path(f"{self.path}-wal").open("rb") as grown:
            os.fsync(grown.fileno())

    def _check_in_place(self) -> None:
        """SQLite writes on happily into a file that was deleted, where nobody finds it again."""
        try:
            found = _inode(self.path)
        except OSError as e:
            raise JournalFailed(f"{self.path} is gone: {e.strerror}") from e
        if found != self._inode:
            raise JournalFailed(f"{self.path} is not the file that was opened")

    def _read(self, now: datetime) -> JournalContents:
        db = self._connected()
        jobs: list[ActiveJob] = []
        bad: list[tuple[bytes, object, str, str]] = []
        for key, crc, body in db.execute(SELECT_JOBS):
            try:
                jobs.append(decode_row(key, crc, body))
            except Unreadable as e:
                bad.append((key, body, str(e), now.isoformat()))
        if bad:
            self._set_records_aside(bad, _DROP_JOB)
        aside = [
            f"the record of job {key.decode(errors='backslashreplace')} ({reason}), "
            f"now in the table set_aside of {self.path}"
            for key, _, reason, _ in bad
        ]
        # A job's own term was seen too, should the record of the highest one be lost.
        self._term = max((job.term for job in jobs), default=0)
        try:
            for row in db.execute(SELECT_TERM):
                self._term = max(self._term, decode_term(*row))
        except Unreadable as e:
            _put_meta(db, "highest_term", b"%d" % self._term)
            aside.append(f"the highest term ({e}); the highest of a job here is {self._term}")
        draining = False
        try:
            for row in db.execute(SELECT_DRAINING):
                draining = decode_draining(*row)
        except Unreadable as e:
            _put_meta(db, "draining", b"0")
            aside.append(f"whether the host drains ({e}); it does not now")
        attributes = self._read_attributes(db, now, aside)
        return JournalContents(tuple(jobs), self._term, draining, tuple(aside), attributes)

    def _read_attributes(
        self, db: sqlite3.Connection, now: datetime, aside: list[str]
    ) -> dict[str, str | None]:
        attributes, bad = {}, []
        for key, crc, body in db.execute(SELECT_ATTRIBUTES):
            try:
                name, value = decode_attribute(key, crc, body)
                attributes[name] = value
            except Unreadable as e:
                bad.append((key, body, str(e), now.isoformat()))
        if bad:
            self._set_records_aside(bad, _DROP_ATTRIBUTE)
        aside += [
            f"the attribute {key.decode(errors='backslashreplace')} ({reason}), "
            f"now in the table set_aside of {self.path}; it is again as the options say"
            for key, _, reason, _ in bad
        ]
        return attributes

    def _set_records_aside(self, bad: Sequence[tuple[bytes, object, str, str]], drop: str) -> None:
        db = self._connected()
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO set_aside VALUES (CAST(? AS TEXT), ?, ?, ?)", bad)
        db.executemany(drop, [(key,) for key, *_ in bad])
        db.execute("COMMIT")


def _apply(db: sqlite3.Connection, change: Change) -> None:
    db.executemany(
        "INSERT INTO jobs VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET crc=excluded.crc, body=excluded.body",
        [(job_id, zlib.crc32(body), body) for job_id, body in change.records],
    )
    db.executemany("DELETE FROM jobs WHERE id = ?", [(job_id,) for job_id in change.drop])
    for name, body in change.attributes:
        if body is None:
            db.execute("DELETE FROM attributes WHERE name = ?", (name,))
        else:
            db.execute("INSERT OR REPLACE INTO attributes VALUES (?, ?, ?)", (name, zlib.crc32(body), body))
    if change.draining is not None:
        _put_meta(db, "draining", b"%d" % change.draining)


def _put_meta(db: sqlite3.Connection, key: str, body: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, zlib.crc32(body), body))


def _checked(crc: object, body: object) -> bytes:
    if not isinstance(body, bytes) or zlib.crc32(body) != crc:
        raise Unreadable("its checksum is wrong")
    return body


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
