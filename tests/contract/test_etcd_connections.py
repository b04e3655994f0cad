"""What the network does to the client of etcd: pieces, silence, lost answers, and servers that misbehave."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from flynnhost.errors import EtcdRefused, EtcdUnavailable
from flynnhost.etcd import transport
from flynnhost.etcd.mirror import Mirror
from flynnhost.keyvalues import Compare, Get, KeyValue, Put
from flynnhost.testing.etcd_contract_rig import failure
from tests.support.etcd import EtcdCluster
from tests.support.etcd_rig import RealRig
from tests.support.reactor import on_reactor

pytestmark = pytest.mark.etcd

NO_LEADER = json.dumps({"code": 14, "message": "etcdserver: no leader"}).encode()
CREATED = b'{"result":{"header":{"cluster_id":"1","revision":"5"},"created":true}}\n'


@pytest.fixture
def rig(etcd: EtcdCluster, clean_reactor: Any) -> Iterator[RealRig]:
    rig = RealRig(clean_reactor, etcd)
    yield rig
    rig.close()


@define(eq=False)
class Stub:
    """Answers each request with the same bytes, and leaves the connection open."""

    answer: bytes
    requests: list[bytes] = field(factory=list)
    open: list[Protocol] = field(factory=list)
    _port: Any = None

    async def start(self, reactor: Any) -> str:
        stub = self

        class Serve(Protocol):
            def connectionMade(self) -> None:
                stub.open.append(self)

            def dataReceived(self, data: bytes) -> None:
                stub.requests.append(data)
                assert self.transport is not None
                self.transport.write(stub.answer)

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                stub.open.remove(self)

        self._port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(Serve)
        )
        return f"http://127.0.0.1:{self._port.getHost().port}"

    async def stop(self) -> None:
        await self._port.stopListening()
        for each in list(self.open):
            assert each.transport is not None
            each.transport.loseConnection()


def answer(body: bytes, status: int = 200, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} x\r\nContent-Length: {size}\r\n\r\n".encode() + body


@pytest.mark.parametrize("piece", [1, 700, 16_384])
@on_reactor
async def test_events_in_pieces(rig: RealRig, piece: int) -> None:
    """Events of 20 kB arrive whole and in order, whatever pieces the network makes of them."""
    proxy = await rig.proxy(rig.cluster.members[0])
    proxy.piece = piece
    recorder = await rig.watching(rig.client([proxy.url]))
    values = [b"%02d" % n * (10_000 if piece > 1 else 1_000) for n in range(20)]
    writer = rig.client()
    for value in values:
        await writer.put(rig.key("k"), value)
    await rig.until(lambda: len(recorder.events) == 20, "the events")
    assert recorder.values == values


@on_reactor
async def test_half_open_connections(rig: RealRig) -> None:
    """A connection over which nothing comes any more is noticed by its silence, and another one is made."""
    proxy = await rig.proxy(rig.cluster.members[0])
    client = rig.client([proxy.url], silence=1.5)
    recorder = await rig.watching(client)
    client.use_endpoints([proxy.url, rig.cluster.members[0].url])
    proxy.silent = True
    await rig.client().put(rig.key("k"), b"1")
    await rig.until(lambda: recorder.events, "the event", within=15)
    assert recorder.told == ["connected", "lost", "connected"]
    assert recorder.values == [b"1"]
    await rig.until(lambda: proxy.connections == 0, "the end of the dead connection")


@on_reactor
async def test_stopping_closes_the_connection(rig: RealRig) -> None:
    """A watch that is stopped closes its connection, a silent one too, so that etcd ends its side."""
    proxy = await rig.proxy(rig.cluster.members[0])
    client = rig.client([proxy.url])
    one, other = await rig.watching(client), await rig.watching(client)
    assert proxy.connections == 2
    await one.watch.stop()
    await rig.until(lambda: proxy.connections == 1, "the end of the connection", within=3)
    proxy.silent = True
    await other.watch.stop()
    await rig.until(lambda: proxy.connections == 0, "the end of the silent connection", within=3)


@on_reactor
async def test_cancelling_closes_the_connection(rig: RealRig) -> None:
    """A call that is cancelled, or late, closes its connection, wherever it was in its answer."""
    half = answer(b'{"header":', length=1000)
    for text in (b"", half):
        stub = Stub(text)
        url = await stub.start(rig.reactor)
        call = rig.client([url]).get(b"k")
        errors: list[Any] = []
        call.addErrback(errors.append)
        await rig.until(lambda stub=stub: stub.requests, "the request")  # type: ignore[misc]
        await rig.pause(0.05)
        call.cancel()
        assert len(errors) == 1
        await rig.until(lambda stub=stub: not stub.open, "the end of the connection", within=3)  # type: ignore[misc]
        began = time.monotonic()
        await failure(rig.client([url], timeout=0.3).get(b"k"), EtcdUnavailable)
        assert 0.25 < time.monotonic() - began < 2
        await rig.until(lambda stub=stub: not stub.open, "the end of the late one", within=3)  # type: ignore[misc]
        await stub.stop()


@on_reactor
async def test_an_answer_that_drips(rig: RealRig) -> None:
    """The deadline covers the whole exchange: an answer that never ends does not hold a call for ever."""
    stub = Stub(answer(b" " * 100, length=10_000_000))
    url = await stub.start(rig.reactor)
    began = time.monotonic()
    await failure(rig.client([url], timeout=0.5).get(b"k"), EtcdUnavailable)
    assert time.monotonic() - began < 3
    await stub.stop()


@on_reactor
async def test_an_answer_that_is_too_long(rig: RealRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer longer than what is taken is refused instead of filling the memory."""
    monkeypatch.setattr(transport, "LONGEST_ANSWER", 100_000)
    client = rig.client()
    await client.put(rig.key("k"), b"x" * 200_000)
    await failure(client.get(rig.key("k")), EtcdRefused)
    assert (await client.get(Get(rig.key("k"), keys_only=True))).count == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"error":"context deadline exceeded","message":"context deadline exceeded","code":2}'),
        (503, NO_LEADER),
        (503, b"no JSON at all"),
        (503, b'{"error":"etcdserver: rpc not supported for learner","code":14}'),
    ],
)
@on_reactor
async def test_another_member_is_asked(rig: RealRig, status: int, body: bytes) -> None:
    """When a member can't answer, whatever it says, another one is asked, and first from then on."""
    stub = Stub(answer(body, status))
    url = await stub.start(rig.reactor)
    client = rig.client([url])
    with pytest.raises(EtcdUnavailable):
        await client.put(rig.key("k"), b"1")
    client.use_endpoints([url, *rig.cluster.urls])
    for _ in range(3):
        await client.put(rig.key("k"), b"1")
    assert len(stub.requests) <= 2
    await stub.stop()


