"""An etcd in memory, on a clock that a test turns, with clients each of which has troubles of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.errors import Compacted, EtcdUnavailable, FlynnHostError
from flynnhost.interfaces import IEtcd, IKeyListener
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
from flynnhost.testing.etcd_store import EtcdStore
from flynnhost.testing.etcd_watch import FakeKeyWatch

T = TypeVar("T")

_NOTICED_AFTER = 0.1
"""Seconds until etcd tells a watch that it can't, after it has said that it does."""


@define(eq=False)
class FakeEtcd:
    """An etcd cluster, seen as one. Nothing happens in it by chance.

    Each lease ends at its time to the dot, unless the cluster has no leader or is paused then.

    :param progress: how often watches that have nothing to tell give a sign of life; 0 for never.
    :ivar store: its keys and leases, for tests to look at and to change.
    """

    clock: IReactorTime
    progress: float = 0.0
    store: EtcdStore = field(init=False)
    _streams: dict[FakeKeyWatch, None] = field(init=False, factory=dict)
    _held: list[Callable[[], None]] = field(init=False, factory=list)
    _paused: bool = field(init=False, default=False)
    _trouble: str = field(init=False, default="")
    _leaderless: bool = field(init=False, default=False)
    _leases: int = field(init=False, default=0)
    _expiry: IDelayedCall | None = field(init=False, default=None)
    _life: IDelayedCall | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.store = EtcdStore(changed=self._changed)

    def client(self, name: str = "client", **options: Any) -> FakeEtcdClient:
        """A new client of it; options are those of ``FakeEtcdClient``."""
        return FakeEtcdClient(self, name, **options)

    # --- what tests do to it --------------------------------------------------

    def pause(self) -> None:
        """Let it do nothing until ``go_on``. What is asked meanwhile waits, until its asker gives up."""
        self._paused = True
        self.settle()
        for watch in list(self._streams):
            watch.fell_silent()

    def go_on(self) -> None:
        """End ``pause``: what was asked is done now, also what nobody waits for any more."""
        self._paused = False
        for watch in list(self._streams):
            watch.heard_again()
        self.settle()
        held, self._held = self._held, []
        for each in held:
            each()

    def lose_leader(self, seconds: float) -> None:
        """Be without a leader for so long: all is refused but ``status``, watches end, and no lease
        does. The new leader lets each of them last its whole time again.
        """
        self._leaderless = True
        self._break("etcdserver: no leader")
        self.clock.callLater(seconds, self._elected)

    def stop(self) -> None:
        """Be down until ``start``: nobody listens, and no lease ends."""
        self._leaderless = False
        self._break("connection refused")

    def start(self) -> None:
        """End ``stop``. Keys and leases are as they were, and each lease lasts its whole time again."""
        self._leaderless = True
        self._elected()

    def compact(self, revision: int | None = None) -> None:
        """Forget what was before a revision, or before now."""
        self.store.compact(self.store.revision if revision is None else revision)

    def revoke(self, lease: int) -> None:
        """End a lease that is alive, as a paused leader of some versions does when it wakes up."""
        self.store.revoke(lease)
        self.settle()

    # --- what clients call ----------------------------------------------------

    def handle(
        self, work: Callable[[EtcdStore], T], answer: Callable[[T | Failure], None], needs_leader: bool
    ) -> None:
        """Do some work, now or after a pause, and answer with what came of it."""
        if self._paused:
            self._held.append(lambda: self.handle(work, answer, needs_leader))
            return
        result: T | Failure
        try:
            if self._trouble and (needs_leader or not self._leaderless):
                raise EtcdUnavailable(self._trouble)
            self._expire()
            result = work(self.store)
        except FlynnHostError as e:
            result = Failure(e)
        if self.store.leases != self._leases:
            self.settle()
        answer(result)

    def open_stream(self, watch: FakeKeyWatch, connection: int) -> None:
        """Begin to tell a watch of changes, from where it was left."""
        if watch.connection != connection:
            return
        if self._paused:
            watch.fell_silent()
            self._held.append(lambda: self.open_stream(watch, connection))
        elif self._trouble:
            watch.stream_ended(EtcdUnavailable(self._trouble))
        else:
            past: list[tuple[KeyEvent, ...]] = []
            try:
                if watch.next_revision:
                    past = self.store.events_since(watch.next_revision, watch.keys)
            except Compacted as e:
                watch.stream_opened(self.store.revision)
                watch.stream_ended(e, _NOTICED_AFTER)
                return
            self._streams[watch] = None
            watch.stream_opened(self.store.revision)
            for events in past:
                watch.stream_told(events[0].kv.mod_revision, events)
            self._give_signs_of_life()

    def close_stream(self, watch: FakeKeyWatch) -> None:
        """Tell this watch nothing any more."""
        self._streams.pop(watch, None)
        if not self._streams and self._life is not None:
            self._life.cancel()
            self._life = None

    def settle(self) -> None:
        """Look when the next lease ends. That one is kept alive makes no difference until then."""
        self._leases = self.store.leases
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        end = self.store.next_end()
        if end is not None and not self._paused and not self._trouble:
            self._expiry = self.clock.callLater(max(0.0, end - self.clock.seconds()), self._lease_ended)

    # --- its own affairs ------------------------------------------------------

    def _lease_ended(self) -> None:
        self._expiry = None
        self._expire()
        self.settle()

    def _expire(self) -> None:
        if not self._trouble:
            self.store.expire(self.clock.seconds())

    def _break(self, trouble: str) -> None:
        self._trouble = trouble
        self.settle()
        for watch in list(self._streams):
            self.close_stream(watch)
            watch.stream_ended(EtcdUnavailable(trouble))

    def _elected(self) -> None:
        if self._leaderless:
            self._leaderless, self._trouble = False, ""
            self.store.extend_all(self.clock.seconds())
            self.settle()

    def _changed(self, events: Sequence[KeyEvent]) -> None:
        for watch in list(self._streams):
            mine = tuple(event for event in events if event.kv.key in watch.keys)
            if mine and events[0].kv.mod_revision >= watch.next_revision:
                watch.stream_told(events[0].kv.mod_revision, mine)

    def _give_signs_of_life(self) -> None:
        if self.progress and self._life is None:
            self._life = self.clock.callLater(self.progress, self._sign_of_life)

    def _sign_of_life(self) -> None:
        self._life = None
        if not self._paused:
            for watch in list(self._streams):
                watch.stream_told(self.store.revision, ())
        if self._streams:
            self._give_signs_of_life()


