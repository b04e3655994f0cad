"""Event streams, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock

from flynnhost.http import sse
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.site import APISite
from flynnhost.model import Artifact, ContainerConfig, EventKind, Host, Job
from flynnhost.testing.agent import FakeAgent, FakeCluster
from flynnhost.testing.http_connection import MemoryConnection, dechunk
from tests.support.http_errors import assert_error

HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Date: DATE\r\n"
    b"Content-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
BIG = ContainerConfig(env={"A": "x" * 10_000})


class Reader:
    """One who reads a stream."""

    def __init__(self, clock: Clock, site: APISite, path: str, window: int = 1 << 62, **headers: str) -> None:
        self.clock = clock
        self.connection = MemoryConnection(clock, site, window)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request("GET", path, headers={"Accept": "text/event-stream", **fields})
        self.head = b""
        self.ended = False

    def read(self) -> bytes:
        """The content that came since the last time."""
        data = self.connection.received()
        if not self.head:
            self.head, _, data = data.partition(b"\r\n\r\n")
            assert self.head.startswith(b"HTTP/1.1 200 OK\r\n")
        content, rest, ended = dechunk(data)
        assert not rest and not (ended and self.ended)
        self.ended = self.ended or ended
        return content

    def read_all(self) -> bytes:
        """The content until nothing more comes."""
        content = self.read()
        while True:
            self.clock.pump([0] * 3)
            more = self.read()
            if not more:
                return content
            content += more

    def events(self) -> list[tuple[str, Any]]:
        """The events until nothing more comes, each with its ID (or nothing)."""
        events = []
        for block in self.read_all().decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            assert set(fields) <= {"id", "event", "data"}
            events.append(
                (fields.get("id", ""), json.loads(fields["data"]) if "event" not in fields else fields)
            )
        return events


def created(agent: FakeAgent, job_id: str, config: ContainerConfig | None = None) -> None:
    agent.accept([Job(job_id, Artifact("busybox"), config or ContainerConfig())], 0)


def test_to_the_byte(clock: Clock, site: APISite, cluster: FakeCluster) -> None:
    """A stream is what Flynn's clients read: headers at once, then changes only."""
    client = MemoryConnection(clock, site)
    client.request("GET", "/cluster/events", headers={"Accept": "text/event-stream"})
    head = client.received()
    date = head.partition(b"Date: ")[2].partition(b"\r\n")[0]
    expected = HEAD.replace(b"DATE\r\n", date + b"\r\nX-Cluster-Complete: true\r\n")
    assert head == expected
    cluster.add_host(Host("h2"))
    event = b'id: fake-2\ndata: {"event":"add","host_id":"h2"}\n\n'
    assert client.received() == b"%x\r\n%b\r\n" % (len(event), event)
    cluster.remove_host("h2")
    event = b'id: fake-3\ndata: {"event":"remove","host_id":"h2"}\n\n'
    assert client.received() == b"%x\r\n%b\r\n" % (len(event), event)


def test_keep_alive(clock: Clock, site: APISite, cluster: FakeCluster) -> None:
    """After thirty idle seconds comes a colon and a newline, and no more than that."""
    client = MemoryConnection(clock, site)
    client.request("GET", "/cluster/events")
    client.received()
    clock.advance(29)
    cluster.add_host(Host("h2"))
    assert client.received().startswith(b"2d\r\nid: ") or client.received() == b""
    clock.advance(29.9)
    assert client.received() == b""
    clock.advance(0.1)
    assert client.received() == b"2\r\n:\n\r\n"
    clock.pump([1] * 60)
    assert client.received() == b"2\r\n:\n\r\n" * 2


