"""etcd with TLS, with certificates of clients, and with users."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve

from flynnhost.errors import EtcdUnavailable, PermissionDenied
from flynnhost.etcd.auth import User
from flynnhost.etcd.tls import TlsFiles
from flynnhost.keyvalues import Put
from flynnhost.testing.etcd_contract_rig import failure
from tests.support.etcd import EtcdCluster, Secured
from tests.support.etcd_rig import RealRig
from tests.support.etcd_tls import CLIENT, SERVER, Authority
from tests.support.reactor import on_reactor

pytestmark = pytest.mark.etcd

ROOT_PASSWORD = "secret of the root"
ALICE = User("alice", "secret of alice")
TOKEN_TTL = 1
"""Seconds after which etcd forgets a token that is not used."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Secured:
    return Secured(authority, authority.vouch("etcd", SERVER, CLIENT), authority.vouch("client", CLIENT))


@pytest.fixture(scope="module")
def secure_etcd(make_etcd: Callable[..., EtcdCluster], secured: Secured) -> EtcdCluster:
    return make_etcd(secured=secured)


@pytest.fixture(scope="module")
def etcd_with_users(make_etcd: Callable[..., EtcdCluster]) -> EtcdCluster:
    options = {"auth-token": "simple", "auth-token-ttl": str(TOKEN_TTL), "bcrypt-cost": "4"}
    cluster = make_etcd(options=options)
    cluster.enable_auth(ROOT_PASSWORD, {ALICE.name: ALICE.password})
    return cluster


@pytest.fixture
def secure(secure_etcd: EtcdCluster, clean_reactor: Any) -> Iterator[RealRig]:
    rig = RealRig(clean_reactor, secure_etcd)
    yield rig
    rig.close()


@pytest.fixture
def guarded(etcd_with_users: EtcdCluster, clean_reactor: Any) -> Iterator[RealRig]:
    rig = RealRig(clean_reactor, etcd_with_users, ALICE)
    yield rig
    rig.close()


# --- TLS ----------------------------------------------------------------------


@on_reactor
async def test_tls(secure: RealRig) -> None:
    """Calls, keep-alives and watches go over TLS, with a certificate by which etcd knows us."""
    etcd = secure.client()
    recorder = await secure.watching(etcd)
    lease = (await etcd.grant(60)).lease
    await etcd.put(secure.key("k"), b"x" * 200_000, lease)
    assert await etcd.keep_alive_once(lease, 5.0) == 60
    await secure.until(lambda: recorder.events, "the event")
    await etcd.revoke(lease)
    await secure.until(lambda: len(recorder.events) == 2, "the removal")
    assert secure.cluster.urls[0].startswith("https:")


@on_reactor
async def test_a_silent_peer_over_tls(secure: RealRig) -> None:
    """A connection to a peer that hangs is cut at once, though TLS would wait for its goodbye."""
    proxy = await secure.proxy(secure.cluster.members[0])
    etcd = secure.client([proxy.url], silence=1.0, timeout=1.0)
    recorder = await secure.watching(etcd)
    await etcd.status()
    proxy.silent = True
    await failure(etcd.put(secure.key("k"), b""), EtcdUnavailable)
    await secure.until(lambda: "lost" in recorder.told, "the loss")
    await recorder.watch.stop()
    await secure.until(lambda: proxy.connections == 0, "the end of the connections", within=3)


@on_reactor
async def test_without_our_certificate(secure: RealRig) -> None:
    """An etcd that asks for a certificate does not serve a client that has none."""
    files = evolve(secure.cluster.files, certificate="", key="")
    await failure(secure.client(tls=files, timeout=3.0).get(b"k"), EtcdUnavailable)


