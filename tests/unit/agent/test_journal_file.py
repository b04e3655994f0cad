"""The journal's file, on a real disk: what damage does to it, and what is left."""

from __future__ import annotations

import os
import shutil
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flynnhost.agent.journal_file import FORMAT, LOG_BYTES, Change, JournalFile, encode, encode_attribute
from flynnhost.agent.journal_rescue import open_journal
from flynnhost.errors import JournalFailed
from flynnhost.interfaces import JournalContents
from flynnhost.testing.journal_contract import active, by_id
from tests.support.small_disk import LimitedDisk, MountedDisk, SmallDisk

NOW = datetime(2020, 2, 3, 4, 5, 6, 789, tzinfo=UTC)

MANY = 300
"""Jobs that take a hundred pages and more."""


def read(path: Path) -> JournalContents:
    """Open a journal, see what is in it, write something, and close it."""
    file = JournalFile(path)
    contents = open_journal(file, NOW)
    file.write([Change(records=[encode(active("afterwards"))])])
    file.write([Change(drop=["afterwards"])])
    file.close()
    return contents


def change(path: Path, statement: str, *values: Any) -> None:
    """Change a closed journal past us."""
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(statement, values).rowcount in (1, -1)  # none for what is about a whole table


def set_aside(path: Path) -> list[tuple[Any, ...]]:
    """What the table of damaged records holds."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT CAST(id AS BLOB), body, reason, at FROM set_aside").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed journal of three jobs and term 7."""
    path = tmp_path / "journal.db"
    file = JournalFile(path)
    file.open(NOW)
    file.write([Change(records=[encode(active(f"j{n}", term=n)) for n in (1, 2, 3)], term=7)])
    file.close()
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed journal of many jobs and term 7, to be copied."""
    path = tmp_path_factory.mktemp("large") / "journal.db"
    file = JournalFile(path)
    file.open(NOW)
    for n in range(MANY):
        file.write([Change(records=[encode(active(f"j{n:03}", str(n) * 500))])])
    file.write([Change(term=7)])
    file.close()
    return path


# --- damaged records ----------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "body = substr(body, 1, 40) || x'00' || substr(body, 42)",
        "body = x''",
        "body = CAST(body AS TEXT)",
        "body = 5",
        "crc = crc + 1",
        "crc = 'none'",
        "id = CAST(x'ff00fe' AS TEXT)",
        "id = x'01'",
        "id = 'another'",
    ],
)
def test_damaged_record(path: Path, damage: str) -> None:
    """Whatever of a record is damaged, the record alone is set aside, once, with its bytes."""
    change(path, f"UPDATE jobs SET {damage} WHERE id = 'j2'")
    contents = read(path)
    assert set(by_id(contents)) == {"j1", "j3"}
    assert contents.highest_term == 7
    (lost,) = contents.set_aside
    assert "set_aside" in lost
    ((_, _, reason, at),) = set_aside(path)
    assert reason
    assert at == NOW.isoformat()
    assert read(path).set_aside == ()


def test_record_that_is_no_job(path: Path) -> None:
    """A record whole by its checksum that is no job is set aside too."""
    body = b'{"job": {}}'
    change(path, "UPDATE jobs SET body = ?, crc = ? WHERE id = 'j2'", body, zlib.crc32(body))
    assert set(by_id(read(path))) == {"j1", "j3"}


@pytest.mark.parametrize("damage", ["body = '8'", "body = x'39'", "crc = 0", "body = 9"])
def test_damaged_term(path: Path, damage: str) -> None:
    """A damaged term is not believed: the highest term of a job takes its place, and is said."""
    change(path, f"UPDATE meta SET {damage} WHERE key = 'highest_term'")
    contents = read(path)
    assert set(by_id(contents)) == {"j1", "j2", "j3"}
    assert contents.highest_term == 3
    assert "term" in contents.set_aside[0]
    again = read(path)
    assert (again.highest_term, again.set_aside) == (3, ())


def test_lost_term(path: Path) -> None:
    """Without a record of it, the highest term is that of a job."""
    change(path, "DELETE FROM meta WHERE key = 'highest_term'")
    assert read(path).highest_term == 3


@pytest.mark.parametrize("damage", ["body = '1'", "body = x'30'", "crc = 0"])
def test_damaged_draining(path: Path, damage: str) -> None:
    """If it is not certain that the host drains it does not, and that is said."""
    file = JournalFile(path)
    file.open(NOW)
    file.write([Change(draining=True)])
    file.close()
    assert read(path).draining
    change(path, f"UPDATE meta SET {damage} WHERE key = 'draining'")
    contents = read(path)
    assert not contents.draining
    assert "drains" in contents.set_aside[0]
    assert (read(path).draining, read(path).set_aside) == (False, ())


@pytest.mark.parametrize("damage", ["body = '1'", "body = x'30'", "crc = 0", "name = x'ff'", "name = 'b'"])
def test_damaged_attribute(path: Path, damage: str) -> None:
    """An attribute that can't be read is set aside, and that is said; others remain."""
    file = JournalFile(path)
    file.open(NOW)
    file.write([Change(attributes=[encode_attribute("zone", "a"), encode_attribute("disk", None)])])
    file.close()
    assert read(path).attributes == {"zone": "a", "disk": None}
    change(path, f"UPDATE attributes SET {damage} WHERE name = 'zone'")
    contents = read(path)
    assert contents.attributes == {"disk": None}
    assert "attribute" in contents.set_aside[0]
    assert (read(path).attributes, read(path).set_aside) == ({"disk": None}, ())


