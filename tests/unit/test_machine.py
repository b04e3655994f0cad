"""What the machine has, and what a process uses of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import pytest

from flynnhost import machine


def test_disk(tmp_path: Path) -> None:
    """A disk has a size, and some of it is free."""
    found = machine.disk(str(tmp_path))
    assert (found["path"], found["total_bytes"]) == (str(tmp_path), shutil.disk_usage(tmp_path).total)
    assert 0 < int(str(found["free_bytes"])) < int(str(found["total_bytes"]))


def test_no_disk(tmp_path: Path) -> None:
    """What can't be looked at says why."""
    path = str(tmp_path / "none")
    assert machine.disk(path) == {"path": path, "error": "No such file or directory"}


def test_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process has memory and files, as far as the system tells."""
    found = machine.process()
    assert found["pid"] == os.getpid()
    assert int(str(found["memory_bytes"])) == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    with (tmp_path / "open").open("w"):
        assert int(str(machine.process()["open_files"])) == int(str(found["open_files"])) + 1
    assert int(str(found["open_files_limit"])) > 0
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    assert set(machine.process()) == {"pid", "open_files_limit"}
