"""The requests to the engine, one by one. Everything here blocks and belongs into threads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

from attrs import define
from docker.errors import APIError

from flynnhost.containers import translate
from flynnhost.containers.exec_process import ExecProcess
from flynnhost.containers.session import EngineSession, EngineSessions
from flynnhost.containers.state import (
    ExecState,
    container_state,
    container_summary,
    engine_facts,
    exec_state,
)
from flynnhost.errors import EngineRefused, EngineUnavailable, FlynnHostError, NoSuchContainer
from flynnhost.interfaces import ContainerState, ContainerSummary, EngineFacts


@define(eq=False)
class EngineCalls:
    """Requests that are answered at once, translated to our values and errors."""

    sessions: EngineSessions

    def thd_ping(self) -> None:
        """See ``IContainers.ping``."""
        with self._asking(translate.nothing_special) as session:
            session.ping()

    def thd_about(self) -> EngineFacts:
        """See ``IContainers.about``."""
        with self._asking(translate.nothing_special) as session:
            return engine_facts(session.info(), session.version(api_version=False))

    def thd_create(self, name: str, body: dict[str, Any]) -> str:
        """Make a container of this body. Returns its ID."""
        with self._asking(translate.creating(name, body["Image"])) as session:
            return str(session.create_container_from_config(body, name)["Id"])

    def thd_start(self, container_id: str) -> None:
        """See ``IContainers.start``."""
        with self._asking(translate.starting(container_id)) as session:
            session.start(container_id)

    def thd_inspect(self, container: str) -> ContainerState:
        """See ``IContainers.inspect``."""
        with self._asking(translate.looking_at(container)) as session:
            return container_state(session.inspect_container(container))

    def thd_kill(self, container_id: str, signal: int) -> None:
        """See ``IContainers.kill``."""
        with self._asking(translate.killing(container_id)) as session:
            session.kill(container_id, signal)

    def thd_remove(self, container_id: str) -> None:
        """See ``IContainers.remove``."""
        with suppress(NoSuchContainer), self._asking(translate.looking_at(container_id)) as session:
            try:
                session.remove_container(container_id, v=True, force=True)
            except APIError as e:
                if "already in progress" not in str(e.explanation):
                    raise
                removed = session.wait(container_id, timeout=self.sessions.timeout, condition="removed")
                if removed.get("Error"):
                    raise EngineRefused(str(removed["Error"].get("Message"))) from e

    def thd_list(self, labels: Mapping[str, str]) -> list[ContainerSummary]:
        """See ``IContainers.list_containers``."""
        wanted = [f"{key}={value}" for key, value in labels.items()]
        with self._asking(translate.nothing_special) as session:
            found = session.containers(all=True, filters={"label": wanted})
            return [container_summary(each) for each in found]

    def thd_resize(self, container_id: str, height: int, width: int) -> None:
        """See ``IContainers.resize``."""
        with self._asking(translate.killing(container_id)) as session:
            session.resize(container_id, height, width)

    def thd_exec_create(self, container_id: str, body: dict[str, Any]) -> str:
        """Prepare a command of this body. Returns the ID of what can be started then."""
        with self._asking(translate.killing(container_id)) as session:
            url = f"{session.base_url}/v{session.api_version}/containers/{quote(container_id, safe='')}/exec"
            headers = {"Content-Type": "application/json"}
            answer = session.post(url, json.dumps(body), headers=headers, timeout=self.sessions.timeout)
            if answer.status_code != 201:
                raise APIError("refused", answer, translate.explanation(answer.content))
            return str(answer.json()["Id"])

    def thd_exec_state(self, exec_id: str) -> ExecState:
        """What has become of a command."""
        with self._asking(translate.nothing_special) as session:
            return exec_state(session.exec_inspect(exec_id))

    def thd_exec_resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the size of a command's TTY."""
        with self._asking(translate.nothing_special) as session:
            session.exec_resize(exec_id, height, width)

    def thd_exec_process(self, container_id: str, exec_id: str, pid: int) -> ExecProcess | None:
        """The process of a command, if it is one of this machine that can be reached; close it after use."""
        process = ExecProcess.thd_open(pid, container_id)
        if process is None:
            return None
        try:
            # Asked after it was opened: a command that still runs still has that number.
            state = self.thd_exec_state(exec_id)
            first = self.thd_inspect(container_id).pid
            if state.running and state.pid == pid and process.thd_is_beside(first):
                return process
        except FlynnHostError:
            process.close()
            raise
        process.close()
        return None

    @contextmanager
    def _asking(self, reading: translate.Reading) -> Iterator[EngineSession]:
        try:
            with translate.translated(reading):
                yield self.sessions.thd_session()
        except EngineRefused as e:
            self._check_version(e)
            self._check_alive(e)
            raise

    def _check_version(self, refused: EngineRefused) -> None:
        if "client version" in refused.reason:
            self.sessions.version_refused(too_old="too old" in refused.reason)
            raise EngineUnavailable(f"the engine is another version now: {refused.reason}") from refused

    def _check_alive(self, refused: EngineRefused) -> None:
        """An engine that shuts down refuses for any reason, but it listens no more."""
        session = self.sessions.thd_session()
        session.close()
        try:
            with translate.translated(translate.nothing_special):
                session.ping()
        except EngineUnavailable as e:
            raise EngineUnavailable(f"{e.reason} ({refused.reason})") from e
