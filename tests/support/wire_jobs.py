"""Jobs as a client sends them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from tests.support.busybox import IMAGE
from tests.support.host_api import WireJob


def wire_job(*cmd: str, job_id: str = "", image: str = IMAGE, **config: Any) -> WireJob:
    """A job that runs a command; in the network of the host, which is soonest made, unless it has ports.

    :param config: more of its configuration.
    """
    return {
        "id": job_id or uuid.uuid4().hex,
        "artifact": {"type": "docker", "url": image},
        "config": {"cmd": list(cmd), "host_network": "ports" not in config, **config},
    }


def shell_job(script: str, **config: Any) -> WireJob:
    """A job that runs a shell script."""
    return wire_job("sh", "-c", script, **config)


def sleeper(**config: Any) -> WireJob:
    """A job that does nothing for longer than any test takes."""
    return wire_job("sleep", "3600", **config)


def tracing(directory: Path, script: str, **config: Any) -> WireJob:
    """A job that leaves a line in a file of its name each time it is started, then runs a script."""
    directory.mkdir(exist_ok=True)
    mount = {"location": "/trace", "target": str(directory), "writeable": True}
    return shell_job(f'echo started >> "/trace/$HOSTNAME"; {script}', mounts=[mount], **config)


def starts(directory: Path, job: WireJob) -> int:
    """How often a ``tracing`` job was started."""
    trace = directory / job["id"]
    return len(trace.read_text().splitlines()) if trace.exists() else 0