def test_older_journal(path: Path) -> None:
    """A journal of before there were attributes is read, and gets some."""
    change(path, "DROP TABLE attributes")
    assert read(path).attributes == {}
    file = JournalFile(path)
    file.open(NOW)
    file.write([Change(attributes=[encode_attribute("zone", "a")])])
    file.close()
    assert read(path).attributes == {"zone": "a"}


# --- damaged files ------------------------------------------------------------


def damaged(path: Path) -> list[str]:
    """The files that were set aside."""
    return sorted(each.name for each in path.parent.glob("journal.db.damaged-*"))


@pytest.mark.parametrize("content", [b"not a database" * 500, b"\x00" * 8192, os.urandom(5000)])
def test_garbage(path: Path, content: bytes) -> None:
    """A file that is no database is renamed with the time, and a new one takes its place."""
    path.write_bytes(content)
    contents = read(path)
    assert by_id(contents) == {}
    (aside,) = damaged(path)
    assert aside == "journal.db.damaged-20200203T040506000789"
    assert (path.parent / aside).read_bytes() == content
    assert aside in contents.set_aside[0]
    assert read(path) == JournalContents()


@pytest.mark.parametrize("content", [b"", b"x"])
def test_empty_file(path: Path, content: bytes) -> None:
    """A file of hardly a byte is a new journal."""
    path.write_bytes(content)
    assert read(path) == JournalContents()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.998])
def test_truncated(large: Path, tmp_path: Path, share: float) -> None:
    """Of a file that was cut short, what can be read is carried over, and the rest is said to be lost."""
    path = tmp_path / "journal.db"
    content = large.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    contents = read(path)
    assert len(contents.set_aside) == 1
    assert len(contents.jobs) >= MANY * (share - 0.1)
    again = read(path)
    assert set(by_id(again)) == set(by_id(contents))
    assert again.set_aside == ()


def test_rescued_attributes(large: Path, tmp_path: Path) -> None:
    """What else a damaged file has is carried over too."""
    path = tmp_path / "journal.db"
    shutil.copy(large, path)
    file = JournalFile(path)
    file.open(NOW)
    file.write([Change(draining=True, attributes=[encode_attribute("a", "1"), encode_attribute("b", None)])])
    file.close()
    content = bytearray(path.read_bytes())
    content[59 * 4096 : 60 * 4096] = os.urandom(4096)
    path.write_bytes(content)
    contents = read(path)
    assert len(contents.set_aside) == 1
    assert (contents.attributes, contents.draining) == ({"a": "1", "b": None}, True)
    assert read(path).attributes == contents.attributes


