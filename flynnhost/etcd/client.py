"""The client of etcd: txaioetcd's calls on a transport of our own. Import it only where etcd is used."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import txaioetcd
from attrs import define, evolve, field
from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from flynnhost.background import shielded
from flynnhost.errors import LeaseLost
from flynnhost.etcd import answers
from flynnhost.etcd.answers import Json
from flynnhost.etcd.endpoints import parse_endpoints
from flynnhost.etcd.requests import key_set, range_request, transaction
from flynnhost.etcd.transport import Transport
from flynnhost.etcd.watch import KeyWatch
from flynnhost.interfaces import IEtcd, IKeyListener
from flynnhost.keyvalues import (
    Compare,
    Delete,
    EtcdMember,
    EtcdStatus,
    Found,
    Get,
    Grant,
    KeyRange,
    LeaseState,
    Put,
    Removed,
    Stored,
    TxnResult,
)

Operation = Get | Put | Delete

_PREFIX = "/v3alpha/"

_AGREED = Get(b"\0", count_only=True)
"""A read, of next to nothing, that takes etcd's agreement."""


class _Txaioetcd(txaioetcd.Client):  # type: ignore[misc]
    """txaioetcd's client, whose requests go our way."""

    def __init__(self, reactor: Any, transport: Transport, timeout: float) -> None:
        super().__init__(reactor, "http://unused")
        self._url = ""  # now its URLs are but paths
        self._transport = transport
        self._within = timeout

    def _post(self, url: bytes, data: Json, timeout: float | None) -> Deferred[Json]:
        path = url.decode("ascii").removeprefix(_PREFIX)
        return self._transport.ask(path, data, timeout or self._within, leader=path != "maintenance/status")

    def lease_of(self, lease: int) -> txaioetcd.Lease | None:
        """A lease by its ID, in txaioetcd's way; None for none."""
        return txaioetcd.Lease(self, None, 0, lease) if lease else None


