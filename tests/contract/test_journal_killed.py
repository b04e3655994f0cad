"""A process that writes the journal is killed again and again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from flynnhost.agent.journal_file import JournalFile
from flynnhost.agent.journal_rescue import open_journal

ROUNDS = 5

WRITER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from flynnhost.agent.journal import SqliteJournal
from flynnhost.testing.journal_contract import active

journal = SqliteJournal(reactor, Path(sys.argv[1]))
first = int(sys.argv[2])

def acknowledged(_, line):
    print(line, flush=True)

def write(number, worker):
    job_id = f"w{worker}"
    jobs = [active(job_id, detail=str(number)), active(f"n{number}-{worker}", "x" * 200)]
    written = journal.write(jobs, number)
    written.addCallback(acknowledged, f"{job_id} {number}")
    written.addCallback(lambda _: reactor.callLater(0, write, number + 1, worker))
    if number % 5 == 0:
        journal.forget([f"n{number - 3}-{worker}"]).addCallback(
            acknowledged, f"forgot n{number - 3}-{worker}"
        )

def opened(_):
    for worker in range(10):
        write(first, worker)

journal.open().addCallback(opened)
reactor.run()
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    """A killed process loses nothing that was acknowledged, and of each write all or none is there."""
    path = tmp_path / "journal.db"
    chance = random.Random(7)
    highest = {f"w{worker}": 0 for worker in range(10)}
    for round_number in range(ROUNDS):
        first = max(highest.values()) + 10
        gone: set[str] = set()
        for line in killed_writer(path, first, chance.randint(20, 400)):
            subject, _, value = line.partition(" ")
            if subject == "forgot":
                gone.add(value)
            else:
                highest[subject] = int(value)
        file = JournalFile(path)
        contents = open_journal(file, datetime.now(UTC))
        file.close()
        assert contents.set_aside == ()
        jobs = {job.id: job for job in contents.jobs}
        for worker, number in highest.items():
            found = int(jobs[worker].detail)
            assert found >= number, f"round {round_number}: lost an acknowledged write"
            if found >= first:
                assert f"n{found}-{worker[1:]}" in jobs, "half of a write is there"
        assert not gone & set(jobs)
        assert contents.highest_term >= max(highest.values())


def killed_writer(path: Path, first: int, lines: int) -> list[str]:
    """Run a writer and kill it when it has acknowledged so much; all that it acknowledged."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.readlines()
    assert writer.wait() == -signal.SIGKILL, "it ended by itself"
    writer.stdout.close()
    return [line.strip() for line in said if line.endswith("\n")]
