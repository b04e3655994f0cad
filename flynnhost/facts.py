"""What an operator wants to know of a host beside its jobs, and what finds faults goes by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import asdict, define, field
from twisted.internet.defer import Deferred

from flynnhost import machine
from flynnhost.agent.agent import Agent
from flynnhost.looks import Looks, LooksReactor
from flynnhost.member import Member
from flynnhost.settings import Settings

_Paths = tuple[str, ...]
_Seen = Mapping[str, Any]


def thd_look(paths: _Paths) -> _Seen:
    """Look at the disks at some paths, and at this process."""
    return {"process": machine.process(), "disks": {path: machine.disk(path) for path in paths}}


@define(eq=False)
class HostFacts:
    """Gathers it for each request, in about a second at the most.

    :param now: tells the time of day.
    :param addr: where the host's API is reached by others, as ``HOST:PORT``.
    :param listening: where it listens.
    :param member: its part in a cluster of several; None for a solo host.
    """

    _reactor: LooksReactor
    _settings: Settings
    _agent: Agent
    _now: Callable[[], datetime]
    _addr: Callable[[], str]
    _listening: Callable[[], Sequence[str]]
    _member: Member | None
    _looks: Looks[_Paths, _Seen] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._looks = Looks(self._reactor, thd_look)

    def gather(self) -> Deferred[Mapping[str, Any]]:
        """Fires with JSON values by name. Never fails."""
        return self._looks.now(self._paths()).addCallback(self._put_together)

    def _paths(self) -> _Paths:
        root = self._engine_root()
        return (str(self._settings.state_dir), *((root,) if root else ()))

    def _engine_root(self) -> str:
        """Where an engine on this machine keeps what it has; empty if it is not known to be on this one."""
        facts = self._agent.engine_facts
        return facts.root_dir if facts is not None and self._settings.docker.startswith("unix:") else ""

    def _put_together(self, seen: _Seen | None) -> Mapping[str, Any]:
        disks = seen["disks"] if seen is not None else {}
        unseen = {"error": "the disk has not answered yet"}
        state_dir = str(self._settings.state_dir)
        facts: dict[str, Any] = {
            "addr": self._addr(),
            "listen": list(self._listening()),
            "time": self._now().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "solo": self._member is None,
            "state_dir": {"path": state_dir, **disks.get(state_dir, unseen)},
            "process": seen["process"] if seen is not None else {},
            "engine": {"url": self._settings.docker},
        }
        if self._agent.engine_facts is not None:
            facts["engine"] |= asdict(self._agent.engine_facts)
            root = self._engine_root()
            if root:
                facts["engine"]["disk"] = {"path": root, **disks.get(root, unseen)}
        if self._member is not None:
            facts["etcd"] = {
                "endpoints": list(self._settings.etcd),
                "answers": self._member.lease_remaining > 0,
                "lease_remaining": round(self._member.lease_remaining, 3),
                "lease_ttl": self._settings.lease_ttl,
            }
        return facts
