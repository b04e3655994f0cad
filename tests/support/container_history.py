"""Writes down what an engine does with the containers of some hosts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection
from typing import Any

import docker
from attrs import define, evolve, field

from flynnhost.agent.spec import LABEL_HOST, LABEL_JOB
from tests.support.histories import Ran
from tests.support.host_containers import HasClient
from tests.support.waiting import wait_until


@define(eq=False)
class ContainerHistory:
    """What was made, started and ended since ``start``; also what has been removed since."""

    engine: HasClient
    host_ids: Collection[str]
    broken: str = ""
    _ran: dict[str, Ran] = field(init=False, factory=dict)
    _lock: threading.Lock = field(init=False, factory=threading.Lock)
    _client: docker.APIClient = field(init=False)
    _stream: Any = field(init=False, default=None)
    _thread: threading.Thread | None = field(init=False, default=None)

    def start(self) -> None:
        """Begin to write. What happens from now on is in it."""
        self._client = self.engine.client()
        filters = {"type": "container", "label": LABEL_HOST, "event": ["create", "start", "die"]}
        self._stream = self._client.events(decode=True, filters=filters)
        self._thread = threading.Thread(target=self._thd_read, name="container history", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write no more."""
        if self._thread is not None:
            stream, self._stream = self._stream, None
            stream.close()
            self._thread.join(10)
            self._client.close()

    def runs(self) -> list[Ran]:
        """All of it, as soon as nothing is missing that the engine has listed."""
        listed = self._listed()
        wait_until(lambda: not self._missing(listed), "the engine to tell all that it has done")
        with self._lock:
            return list(self._ran.values())

    def started(self, job_id: str) -> list[str]:
        """The containers of a job that were started, until now."""
        with self._lock:
            return [ran.container_id for ran in self._ran.values() if ran.job_id == job_id and ran.starts]

    def _missing(self, listed: list[dict[str, Any]]) -> list[str]:
        """The containers of which more has happened than was written down."""
        assert not self.broken, f"the engine's events broke off: {self.broken}"
        with self._lock:
            known = dict(self._ran)
        return [each["Id"] for each in listed if not _covers(known.get(each["Id"]), each["State"])]

    def _listed(self) -> list[dict[str, Any]]:
        client = self.engine.client()
        try:
            listed = client.containers(all=True, filters={"label": LABEL_HOST})
            ours = [each for each in listed if each["Labels"][LABEL_HOST] in self.host_ids]
            inspected = []
            for each in ours:
                with contextlib.suppress(docker.errors.NotFound):
                    inspected.append(client.inspect_container(each["Id"]))
            return inspected
        finally:
            client.close()

    def _thd_read(self) -> None:
        try:
            for event in self._stream:
                self._happened(event)
        except Exception as e:
            if self._stream is not None:
                self.broken = repr(e)
        else:
            if self._stream is not None:
                self.broken = "it ended"

    def _happened(self, event: dict[str, Any]) -> None:
        container_id, labels = event["Actor"]["ID"], event["Actor"]["Attributes"]
        if labels[LABEL_HOST] not in self.host_ids:
            return
        with self._lock:
            known = self._ran.get(container_id) or Ran(
                container_id, labels[LABEL_HOST], labels[LABEL_JOB], starts=0
            )
            if event["Action"] == "start":
                known = evolve(known, starts=known.starts + 1, exit_status=None)
            elif event["Action"] == "die":
                known = evolve(known, exit_status=int(labels["exitCode"]))
            self._ran[container_id] = known


def _covers(known: Ran | None, state: dict[str, Any]) -> bool:
    if known is None:
        return False
    was_started = not state["StartedAt"].startswith("0001")
    has_ended = was_started and not state["Running"]
    return (known.starts > 0 or not was_started) and (known.exit_status is not None or not has_ended)
