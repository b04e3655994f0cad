"""etcd clusters of one's own: started, paused, killed and cleaned up after by a test run."""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from flynnhost.etcd.tls import TlsFiles
from tests.support.etcd_tls import Authority, Pair
from tests.support.waiting import wait_until

_PROGRAM = "etcd"
_numbers = itertools.count()

PROGRESS = 0.5
"""How often a watch gives a sign of life, in seconds."""


def missing() -> str:
    """What keeps this machine from running etcd; empty if nothing does."""
    return "" if shutil.which(_PROGRAM) else f"there is no {_PROGRAM}: apt-get install etcd-server"


@frozen
class Secured:
    """How an etcd speaks TLS.

    :param client_certs: whether it asks its clients for certificates.
    """

    authority: Authority
    server: Pair
    client: Pair
    client_certs: bool = True

    @property
    def options(self) -> Mapping[str, str]:
        """etcd's options for it."""
        options = {"cert-file": str(self.server.certificate), "key-file": str(self.server.key)}
        if self.client_certs:
            options.update({"trusted-ca-file": str(self.authority.ca), "client-cert-auth": "true"})
        return options

    @property
    def files(self) -> TlsFiles:
        """What a client needs."""
        return TlsFiles(str(self.authority.ca), str(self.client.certificate), str(self.client.key))

    def context(self) -> ssl.SSLContext:
        """What a client needs, for Python's own."""
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        context.load_cert_chain(self.client.certificate, self.client.key)
        return context


@define(eq=False)
class Member:
    """A process of etcd, or one that may become it again."""

    name: str
    directory: Path
    scheme: str
    port: int = field(factory=lambda: free_port())
    peer_port: int = field(factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def peer_url(self) -> str:
        """Where the other members find it."""
        return f"http://127.0.0.1:{self.peer_port}"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)

    def last_words(self) -> str:
        """The end of its log."""
        log = self.directory / "etcd.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else "nothing"


