"""All that can be asked of a host and answered at once, each as data that any client can carry out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from attrs import field, frozen

from flynnhost.client import values
from flynnhost.client.answers import Answer, Read, as_json, as_value, nothing
from flynnhost.client.status import HostStatus
from flynnhost.client.values import ActiveJob, Host, Hosts, Job, Leader, Placement, Readiness

T = TypeVar("T")

WITHIN = 30.0
"""Seconds for an answer that a host can give at once, or by way of the leader."""

COMMIT_WITHIN = 90.0
"""Seconds for jobs to be on the disks of all hosts concerned; the leader gives up before."""

STOP_MARGIN = 60.0
"""Seconds that the end of a job may take beyond the time between its signals."""

JSON = "application/json"


@frozen
class Call(Generic[T]):
    """A request, and how its answer is read.

    :param path: the path, quoted.
    :param within: seconds for the whole of the answer.
    :param read: makes the value of it, or raises a ``ClientError``.
    """

    method: str
    path: str
    read: Read[T]
    query: Mapping[str, str] = field(factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(factory=dict)
    within: float = WITHIN

    @property
    def target(self) -> str:
        """The path with the query."""
        return target(self.path, self.query)

    def all_headers(self) -> dict[str, str]:
        """The headers to send."""
        kind = {} if self.body is None else {"Content-Type": JSON}
        return {"Accept": JSON, **kind, **self.headers}


def target(path: str, query: Mapping[str, str]) -> str:
    """What stands in the first line of a request."""
    return f"{path}?{urlencode(query)}" if query else path


def path(*parts: str) -> str:
    """The path of these parts."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


# --- the host: its jobs -----------------------------------------------------------


def jobs() -> Call[dict[str, ActiveJob]]:
    """All jobs of the host by ID, ended ones too."""
    return Call("GET", "/host/jobs", as_value(dict[str, ActiveJob]))


def job(job_id: str) -> Call[ActiveJob]:
    """One job of the host."""
    return Call("GET", path("host", "jobs", job_id), as_value(ActiveJob))


def job_json(job_id: str) -> Call[Any]:
    """One job of the host, as the host tells it."""
    return Call("GET", path("host", "jobs", job_id), as_json)


def run_job(job: Job) -> Call[ActiveJob]:
    """Run a job on this very host; answered when it is on disk."""
    where = path("host", "jobs", job.id)
    return Call("PUT", where, as_value(ActiveJob), body=values.encode(job), within=COMMIT_WITHIN)


def stop_job(job_id: str, stop_timeout: float = 10.0) -> Call[None]:
    """End a job; answered when it has ended.

    :param stop_timeout: the job's own, in seconds.
    """
    return Call("DELETE", path("host", "jobs", job_id), nothing, within=stop_timeout + STOP_MARGIN)


def signal_job(job_id: str, number: int) -> Call[None]:
    """Send a running job a signal."""
    return Call("PUT", path("host", "jobs", job_id, "signal", str(number)), nothing)


def host_status() -> Call[Any]:
    """The host at a glance: a dictionary of which ``id`` is certain."""
    return Call("GET", "/host/status", as_json)


def attributes() -> Call[dict[str, str]]:
    """What is said of the host for schedulers."""
    return Call("GET", "/host/attributes", as_value(dict[str, str]))


def set_attribute(name: str, value: str) -> Call[None]:
    """Say something of the host; it outlives the host's process."""
    where = path("host", "attributes", name)
    return Call("PUT", where, nothing, body=values.encode({"value": value}))


def remove_attribute(name: str) -> Call[None]:
    """Say something no more."""
    return Call("DELETE", path("host", "attributes", name), nothing)


def host_facts() -> Call[HostStatus]:
    """The host at a glance, as far as is known here what it tells."""
    return Call("GET", "/host/status", as_value(HostStatus))


# --- the cluster ------------------------------------------------------------------


def hosts(jobs: str = "none") -> Call[Hosts]:
    """The hosts of the cluster.

    :param jobs: what to tell of their jobs: ``full``, ``ids`` or ``none``.
    """
    return Call("GET", "/cluster/hosts", _read_hosts, {"jobs": jobs})


def _read_hosts(answer: Answer) -> Hosts:
    found = answer.checked().as_value(tuple[Host, ...])
    return Hosts(found, answer.headers.get("x-cluster-complete", "true").lower() != "false")


def host(host_id: str, jobs: str = "none") -> Call[Host]:
    """A host of the cluster; see ``hosts``."""
    return Call("GET", path("cluster", "hosts", host_id), as_value(Host), {"jobs": jobs})


def drain(host_id: str, draining: bool) -> Call[None]:
    """Place no more jobs on a host, or again."""
    where = path("cluster", "hosts", host_id, "drain")
    return Call("PUT", where, nothing, body=values.encode({"draining": draining}), within=COMMIT_WITHIN)


def forget_job(host_id: str, job_id: str) -> Call[None]:
    """Take a job out of what is known of the cluster; it is not stopped."""
    return Call("DELETE", path("cluster", "hosts", host_id, "jobs", job_id), nothing)


def commit_jobs(batch: Mapping[str, Sequence[Job]]) -> Call[tuple[Placement, ...]]:
    """Commit jobs to hosts, all or none. The same batch can be sent again and again."""
    body = values.encode({host_id: list(some) for host_id, some in batch.items()})
    headers = {"Prefer": "return=minimal"}
    return Call("POST", "/cluster/jobs", _read_placements, body=body, headers=headers, within=COMMIT_WITHIN)


def _read_placements(answer: Answer) -> tuple[Placement, ...]:
    return answer.checked().as_value(dict[str, tuple[Placement, ...]]).get("jobs", ())


def leader() -> Call[Leader]:
    """Who leads the cluster."""
    return Call("GET", "/cluster/leader", as_value(Leader))


# --- health -----------------------------------------------------------------------


def health() -> Call[Any]:
    """Whether the process serves at all."""
    return Call("GET", "/health", as_json)


def readiness() -> Call[Readiness]:
    """Whether the host can run jobs; that it can't is an answer, not an error."""
    return Call("GET", "/ready", _read_readiness)


def _read_readiness(answer: Answer) -> Readiness:
    if answer.status == 503:
        told: Any = answer.as_value(object)
        checks = told.get("detail") if isinstance(told, dict) else None
        if isinstance(checks, list):
            return Readiness(ready=False, checks=_checks(checks))
    return Readiness(ready=True, checks=_checks(as_json(answer)))


def _checks(told: Iterable[Any]) -> tuple[values.Check, ...]:
    found = (one for one in told if isinstance(one, dict))
    return tuple(
        values.Check(str(one.get("name", "")), one.get("ok") is True, str(one.get("detail", "")))
        for one in found
    )
