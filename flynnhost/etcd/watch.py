"""A watch of keys, on a connection of its own, and on another one when that is lost."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from flynnhost.background import Background, Backoff
from flynnhost.errors import Compacted, EtcdRefused, EtcdUnavailable, FlynnHostError, PermissionDenied
from flynnhost.etcd.answers import (
    Json,
    NoVoter,
    TokenRefused,
    error_of,
    key_event,
    read_answer,
    read_error,
    revision_of,
)
from flynnhost.etcd.endpoints import Endpoint
from flynnhost.etcd.frames import FrameSplitter
from flynnhost.etcd.lanes import Lane
from flynnhost.etcd.transport import LONGEST_ANSWER, Transport, bounded, words
from flynnhost.interfaces import IKeyListener
from flynnhost.keyvalues import KeyRange

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0


@define(eq=False)
class _Receiver(Protocol):
    """Takes the frames of one connection. ``ended`` fires with None at its end, or with what went wrong."""

    _frame: Callable[[Json], None]
    ended: Deferred[None] = field(init=False, factory=Deferred)
    _splitter: FrameSplitter = field(init=False, factory=lambda: FrameSplitter(LONGEST_ANSWER))

    def dataReceived(self, data: bytes) -> None:
        try:
            for frame in self._splitter.feed(data):
                if self.ended.called:
                    return
                self._frame(frame)
        except FlynnHostError as e:
            self._end(Failure(e))
        except ValueError as e:
            self._end(Failure(EtcdUnavailable(f"it tells changes in a way we don't understand: {e}")))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ended.called:
            try:
                for frame in self._splitter.finish():
                    self._frame(frame)
            except FlynnHostError as e:
                self._end(Failure(e))
            except ValueError:
                pass  # the connection was lost in the middle of a frame
        self._end(None)

    def _end(self, result: Failure | None) -> None:
        if not self.ended.called:
            self.ended.callback(result)


@define(eq=False)
class KeyWatch:
    """An ``IKeyWatch``. It goes on from the last change that it told, so that none is missed or told twice.

    :param timeout: seconds that a connection may take until etcd says that it watches.
    :param silence: seconds without any sign of life after which a connection is given up. etcd
        gives such signs as often as its option ``--experimental-watch-progress-notify-interval`` says.
    """

    log = Logger()

    _transport: Transport
    _keys: KeyRange
    _next_revision: int
    _listener: IKeyListener
    _timeout: float
    _silence: float
    _chance: Callable[[], float]
    _forget: Callable[[KeyWatch], None]
    _cluster: str = field(init=False, default="")
    _connected: bool = field(init=False, default=False)
    _lost: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)
    _watchdog: IDelayedCall | None = field(init=False, default=None)
    _background: Background = field(init=False, factory=lambda: Background("a watch of etcd"))

    def begin(self) -> None:
        """Connect. Call once."""
        self._background.run(self._run(), "watching keys")

    def stop(self) -> Deferred[None]:
        """See ``IKeyWatch.stop``."""
        self._over = True
        self._forget(self)
        return Deferred.fromCoroutine(self._stop())

    # --- one connection after the other ---------------------------------------

    async def _run(self) -> None:
        backoff = self._backoff()
        while True:
            endpoint = self._transport.endpoints.in_order()[0]
            self._connected = False
            try:
                await self._follow(endpoint)
            except (Compacted, PermissionDenied, EtcdRefused) as e:
                self._end(e)
                return
            except TokenRefused as e:
                self._interrupted(e.reason)
            except (EtcdUnavailable, NoVoter) as e:
                self._transport.endpoints.failed(endpoint, useless=isinstance(e, NoVoter))
                self._interrupted(f"{endpoint.url}: {e.reason}")
            if self._connected:
                backoff = self._backoff()
            await backoff.wait()

    def _backoff(self) -> Backoff:
        return Backoff(self._transport.reactor, _FIRST_PAUSE, _LONGEST_PAUSE, self._chance)

    async def _stop(self) -> None:
        await deferLater(self._transport.reactor, 0)  # a listener may have asked for it, from within
        await self._background.cancel()
        await deferLater(self._transport.reactor, 0)  # a connection that was cut is gone after a round

    async def _follow(self, endpoint: Endpoint) -> None:
        """Connect to a member and tell what it tells. Ends only by raising what ended it."""
        headers = await self._transport.headers(endpoint, self._timeout)
        lane = self._transport.lane(endpoint)
        try:
            receiver = await bounded(
                self._transport.reactor, self._timeout, self._open(lane, headers), lane.abort
            )
            self._transport.endpoints.answered(endpoint)
            self._alive(lane, receiver)
            await receiver.ended
        except TokenRefused as e:
            self._transport.token_refused(headers, e)
            raise
        finally:
            self._drop_watchdog()
            lane.abort()  # what is left of the stream must not go on
            self._transport.give_back(lane)
        raise EtcdUnavailable("the connection was lost")

    async def _open(self, lane: Lane, headers: Mapping[str, str]) -> _Receiver:
        body = json.dumps({"create_request": self._request()}).encode()
        try:
            response = await lane.post("/v3/watch", body, headers)
        except CancelledError:
            raise
        except Exception as e:
            raise EtcdUnavailable(words(e)) from e
        if response.code != 200:
            read_answer(response.code, await lane.read(response, LONGEST_ANSWER))
            raise EtcdUnavailable(f"HTTP {response.code}")
        receiver = _Receiver(lambda frame: self._frame(lane, receiver, frame))
        response.deliverBody(receiver)
        return receiver

    def _request(self) -> dict[str, Any]:
        request: dict[str, Any] = {
            "key": base64.b64encode(self._keys.start).decode(),
            "progress_notify": True,
            "prev_kv": True,
        }
        if self._keys.end:
            request["range_end"] = base64.b64encode(self._keys.end).decode()
        if self._next_revision:
            request["start_revision"] = self._next_revision
        return request

    # --- frames ---------------------------------------------------------------

    def _frame(self, lane: Lane, receiver: _Receiver, frame: Json) -> None:
        """Tell what a frame tells.

        :raises FlynnHostError: when the watch can't go on like this.
        """
        if "error" in frame:
            raise read_error(frame)
        result = frame.get("result", {})
        self._alive(lane, receiver)
        self._check_cluster(result)
        if result.get("canceled"):
            raise _cancelled(result)
        if result.get("created"):
            self._created(result)
        elif "events" in result:
            self._events(result)
        else:
            self._told(revision_of(result), ())

    def _check_cluster(self, result: Json) -> None:
        """Notice that this is another store, with the same address: one restored from a backup."""
        cluster = str(result.get("header", {}).get("cluster_id", ""))
        if self._cluster and cluster and cluster != self._cluster:
            raise Compacted()
        self._cluster = cluster or self._cluster

    def _created(self, result: Json) -> None:
        self._connected, self._lost = True, False
        revision = revision_of(result)
        if not self._next_revision:
            self._next_revision = revision + 1
        self._tell(self._listener.watch_connected, revision)

    def _events(self, result: Json) -> None:
        """Tell changes. The revision of their frame does not count: more up to it may follow."""
        events = tuple(map(key_event, result["events"]))
        new = tuple(event for event in events if event.kv.mod_revision >= self._next_revision)
        if new:
            self._told(new[-1].kv.mod_revision, new)

    def _told(self, revision: int, events: tuple[Any, ...]) -> None:
        self._next_revision = max(self._next_revision, revision + 1)
        self._tell(self._listener.keys_changed, revision, events)

    # --- telling --------------------------------------------------------------

    def _alive(self, lane: Lane, receiver: _Receiver) -> None:
        self._drop_watchdog()
        if not receiver.ended.called:
            self._watchdog = self._transport.reactor.callLater(self._silence, self._silent, lane, receiver)

    def _silent(self, lane: Lane, receiver: _Receiver) -> None:
        self._watchdog = None
        if not receiver.ended.called:
            receiver.ended.errback(EtcdUnavailable(f"nothing came for {self._silence:g} s"))
        lane.abort()

    def _drop_watchdog(self) -> None:
        if self._watchdog is not None and self._watchdog.active():
            self._watchdog.cancel()
        self._watchdog = None

    def _interrupted(self, reason: str) -> None:
        if not self._lost:
            self._lost = True
            self._tell(self._listener.watch_lost, reason)

    def _end(self, error: FlynnHostError) -> None:
        self._forget(self)
        self._tell(self._listener.watch_ended, error)
        self._over = True

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        if self._over:
            return
        try:
            what(*args)
        except Exception:
            self.log.failure("A listener of keys of etcd failed")


def _cancelled(result: Json) -> FlynnHostError:
    """Why etcd has ended a watch."""
    compacted = int(result.get("compact_revision", 0))
    if compacted:
        return Compacted(compacted)
    return error_of(0, str(result.get("cancel_reason") or "etcd has ended the watch"))
