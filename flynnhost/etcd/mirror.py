"""A copy of some keys of etcd that follows their changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from flynnhost.background import Background, Backoff
from flynnhost.errors import Compacted, EtcdTrouble, FlynnHostError
from flynnhost.interfaces import IEtcd, IKeyWatch
from flynnhost.keyvalues import Found, KeyEvent, KeyRange, KeyValue

_AFTER_A_REFUSAL = 5.0
"""Seconds until it is tried again what only an operator can change."""


class IMirrorListener(Protocol):
    """Hears of changes to a mirror, which has them already when it is told."""

    def key_changed(self, kv: KeyValue, previous: KeyValue | None) -> None:
        """A key is new or was changed.

        :param previous: what the mirror had; None for nothing.
        """

    def key_removed(self, previous: KeyValue) -> None:
        """A key is there no longer.

        :param previous: what the mirror had.
        """

    def mirror_synced(self) -> None:
        """The mirror has (again) all that there was a moment ago, and follows."""

    def mirror_stale(self, reason: str) -> None:
        """The mirror does not follow for now. What it has may be old."""


@define(eq=False)
class Mirror:
    """All keys of a range with their values, from ``start`` to ``stop``, through all losses.

    After each loss the keys are listed anew: nothing less says that nothing was missed. Changes
    that were made and unmade meanwhile are not told.

    :param chance: gives numbers from 0 to below 1.
    :ivar revision: all changes up to this one are in the mirror.
    :ivar synced: whether it follows, as far as is known: a connection that is dead is noticed
        within the silence that the client allows its watches.
    """

    log = Logger()

    _clock: IReactorTime
    _etcd: IEtcd
    _keys: KeyRange
    _listener: IMirrorListener
    _chance: Callable[[], float] = random.random
    revision: int = field(init=False, default=0)
    synced: bool = field(init=False, default=False)
    _values: dict[bytes, KeyValue] = field(init=False, factory=dict)
    _watch: IKeyWatch | None = field(init=False, default=None)
    _connected: bool = field(init=False, default=False)
    _listing: bool = field(init=False, default=False)
    _stopped: bool = field(init=False, default=False)
    _waiters: list[Deferred[None]] = field(init=False, factory=list)
    _background: Background = field(init=False, factory=lambda: Background("the mirror of etcd"))

    @property
    def values(self) -> Mapping[bytes, KeyValue]:
        """What is there, as a view."""
        return MappingProxyType(self._values)

    def start(self) -> None:
        """Begin to follow. Call once."""
        self._list()

    def stop(self) -> Deferred[None]:
        """Follow no longer, and tell nothing any more. Fires when nothing runs any more; never fails."""
        return Deferred.fromCoroutine(self._stop())

    def when_synced(self) -> Deferred[None]:
        """Fires when the mirror follows, at once if it does. Is cancelled by ``stop``."""
        waiter: Deferred[None] = Deferred()
        if self.synced:
            waiter.callback(None)
        else:
            self._waiters.append(waiter)
        return waiter

    # --- what the watch tells -------------------------------------------------

    def watch_connected(self, revision: int) -> None:
        """See ``IKeyListener``."""
        self._connected = True
        if not self.synced:
            self._list()

    def watch_lost(self, reason: str) -> None:
        """See ``IKeyListener``."""
        self._connected = False
        self._stale(reason)

    def keys_changed(self, revision: int, events: Sequence[KeyEvent]) -> None:
        """See ``IKeyListener``."""
        told: list[tuple[KeyEvent, KeyValue | None]] = []
        for event in events:
            if event.kv.mod_revision > self.revision:
                told.append((event, self._values.pop(event.kv.key, None)))
                if not event.removed:
                    self._values[event.kv.key] = event.kv
        self.revision = max(self.revision, revision)
        for event, previous in told:
            if not event.removed:
                self._tell(self._listener.key_changed, event.kv, previous)
            elif previous is not None:
                self._tell(self._listener.key_removed, previous)

    def watch_ended(self, error: FlynnHostError) -> None:
        """See ``IKeyListener``."""
        self._watch = None
        if isinstance(error, Compacted) and self.synced and 0 < error.revision <= self.revision + 1:
            # The watch was behind, but what it missed was listed when it connected again.
            self._follow()
        elif isinstance(error, Compacted):
            self._stale(str(error))
            self._list()
        else:
            self.log.error("Can't follow keys of etcd: {reason}", reason=str(error))
            self._stale(str(error))
            self._list(pause=_AFTER_A_REFUSAL)

    # --- listing --------------------------------------------------------------

    def _list(self, pause: float = 0.0) -> None:
        if not self._listing and not self._stopped:
            self._listing = True
            found: list[Found] = []
            listing = self._background.run(self._keep_listing(pause, found), "listing keys")
            # Not from within the coroutine: who is told may stop the mirror, which cancels it.
            listing.addCallback(lambda _: self._listed(found))

    async def _keep_listing(self, pause: float, found: list[Found]) -> None:
        backoff = Backoff(self._clock, 0.2, 15.0, self._chance)
        while True:
            if pause:
                await deferLater(self._clock, pause)
            try:
                found.append(await self._etcd.get(self._keys))
                return
            except EtcdTrouble as e:
                self.log.debug("Can't list keys of etcd: {reason}", reason=str(e))
                pause = backoff.delay()

    def _listed(self, found: list[Found]) -> None:
        self._listing = False
        if self._stopped:
            return
        if found:
            self._take(found[0])
        else:  # it came to grief, and that was logged
            self._list(pause=_AFTER_A_REFUSAL)

    def _take(self, found: Found) -> None:
        # What a watch has told since is newer. Without one the list counts whatever its
        # revision: an etcd that was restored from a backup has a lower one.
        if self._watch is None or found.revision >= self.revision:
            self._replace(found)
        self._follow()
        if self._connected and not self.synced and not self._stopped:
            self._synced()

    def _follow(self) -> None:
        if self._watch is None and not self._stopped:
            self._connected = True  # until it is said to be lost
            self._watch = self._etcd.watch(self._keys, self.revision + 1, self)

    def _replace(self, found: Found) -> None:
        before, self._values = self._values, {kv.key: kv for kv in found.values}
        self.revision = found.revision
        for key, previous in before.items():
            if key not in self._values:
                self._tell(self._listener.key_removed, previous)
        for kv in found.values:
            if kv != before.get(kv.key):
                self._tell(self._listener.key_changed, kv, before.get(kv.key))

    # --- telling --------------------------------------------------------------

    def _synced(self) -> None:
        self.synced = True
        self.log.debug("Follows keys of etcd from revision {revision}", revision=self.revision)
        waiters, self._waiters = self._waiters, []
        self._tell(self._listener.mirror_synced)
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)

    def _stale(self, reason: str) -> None:
        if self.synced:
            self.synced = False
            self.log.info("Does not follow keys of etcd for now: {reason}", reason=reason)
            self._tell(self._listener.mirror_stale, reason)

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        if self._stopped:
            return
        try:
            what(*args)
        except Exception:
            self.log.failure("A listener of the mirror failed")

    async def _stop(self) -> None:
        self._stopped, self.synced = True, False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.cancel()
        watch, self._watch = self._watch, None
        await self._background.cancel()
        if watch is not None:
            await watch.stop()
