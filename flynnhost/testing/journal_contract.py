# ruff: noqa: S101 - these are tests
"""What every journal keeps to."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from flynnhost.canonical import digest
from flynnhost.errors import JournalFailed
from flynnhost.interfaces import IJournal, JournalContents
from flynnhost.model import (
    ActiveJob,
    Artifact,
    ContainerConfig,
    HealthCheck,
    Job,
    JobStatus,
    Mount,
    Phase,
    Port,
    PortService,
    Quantity,
    Resources,
    VolumeBinding,
)

C = TypeVar("C")

_NOON = datetime(2020, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def active(job_id: str, env: str = "", **changes: Any) -> ActiveJob:
    """A job on a host; ``env`` makes its content another's."""
    job = Job(
        id=job_id, artifact=Artifact(url="busybox:latest"), config=ContainerConfig(env={"CONTENT": env})
    )
    return ActiveJob(job=job, host_id="h1", digest=digest(job), accepted_at=_NOON, **changes)


def everything() -> ActiveJob:
    """A job with a value in each field."""
    check = HealthCheck("http", 1.5, 2, True, 0.25, "/ping", "example.com", "o.k.", 204)
    job = Job(
        id="a.b_c-1",
        artifact=Artifact("docker://busybox@sha256:" + 64 * "0"),
        config=ContainerConfig(
            tty=True,
            stdin=True,
            data=True,
            host_network=True,
            disable_log=True,
            entry_point=("/bin/sh", "-c"),
            cmd=("echo 'ä\u2028\U0001f600' \\ \"$X\"\n\t\x00", ""),
            env={"É": "\x7f", "": ""},
            mounts=(Mount("/in", "/out", writeable=True),),
            volumes=(VolumeBinding("/v", "name", writeable=True),),
            ports=(Port(80, "udp", PortService("web", True, check)), Port()),
            working_dir="/tmp",  # noqa: S108, a path in a container
            uid=0,
            stop_timeout=0.5,
        ),
        resources=Resources(*(Quantity(n, None) for n in (2**62, 2, 1, 3))),
        metadata={"k": "v"},
        resurrect=True,
    )
    return ActiveJob(
        job=job,
        host_id="h1",
        digest=digest(job),
        accepted_at=_NOON.astimezone(timezone(timedelta(hours=5, minutes=30))),
        term=3,
        status=JobStatus.CRASHED,
        phase=Phase.ENDED,
        detail="100 %",
        container_id=64 * "f",
        internal_ip="172.17.0.2",
        host_ports=(55000, 55001),
        force_stop=True,
        started_at=_NOON,
        ended_at=_NOON + timedelta(microseconds=1),
        exit_status=-1,
        oom_killed=True,
        error="killed: out of memory",
    )


class JournalRig(ABC):
    """A disk on which there can be a journal."""

    @abstractmethod
    def run(self, test: Coroutine[Any, Any, None]) -> Deferred[None] | None:
        """Run a test to its end, or give pytest-twisted what fires then."""

    @abstractmethod
    def journal(self) -> Any:
        """A new ``IJournal`` on the disk, not opened; the last one was closed."""

    @abstractmethod
    def damage(self, job_id: str) -> None:
        """Damage the record of a job; no journal is open."""

    @abstractmethod
    def fill(self) -> None:
        """Make writes fail that need more space than there is."""

    @abstractmethod
    def free(self) -> None:
        """End ``fill``."""

    @abstractmethod
    def make_unusable(self) -> None:
        """Make journals that can't be opened from now on."""

    async def opened(self) -> Any:
        """A new journal that was opened."""
        journal = self.journal()
        await journal.open()
        return journal

    async def read(self) -> JournalContents:
        """What a new journal finds on the disk."""
        journal = self.journal()
        contents: JournalContents = await journal.open()
        await journal.close()
        return contents


def contract(
    test: Callable[[C, JournalRig], Coroutine[Any, Any, None]],
) -> Callable[[C, JournalRig], Deferred[None] | None]:
    """Make a test that the rig runs of one that is a coroutine."""

    @functools.wraps(test)
    def run(self: C, rig: JournalRig) -> Deferred[None] | None:
        return rig.run(test(self, rig))

    return run


async def failed(call: Awaitable[object]) -> str:
    """Check that the call fails as a journal does, and say why."""
    try:
        await call
    except JournalFailed as e:
        return e.reason
    raise AssertionError("it did not fail")


def by_id(contents: JournalContents) -> dict[str, ActiveJob]:
    """The jobs, each of which must be there once."""
    found = {job.id: job for job in contents.jobs}
    assert len(found) == len(contents.jobs)
    return found