@on_reactor
async def test_requests_name_the_version_and_want_a_leader(rig: RealRig) -> None:
    """Every request goes to ``/v3/`` and wants a member with a leader, but for status."""
    stub = Stub(answer(NO_LEADER, 503))
    url = await stub.start(rig.reactor)
    client = rig.client([url])
    recorder = rig.watch(client)
    await rig.until(lambda: "lost" in recorder.told, "the watch's failure")
    await recorder.watch.stop()
    calls = [client.get(b"k"), client.put(b"k", b""), client.delete(b"k"), client.txn([]), client.grant(5)]
    calls += [client.keep_alive_once(1, 1.0), client.revoke(1), client.time_to_live(1), client.members()]
    for call in calls:
        await failure(call, EtcdUnavailable)
    assert len(stub.requests) >= 10
    for request in stub.requests:
        assert request.startswith(b"POST /v3/"), request
        assert b"\r\ngrpc-metadata-hasleader: true\r\n" in request.lower(), request
    stub.requests.clear()
    await failure(client.status(), EtcdUnavailable)
    assert stub.requests[0].startswith(b"POST /v3/maintenance/status ")
    assert b"hasleader" not in stub.requests[0].lower()
    await stub.stop()


@on_reactor
async def test_an_unterminated_last_frame(rig: RealRig) -> None:
    """An error in a stream counts also without a final newline, as 3.4 and 3.5 send it."""
    last = b'{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}'
    stub = Stub(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CREATED + last)
    url = await stub.start(rig.reactor)
    client = rig.client([url])
    recorder = await rig.watching(client)
    reasons: list[str] = []
    recorder.on_lost = reasons.append
    assert stub.open[0].transport is not None
    stub.open[0].transport.loseConnection()
    await rig.until(lambda: reasons, "the loss")
    assert "no leader" in reasons[0]
    await client.close()
    await stub.stop()


@on_reactor
async def test_events_that_were_told_before(rig: RealRig) -> None:
    """What a member tells again after a resumption is not passed on."""
    old = b'{"result":{"header":{"cluster_id":"1","revision":"5"},"events":[%s]}}\n'
    event = b'{"kv":{"key":"YQ==","mod_revision":"%d","value":"YQ=="}}'
    frames = old % b",".join((event % 4, event % 5, event % 6))
    stub = Stub(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CREATED + frames)
    url = await stub.start(rig.reactor)
    client = rig.client([url])
    recorder = rig.watch(client, 5, keys=b"a")
    await rig.until(lambda: len(recorder.events) == 2, "the events")
    assert b'"start_revision": 5' in stub.requests[0]
    assert stub.open[0].transport is not None
    stub.open[0].transport.loseConnection()
    await rig.until(lambda: len(stub.requests) == 2, "the resumption")
    await rig.pause(0.1)
    assert b'"start_revision": 7' in stub.requests[1]
    assert [each.kv.mod_revision for each in recorder.events] == [5, 6]
    await client.close()
    await stub.stop()