@pytest.mark.parametrize("page", [2, 3, 10, 60, 100])
def test_damaged_page(large: Path, tmp_path: Path, page: int) -> None:
    """A page of garbage costs the jobs of that page: what is before it and after it is carried over."""
    path = tmp_path / "journal.db"
    content = bytearray(large.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = os.urandom(4096)
    path.write_bytes(content)
    contents = read(path)
    assert len(contents.set_aside) == 1
    if page >= 10:  # the ones before hold the tree together
        assert MANY > len(contents.jobs) > MANY * 0.9
        assert contents.highest_term == 7
    again = read(path)
    assert set(by_id(again)) == set(by_id(contents))


def test_any_byte(path: Path, tmp_path: Path) -> None:
    """Wherever a file is damaged, the host can open it or refuses it, and tells no wrong job."""
    content = path.read_bytes()
    right = {f"j{n}": active(f"j{n}", term=n) for n in (1, 2, 3)}
    for at in [*range(0, 100, 3), *range(100, len(content), 61)]:
        copy = tmp_path / str(at) / "journal.db"
        copy.parent.mkdir()
        copy.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        with suppress(JournalFailed):
            assert by_id(read(copy)).items() <= right.items()
        shutil.rmtree(copy.parent)


def crashed(path: Path, jobs: int) -> None:
    """Leave a journal as a process does that was killed: its log not yet in the main file."""
    live = path.with_name("live")
    file = JournalFile(live)
    file.open(NOW)
    for n in range(jobs):
        file.write([Change(records=[encode(active(f"j{n}"))], term=n)])
    for part in ("", "-wal"):
        shutil.copy(f"{live}{part}", f"{path}{part}")
    file.close()


def test_killed(tmp_path: Path) -> None:
    """What is in the log alone is read from there."""
    path = tmp_path / "journal.db"
    crashed(path, 20)
    assert len(read(path).jobs) == 20


def test_deleted_log(tmp_path: Path) -> None:
    """Without its log the file has what it had before, and goes on."""
    path = tmp_path / "journal.db"
    crashed(path, 20)
    Path(f"{path}-wal").unlink()
    contents = read(path)
    assert contents.set_aside == ()
    assert len(read(path).jobs) == len(contents.jobs)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_truncated_log(tmp_path: Path, share: float) -> None:
    """Of a log that was cut short, the writes before the cut are there, in order."""
    path = tmp_path / "journal.db"
    crashed(path, 20)
    log = Path(f"{path}-wal")
    os.truncate(log, int(log.stat().st_size * share))
    found = by_id(read(path))
    assert set(found) == {f"j{n}" for n in range(len(found))}


def test_garbage_log(tmp_path: Path) -> None:
    """A log of garbage is no log."""
    path = tmp_path / "journal.db"
    crashed(path, 20)
    Path(f"{path}-wal").write_bytes(os.urandom(50_000))
    assert len(by_id(read(path))) <= 20


# --- the rescue is ended on its way -------------------------------------------


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(1, 7))
def test_killed_while_rescuing(
    large: Path, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a rescue is ended, the next one loses none of the jobs that could be read."""
    path = tmp_path / "journal.db"
    content = bytearray(large.read_bytes())
    content[59 * 4096 : 60 * 4096] = os.urandom(4096)
    path.write_bytes(content)
    reached = 0
    rename = Path.rename

    def ending(self: Path, target: Path) -> Path:
        nonlocal reached
        for _ in range(2):  # before the renaming, and after it
            reached += 1
            if reached == step:
                raise Killed
            if reached % 2:
                rename(self, target)
        return target

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", ending)
        with suppress(Killed):
            open_journal(JournalFile(path), NOW)
    assert reached == step
    contents = read(path)
    assert MANY > len(contents.jobs) > MANY * 0.9
    assert contents.highest_term == 7
    assert {each.name for each in tmp_path.iterdir()} == {"journal.db", *damaged(path)}


# --- files that can't be had --------------------------------------------------


def test_later_format(path: Path) -> None:
    """A file of a later format is refused and left as it is."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={FORMAT + 1}")
    before = path.read_bytes()
    with pytest.raises(JournalFailed, match=f"format {FORMAT + 1}.* up to {FORMAT}"):
        open_journal(JournalFile(path), NOW)
    assert path.read_bytes() == before
    assert damaged(path) == []


