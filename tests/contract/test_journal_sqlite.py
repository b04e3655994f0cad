"""The journal on a real disk, with a real thread, keeps the contract of journals."""

from __future__ import annotations

import sqlite3
from collections.abc import Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from twisted.internet.defer import Deferred

from flynnhost.agent.journal import SqliteJournal
from flynnhost.agent.journal_file import Change, JournalFile
from flynnhost.testing.journal_contract import JournalContract, JournalRig

MOST_PAGES = 4294967294


@define(eq=False)
class SmallFile(JournalFile):
    """A file that can be kept from growing."""

    pages: int = MOST_PAGES

    def write(self, changes: Any) -> None:
        self._connected().execute(f"PRAGMA max_page_count={self.pages}")  # 1 is what there is now
        super().write(list[Change](changes))


class SqliteRig(JournalRig):
    def __init__(self, reactor: Any, path: Path) -> None:
        self.reactor = reactor
        self.path = path
        self.file = SmallFile(path)

    def run(self, test: Coroutine[Any, Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(test)

    def journal(self) -> SqliteJournal:
        self.file = SmallFile(self.path)
        return SqliteJournal(self.reactor, self.path, make_file=lambda _: self.file)

    def damage(self, job_id: str) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute("UPDATE jobs SET body = body || x'00' WHERE id = ?", (job_id,))

    def fill(self) -> None:
        self.file.pages = 1

    def free(self) -> None:
        self.file.pages = MOST_PAGES

    def make_unusable(self) -> None:
        self.path = self.path / "no" / "such" / "folder"


class TestSqliteJournal(JournalContract):
    @pytest.fixture
    def rig(self, clean_reactor: Any, tmp_path: Path) -> Iterator[SqliteRig]:
        yield SqliteRig(clean_reactor, tmp_path / "journal.db")