@on_reactor
async def test_another_cluster(rig: RealRig) -> None:
    """A watch that finds another cluster at the old address, as after a restore, ends like a compaction."""
    stub = Stub(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CREATED)
    url = await stub.start(rig.reactor)
    client = rig.client([url])
    recorder = await rig.watching(client)
    stub.answer = stub.answer.replace(b'"cluster_id":"1"', b'"cluster_id":"2"')
    assert stub.open[0].transport is not None
    stub.open[0].transport.loseConnection()
    await rig.until(lambda: recorder.error, "the end")
    assert recorder.told == ["connected", "lost", "ended"]
    await client.close()
    await stub.stop()


@on_reactor
async def test_retries_are_at_least_once(rig: RealRig) -> None:
    """A condition may fail because of one's own first try, not answered; the key shows whose it is."""
    proxy = await rig.proxy(rig.cluster.members[0])
    client = rig.client([proxy.url], timeout=2.0)
    await client.status()
    client.use_endpoints([proxy.url, rig.cluster.members[0].url])
    proxy.mute = True
    key = rig.key("leader")
    result = await client.txn([Compare(key, "create", "==", 0)], [Put(key, b"mine")], [Get(key)])
    assert not result.succeeded
    assert result.results[0].values[0].value == b"mine"
    assert result.results[0].values[0].version == 1


@on_reactor
async def test_keep_alives_wait_behind_nothing(rig: RealRig) -> None:
    """However many calls wait, a keep-alive is answered at once."""
    client = rig.client(at_once=2, timeout=30.0)
    lease = (await client.grant(60)).lease
    value = b"x" * 100_000
    calls = [client.put(rig.key(f"{n}"), value) for n in range(200)]
    answered: list[int] = []
    for call in calls:
        call.addCallback(lambda _: answered.append(1))
    assert await client.keep_alive_once(lease, 5.0) == 60
    assert len(answered) < 100
    await gatherResults(calls)


@on_reactor
async def test_the_lost_connection_of_an_old_call(rig: RealRig) -> None:
    """A call that finds its connection closed by a restart of etcd makes a new one, and does not fail."""
    proxy = await rig.proxy(rig.cluster.members[0])
    client = rig.client([proxy.url])
    for _ in range(5):
        await gatherResults([client.put(rig.key(f"{n}"), b"") for n in range(3)])
        proxy.cut()
    await client.put(rig.key("k"), b"")


class Nobody:
    """Listens to a mirror, for the sake of its calls only."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def key_changed(self, kv: KeyValue, previous: KeyValue | None) -> None:
        self.told.append("changed")

    def key_removed(self, previous: KeyValue) -> None:
        self.told.append("removed")

    def mirror_synced(self) -> None:
        self.told.append("synced")

    def mirror_stale(self, reason: str) -> None:
        self.told.append("stale")


@on_reactor
async def test_a_mirror_that_was_away(rig: RealRig) -> None:
    """A mirror that was cut off while its changes were compacted has all of them when it is back."""
    proxy = await rig.proxy(rig.cluster.members[0])
    client, writer, listener = rig.client([proxy.url], silence=1.5, timeout=2.0), rig.client(), Nobody()
    for name in ("changed", "removed", "same"):
        await writer.put(rig.key(name), b"1")
    mirror = Mirror(rig.reactor, client, rig.keys, listener)
    mirror.start()
    await mirror.when_synced()
    assert listener.told == ["changed", "changed", "changed", "synced"]
    proxy.silent = True
    await rig.until(lambda: not mirror.synced, "the mirror to know")
    await writer.put(rig.key("changed"), b"2")
    await writer.delete(rig.key("removed"))
    await rig.compact((await writer.put(rig.key("new"), b"1")).revision)
    listener.told.clear()
    proxy.silent = False
    proxy.cut()
    await mirror.when_synced()
    found = await writer.get(rig.keys)
    assert dict(mirror.values) == {kv.key: kv for kv in found.values}
    assert sorted(listener.told) == ["changed", "changed", "removed", "synced"]
    await writer.put(rig.key("same"), b"2")
    await rig.until(lambda: len(listener.told) > 4, "the change")
    assert listener.told[4:] == ["changed"]
    await mirror.stop()


@on_reactor
async def test_many_events(rig: RealRig, record_property: Any) -> None:
    """Thousands of events arrive in order, and none is missing."""
    recorder = await rig.watching(rig.client())
    writer = rig.client()
    began = time.monotonic()
    for batch in range(40):
        await writer.txn([], [Put(rig.key(f"{n}"), b"%d" % batch) for n in range(100)])
    await rig.until(lambda: len(recorder.events) == 4000, "the events")
    record_property("events_per_second", round(4000 / (time.monotonic() - began)))
    assert [int(value or b"-1") for value in recorder.values] == [n // 100 for n in range(4000)]