class JournalContract:
    """Subclasses have a fixture ``rig`` that gives a ``JournalRig``."""

    def test_interface(self, rig: JournalRig) -> None:
        """It has all that the interface names."""
        verifyObject(IJournal, rig.journal())

    @contract
    async def test_new(self, rig: JournalRig) -> None:
        """Where nothing was written there is nothing, and nothing was lost."""
        assert await rig.read() == JournalContents()

    @contract
    async def test_reopened(self, rig: JournalRig) -> None:
        """What was written is there again, field by field."""
        journal = await rig.opened()
        assert await journal.write([everything(), active("j2")]) is None
        await journal.close()
        contents = await rig.read()
        assert by_id(contents) == {"a.b_c-1": everything(), "j2": active("j2")}
        assert contents.set_aside == ()

    @contract
    async def test_order_of_one_job(self, rig: JournalRig) -> None:
        """Of many writes of one job, made without waiting, the last one counts."""
        journal = await rig.opened()
        writes = [journal.write([active("j1", detail=str(n)), active(f"n{n}")]) for n in range(100)]
        await gatherResults(writes)
        await journal.close()
        found = by_id(await rig.read())
        assert found["j1"].detail == "99"
        assert len(found) == 101

    @contract
    async def test_answers_in_order(self, rig: JournalRig) -> None:
        """Writes are acknowledged in the order in which they were made."""
        journal = await rig.opened()
        order: list[int] = []
        writes = [
            journal.write([active(f"j{n}")]).addCallback(lambda _, n=n: order.append(n)) for n in range(50)
        ]
        await gatherResults(writes)
        assert order == list(range(50))
        await journal.close()

    @contract
    async def test_all_or_none(self, rig: JournalRig) -> None:
        """Of jobs that are written together, one that can't be keeps out all, and nobody else's."""
        journal = await rig.opened()
        good = journal.write([active("good")])
        bad = journal.write([active("j1"), active("j2", detail="\ud800")], 7)
        also_good = journal.write([active("also good")])
        await failed(bad)
        await gatherResults([good, also_good])
        await journal.close()
        contents = await rig.read()
        assert set(by_id(contents)) == {"good", "also good"}
        assert contents.highest_term == 0

    @contract
    async def test_term(self, rig: JournalRig) -> None:
        """The highest term only grows, with jobs or without."""
        journal = await rig.opened()
        await journal.write([], 5)
        await journal.write([active("j1")], 4)
        await journal.write([active("j2")])
        await journal.close()
        assert (await rig.read()).highest_term == 5
        journal = await rig.opened()
        await gatherResults([journal.write([], 3), journal.write([], 2**63), journal.write([], 8)])
        await journal.close()
        assert (await rig.read()).highest_term == 2**63

    @contract
    async def test_draining(self, rig: JournalRig) -> None:
        """Whether the host drains is remembered, with all else as it is."""
        assert not (await rig.read()).draining
        journal = await rig.opened()
        await journal.write([active("j1")], 2)
        await gatherResults([journal.keep_draining(True), journal.keep_draining(False)])
        assert await journal.keep_draining(True) is None
        await journal.close()
        contents = await rig.read()
        assert (set(by_id(contents)), contents.highest_term, contents.draining) == ({"j1"}, 2, True)
        journal = await rig.opened()
        await journal.keep_draining(False)
        await journal.close()
        await failed(journal.keep_draining(True))
        assert not (await rig.read()).draining

    @contract
    async def test_attributes(self, rig: JournalRig) -> None:
        """What was said at run time is remembered, also that something was removed, until it is forgotten."""
        assert (await rig.read()).attributes == {}
        journal = await rig.opened()
        await journal.keep_draining(True)
        texts = {"zone": "a", "": "", "ä/=\n'": "\N{SNOWMAN}"}
        await gatherResults([journal.keep_attribute(name, value) for name, value in texts.items()])
        await gatherResults([journal.keep_attribute("zone", None), journal.keep_attribute("disk", "ssd")])
        assert await journal.keep_attribute("disk", "nvme") is None
        await journal.close()
        contents = await rig.read()
        assert contents.attributes == {**texts, "zone": None, "disk": "nvme"}
        assert (contents.draining, contents.set_aside) == (True, ())
        journal = await rig.opened()
        for name in (*texts, "never there"):
            assert await journal.forget_attribute(name) is None
        await journal.close()
        await failed(journal.keep_attribute("late", "1"))
        await failed(journal.forget_attribute("disk"))
        assert (await rig.read()).attributes == {"disk": "nvme"}

    @contract
    async def test_forget(self, rig: JournalRig) -> None:
        """Jobs that are forgotten are gone, those that never were there too; others remain."""
        journal = await rig.opened()
        await journal.write([active("j1"), active("j2"), active("j3")], 2)
        assert await journal.forget(["j1", "j2", "never there"]) is None
        await journal.close()
        contents = await rig.read()
        assert set(by_id(contents)) == {"j3"}
        assert contents.highest_term == 2

    @contract
    async def test_forget_in_order(self, rig: JournalRig) -> None:
        """To write and to forget without waiting is done in that order."""
        journal = await rig.opened()
        await gatherResults(
            [
                journal.write([active("j1"), active("j2")]),
                journal.forget(["j1", "j2"]),
                journal.write([active("j2", "again")]),
            ]
        )
        await journal.close()
        assert by_id(await rig.read()) == {"j2": active("j2", "again")}

    @contract
    async def test_close_writes_what_waits(self, rig: JournalRig) -> None:
        """Closing comes after all that was asked for before."""
        journal = await rig.opened()
        order: list[str] = []
        writes = [
            journal.write([active(f"j{n}")]).addCallback(lambda _: order.append("written")) for n in range(20)
        ]
        closed = journal.close().addCallback(lambda _: order.append("closed"))
        await gatherResults([*writes, closed])
        assert order == ["written"] * 20 + ["closed"]
        assert len((await rig.read()).jobs) == 20

    @contract
    async def test_write_after_close(self, rig: JournalRig) -> None:
        """A closed journal takes nothing."""
        journal = await rig.opened()
        closed = journal.close()
        await failed(journal.write([active("j1")]))
        await closed
        await failed(journal.write([active("j1")], 1))
        await failed(journal.forget(["j1"]))
        assert await rig.read() == JournalContents()

    @contract
    async def test_close_again(self, rig: JournalRig) -> None:
        """To close twice, at once or later, is to close once; one who waits no more harms no other."""
        journal = await rig.opened()
        written = journal.write([active("j1")])
        first, second = journal.close(), journal.close()
        first.addErrback(lambda _: None).cancel()
        await second
        await written
        await journal.close()

    @contract
    async def test_not_opened(self, rig: JournalRig) -> None:
        """A journal that was never opened takes nothing and can be closed."""
        journal = rig.journal()
        await failed(journal.write([active("j1")]))
        await journal.close()

    @contract
    async def test_opened_again(self, rig: JournalRig) -> None:
        """A journal is opened once; whoever wants it again makes a new one."""
        journal = await rig.opened()
        await failed(journal.open())
        await journal.write([active("j1")])
        await journal.close()

    @contract
    async def test_damaged_record(self, rig: JournalRig) -> None:
        """A damaged record is named once and set aside; the others and the term are there."""
        journal = await rig.opened()
        await journal.write([active("j1"), active("j2"), active("j3")], 9)
        await journal.close()
        rig.damage("j2")
        contents = await rig.read()
        assert set(by_id(contents)) == {"j1", "j3"}
        assert contents.highest_term == 9
        (lost,) = contents.set_aside
        assert "j2" in lost
        assert (await rig.read()).set_aside == ()

    @contract
    async def test_written_over_damage(self, rig: JournalRig) -> None:
        """A job whose record was damaged can be written again."""
        journal = await rig.opened()
        await journal.write([active("j1")])
        await journal.close()
        rig.damage("j1")
        journal = await rig.opened()
        await journal.write([active("j1", "again")])
        await journal.close()
        assert by_id(await rig.read()) == {"j1": active("j1", "again")}

    @contract
    async def test_no_space(self, rig: JournalRig) -> None:
        """A write that the disk refuses fails, whole; when there is space again, writes succeed."""
        journal = await rig.opened()
        await journal.write([active("before")], 1)
        rig.fill()
        large = [active(f"j{n}", 100_000 * "x") for n in range(20)]
        await failed(journal.write(large, 2))
        rig.free()
        await journal.write([active("after")])
        await journal.close()
        contents = await rig.read()
        assert set(by_id(contents)) == {"before", "after"}
        assert contents.highest_term == 1
        journal = await rig.opened()
        await journal.write(large, 2)
        await journal.close()
        assert len((await rig.read()).jobs) == 22

    @contract
    async def test_cancelled(self, rig: JournalRig) -> None:
        """One who waits no more for a write takes nothing from others."""
        journal = await rig.opened()
        given_up = journal.write([active("j1", "first")])
        given_up.addErrback(lambda _: None)
        next_one = journal.write([active("j1", "second"), active("j2")])
        given_up.cancel()
        await next_one
        await journal.close()
        assert by_id(await rig.read()) == {"j1": active("j1", "second"), "j2": active("j2")}

    @contract
    async def test_can_not_be_opened(self, rig: JournalRig) -> None:
        """A journal that can't be opened says so, takes nothing, and can be closed."""
        rig.make_unusable()
        journal = rig.journal()
        await failed(journal.open())
        await failed(journal.write([active("j1")]))
        await failed(journal.forget(["j1"]))
        await journal.close()

    @contract
    async def test_value_at_the_call(self, rig: JournalRig) -> None:
        """What counts is the list as it was when the write was asked for."""
        journal = await rig.opened()
        jobs, forgotten = [active("j1")], ["j0"]
        writes = [journal.write(jobs), journal.forget(forgotten)]
        jobs.append(active("j2"))
        forgotten.append("j1")
        await gatherResults(writes)
        await journal.close()
        assert by_id(await rig.read()) == {"j1": active("j1")}
