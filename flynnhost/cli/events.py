"""flynn-host events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from flynnhost.cli import words
from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.program import Command
from flynnhost.cli.ps import plain
from flynnhost.client.values import ActiveJob, HostEvent, JobEvent, Status, encode, known_time


@click.command(
    "events",
    cls=Command,
    examples=[
        "flynn-host events",
        "flynn-host events --hosts",
        "flynn-host events --snapshot -o json | jq .job_id",
    ],
)
@click.option("--hosts", "-a", is_flag=True, help="Hosts that come and go, instead of jobs.")
@click.option("--snapshot", "-s", is_flag=True, help="Begin with what there is.")
@click.option(
    "--output", "-o", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@host_url_option
@pass_context
def command(context: Context, hosts: bool, snapshot: bool, form: str) -> int:
    """Follow what happens to the jobs of a host, or to the hosts of the cluster, until Ctrl-C."""
    from flynnhost.cli.in_reactor import in_reactor

    address = context.address

    async def main(reactor: Any, _signals: Any) -> int:
        from flynnhost.client.client import Client

        client = Client(reactor, address)
        events: Any = client.host_events(snapshot=snapshot) if hosts else client.job_events(snapshot=snapshot)
        try:
            async for event in events:
                click.echo(_as_json(event) if form == "json" else _as_text(event))
        finally:
            events.close()
            await client.close()
        return 0

    return in_reactor(main)


def _as_json(event: JobEvent | HostEvent) -> bytes:
    if isinstance(event, HostEvent):
        return encode({"event": event.event, "host_id": event.host_id})
    job = None if event.job is None else plain(event.job)
    return encode({"event": event.event, "job_id": event.job_id, "job": job})


def _as_text(event: JobEvent | HostEvent) -> str:
    if isinstance(event, HostEvent):
        return f"{_time(words.now())}  {event.event:<6}  {event.host_id}"
    if event.job is None:
        return f"{_time(words.now())}  {event.event:<6}  {event.job_id}"
    line = f"{_time(_when(event.job))}  {event.event:<6}  {event.job_id}  {words.image(event.job.job)}"
    if event.job.status is Status.FAILED:
        return f"{line}  {' '.join(event.job.error.split())}"
    return f"{line}  exit code {event.job.exit_status}" if event.job.ended else line


def _when(active: ActiveJob) -> datetime:
    """When the last of a job happened."""
    times = (active.ended_at, active.started_at, active.accepted_at)
    return next((time for time in map(known_time, times) if time is not None), words.now())


def _time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
