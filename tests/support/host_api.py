"""A client of a host's API that blocks: the host is another process."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from attrs import frozen

from flynnhost.model import JobStatus
from tests.support.event_reader import EventReader
from tests.support.waiting import wait_until

WireJob = dict[str, Any]
"""A job, or what a host says of one, as JSON."""


@frozen
class Answer:
    """An answer that came to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)


@frozen
class HostApi:
    """The API of a host on this machine."""

    port: int
    host_id: str
    address: str = "127.0.0.1"

    def request(
        self,
        method: str,
        path: str,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
        within: float = 60.0,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """Ask, and wait for the answer.

        :param content: what to send as JSON.
        :param within: seconds in which something must come, again and again.
        :param connection: one that is open already, with a deadline of its own; closed after the answer.
        """
        connection = connection or http.client.HTTPConnection(self.address, self.port, timeout=within)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    def get(self, path: str, within: float = 60.0) -> Answer:
        """Ask for what is at a path."""
        return self.request("GET", path, within=within)

    def post(self, *jobs: WireJob, host_id: str = "") -> Answer:
        """Hand jobs to this host, or to another one."""
        batch = {host_id or self.host_id: list(jobs)}
        return self.request("POST", "/cluster/jobs", batch, {"Prefer": "return=minimal"})

    def run(self, *jobs: WireJob) -> None:
        """Hand jobs to this host, which must acknowledge them."""
        answer = self.post(*jobs)
        assert answer.status == 200, answer.body
        assert [placed["id"] for placed in answer.json["jobs"]] == [job["id"] for job in jobs]

    def stop(self, job: WireJob, within: float = 60.0) -> Answer:
        """Have a job stopped."""
        return self.request("DELETE", f"/host/jobs/{job['id']}", within=within)

    def jobs(self) -> dict[str, WireJob]:
        """All jobs by ID."""
        answer = self.get("/host/jobs")
        assert answer.status == 200, answer.body
        jobs: dict[str, WireJob] = answer.json
        return jobs

    def job(self, job: WireJob) -> WireJob:
        """How a job is now."""
        answer = self.get(f"/host/jobs/{job['id']}")
        assert answer.status == 200, answer.body
        active: WireJob = answer.json
        return active

    def until(
        self, job: WireJob, condition: Callable[[WireJob], Any], what: str, within: float = 60.0
    ) -> WireJob:
        """How a job is as soon as it fulfils a condition."""

        def look() -> WireJob | None:
            active = self.job(job)
            return active if condition(active) else None

        try:
            return wait_until(look, f"job {job['id']} to {what}", within)
        except AssertionError as e:
            raise AssertionError(f"{e}; it is {self.job(job)}") from None

    def running(self, job: WireJob, within: float = 60.0) -> WireJob:
        """A job as soon as it runs, which it must before it ends."""
        active = self.until(job, lambda active: status(active) is not JobStatus.STARTING, "start", within)
        assert status(active) is JobStatus.RUNNING, active
        return active

    def ended(self, job: WireJob, within: float = 60.0) -> WireJob:
        """A job as soon as it has ended."""
        return self.until(job, lambda active: status(active).ended, "end", within)

    def all_are(self, jobs: list[WireJob], wanted: JobStatus, within: float = 120.0) -> dict[str, WireJob]:
        """All jobs of this host as soon as these have reached a state; none may go past it."""

        def look() -> dict[str, WireJob] | None:
            known = self.jobs()
            states = {job["id"]: status(known[job["id"]]) for job in jobs}
            past = {job_id: state.name for job_id, state in states.items() if state > wanted}
            assert not past, past
            return known if all(state is wanted for state in states.values()) else None

        return wait_until(look, f"{len(jobs)} jobs to be {wanted.name}", within)

    def log(self, job: WireJob, within: float = 60.0, **query: Any) -> Answer:
        """A job's output."""
        asked = f"?{urlencode(query)}" if query else ""
        return self.get(f"/host/jobs/{job['id']}/log{asked}", within=within)

    def events(self, job: WireJob | None = None, last_id: str = "", **query: Any) -> EventReader:
        """A stream of the events of one job, or of all; close it after use."""
        path = f"/host/jobs/{job['id']}" if job else "/host/jobs"
        asked = f"?{urlencode(query)}" if query else ""
        return EventReader(self.port, f"{path}{asked}", last_id, self.address)


def status(active: WireJob) -> JobStatus:
    """The state of a job; the one that is left out is the first."""
    return JobStatus(active.get("status", 0))
