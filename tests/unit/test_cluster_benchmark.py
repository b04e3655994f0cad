"""The benchmark of a leader: its hosts speak the real protocol; what it measures is never asserted."""

from __future__ import annotations

import json
import socket
import threading
from datetime import UTC, datetime

import pytest
from attrs import define, evolve, field
from twisted.internet.task import Clock
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage

from benchmarks.cluster.batches import BatchMaker
from benchmarks.cluster.caller import Caller, Refused
from benchmarks.cluster.clusters import Joined, Rested
from benchmarks.cluster.findings import Findings
from benchmarks.cluster.large import Served
from benchmarks.cluster.lean_host import Frames, LeanHost, NotUnderstood, frame
from benchmarks.cluster.series import Kind, Trial
from benchmarks.cluster.turns import Held
from benchmarks.commit_jobs import kinds
from flynnhost.cluster.leader import Leader
from flynnhost.http.decode import decode_batch
from flynnhost.http.site import build_site
from flynnhost.testing.agent import FakeAgent
from flynnhost.testing.http_connection import MemoryConnection


@define(eq=False)
class Led:
    """A real leader, on which some simulated hosts have registered."""

    hosts: list[LeanHost]
    clock: Clock = field(factory=Clock)
    leader: Leader = field(init=False)
    _connections: list[MemoryConnection] = field(init=False, factory=list)
    _client: MemoryConnection = field(init=False)

    def __attrs_post_init__(self) -> None:
        term = max(host.term for host in self.hosts) + 1
        names = [host.host_id for host in self.hosts]
        now = datetime(2020, 1, 1, tzinfo=UTC)
        self.leader = Leader(self.clock, lambda: now, term, "l", "l:1113", expected=names)
        self.leader.startService()
        site, _ = build_site(self.clock, FakeAgent(self.clock), self.leader)
        self._client = MemoryConnection(self.clock, site)
        for host in self.hosts:
            connection = MemoryConnection(self.clock, site)
            host.write = connection.send
            self._connections.append(connection)
            host.connected()
        self.settle()

    def settle(self) -> None:
        """Carry what was sent until nothing comes any more."""
        for _ in range(10):
            self.clock.pump([0] * 10)
            for host, connection in zip(self.hosts, self._connections, strict=True):
                if data := connection.received():
                    host.received(data)

    def post(self, body: bytes) -> list[str]:
        """Have jobs committed; the states that were answered."""
        self._client.request("POST", "/cluster/jobs", body, {"Prefer": "return=minimal"})
        self.settle()
        return [job["state"] for job in self._client.answer().json["jobs"]]

    def jobs(self) -> dict[str, int]:
        """How many jobs the leader knows of, by host."""
        return {host.id: len(host.jobs) for host in self.leader.hosts()}


def lean_hosts(count: int) -> list[LeanHost]:
    return [LeanHost(f"h{number}", lambda _: None) for number in range(count)]


def test_lean_hosts_register_and_take_jobs() -> None:
    led = Led(lean_hosts(2))
    assert led.leader.complete()
    assert led.post(BatchMaker(2, 3).body()) == ["starting"] * 3
    assert led.jobs() == {"h0": 0, "h1": 3}
    assert [host.count for host in led.hosts] == [0, 3]


def test_lean_hosts_look_before_they_take_when_others_are_concerned() -> None:
    led = Led(lean_hosts(3))
    assert led.post(BatchMaker(3, 7, spread=3).body()) == ["starting"] * 7
    assert sorted(led.jobs().values()) == [2, 2, 3]
    assert {host.host_id: host.count for host in led.hosts} == led.jobs()


def test_what_lean_hosts_looked_at_in_vain_is_forgotten() -> None:
    led = Led(lean_hosts(2))
    led.hosts[1].received(b"\x82\x0f" + b'{"type":"beat"}')
    led.clock.advance(0)
    dropped = frame_of_server(b'{"type":"submit","request":9,"term":1,"jobs":[],"check":true,"last":true}')
    sent: list[bytes] = []
    led.hosts[0].write = sent.append
    led.hosts[0].received(dropped + frame_of_server(b'{"type":"drop","request":9}'))
    assert sent == [frame(b'{"type":"checked","request":9}')]
    with pytest.raises(KeyError):
        led.hosts[0].received(frame_of_server(b'{"type":"take","request":9,"term":1}'))


def test_the_next_leader_is_told_of_all_jobs() -> None:
    first = Led(lean_hosts(2))
    for number in range(450):
        first.post(BatchMaker(2, 1).body() if number else BatchMaker(2, 500).body())
    second = Led(first.hosts)
    assert second.leader.complete()
    assert second.jobs() == first.jobs() == {"h0": 0, "h1": 949}
    ids = [{job.id for job in led.leader.hosts()[1].jobs} for led in (first, second)]
    assert ids[0] == ids[1]


def test_signs_of_life_keep_lean_hosts_in_the_cluster() -> None:
    led = Led(lean_hosts(2))
    with pytest.raises(NotUnderstood, match="nothing was heard"):
        for _ in range(30):
            led.clock.advance(1)
            led.hosts[0].beat()
            led.settle()
    assert [host.down for host in led.leader.hosts()] == [False, True]