@define(eq=False)
class _Call(Generic[T]):
    answered: Deferred[T]
    timer: IDelayedCall | None = None

    def over(self, result: T | Failure) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if not self.answered.called:
            self.answered.callback(result)


@implementer(IEtcd)
@define(eq=False)
class FakeEtcdClient:
    """An ``IEtcd`` of a ``FakeEtcd``. Nothing is ever answered before the call returns.

    :param latency: seconds that a request, an answer or an event takes on its way.
    :param timeout: the deadline of each call.
    :param silence: seconds after which a watch that hears nothing looks for another connection.
    :param retry: the pause before a watch looks for another connection.
    """

    etcd: FakeEtcd
    name: str = "client"
    latency: float = 0.001
    timeout: float = 5.0
    silence: float = 15.0
    retry: float = 0.1
    calls: int = field(init=False, default=0)
    keep_alives: int = field(init=False, default=0)
    _deaf: bool = field(init=False, default=False)
    _mute: bool = field(init=False, default=False)
    _lose: int = field(init=False, default=0)
    _repeat: int = field(init=False, default=0)
    _closed: bool = field(init=False, default=False)
    _open: dict[_Call[Any], None] = field(init=False, factory=dict)
    _watches: dict[FakeKeyWatch, None] = field(init=False, factory=dict)

    @property
    def clock(self) -> IReactorTime:
        """The clock of the cluster."""
        return self.etcd.clock

    # --- what tests do to it --------------------------------------------------

    def partition(self, *, requests: bool = True, answers: bool = True) -> None:
        """Let nothing through until ``heal``. Watches don't notice before their silence is over.

        :param requests: whether what this client asks is lost on the way.
        :param answers: whether what etcd says is lost on the way.
        """
        self._mute, self._deaf = self._mute or requests, self._deaf or answers
        if self._deaf:
            for watch in list(self._watches):
                watch.connection_broke()

    def heal(self) -> None:
        """End ``partition``. What was lost remains lost."""
        self._mute = self._deaf = False

    def lose_answers(self, count: int = 1) -> None:
        """Have the next requests done, but not answered, so that they fail at their deadline."""
        self._lose = count

    def repeat_requests(self, count: int = 1) -> None:
        """Have the next requests done twice, as when the first answer was lost: the second counts."""
        self._repeat = count

    @property
    def cut_off(self) -> bool:
        """Whether no new connection can be made."""
        return self._mute or self._deaf

    # --- what the system under test calls -------------------------------------

    def get(self, what: Get | KeyRange | bytes) -> Deferred[Found]:
        """See ``IEtcd.get``."""
        query = what if isinstance(what, Get) else Get(what)
        return self._one(query, Found, needs_leader=not query.serializable)

    def put(self, key: bytes, value: bytes, lease: int = 0, *, previous: bool = False) -> Deferred[Stored]:
        """See ``IEtcd.put``."""
        return self._one(Put(key, value, lease, previous), Stored)

    def delete(self, keys: KeyRange | bytes, *, previous: bool = False) -> Deferred[Removed]:
        """See ``IEtcd.delete``."""
        return self._one(Delete(keys, previous), Removed)

    def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Get | Put | Delete] = (),
        failure: Sequence[Get | Put | Delete] = (),
    ) -> Deferred[TxnResult]:
        """See ``IEtcd.txn``."""
        return self._ask(lambda store: store.txn(tuple(compares), tuple(success), tuple(failure)))

    def grant(self, ttl: int) -> Deferred[Grant]:
        """See ``IEtcd.grant``."""
        return self._ask(lambda store: store.grant(ttl, self.clock.seconds()))

    def keep_alive_once(self, lease: int, within: float) -> Deferred[int]:
        """See ``IEtcd.keep_alive_once``."""
        self.keep_alives += 1
        return self._ask(lambda store: store.keep_alive(lease, self.clock.seconds()), within)

    def revoke(self, lease: int) -> Deferred[None]:
        """See ``IEtcd.revoke``."""
        return self._ask(lambda store: store.revoke(lease))

    def time_to_live(self, lease: int, *, keys: bool = False) -> Deferred[LeaseState]:
        """See ``IEtcd.time_to_live``."""
        return self._ask(lambda store: store.time_to_live(lease, keys, self.clock.seconds()))

    def watch(self, keys: KeyRange | bytes, from_revision: int, listener: IKeyListener) -> FakeKeyWatch:
        """See ``IEtcd.watch``."""
        of = KeyRange(keys) if isinstance(keys, bytes) else keys
        watch = FakeKeyWatch(self, of, from_revision, listener)
        if not self._closed:
            self._watches[watch] = None
            watch.begin()
        return watch

    def status(self) -> Deferred[EtcdStatus]:
        """See ``IEtcd.status``."""
        return self._ask(
            lambda store: EtcdStatus(1, "3.4.23", 1, store.revision, 2, 4096), needs_leader=False
        )

    def members(self) -> Deferred[tuple[EtcdMember, ...]]:
        """See ``IEtcd.members``."""
        member = EtcdMember(1, "fake", ("http://fake:2380",), ("http://fake:2379",))
        return self._ask(lambda _store: (member,))

    def close(self) -> Deferred[None]:
        """See ``IEtcd.close``."""
        self._closed = True
        for watch in list(self._watches):
            watch.stop()
        for call in list(self._open):
            call.over(Failure(EtcdUnavailable("the client is closed")))
        return succeed(None)

    # --- the way there and back -----------------------------------------------

    def forget(self, watch: FakeKeyWatch) -> None:
        """A watch has ended."""
        self._watches.pop(watch, None)
        self.etcd.close_stream(watch)

    def _one(self, operation: Get | Put | Delete, kind: type[T], needs_leader: bool = True) -> Deferred[T]:
        def work(store: EtcdStore) -> T:
            return cast(T, store.txn((), (operation,), ()).results[0])

        return self._ask(work, needs_leader=needs_leader)

    def _ask(
        self, work: Callable[[EtcdStore], T], within: float | None = None, needs_leader: bool = True
    ) -> Deferred[T]:
        self.calls += 1
        if self._closed:
            return fail(EtcdUnavailable("the client is closed"))
        call: _Call[T] = _Call(Deferred())
        call.answered.addBoth(self._answered, call)
        seconds = self.timeout if within is None else within
        late = Failure(EtcdUnavailable(f"no answer within {seconds:g} s"))
        call.timer = self.clock.callLater(seconds, call.over, late)
        self._open[call] = None
        if not self._mute:
            self.clock.callLater(self.latency, self._arrived, call, work, needs_leader)
        return call.answered

    def _arrived(self, call: _Call[T], work: Callable[[EtcdStore], T], needs_leader: bool) -> None:
        if self._mute:
            return
        if self._repeat:
            self._repeat -= 1
            self.etcd.handle(work, lambda _lost: None, needs_leader)
        lost, self._lose = self._lose > 0, max(0, self._lose - 1)

        def answer(result: T | Failure) -> None:
            if not lost and not self._deaf:
                self.clock.callLater(self.latency, self._came_back, call, result)

        self.etcd.handle(work, answer, needs_leader)

    def _came_back(self, call: _Call[T], result: T | Failure) -> None:
        if not self._deaf:
            call.over(result)

    def _answered(self, result: T | Failure, call: _Call[T]) -> T | Failure:
        self._open.pop(call, None)
        if call.timer is not None and call.timer.active():
            call.timer.cancel()
        return result


def turn(clock: Clock, seconds: float) -> None:
    """Turn a clock from one timed call to the next, so that each is made at its very time."""
    until = clock.seconds() + seconds
    while (calls := clock.getDelayedCalls()) and calls[0].getTime() <= until:
        clock.advance(max(0.0, calls[0].getTime() - clock.seconds()))
    clock.advance(max(0.0, until - clock.seconds()))
