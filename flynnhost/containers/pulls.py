"""Pulling images, which takes as long as something comes. This blocks and belongs into threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from attrs import define
from docker import auth
from docker.errors import APIError, ImageNotFound
from requests import Response

from flynnhost.containers import translate
from flynnhost.containers.json_lines import json_lines
from flynnhost.containers.pull_progress import PullProgress
from flynnhost.containers.references import ImageReference
from flynnhost.containers.session import EngineSession, EngineSessions
from flynnhost.containers.translate import Refusal, explanation
from flynnhost.errors import EngineRefused, EngineUnavailable, PullFailed

_BETWEEN_REPORTS = 0.25


@define(eq=False)
class EnginePulls:
    """Pulls images through the engine.

    :param sessions: their timeout is how long nothing may come before a pull has failed.
    :param ping: raises if the engine does not answer.
    """

    _sessions: EngineSessions
    _ping: Callable[[], None]
    _now: Callable[[], float] = time.monotonic

    def thd_pull(self, image: str, report: Callable[[str], None]) -> None:
        """See ``IContainers.pull``.

        :param report: is called in this thread.
        """
        try:
            with translate.translated(translate.pulling(image)):
                self._thd_pull(self._sessions.thd_session(), image, report)
        except EngineRefused as e:
            raise PullFailed(image, e.reason) from e
        except EngineUnavailable as e:
            if translate.timed_out(e.__cause__):
                self._ping()
                raise PullFailed(image, f"nothing was received for {self._sessions.timeout:g} s") from e
            raise

    def _thd_pull(self, session: EngineSession, image: str, report: Callable[[str], None]) -> None:
        reference = ImageReference.parse(image)
        progress, next_report = PullProgress(image), self._now()
        # The engine gives up a pull when the connection is closed.
        with closing(self._thd_ask(session, reference)) as answer:
            for message in json_lines(answer.raw.stream(decode_content=False)):
                if "error" in message:
                    raise translate.understood(Refusal(500, str(message["error"])), translate.pulling(image))
                progress.update(message)
                if self._now() >= next_report:
                    next_report = self._now() + _BETWEEN_REPORTS
                    report(str(progress))
        report(str(progress))
        self._thd_check(session, image, reference)

    def _thd_ask(self, session: EngineSession, reference: ImageReference) -> Response:
        registry, _ = auth.resolve_repository_name(reference.repository)
        credentials = auth.get_config_header(session, registry)
        answer: Response = session.post(
            f"{session.base_url}/v{session.api_version}/images/create",
            params={"fromImage": reference.repository, "tag": reference.version},
            headers={"X-Registry-Auth": credentials} if credentials else {},
            stream=True,
            timeout=self._sessions.timeout,
        )
        if answer.status_code != 200:
            raise APIError("refused", answer, explanation(answer.content))
        return answer

    def _thd_check(self, session: EngineSession, image: str, reference: ImageReference) -> None:
        """An engine that shuts down may end the stream as if all were well."""
        try:
            session.inspect_image(str(reference))
        except ImageNotFound as e:
            raise PullFailed(image, "the engine ended the pull without having the image") from e
