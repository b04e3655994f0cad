"""flynn-host ps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from flynnhost.cli import words
from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.output import Column, Format, Listing, output_option
from flynnhost.cli.program import Command
from flynnhost.client import calls
from flynnhost.client.values import ActiveJob, Port, known_time


@click.command(
    "ps",
    cls=Command,
    examples=[
        "flynn-host ps",
        "flynn-host ps --all --cluster --output wide",
        "flynn-host stop $(flynn-host ps -q)",
    ],
)
@click.option("--all", "-a", "all_jobs", is_flag=True, help="Jobs that have ended too.")
@click.option("--cluster", "-c", is_flag=True, help="The jobs of all hosts of the cluster.")
@output_option
@host_url_option
@pass_context
def command(context: Context, all_jobs: bool, cluster: bool, form: Format) -> None:
    """List the jobs of a host."""
    found: Iterable[ActiveJob]
    problem: Exception | None = None
    if cluster:
        from flynnhost.cli.cluster_hosts import jobs_of_all  # threads, which others don't wait for

        found, problem = jobs_of_all(context)
    else:
        found = context.client.run(calls.jobs()).values()
    jobs = sorted((job for job in found if all_jobs or not job.ended), key=_newest_first)
    job_listing(cluster=cluster).show(jobs, form)
    if problem is not None:
        raise problem


def job_listing(*, cluster: bool = False) -> Listing[ActiveJob]:
    """How jobs are listed.

    :param cluster: with the hosts that they are on.
    """
    at = words.now()
    columns = [
        Column[ActiveJob]("ID", lambda job: words.short_id(job.id)),
        Column[ActiveJob]("HOST", lambda job: job.host_id, wide=not cluster),
        Column[ActiveJob]("IMAGE", lambda job: words.image(job.job)),
        Column[ActiveJob]("COMMAND", lambda job: _shortened(words.command(job.job))),
        Column[ActiveJob]("STATE", lambda job: words.state(job, at), style=words.colour),
        Column[ActiveJob]("PORTS", lambda job: words.ports(job.job)),
        Column[ActiveJob]("FULL ID", lambda job: job.id, wide=True),
        Column[ActiveJob]("ADDRESS", lambda job: job.internal_ip, wide=True),
        Column[ActiveJob]("CONTAINER", lambda job: job.container_id[: words.SHORT], wide=True),
        Column[ActiveJob]("METADATA", _metadata, wide=True),
        Column[ActiveJob]("ERROR", lambda job: " ".join(job.error.split()), wide=True),
    ]
    return Listing(columns, lambda job: job.id, plain)


def plain(active: ActiveJob) -> dict[str, Any]:
    """What JSON listings have of a job; nothing of its environment, for there may be secrets in it."""
    config = active.job.config
    started, ended = known_time(active.started_at), known_time(active.ended_at)
    return {
        "id": active.id,
        "host_id": active.host_id,
        "state": active.status.name.lower(),
        "phase": active.phase,
        "detail": active.detail,
        "image": words.image(active.job),
        "command": [*(config.entry_point or ()), *(config.cmd or ())] if config else [],
        "ports": [{"port": port.port, "proto": port.proto or "tcp"} for port in _ports(active)],
        "metadata": active.job.metadata or {},
        "accepted_at": known_time(active.accepted_at),
        "started_at": started,
        "ended_at": ended,
        "exit_status": active.exit_status if ended and started else None,
        "oom_killed": active.oom_killed,
        "error": active.error,
        "container_id": active.container_id,
        "internal_ip": active.internal_ip,
    }


def _ports(active: ActiveJob) -> Sequence[Port]:
    return (active.job.config.ports if active.job.config else None) or ()


def _newest_first(active: ActiveJob) -> tuple[float, str]:
    accepted = known_time(active.accepted_at)
    return (-accepted.timestamp() if accepted else 0.0, active.id)


def _metadata(active: ActiveJob) -> str:
    return ", ".join(f"{key}={value}" for key, value in (active.job.metadata or {}).items())


def _shortened(text: str, limit: int = 40) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