def frame_of_server(message: bytes) -> bytes:
    return Connection(ConnectionType.SERVER).send(BytesMessage(message))


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 200_000])
def test_frames_of_any_size(size: int) -> None:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(frame(b"x" * size))
    assert sum(len(event.data) for event in server.events() if isinstance(event, BytesMessage)) == size
    sent = frame_of_server(b"y" * size) + frame_of_server(b"z")
    frames = Frames()
    got = [message for at in range(0, len(sent), 1000) for message in frames.feed(sent[at : at + 1000])]
    assert got == [b"y" * size, b"z"]


def test_the_end_of_a_session_is_noticed() -> None:
    with pytest.raises(NotUnderstood):
        list(Frames().feed(b"\x88\x02\x03\xe8"))
    host = LeanHost("h1", lambda _: None)
    with pytest.raises(NotUnderstood):
        host.received(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


def test_batches_are_divided_among_hosts_in_turn() -> None:
    maker = BatchMaker(4, 8, spread=3)
    first, second = decode_batch(maker.body()), decode_batch(maker.body())
    assert {host: len(jobs) for host, jobs in first.items()} == {"h1": 3, "h2": 3, "h3": 2}
    assert list(second) == ["h0", "h1", "h2"]
    assert len({job.id for batch in (first, second) for jobs in batch.values() for job in jobs}) == 16


def asked(*pieces: bytes) -> bytes | str:
    """What a caller makes of an answer that comes in these pieces."""
    listener = socket.create_server(("127.0.0.1", 0))
    read = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(1000)
        for piece in pieces:
            connection.sendall(piece)
            read.wait(0.02)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    caller = Caller(listener.getsockname()[1])
    try:
        return caller.post_jobs(b"{}").body
    except Refused as e:
        return str(e)
    finally:
        caller.close()
        thread.join()
        listener.close()


def test_a_caller_reads_whole_answers() -> None:
    ok = b"HTTP/1.1 200 OK\r\n"
    assert asked(ok + b"Content-Length: 4\r\n", b"\r\nab", b"cd") == b"abcd"
    chunked = ok + b"Transfer-Encoding: chunked\r\n\r\n"
    assert asked(chunked + b"2\r\n{}\r\n0\r\n", b"\r\n") == b"2\r\n{}\r\n0\r\n\r\n"
    assert asked(chunked, b"2\r\n{}\r", b"\n0\r\n\r\n") == b"2\r\n{}\r\n0\r\n\r\n"
    assert asked(b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno") == "409: no"
    assert asked(ok + b"Content-Length: 4\r\n\r\nab") == "the leader has closed the connection"


KIND = Kind(hosts=100, batch=100, spread=1, jobs=2000)
TRIAL = Trial(
    kind=KIND,
    before=0,
    latencies=[0.01] * 19 + [0.05],
    ends=[0.02 * n for n in range(1, 20)] + [0.5],
    cpu_seconds=[0.01 * n for n in range(1, 10)] + [0.2],
    memory_bytes=1_000_000,
    held=Held(0.01, 0.02, 0.005, 0),
)


def test_the_figures_of_a_series() -> None:
    assert TRIAL.per_second == 4000
    assert round(TRIAL.first_tenth) == 5000
    assert round(TRIAL.last_tenth) == round(200 / 0.14)
    assert round(TRIAL.cpu_per_thousand, 6) == 0.1
    assert round(TRIAL.cpu_growth, 6) == 11
    assert TRIAL.bytes_per_job == 500


def test_nothing_is_posted_in_part() -> None:
    for hosts in (10, 100, 1000, 6100):
        for kind in kinds(hosts, 0.01) + kinds(hosts, 1):
            assert kind.jobs % kind.batch == 0
            assert kind.jobs >= 10 * kind.batch
            assert kind.spread <= min(kind.batch, kind.hosts)


def test_the_report_sets_the_figures_beside_the_aims() -> None:
    findings = Findings({"machine": "none"})
    findings.bare += [2000.0, 2100.0, 1900.0]
    findings.add(TRIAL)
    for hosts, seconds in ((10, 0.001), (100, 0.001), (6100, 0.0012)):
        kind = evolve(KIND, hosts=hosts, batch=1, jobs=20)
        findings.add(evolve(TRIAL, kind=kind, latencies=[seconds] * 20))
    joined = Joined(1000, 0, 0.9, 0.8, 11_000_000, Held())
    findings.joined += [joined, evolve(joined, seconds=1.1)]
    findings.rested.append(Rested(6100, 0.08, Held()))
    findings.challenge = evolve(TRIAL, ends=[15.0 * n for n in range(1, 21)])
    findings.served.append(Served("GET", 200, 9.0, 600_000_000, 0.02, Held(event=0.012)))
    findings.replaced.append(joined)
    text = findings.text()
    assert "| 4,000/s " in text
    assert "| 40/s, Klein alone 2,000/s " in text
    assert "| 1.20 " in text
    assert "| 1.0 s " in text
    assert "| 5.0 min " in text
    assert "| 12 ms " in text
    assert "| 500 bytes" in text
    assert all(len({line.count("|") for line in part.splitlines()}) == 1 for part in text.split("\n\n")[2::2])
    assert json.loads(json.dumps(findings.json()))["challenge"]["seconds"] == 300


def test_what_was_not_measured_is_not_reported() -> None:
    findings = Findings({"machine": "none"})
    findings.add(TRIAL)
    assert "challenge" not in findings.text()
    assert json.loads(json.dumps(findings.json()))["challenge"] is None