@implementer(IEtcd)
@define(eq=False)
class EtcdClient:
    """An ``IEtcd`` of real members.

    :param timeout: the deadline of each call.
    :param silence: seconds after which a watch that hears nothing looks for another member.
    :param chance: gives numbers from 0 to below 1.
    """

    _transport: Transport
    _timeout: float
    _silence: float
    _chance: Callable[[], float]
    _calls: _Txaioetcd = field(init=False)
    _watches: dict[KeyWatch, None] = field(init=False, factory=dict)
    _closed: Deferred[None] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._calls = _Txaioetcd(self._transport.reactor, self._transport, self._timeout)

    # --- keys -----------------------------------------------------------------

    def get(self, what: Get | KeyRange | bytes) -> Deferred[Found]:
        """See ``IEtcd.get``."""
        query = what if isinstance(what, Get) else Get(what)
        leader = not query.serializable

        async def get() -> Found:
            answer = await self._ask("kv/range", range_request(query), leader=leader)
            return answers.found(answer, answers.revision_of(answer))

        return Deferred.fromCoroutine(get())

    def put(self, key: bytes, value: bytes, lease: int = 0, *, previous: bool = False) -> Deferred[Stored]:
        """See ``IEtcd.put``."""
        return Deferred.fromCoroutine(self._put(Put(key, value, lease, previous)))

    def delete(self, keys: KeyRange | bytes, *, previous: bool = False) -> Deferred[Removed]:
        """See ``IEtcd.delete``."""
        return Deferred.fromCoroutine(self._delete(Delete(keys, previous)))

    def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Get | Put | Delete] = (),
        failure: Sequence[Get | Put | Delete] = (),
    ) -> Deferred[TxnResult]:
        """See ``IEtcd.txn``."""
        return Deferred.fromCoroutine(self._txn(tuple(compares), tuple(success), tuple(failure)))

    async def _put(self, put: Put) -> Stored:
        if put.previous:
            (stored,) = (await self._txn((), (put,), ())).results
            return cast(Stored, stored)
        with _of_lease(put.lease):
            revision = await self._calls.set(put.key, put.value, lease=self._calls.lease_of(put.lease))
        return Stored(revision.header.revision)

    async def _delete(self, delete: Delete) -> Removed:
        if delete.previous:
            (removed,) = (await self._txn((), (delete,), ())).results
            return cast(Removed, removed)
        deleted = await self._calls.delete(key_set(delete.keys))
        return Removed(deleted.deleted, deleted.header.revision)

    async def _txn(
        self, compares: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]
    ) -> TxnResult:
        if not success and not failure:
            # Without operations etcd takes a transaction for a read that any member may answer
            # from what it happens to know.
            asked = await self._txn(compares, (), (_AGREED,))
            return evolve(asked, results=())
        leases = [each.lease for each in (*success, *failure) if isinstance(each, Put) and each.lease]
        body = transaction(self._calls, compares, success, failure)
        with _of_lease(leases[0] if leases else 0):
            return answers.txn_result(await self._ask("kv/txn", body))

    # --- leases ---------------------------------------------------------------

    def grant(self, ttl: int) -> Deferred[Grant]:
        """See ``IEtcd.grant``."""

        async def grant() -> Grant:
            lease = await self._calls.lease(ttl)
            return Grant(lease.lease_id, lease.time_to_live)

        return Deferred.fromCoroutine(grant())

    def keep_alive_once(self, lease: int, within: float) -> Deferred[int]:
        """See ``IEtcd.keep_alive_once``."""

        async def keep_alive() -> int:
            answer = await self._ask("lease/keepalive", {"ID": lease}, within, queued=False)
            ttl = int(answer.get("result", {}).get("TTL", 0))
            if ttl <= 0:
                raise LeaseLost(lease)
            return ttl

        return Deferred.fromCoroutine(keep_alive())

    def revoke(self, lease: int) -> Deferred[None]:
        """See ``IEtcd.revoke``."""

        async def revoke() -> None:
            with suppress(LeaseLost):
                await self._ask("lease/revoke", {"ID": lease})

        return Deferred.fromCoroutine(revoke())

    def time_to_live(self, lease: int, *, keys: bool = False) -> Deferred[LeaseState]:
        """See ``IEtcd.time_to_live``."""

        async def time_to_live() -> LeaseState:
            with _of_lease(lease):
                answer = await self._ask("lease/timetolive", {"ID": lease, "keys": keys})
            remaining = int(answer.get("TTL", 0))
            if remaining < 0:
                raise LeaseLost(lease)
            held = tuple(base64.b64decode(key) for key in answer.get("keys", ()))
            return LeaseState(remaining, int(answer.get("grantedTTL", 0)), held)

        return Deferred.fromCoroutine(time_to_live())

    # --- the rest -------------------------------------------------------------

    def watch(self, keys: KeyRange | bytes, from_revision: int, listener: IKeyListener) -> KeyWatch:
        """See ``IEtcd.watch``."""
        of = KeyRange(keys) if isinstance(keys, bytes) else keys
        watch = KeyWatch(
            self._transport,
            of,
            from_revision,
            listener,
            self._timeout,
            self._silence,
            self._chance,
            self._forget,
        )
        if self._closed is None:
            self._watches[watch] = None
            watch.begin()
        return watch

    def status(self) -> Deferred[EtcdStatus]:
        """See ``IEtcd.status``."""

        async def status() -> EtcdStatus:
            is_ = await self._calls.status()
            header = is_.header
            return EtcdStatus(
                header.member_id, is_.version, is_.leader or 0, header.revision, is_.raft_term, is_.db_size
            )

        return Deferred.fromCoroutine(status())

    def members(self) -> Deferred[tuple[EtcdMember, ...]]:
        """See ``IEtcd.members``."""

        async def members() -> tuple[EtcdMember, ...]:
            answer = await self._ask("cluster/member/list", {})
            return tuple(map(answers.member, answer.get("members", ())))

        return Deferred.fromCoroutine(members())

    def use_endpoints(self, urls: Sequence[str]) -> None:
        """Ask these members from now on, as when the cluster has got others.

        :raises InvalidField: when one can't be understood.
        """
        self._transport.endpoints.replace(parse_endpoints(urls))

    def close(self) -> Deferred[None]:
        """See ``IEtcd.close``."""
        if self._closed is None:
            self._closed = Deferred.fromCoroutine(self._close())
        return shielded(self._closed)

    async def _close(self) -> None:
        await gatherResults([watch.stop() for watch in list(self._watches)])
        await self._transport.close()

    def _forget(self, watch: KeyWatch) -> None:
        self._watches.pop(watch, None)

    def _ask(
        self, path: str, body: Json, within: float | None = None, *, queued: bool = True, leader: bool = True
    ) -> Deferred[Json]:
        seconds = self._timeout if within is None else within
        return self._transport.ask(path, body, seconds, queued=queued, leader=leader)


@contextmanager
def _of_lease(lease: int) -> Iterator[None]:
    """Say which lease is lost, when etcd only says that one is."""
    try:
        yield
    except LeaseLost as e:
        raise LeaseLost(lease) from e
