"""The twistd plugin: from options to the tree of services."""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IService, MultiService
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python import usage

from flynnhost import __version__
from flynnhost.agent.journal import SqliteJournal
from flynnhost.agent.resources import machine_resources
from flynnhost.agent.state_dir import StateDir, lock_state_dir
from flynnhost.containers.body import OutputFiles
from flynnhost.containers.client import DockerClient
from flynnhost.errors import FlynnHostError, InvalidField
from flynnhost.etcd.auth import User
from flynnhost.etcd.clocks import boottime, make_steady
from flynnhost.etcd.connect import EtcdSettings, connect
from flynnhost.etcd.tls import TlsFiles
from flynnhost.host import build_host
from flynnhost.interfaces import IEtcd
from flynnhost.process import ShortCollections, allow_many_files
from flynnhost.settings import Settings, attribute, settings

log = Logger()


class Options(usage.Options):
    """The options of ``twistd flynn-host``. A bad one ends the process with one line and status 1."""

    synopsis = "--etcd URLS | --solo [options]"
    longdesc = (
        "Runs jobs in Docker containers on this host, and leads the cluster when elected. "
        "Every option can also stand in the file that --config names.\n"
        "Example: flynn-host daemon --solo"
    )
    optFlags: ClassVar[Sequence[Sequence[Any]]] = [
        ["force", None, "End and remove the containers that an earlier instance of this host booted."],
        ["solo", None, "This host is the whole cluster; no etcd is needed."],
    ]
    optParameters: ClassVar[Sequence[Sequence[Any]]] = [
        ["external", None, None, "IP at which this host and its containers are reached. "
         "[default: the address of the default route]"],
        ["bind", None, None, "IP on which jobs' ports are published. [default: all]"],
        ["id", None, None, "This host's ID, without a dash. [default: the host name without dashes]"],
        ["config", None, None, "JSON file with attributes and any of these options; the command line wins."],
        ["state-dir", None, None, "Directory of what must outlive this process. "
         "[default: /var/lib/flynn-host]"],
        ["docker", None, None, "URL of the Docker engine. [default: $DOCKER_HOST, else "
         "unix:///var/run/docker.sock]"],
        ["ports", None, None, "FROM-TO, the range of ports that jobs can be given. [default: 55000-65535]"],
        ["max-starts", None, None, "How many jobs are created and started at the same time. [default: 4]"],
        ["output-size", None, None, "Size in MB to which a file of a job's output may grow. [default: 100]"],
        ["output-files", None, None, "How many files of a job's output are kept. [default: 5]"],
        ["etcd", None, None, "URLs of etcd's members, with commas between them. [default: $ETCD_ENDPOINTS]"],
        ["etcd-ca", None, None, "PEM file of who vouches for etcd's certificates. "
         "[default: whom this machine trusts]"],
        ["etcd-cert", None, None, "PEM file of the certificate by which etcd knows this host."],
        ["etcd-key", None, None, "PEM file of the key of that certificate."],
        ["etcd-user", None, None, "Who this host is to etcd."],
        ["etcd-password-file", None, None, "File that holds the password for etcd."],
        ["lease-ttl", None, None, "Seconds after which a host that is gone can lead no longer. [default: 5]"],
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, Any] = {}

    def opt_attribute(self, text: str) -> None:
        """KEY=VALUE, something to know of this host; may be given again."""
        key, value = attribute(text)
        self.given.setdefault("attributes", {})[key] = value

    def opt_listen(self, description: str) -> None:
        """Endpoint of the HTTP API, as tcp:1113:interface=::1; may be given again. [default: tcp:1113]"""
        self.given.setdefault("listen", []).append(description)

    def opt_version(self) -> None:
        """Show the version and exit."""
        sys.stdout.write(f"flynn-host {__version__}\n")
        sys.exit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse, with ``-external IP`` as good as ``--external IP``."""
        try:
            super().parseOptions(self._with_two_dashes(options or ()))
        except (usage.error, InvalidField) as e:
            sys.exit(f"flynn-host: {e}")

    def postOptions(self) -> None:
        """Make settings of what was given."""
        flags = {flag: True for flag in ("force", "solo") if self[flag]}
        texts = {name: self[name] for name, *_ in self.optParameters if self[name] is not None}
        self.given |= flags | texts
        self.settings: Settings = settings(self.given)

    def _with_two_dashes(self, words: Sequence[str]) -> list[str]:
        changed: list[str] = []
        value_follows = False
        for word in words:
            name, equals, _ = word.lstrip("-").partition("=")
            is_option = not value_follows and word.startswith("-") and len(name) > 1
            if is_option and not word.startswith("--") and name in self._long_names():
                word = f"-{word}"
            value_follows = is_option and not equals and f"{name}=" in self.longOpt
            changed.append(word)
        return changed

    def _long_names(self) -> set[str]:
        return {name.rstrip("=") for name in self.longOpt}


def makeService(options: Options, reactor: Any = None) -> IService:
    """The host as a service. Locks its state directory at once, so that a second one is told no.

    :param reactor: what to run on; the global one by default.
    """
    whole_process = reactor is None
    if reactor is None:
        from twisted.internet import reactor

        make_steady(reactor)
        allow_many_files()
        reactor.callWhenRunning(_end_well_when_told, reactor)  # type: ignore[attr-defined]
    try:
        state_dir = lock_state_dir(options.settings.state_dir)
        try:
            host = _host(reactor, options.settings, state_dir)
        except BaseException:
            state_dir.release()
            raise
    except FlynnHostError as e:
        sys.exit(f"flynn-host: {e}")
    if whole_process:
        ShortCollections(reactor).setServiceParent(host)
    return host


def _host(reactor: Any, chosen: Settings, state_dir: StateDir) -> MultiService:
    return build_host(
        reactor,
        chosen,
        journal=SqliteJournal(reactor, state_dir.journal),
        containers=DockerClient(
            reactor, chosen.docker, output=OutputFiles(chosen.output_size * 1_000_000, chosen.output_files)
        ),
        state_dir=state_dir,
        now=lambda: datetime.now(UTC),
        boottime=boottime,
        epoch=secrets.token_hex(4),
        resources=machine_resources(),
        etcd=None if chosen.solo else _etcd(reactor, chosen),
    )


def _etcd(reactor: Any, chosen: Settings) -> IEtcd:
    tls = TlsFiles(chosen.etcd_ca, chosen.etcd_cert, chosen.etcd_key)
    try:
        user = User(chosen.etcd_user, _password(chosen.etcd_password_file)) if chosen.etcd_user else None
        return connect(reactor, EtcdSettings(chosen.etcd, tls, user))
    except InvalidField as e:
        raise InvalidField("etcd", f"can't be used: {e}") from e


def _password(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise InvalidField("password-file", f"{path} can't be read: {e}") from e


def _end_well_when_told(reactor: Any) -> None:
    """Have the process end with status 0 on TERM. Left alone, twistd ends itself by the signal."""

    def told(*_: object) -> None:
        reactor.callFromThread(end)

    def end() -> None:
        log.info("Told to end, this host leaves its jobs running")
        with suppress(ReactorNotRunning):  # if it was told before
            reactor.stop()

    signal.signal(signal.SIGTERM, told)
