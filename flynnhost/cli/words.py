"""Jobs in words, for people."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime

from flynnhost.client.values import ActiveJob, Job, Status, known_time

SHORT = 12
"""How much of a job's ID is shown where there is little room."""

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def now() -> datetime:
    """The time at this machine."""
    return datetime.now(UTC)


def duration(seconds: float) -> str:
    """A length of time, as roughly as people say it."""
    for size, unit in _UNITS:
        count = int(seconds // size)
        if count >= 2 or (count and size in (1, 86400)):
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "a moment"


def since(time: datetime | None, at: datetime) -> str:
    """How long ago something was; empty if that is not known."""
    known = known_time(time)
    return "" if known is None else duration(max(0.0, (at - known).total_seconds()))


def short_id(job_id: str) -> str:
    """An ID as far as it is shown in tables: only those that are long and made by machines are cut."""
    is_made = len(job_id) == 32 and all(c in "0123456789abcdef" for c in job_id)
    return job_id[:SHORT] if is_made else job_id


def image(job: Job) -> str:
    """The image of a job."""
    return job.artifact.url.removeprefix("docker://") if job.artifact else ""


def command(job: Job) -> str:
    """The command of a job, as it could be typed; empty if it is the image's."""
    config = job.config
    return shlex.join([*(config.entry_point or ()), *(config.cmd or ())]) if config else ""


def ports(job: Job) -> str:
    """The ports of a job."""
    found = job.config.ports if job.config else None
    return ", ".join(f"{port.port or '?'}/{port.proto or 'tcp'}" for port in found or ())


def state(active: ActiveJob, at: datetime) -> str:
    """How a job is, and since when."""
    match active.status:
        case Status.STARTING:
            return f"{active.phase or 'starting'}{f' ({active.detail})' if active.detail else ''}"
        case Status.RUNNING:
            word = "stopping" if active.phase == "stopping" else "running"
            lasts = since(active.started_at, at)
            return f"{word} for {lasts}" if lasts else word
        case Status.FAILED:
            return _ago("failed", active, at)
    if active.status is Status.CRASHED and active.exit_status < 0:
        return _ago("lost", active, at)
    memory = ", out of memory" if active.oom_killed else ""
    return _ago(f"exited ({active.exit_status}{memory})", active, at)


def _ago(word: str, active: ActiveJob, at: datetime) -> str:
    past = since(active.ended_at, at)
    return f"{word} {past} ago" if past else word


def colour(active: ActiveJob) -> str:
    """The colour of a job's state."""
    match active.status:
        case Status.STARTING:
            return "yellow"
        case Status.RUNNING:
            return "green"
        case Status.DONE:
            return "dim"
    return "red"


_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """A number of bytes, as people say it; empty for none."""
    if count <= 0:
        return ""
    unit = 0
    while count >= 1024 and unit < len(_SIZES) - 1:
        count /= 1024
        unit += 1
    return f"{count:.1f} {_SIZES[unit]}" if unit and count < 10 else f"{count:.0f} {_SIZES[unit]}"


def cpus(thousandths: int) -> str:
    """A number of CPUs, given in thousandths; empty for none."""
    return f"{thousandths / 1000:g}" if thousandths > 0 else ""


def pairs(mapping: Mapping[str, str]) -> str:
    """Names with their values, in order, on one line."""
    return ", ".join(" ".join(f"{name}={mapping[name]}".split()) for name in sorted(mapping))
