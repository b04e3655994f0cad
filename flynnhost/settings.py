"""What an operator says of a host: on the command line, in a file, or not at all."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from flynnhost.errors import InvalidField
from flynnhost.option_checks import CHECKS, HOST_ID

DEFAULT_DOCKER = "unix:///var/run/docker.sock"


@frozen
class Settings:
    """One host's settings. The names are those of the options, with ``_`` for ``-``.

    :param external: the address at which this host and its containers are reached.
    :param bind: the address on which jobs' ports are published; empty for all.
    :param listen: Twisted endpoint descriptions of the HTTP API.
    :param docker: the URL of the Docker engine.
    :param ports: the first and the last port that jobs can be given.
    :param force: end what an earlier instance of this host booted.
    :param solo: this host is the whole cluster.
    :param max_starts: how many jobs are created and started at the same time.
    :param output_size: how big a file of a job's output may grow, in MB.
    :param output_files: how many files of a job's output are kept.
    :param etcd: URLs of the members of etcd that keep the cluster together; none for a solo host.
    :param etcd_ca: a PEM file of who vouches for etcd's certificates; empty for whom the machine trusts.
    :param etcd_cert: a PEM file of the certificate by which etcd knows this host; empty for none.
    :param etcd_key: a PEM file of its key.
    :param etcd_user: who this host is to etcd; empty if it does not ask.
    :param etcd_password_file: a file that has the password and nothing else.
    :param lease_ttl: seconds after which a host that is gone has no part in the cluster any more.
    """

    external: str
    id: str
    bind: str = ""
    attributes: Mapping[str, str] = field(factory=dict)
    state_dir: Path = Path("/var/lib/flynn-host")
    listen: tuple[str, ...] = ("tcp:1113",)
    docker: str = DEFAULT_DOCKER
    ports: tuple[int, int] = (55000, 65535)
    force: bool = False
    solo: bool = False
    max_starts: int = 4
    output_size: int = 100
    output_files: int = 5
    etcd: tuple[str, ...] = ()
    etcd_ca: str = ""
    etcd_cert: str = ""
    etcd_key: str = ""
    etcd_user: str = ""
    etcd_password_file: str = ""
    lease_ttl: int = 5


def settings(
    given: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    hostname: Callable[[], str] = socket.gethostname,
    default_address: Callable[[], str] | None = None,
) -> Settings:
    """The settings that follow from what was given, on the command line and in a file.

    :param given: by the name of the option; ``config`` names a file with more of the same,
        which is overruled by everything else that is given.
    :raises InvalidField: naming the option.
    """
    filed = options_of_file(given["config"]) if given.get("config") else {}
    merged = {name: value for name, value in {**filed, **given}.items() if name != "config"}
    merged["attributes"] = {
        **filed.get("attributes", {}),
        **CHECKS["attributes"](given.get("attributes", {})),
    }
    if "docker" not in merged:
        merged["docker"] = _docker_host(environ) or DEFAULT_DOCKER
    if "id" not in merged:
        merged["id"] = id_of_host_name(hostname())
    if "external" not in merged:
        merged["external"] = (default_address or address_of_default_route)()
    chosen = Settings(**{name.replace("-", "_"): CHECKS[name](value) for name, value in merged.items()})
    return _of_a_cluster(chosen, environ)


def _of_a_cluster(chosen: Settings, environ: Mapping[str, str]) -> Settings:
    """The same, with the etcd that keeps the cluster together, unless this host is all of it."""
    if chosen.solo and chosen.etcd:
        raise InvalidField("etcd", "can't be given with solo: a solo host is the whole cluster")
    if not chosen.solo and not chosen.etcd and environ.get("ETCD_ENDPOINTS"):
        chosen = evolve(chosen, etcd=CHECKS["etcd"](environ["ETCD_ENDPOINTS"]))
    if not chosen.solo and not chosen.etcd:
        raise InvalidField(
            "etcd",
            "must be given, as http://HOST:2379, or ETCD_ENDPOINTS set; or solo, for a cluster of one host",
        )
    if bool(chosen.etcd_user) != bool(chosen.etcd_password_file):
        raise InvalidField("etcd-user", "and etcd-password-file must both be given, or neither")
    return chosen


def id_of_host_name(name: str) -> str:
    """The ID that a host has for want of a better one: its name up to the first dot, without dashes.

    :raises InvalidField: when nothing remains that could be one.
    """
    host_id = name.partition(".")[0].replace("-", "")
    if not HOST_ID.fullmatch(host_id):
        raise InvalidField("id", f"must be given: none can be made of this host's name, {name!r}")
    return host_id


def address_of_default_route() -> str:
    """This host's address towards the rest of the world. Nothing is sent.

    :raises InvalidField: when there is no default route.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address kept for examples, RFC 5737
        except OSError as e:
            raise InvalidField("external", "must be given: this host has no default route") from e
        address: str = probe.getsockname()[0]
        return address


def attribute(text: str) -> tuple[str, str]:
    """A pair from ``KEY=VALUE``.

    :raises InvalidField: when it is none.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidField("attribute", f"must be KEY=VALUE, not {text!r}")
    return key, value


def options_of_file(path: str) -> dict[str, Any]:
    """The options that a file has, by name, as they are written there.

    :raises InvalidField: when it can't be read, or says what can't be.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as e:
        raise InvalidField("config", f"{path} can't be read: {e.strerror}") from e
    except ValueError as e:
        raise InvalidField("config", f"{path} is not JSON: {e}") from e
    except RecursionError as e:
        raise InvalidField("config", f"{path} is nested too deeply") from e
    if not isinstance(content, dict):
        raise InvalidField("config", f"{path} must hold a JSON object")
    for name, value in content.items():
        if name not in CHECKS:
            known = ", ".join(sorted(CHECKS))
            raise InvalidField("config", f"{path} has the unknown key {name!r}; known are {known}")
        try:
            CHECKS[name](value)
        except InvalidField as e:
            raise InvalidField(f"config {path}: {e.field}", e.reason) from e
    return content


def _docker_host(environ: Mapping[str, str]) -> str:
    url = environ.get("DOCKER_HOST", "")
    try:
        return str(CHECKS["docker"](url)) if url else ""
    except InvalidField as e:
        raise InvalidField("docker", f"must be given, because DOCKER_HOST is of no use: it {e.reason}") from e