def test_later_format_in_another_mode(tmp_path: Path) -> None:
    """Not even the mode of a file of a later format is changed."""
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE news (x)")
        db.execute("PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(JournalFailed):
        open_journal(JournalFile(path), NOW)
    assert path.read_bytes() == before


def test_no_folder(tmp_path: Path) -> None:
    """Where there is no folder there is no journal."""
    with pytest.raises(JournalFailed, match=r"no/journal\.db"):
        open_journal(JournalFile(tmp_path / "no" / "journal.db"), NOW)


def test_folder_in_its_place(tmp_path: Path) -> None:
    """A folder of the journal's name is no journal, and is left alone."""
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(JournalFailed):
        open_journal(JournalFile(tmp_path / "journal.db"), NOW)
    assert (tmp_path / "journal.db").is_dir()


KINDS: Sequence[type[SmallDisk]] = (MountedDisk, LimitedDisk) if os.geteuid() == 0 else (LimitedDisk,)
"""The kinds of small disks that whoever runs the tests can have, the most real one first."""


@pytest.fixture(params=KINDS)
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> SmallDisk:
    """A disk of 1 MB."""
    made: SmallDisk = request.param(tmp_path / "small")
    return made


@pytest.fixture
def own_disk(tmp_path: Path) -> SmallDisk:
    """A disk that can be made read-only."""
    return KINDS[0](tmp_path / "small")


def test_read_only(own_disk: SmallDisk) -> None:
    """On a file system that can't be written there is no journal, not even a whole one."""
    with own_disk:
        file = JournalFile(own_disk.folder / "journal.db")
        open_journal(file, NOW)
        file.close()
        own_disk.make_read_only()
        with pytest.raises(JournalFailed, match=r"journal\.db"):
            open_journal(JournalFile(own_disk.folder / "journal.db"), NOW)


def test_disk_full(disk: SmallDisk) -> None:
    """On a full disk writes fail whole; with space again they succeed, and nothing else was lost."""
    with disk:
        file = JournalFile(disk.folder / "journal.db")
        open_journal(file, NOW)
        written = 0
        with pytest.raises(JournalFailed, match=disk.complaint):
            for n in range(100):
                file.write([Change(records=[encode(active(f"j{n:03}", 10_000 * "x"))], term=n)])
                written = n + 1
        assert written > 10
        disk.grow()
        file.write([Change(records=[encode(active("after"))])])
        file.close()
        contents = read(disk.folder / "journal.db")
        assert set(by_id(contents)) == {*(f"j{n:03}" for n in range(written)), "after"}
        assert (contents.highest_term, contents.set_aside) == (written - 1, ())


def test_full_before_the_first_write(disk: SmallDisk) -> None:
    """A journal that has no place to begin says so; nothing is set aside."""
    with disk:
        disk.fill()
        with pytest.raises(JournalFailed):
            open_journal(JournalFile(disk.folder / "journal.db"), NOW)
        assert damaged(disk.folder / "journal.db") == []


def test_damaged_and_full(disk: SmallDisk) -> None:
    """A damaged journal that can't be set aside for want of space stays as it is until it can."""
    with disk:
        path = disk.folder / "journal.db"
        file = JournalFile(path)
        open_journal(file, NOW)
        for n in range(20):
            file.write([Change(records=[encode(active(f"j{n:03}", 10_000 * "x"))])])
        file.close()
        with path.open("r+b") as damage:
            damage.seek(30 * 4096)
            damage.write(os.urandom(4096))
        before = path.read_bytes()
        disk.fill()
        with pytest.raises(JournalFailed):
            open_journal(JournalFile(path), NOW)
        assert path.read_bytes() == before
        disk.make_room()
        assert len(read(path).jobs) >= 15


# --- writing ------------------------------------------------------------------


def test_file_that_was_deleted(path: Path) -> None:
    """A write into a file that was deleted or replaced fails: nobody would find it again."""
    file = JournalFile(path)
    file.open(NOW)
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(JournalFailed, match="gone"):
        file.write([Change(term=9)])
    path.write_bytes(b"")
    with pytest.raises(JournalFailed, match="not the file"):
        file.write([Change(term=9)])
    path.with_name("elsewhere").rename(path)
    file.write([Change(term=10)])
    file.close()
    assert read(path).highest_term == 10


def test_change_that_fails(path: Path) -> None:
    """A change that can't be made takes the whole write with it, and the next write succeeds."""
    file = JournalFile(path)
    file.open(NOW)
    unwritable: Any = [("j9", object())]
    with pytest.raises(JournalFailed):
        file.write([Change(records=[encode(active("j8"))], term=9), Change(records=unwritable)])
    file.write([Change(records=[encode(active("j7"))])])
    file.close()
    contents = read(path)
    assert set(by_id(contents)) == {"j1", "j2", "j3", "j7"}
    assert contents.highest_term == 7


def test_closed(path: Path) -> None:
    """A closed file takes nothing, can be closed again, and opened again."""
    file = JournalFile(path)
    with pytest.raises(JournalFailed):
        file.write([Change(term=9)])
    file.close()
    file.open(NOW)
    file.close()
    file.close()
    assert len(file.open(NOW).jobs) == 3
    file.close()


def test_synced(path: Path) -> None:
    """Each commit is synced, into a log beside the file."""
    file = JournalFile(path)
    file.open(NOW)
    db = file._connected()
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    file.close()


def test_log_has_its_size_from_the_start(path: Path) -> None:
    """The log does not grow with the first commits, the file itself is no larger for it, and it is reused."""
    file = JournalFile(path)
    file.open(NOW)
    log = Path(f"{path}-wal")
    size = log.stat().st_size
    assert size > 0.95 * LOG_BYTES
    for n in range(100):
        file.write([Change(records=[encode(active(f"j{n}"))])])
    assert log.stat().st_size == size
    file.close()
    assert path.stat().st_size < LOG_BYTES / 10
    assert len(read(path).jobs) == 100