@define(eq=False)
class EtcdCluster:
    """Some members, on loopback ports that the kernel chose.

    :param options: more options for etcd.
    :param unhealthy: whether it is known that they will not serve.
    """

    directory: Path
    size: int = 1
    secured: Secured | None = None
    options: Mapping[str, str] = field(factory=dict)
    unhealthy: bool = False
    token: str = ""
    members: list[Member] = field(init=False)

    def __attrs_post_init__(self) -> None:
        scheme = "https" if self.secured else "http"
        number = next(_numbers)
        self.members = [
            Member(f"m{n}", self.directory / f"cluster{number}" / f"m{n}", scheme) for n in range(self.size)
        ]

    @property
    def urls(self) -> tuple[str, ...]:
        """Where clients find the members."""
        return tuple(member.url for member in self.members)

    @property
    def files(self) -> TlsFiles:
        """What a client needs for TLS."""
        return self.secured.files if self.secured else TlsFiles()

    def start(self) -> None:
        """Start all members, and wait until they serve."""
        for member in self.members:
            self.run(member)
        self.wait_ready()

    def run(self, member: Member, state: str = "new") -> None:
        """Start a member, without waiting.

        :param state: ``existing`` for one that joins a cluster.
        """
        member.directory.mkdir(parents=True, exist_ok=True)
        with (member.directory / "etcd.log").open("ab") as log:
            member.process = subprocess.Popen(
                [*self.command(member), f"--initial-cluster-state={state}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "GOMAXPROCS": "1"},
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait until all members serve."""
        if self.unhealthy:
            for member in self.members:
                wait_until(functools.partial(self._listens, member), "etcd to listen", within=60)
            return
        for member in self.members:
            wait_until(functools.partial(self._healthy, member), "etcd to serve", within=60)

    def stop(self) -> None:
        """End all members and remove what they wrote, whatever state they are in."""
        for member in self.members:
            member.kill()
            shutil.rmtree(member.directory, ignore_errors=True)

    def leader(self) -> Member:
        """The member that leads."""

        def find() -> Member | None:
            for member in self.members:
                with contextlib.suppress(OSError):
                    status = self.ask(member, "maintenance/status", timeout=2.0)
                    if status.get("leader", "0") == status["header"]["member_id"]:
                        return member
            return None

        return wait_until(find, "a leader of etcd", within=30)

    def followers(self) -> list[Member]:
        """The members that don't lead."""
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    def ask(self, member: Member, path: str, body: Any = None, timeout: float = 10.0) -> Any:
        """Ask a member something, and wait for the answer.

        :raises OSError: when it does not answer, or with an error.
        """
        headers = {"Authorization": self.token} if self.token else {}
        request = urllib.request.Request(
            f"{member.url}/v3/{path}", json.dumps(body or {}).encode(), headers, method="POST"
        )
        context = self.secured.context() if self.secured else None
        with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
            return json.load(answer)

    def compact(self, revision: int) -> None:
        """Forget what was before a revision."""
        with contextlib.suppress(urllib.error.HTTPError):  # when another test has done so already
            self.ask(self.members[0], "kv/compaction", {"revision": revision})

    def enable_auth(self, password: str, users: Mapping[str, str]) -> None:
        """Ask for users from now on: ``root``, and others, who may do anything below their name."""
        member = self.members[0]
        self.ask(member, "auth/user/add", {"name": "root", "password": password})
        self.ask(member, "auth/role/add", {"name": "root"})
        self.ask(member, "auth/user/grant", {"user": "root", "role": "root"})
        for name, secret in users.items():
            self.ask(member, "auth/user/add", {"name": name, "password": secret})
            self.ask(member, "auth/role/add", {"name": name})
            self.ask(member, "auth/user/grant", {"user": name, "role": name})
            start, end = f"{name}/".encode(), f"{name}0".encode()
            permission = {"permType": "READWRITE", "key": _base64(start), "range_end": _base64(end)}
            self.ask(member, "auth/role/grant", {"name": name, "perm": permission})
        self.ask(member, "auth/enable")
        self.log_in(password)

    def add_learner(self) -> Member:
        """Add and start a member without a vote."""
        first = self.members[0]
        directory = first.directory.parent / f"m{len(self.members)}"
        learner = Member(directory.name, directory, first.scheme)

        def added() -> bool:
            try:
                self.ask(first, "cluster/member/add", {"peerURLs": [learner.peer_url], "isLearner": True})
            except OSError:  # not within 5 s of the start
                return False
            return True

        wait_until(added, "etcd to take a learner", within=30)
        self.members.append(learner)
        self.run(learner, state="existing")
        return learner

    def promote(self, learner: Member) -> None:
        """Give a learner its vote, when it knows all that the others do."""

        def promoted() -> bool:
            try:
                self.ask(self.members[0], "cluster/member/promote", {"ID": self._id(learner)})
            except OSError:
                return False
            return True

        wait_until(promoted, "etcd to promote a learner", within=30)

    def remove(self, member: Member) -> None:
        """Remove a member from the cluster."""
        others = [each for each in self.members if each is not member]

        def removed() -> bool:
            try:
                self.ask(others[0], "cluster/member/remove", {"ID": self._id(member)})
            except OSError:  # not within 5 s of a start either
                return False
            return True

        wait_until(removed, "etcd to remove a member", within=30)

    def _id(self, member: Member) -> str:
        known = self.ask(self.members[0], "cluster/member/list")["members"]
        return next(str(each["ID"]) for each in known if member.peer_url in each["peerURLs"])

    def log_in(self, password: str) -> None:
        """Be ``root`` in what is asked from now on."""
        self.token = ""
        user = {"name": "root", "password": password}
        self.token = self.ask(self.members[0], "auth/authenticate", user)["token"]

    def _listens(self, member: Member) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", member.port)) == 0

    def _healthy(self, member: Member) -> bool:
        assert member.process is not None
        assert member.process.poll() is None, f"etcd ended:\n{member.last_words()}"
        context = self.secured.context() if self.secured else None
        try:
            with urllib.request.urlopen(f"{member.url}/health", timeout=5, context=context) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False

    def command(self, member: Member | None = None) -> list[str]:
        """What starts a member, by default the first."""
        member = member or self.members[0]
        options = {
            "name": member.name,
            "data-dir": member.directory / "data",
            "listen-client-urls": member.url,
            "advertise-client-urls": member.url,
            "listen-peer-urls": member.peer_url,
            "initial-advertise-peer-urls": member.peer_url,
            "initial-cluster": ",".join(f"{each.name}={each.peer_url}" for each in self.members),
            "initial-cluster-token": str(self.directory),
            "pre-vote": "true",
            "experimental-watch-progress-notify-interval": f"{PROGRESS}s",
            "logger": "zap",
            "log-level": "warn",
            **(self.secured.options if self.secured else {}),
            **self.options,
        }
        return [_PROGRAM, *(f"--{name}={value}" for name, value in options.items())]


def free_port() -> int:
    """A loopback port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