def test_jobs_events(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """Each change of each job is told, with the job as it was then."""
    created(agent, "j0")
    reader = Reader(clock, site, "/host/jobs")
    assert reader.read() == b""
    created(agent, "j1")
    agent.run("j1")
    agent.end("j1", 1)
    agent.fail("j0", "no image")
    events = reader.events()
    assert [event_id for event_id, _ in events] == ["fake-2", "fake-3", "fake-4", "fake-5"]
    assert [(e["event"], e["job_id"], e["job"].get("status", 0)) for _, e in events] == [
        ("create", "j1", 0),
        ("start", "j1", 1),
        ("stop", "j1", 3),
        ("error", "j0", 4),
    ]
    assert events[0][1]["job"]["job"]["id"] == "j1"


def test_one_jobs_events(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """A job's stream has nothing of other jobs, also what it missed."""
    created(agent, "j1")
    created(agent, "j2")
    reader = Reader(clock, site, "/host/jobs/j1")
    resumed = Reader(clock, site, "/host/jobs/j1?since=fake-0")
    snapshot = Reader(clock, site, "/host/jobs/j1?snapshot=true")
    agent.run("j2")
    agent.run("j1")
    assert [e["event"] for _, e in reader.events()] == ["start"]
    assert [e["event"] for _, e in resumed.events()] == ["create", "start"]
    assert [e["event"] for _, e in snapshot.events()] == ["create", "current", "start"]


def test_snapshot(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """A snapshot brings each job to where it is; the event that ends it can be resumed after."""
    for job_id in ("starting", "running", "done", "crashed", "failed"):
        created(agent, job_id)
    agent.run("running")
    agent.end("done", 0)
    agent.end("crashed", 1)
    agent.fail("failed", "no image")
    reader = Reader(clock, site, "/host/jobs?snapshot=true")
    created(agent, "late")
    events = reader.events()
    assert [(event_id, e.get("event"), e.get("job_id")) for event_id, e in events] == [
        ("", "create", "starting"),
        ("", "start", "running"),
        ("", "stop", "done"),
        ("", "stop", "crashed"),
        ("", "error", "failed"),
        ("fake-9", "current", None),
        ("fake-10", "create", "late"),
    ]
    assert events[5][1] == {"id": "fake-9", "event": "current", "data": '{"event":"current"}'}


def test_snapshot_of_nothing(clock: Clock, site: APISite) -> None:
    """Where there is nothing, that is told."""
    reader = Reader(clock, site, "/host/jobs?snapshot=1")
    assert reader.read_all() == b'id: fake-0\nevent: current\ndata: {"event":"current"}\n\n'


def test_snapshot_of_hosts(clock: Clock, site: APISite, cluster: FakeCluster) -> None:
    """A snapshot of hosts is one add for each."""
    reader = Reader(clock, site, "/cluster/events?snapshot=true")
    assert reader.read_all() == (
        b'data: {"event":"add","host_id":"h1"}\n\nid: fake-1\nevent: current\ndata: {"event":"current"}\n\n'
    )


@pytest.mark.parametrize("window", [1 << 62, 100_000])
def test_changes_in_a_snapshot(clock: Clock, site: APISite, agent: FakeAgent, window: int) -> None:
    """What changes while a long snapshot is written comes after it: nothing missed or repeated."""
    for n in range(500):
        created(agent, f"j{n}", BIG)
    reader = Reader(clock, site, "/host/jobs?snapshot=true", window)
    for n in range(100):
        agent.run(f"j{n}")
        clock.advance(0)
    events = reader.events()
    kinds = [e.get("event") for _, e in events]
    assert kinds == ["create"] * 500 + ["current"] + ["start"] * 100
    assert [e["job_id"] for _, e in events if "job_id" in e] == [f"j{n}" for n in [*range(500), *range(100)]]
    assert [event_id for event_id, _ in events[500:]] == [f"fake-{n}" for n in range(500, 601)]


def test_slow_snapshot_is_held_back(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """Of a snapshot, only as much is made as its reader takes."""
    for n in range(500):
        created(agent, f"j{n}", BIG)
    reader = Reader(clock, site, "/host/jobs?snapshot=true", window=100_000)
    clock.pump([0] * 100)
    assert 100_000 < len(reader.read()) < 200_000


@pytest.mark.parametrize("by_header", [True, False])
def test_resume(clock: Clock, site: APISite, agent: FakeAgent, by_header: bool) -> None:
    """Whoever comes back gets what came after the last event that it has, then what comes."""
    for n in range(6):
        created(agent, f"j{n}")
    if by_header:
        reader = Reader(clock, site, "/host/jobs?snapshot=true", Last_Event_ID="fake-4")
    else:
        reader = Reader(clock, site, "/host/jobs?since=fake-4")
    created(agent, "j6")
    assert [(event_id, e["job_id"]) for event_id, e in reader.events()] == [
        ("fake-5", "j4"),
        ("fake-6", "j5"),
        ("fake-7", "j6"),
    ]


def test_resume_with_nothing_missed(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """Whoever has everything gets what comes."""
    created(agent, "j0")
    reader = Reader(clock, site, "/host/jobs?since=fake-1")
    assert reader.read_all() == b""
    created(agent, "j1")
    assert [event_id for event_id, _ in reader.events()] == ["fake-2"]


def test_much_was_missed(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """What was missed does not count as falling behind, however slowly it is read."""
    for n in range(6000):
        created(agent, f"j{n}")
    reader = Reader(clock, site, "/host/jobs?since=fake-0", window=10_000)
    created(agent, "last")
    assert [e["job_id"] for _, e in reader.events()] == [*(f"j{n}" for n in range(6000)), "last"]


@pytest.mark.parametrize(
    "event_id", ["other-1", "fake-99", "fake-", "fake-x", "nonsense", "fake-" + "9" * 5000, "fake-\xe9"]
)
def test_resync(clock: Clock, site: APISite, agent: FakeAgent, streams: OpenStreams, event_id: str) -> None:
    """An ID that can't be resumed after is answered with an error, and a proper end."""
    created(agent, "j0")
    reader = Reader(clock, site, "/host/jobs", Last_Event_ID=event_id)
    assert reader.read_all() == b"event: error\ndata: resync\n\n"
    assert reader.ended
    assert len(streams) == 0
    clock.advance(100)
    assert not reader.connection.aborted


def test_too_old_to_resume(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """So is an ID whose successors are not kept any more."""
    for _ in range(10_001):
        created(agent, "j")
        agent.change("j", EventKind.START)
    assert Reader(clock, site, "/host/jobs?since=fake-1").read_all() == b"event: error\ndata: resync\n\n"


def fill(clock: Clock, site: APISite, agent: FakeAgent) -> Reader:
    """A reader that takes nothing any more."""
    created(agent, "j0", BIG)
    reader = Reader(clock, site, "/host/jobs", window=10_000)
    agent.run("j0")
    agent.run("j0")
    return reader


@pytest.mark.parametrize("events", [500, sse.BACKLOG_EVENTS + 1])
def test_fell_behind(
    clock: Clock, site: APISite, agent: FakeAgent, streams: OpenStreams, events: int
) -> None:
    """Whoever takes nothing for too long is told so, and ended."""
    reader = fill(clock, site, agent)
    created(agent, "small")
    for _ in range(events):
        agent.run("small" if events > 500 else "j0")
    other = Reader(clock, site, "/host/jobs")
    assert len(streams) == 2
    content = reader.read_all()
    assert content.startswith(b"id: fake-2\n")
    assert content.count(b"\n\n") == 2
    assert content.endswith(b"\n\nevent: error\ndata: fell behind\n\n")
    assert reader.ended
    assert len(streams) == 1
    agent.run("j0")
    assert len(other.events()) == 1
    clock.advance(11)
    assert not reader.connection.aborted


def test_fell_behind_and_does_not_listen(
    clock: Clock, site: APISite, agent: FakeAgent, streams: OpenStreams
) -> None:
    """Whoever does not take even that in ten seconds is cut off."""
    reader = fill(clock, site, agent)
    for _ in range(500):
        agent.run("j0")
    clock.advance(9.9)
    assert not reader.connection.aborted
    clock.advance(0.2)
    assert reader.connection.aborted
    clock.advance(0)
    assert len(streams) == 0


def test_almost_behind(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """Up to the bound, everything comes in order."""
    reader = fill(clock, site, agent)
    created(agent, "small")
    for _ in range(sse.BACKLOG_EVENTS - 2):
        agent.run("small")
    assert [event_id for event_id, _ in reader.events()] == [
        f"fake-{n}" for n in range(2, sse.BACKLOG_EVENTS + 3)
    ]
    assert not reader.ended


def test_snapshot_overtaken(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """Whoever falls behind in the middle of a snapshot does not get the rest of it."""
    for n in range(100):
        created(agent, f"j{n}", BIG)
    reader = Reader(clock, site, "/host/jobs?snapshot=true", window=10_000)
    for _ in range(500):
        agent.run("j0")
    content = reader.read_all()
    assert content.endswith(b"\n\nevent: error\ndata: fell behind\n\n")
    assert b"event: current" not in content
    assert reader.ended


def test_no_keep_alive_for_who_does_not_read(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """To one who takes nothing, nothing more is sent; afterwards it goes on."""
    reader = fill(clock, site, agent)
    clock.pump([10] * 30)
    assert b":\n" not in reader.read_all().replace(b": ", b"").replace(b'":', b"")
    clock.advance(30)
    assert reader.read() == b":\n"


def test_end_of_all_streams(clock: Clock, site: APISite, agent: FakeAgent, streams: OpenStreams) -> None:
    """When the host stops, streams end properly, and none begins any more."""
    readers = [
        Reader(clock, site, path) for path in ("/host/jobs", "/cluster/events", "/host/jobs?snapshot=1")
    ]
    for reader in readers:
        reader.read_all()
    over: list[None] = []
    streams.close_all().addCallback(over.append)
    assert over == [None]
    for reader in readers:
        assert reader.read() == b""
        assert reader.ended
    created(agent, "j0")
    client = MemoryConnection(clock, site)
    client.request("GET", "/host/jobs", headers={"Accept": "text/event-stream"})
    assert_error(client.answer(), 503, "not_ready", retry=True)


def test_end_of_a_feed(clock: Clock, site: APISite, cluster: FakeCluster, streams: OpenStreams) -> None:
    """When nothing more will come, as from a leader that was deposed, the stream ends."""
    reader = Reader(clock, site, "/cluster/events")
    cluster.add_host(Host("h2"))
    cluster.events.close()
    assert len(reader.events()) == 1
    assert reader.ended
    assert len(streams) == 0


def test_end_of_a_slow_stream(clock: Clock, site: APISite, agent: FakeAgent, streams: OpenStreams) -> None:
    """What waits for a slow reader is still written when the host stops."""
    reader = fill(clock, site, agent)
    agent.run("j0")
    over: list[None] = []
    streams.close_all().addCallback(over.append)
    agent.run("j0")
    assert over == []
    assert [event_id for event_id, _ in reader.events()] == ["fake-2", "fake-3", "fake-4"]
    assert reader.ended
    assert over == [None]


def test_end_of_a_stalled_stream(clock: Clock, site: APISite, agent: FakeAgent, streams: OpenStreams) -> None:
    """For one who does not read, the host that stops waits three seconds."""
    reader = fill(clock, site, agent)
    over: list[None] = []
    streams.close_all().addCallback(over.append)
    clock.advance(3.1)
    clock.advance(0)
    assert reader.connection.aborted
    assert over == [None]


def test_client_gone(clock: Clock, site: APISite, agent: FakeAgent, streams: OpenStreams) -> None:
    """Of a client that is gone, nothing remains: no listener, no timer, no snapshot."""
    for n in range(100):
        created(agent, f"j{n}", BIG)
    reader = Reader(clock, site, "/host/jobs?snapshot=true", window=10_000)
    agent.run("j0")
    reader.connection.lose()
    assert len(streams) == 0
    assert agent.events._listeners == {}
    assert clock.getDelayedCalls() == []
    agent.run("j1")


def test_head(clock: Clock, site: APISite, agent: FakeAgent, streams: OpenStreams) -> None:
    """HEAD of a stream is its headers, and the end."""
    client = MemoryConnection(clock, site)
    client.request("HEAD", "/host/jobs?snapshot=true", headers={"Accept": "text/event-stream"})
    assert b"Content-Type: text/event-stream; charset=utf-8\r\n" in client.received()
    assert len(streams) == 0
    client.request("GET", "/health")
    assert client.answer().status == 200


def test_which_accept_selects_a_stream(clock: Clock, site: APISite) -> None:
    """A stream is what is asked for by name, among others too."""
    for accept in (
        "text/event-stream",
        "application/json, text/event-stream;q=0.5",
        "Text/Event-Stream; charset=utf-8",
    ):
        reader = Reader(clock, site, "/host/jobs", Accept=accept)
        reader.read()
        assert b"text/event-stream" in reader.head
    client = MemoryConnection(clock, site)
    client.request("GET", "/cluster/events", headers={"Accept": "application/json"})
    assert_error(client.answer(), 406, "not_acceptable")


@pytest.mark.parametrize(
    ("query", "field"),
    [("snapshot=yes", "snapshot"), ("snapshot=1&snapshot=0", "snapshot"), ("since=%ff", "since")],
)
def test_bad_parameters(client: MemoryConnection, query: str, field: str) -> None:
    """A parameter that says nothing proper is refused by name."""
    client.request("GET", f"/host/jobs?{query}", headers={"Accept": "text/event-stream"})
    assert assert_error(client.answer(), 400, "validation_error")["detail"] == {"field": field}


def test_http_1_0(clock: Clock, site: APISite, cluster: FakeCluster) -> None:
    """An old client gets the events as they are, without chunks."""
    client = MemoryConnection(clock, site)
    client.request("GET", "/cluster/events", version="HTTP/1.0")
    client.received()
    cluster.add_host(Host("h2"))
    assert client.received() == b'id: fake-2\ndata: {"event":"add","host_id":"h2"}\n\n'
