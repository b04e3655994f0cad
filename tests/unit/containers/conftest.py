"""An engine that answers as a test wants it to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_engine import FakeEngine


@pytest.fixture
def engine(short_dir: Path) -> Iterator[FakeEngine]:
    engine = FakeEngine(short_dir)
    engine.start()
    yield engine
    engine.silence.set()
    engine.stop()
