"""A client of etcd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import Interface

from flynnhost.errors import FlynnHostError
from flynnhost.keyvalues import (
    Compare,
    Delete,
    EtcdMember,
    EtcdStatus,
    Found,
    Get,
    Grant,
    KeyEvent,
    KeyRange,
    LeaseState,
    Put,
    Removed,
    Stored,
    TxnResult,
)


class IKeyListener(Protocol):
    """Hears of changes to keys. Nothing is told any more after ``watch_ended``."""

    def watch_connected(self, revision: int) -> None:
        """Changes are told (again), from where it was left.

        :param revision: of the store at the time: what came before it may still be on its way.
        """

    def watch_lost(self, reason: str) -> None:
        """No changes are told for now; the watch goes on trying by itself."""

    def keys_changed(self, revision: int, events: Sequence[KeyEvent]) -> None:
        """Some keys changed, told in order. All of what happened up to ``revision`` is told now.

        :param events: none, if this is but a sign of life.
        """

    def watch_ended(self, error: FlynnHostError) -> None:
        """Changes will not be told any more.

        :param error: ``Compacted`` if some were missed: list the keys, and watch anew from
            there. Else ``PermissionDenied`` or ``EtcdRefused``.
        """


class IKeyWatch(Protocol):
    """A running watch of keys."""

    def stop(self) -> Deferred[None]:
        """End the watch; nothing is told any more. Fires when its connection is gone; never fails."""


class IEtcd(Interface):
    """A client of an etcd cluster.

    Every Deferred has a deadline and fails with ``EtcdUnavailable`` when no member gave an answer
    in time; with ``PermissionDenied`` or ``EtcdRefused`` when there was one and it was no.
    What fails so, or is cancelled, may have been done all the same. A request may be
    made more than once, at one member after another: a condition that does not hold may be due
    to the very same transaction, done before.
    """

    def get(what: Get | KeyRange | bytes) -> Deferred[Found]:
        """Fires with what was read.

        :raises Compacted: when the revision asked for is forgotten.
        """

    def put(key: bytes, value: bytes, lease: int = 0, *, previous: bool = False) -> Deferred[Stored]:
        """Give a key a value; see ``Put``. Fires when it is stored.

        :raises LeaseLost: when there is no such lease.
        """

    def delete(keys: KeyRange | bytes, *, previous: bool = False) -> Deferred[Removed]:
        """Remove keys. Fires when they are not there, also if they never were."""

    def txn(
        compares: Sequence[Compare],
        success: Sequence[Get | Put | Delete] = (),
        failure: Sequence[Get | Put | Delete] = (),
    ) -> Deferred[TxnResult]:
        """Do ``success`` if all conditions hold and ``failure`` if one does not, all at once. Fires
        with what was done; that a condition did not hold is no failure of the Deferred. One that
        only asks, without operations, is agreed upon by etcd like any other.

        :raises LeaseLost: when there is no such lease as one that is put.
        """

    def grant(ttl: int) -> Deferred[Grant]:
        """Make a lease that lasts ``ttl`` seconds, or somewhat more. Fires with it."""

    def keep_alive_once(lease: int, within: float) -> Deferred[int]:
        """Let a lease last its whole time again, from now on. Waits behind nothing else. Fires
        with that time in seconds.

        :param within: seconds until the Deferred fails with ``EtcdUnavailable``.
        :raises LeaseLost: when there is no such lease.
        """

    def revoke(lease: int) -> Deferred[None]:
        """End a lease, which removes its keys. Fires also when there is no such lease."""

    def time_to_live(lease: int, *, keys: bool = False) -> Deferred[LeaseState]:
        """Fires with what is left of a lease.

        :param keys: whether to tell its keys.
        :raises LeaseLost: when there is no such lease.
        """

    def watch(keys: KeyRange | bytes, from_revision: int, listener: IKeyListener) -> IKeyWatch:
        """Begin to tell of changes to these keys, each one once and in order, through any loss of
        connections and members, until it is stopped or can't be gone on with.

        :param from_revision: the first one to be told; 0 for those to come.
        """

    def status() -> Deferred[EtcdStatus]:
        """Fires with what the member that is asked says of itself, leader or not."""

    def members() -> Deferred[tuple[EtcdMember, ...]]:
        """Fires with the members of the etcd cluster."""

    def close() -> Deferred[None]:
        """End all calls and watches. Fires when no connection is left; never fails."""