@on_reactor
async def test_an_etcd_of_somebody_else(secure: RealRig, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An etcd that the given authority does not vouch for is not spoken to, and the reason is told."""
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    files = evolve(secure.cluster.files, ca=str(stranger.ca))
    error = await failure(secure.client(tls=files, timeout=3.0).get(b"k"), EtcdUnavailable)
    assert "certificate verify failed" in error.reason
    files = TlsFiles()
    await failure(secure.client(tls=files, timeout=3.0).get(b"k"), EtcdUnavailable)


@on_reactor
async def test_plain_http_to_tls(secure: RealRig) -> None:
    """A scheme that is wrong is a failure in time, not a hanging."""
    url = secure.cluster.urls[0].replace("https:", "http:")
    began = time.monotonic()
    await failure(secure.client([url], timeout=3.0).get(b"k"), EtcdUnavailable)
    assert time.monotonic() - began < 5


@pytest.fixture
def half_secure(
    make_etcd: Callable[..., EtcdCluster], authority: Authority, clean_reactor: Any
) -> Iterator[RealRig]:
    pair, ours = authority.vouch("server only", SERVER), authority.vouch("client too", CLIENT)
    cluster = make_etcd(secured=Secured(authority, pair, ours), unhealthy=True)
    rig = RealRig(clean_reactor, cluster)
    yield rig
    rig.close()
    cluster.stop()


@on_reactor
async def test_a_certificate_for_servers_only(half_secure: RealRig) -> None:
    """An etcd whose certificate is not good for clients too can't reach itself, and is unavailable."""
    await failure(half_secure.client(timeout=5.0).get(b"k"), EtcdUnavailable)


# --- users --------------------------------------------------------------------


@on_reactor
async def test_users(guarded: RealRig) -> None:
    """A user logs in by itself, once, and may do what it may, and nothing else."""
    etcd = guarded.client()
    recorder = await guarded.watching(etcd)
    lease = (await etcd.grant(60)).lease
    await etcd.put(guarded.key("k"), b"1", lease)
    await guarded.until(lambda: recorder.events, "the event")
    await failure(etcd.get(b"bob/k"), PermissionDenied)
    await failure(etcd.put(b"bob/k", b""), PermissionDenied)
    await failure(etcd.txn([], [Put(guarded.key("j"), b""), Put(b"bob/k", b"")]), PermissionDenied)
    assert (await etcd.get(guarded.keys)).count == 1
    forbidden = guarded.watch(etcd, keys=b"bob/k")
    await guarded.until(lambda: forbidden.error, "the end")
    assert isinstance(forbidden.error, PermissionDenied)
    await etcd.revoke(lease)


@on_reactor
async def test_tokens_expire(guarded: RealRig) -> None:
    """When etcd has forgotten the token a call logs in again, and so does a watch when it connects again."""
    proxy = await guarded.proxy(guarded.cluster.members[0])
    etcd = guarded.client([proxy.url])
    recorder = await guarded.watching(etcd)
    await etcd.put(guarded.key("k"), b"1")
    await guarded.until(lambda: recorder.events, "the event")
    await guarded.pause(TOKEN_TTL * 2 + 0.5)
    proxy.cut()
    await guarded.until(lambda: "lost" in recorder.told, "the loss")
    await guarded.until(lambda: recorder.connected, "the watch")
    await guarded.pause(TOKEN_TTL * 2 + 0.5)
    await etcd.put(guarded.key("k"), b"2")
    await guarded.until(lambda: len(recorder.events) == 2, "the other event")
    assert recorder.values == [b"1", b"2"]


@on_reactor
async def test_wrong_password(guarded: RealRig) -> None:
    """A wrong password is final, for calls and watches, and is not shown. A keep-alive does without."""
    etcd = guarded.client(user=User(ALICE.name, "wrong secret"))
    error = await failure(etcd.get(guarded.key("k")), PermissionDenied)
    assert "wrong secret" not in str(error) + repr(User(ALICE.name, "wrong secret"))
    recorder = guarded.watch(etcd)
    await guarded.until(lambda: recorder.error, "the end")
    assert isinstance(recorder.error, PermissionDenied)
    lease = (await guarded.client().grant(60)).lease
    assert await etcd.keep_alive_once(lease, 5.0) == 60
    assert (await etcd.status()).leader


@on_reactor
async def test_nobody(guarded: RealRig) -> None:
    """Who does not say who he is may do nothing with keys; etcd does not guard leases and its status."""
    etcd = guarded.client(user=None)
    await failure(etcd.get(guarded.key("k")), PermissionDenied)
    await failure(etcd.put(guarded.key("k"), b""), PermissionDenied)
    recorder = guarded.watch(etcd)
    await guarded.until(lambda: recorder.error, "the end")
    assert isinstance(recorder.error, PermissionDenied)
    lease = (await etcd.grant(60)).lease
    assert await etcd.keep_alive_once(lease, 5.0) == 60
    assert (await etcd.status()).leader


@on_reactor
async def test_a_user_where_none_is_asked_for(secure: RealRig) -> None:
    """A client with a user can be used before the operator has turned users on."""
    etcd = secure.client(user=ALICE)
    await etcd.put(secure.key("k"), b"1")
    recorder = await secure.watching(etcd)
    await etcd.put(secure.key("k"), b"2")
    await secure.until(lambda: recorder.events, "the event")
