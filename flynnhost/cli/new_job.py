"""From options to a job."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from flynnhost.cli.job_texts import (
    BadText,
    cpus,
    duration,
    pair,
    port,
    size,
    uid,
    variables,
    variables_of_file,
    volume,
)
from flynnhost.client.values import (
    Artifact,
    Config,
    Job,
    Mount,
    Port,
    Quantity,
    Resources,
    Volume,
)

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Text(click.ParamType[Any]):
    """An option that is read by one of the functions of ``job_texts``."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value that is meant."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except BadText as e:
            self.fail(str(e), param, ctx)


_OPTIONS = (
    click.option("--id", "job_id", metavar="ID", help="The job's ID; one is made when there is none."),
    click.option(
        "--env", "-e", multiple=True, metavar="NAME[=VALUE]", help="A variable; without value, that of here."
    ),
    click.option(
        "--env-file",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file of variables.",
    ),
    click.option(
        "--port", "-p", "ports", multiple=True, type=Text("PORT[/PROTO]", port), help="A port; 0 for any."
    ),
    click.option(
        "--volume",
        "-v",
        "volumes",
        multiple=True,
        type=Text("SOURCE:PATH[:ro]", volume),
        metavar="SOURCE:PATH[:ro]",
        help="A volume, or a path of the host.",
    ),
    click.option("--memory", "-m", type=Text("SIZE", size), help="The most memory it gets, such as 512m."),
    click.option("--cpus", "-c", type=Text("CORES", cpus), help="The most CPU it gets, such as 0.5."),
    click.option(
        "--attr", "attributes", multiple=True, type=Text("NAME=VALUE", pair), help="Metadata of the job."
    ),
    click.option("--entrypoint", metavar="PROGRAM", help="What to run instead of the image's entry point."),
    click.option("--workdir", "-w", metavar="PATH", default="", help="The directory to run in."),
    click.option("--user", "-u", "uid", type=Text("UID", uid), help="The user, by number."),
    click.option("--host-network", is_flag=True, help="Use the network of the host."),
    click.option(
        "--stop-timeout", type=Text("TIME", duration), help="Between SIGTERM and SIGKILL, such as 30s."
    ),
)


def job_options(command: F) -> F:
    """The options that say what a job is to be; ``make_job`` takes them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_job(image: str, cmd: Sequence[str], *, tty: bool, stdin: bool, options: dict[str, Any]) -> Job:
    """The job that was asked for.

    :param options: those of ``job_options``.
    """
    given: Sequence[Mount | Volume] = options["volumes"]
    ports: tuple[Port, ...] = tuple(options["ports"])
    config = Config(
        tty=tty,
        stdin=stdin,
        host_network=options["host_network"],
        entry_point=(options["entrypoint"],) if options["entrypoint"] else None,
        cmd=tuple(cmd) or None,
        env=_environment(options) or None,
        mounts=tuple(each for each in given if isinstance(each, Mount)) or None,
        volumes=tuple(each for each in given if isinstance(each, Volume)) or None,
        ports=ports or None,
        working_dir=options["workdir"],
        uid=options["uid"],
        stop_timeout=options["stop_timeout"],
    )
    return Job(
        id=options["job_id"] or uuid.uuid4().hex,
        metadata=dict(options["attributes"]) or None,
        artifact=Artifact(url=image),
        resources=_resources(options["memory"], options["cpus"]),
        config=config,
    )


def _resources(memory: int | None, cpu: int | None) -> Resources | None:
    if memory is None and cpu is None:
        return None
    return Resources(
        memory=None if memory is None else Quantity(limit=memory),
        cpu=None if cpu is None else Quantity(limit=cpu),
    )


def _environment(options: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        for path in options["env_file"]:
            found |= _of_file(path)
        return found | variables(options["env"], os.environ)
    except BadText as e:
        raise click.BadParameter(str(e), param_hint="--env") from e


def _of_file(path: Path) -> dict[str, str]:
    try:
        return variables_of_file(path.read_text(encoding="utf-8"), os.environ)
    except (OSError, UnicodeDecodeError, BadText) as e:
        raise click.BadParameter(f"{path}: {e}", param_hint="--env-file") from e
