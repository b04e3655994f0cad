"""The options of twistd flynn-host, and the services that come of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IService, MultiService
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins

import flynnhost
from flynnhost.agent.agent import Agent
from flynnhost.agent.state_dir import lock_state_dir
from flynnhost.cluster.election import SoloElection
from flynnhost.cluster.role import LeaderRole
from flynnhost.http.listener import Listener
from flynnhost.services import StartedAfter
from flynnhost.settings import Settings
from flynnhost.tap import Options, makeService


def parsed(*words: str) -> Settings:
    """The settings of a command line."""
    options = Options()
    options.parseOptions(["--solo", "--external", "10.0.0.1", "--id", "h1", *words])
    return options.settings


def refused(*words: str) -> str:
    """Why a command line is refused: the process ends with one line, and so with status 1."""
    with pytest.raises(SystemExit) as caught:
        parsed(*words)
    message = caught.value.code
    assert isinstance(message, str)
    assert message.startswith("flynn-host: ")
    assert "\n" not in message
    return message.removeprefix("flynn-host: ")


# --- options ------------------------------------------------------------------


def test_every_option(tmp_path: Path) -> None:
    """Each option has its place in the settings."""
    words = (
        "--external=10.0.0.9 --bind 10.0.0.8 --id h9 --attribute zone=a --attribute disk=ssd=2 --force "
        "--state-dir /state --listen tcp:80 --listen tcp:81:interface=::1 --docker tcp://10.0.0.7:2375 "
        "--ports 100-200 --max-starts 7 --output-size 20 --output-files 3"
    )
    assert parsed(*words.split()) == Settings(
        external="10.0.0.9",
        bind="10.0.0.8",
        id="h9",
        attributes={"zone": "a", "disk": "ssd=2"},
        state_dir=Path("/state"),
        listen=("tcp:80", "tcp:81:interface=::1"),
        docker="tcp://10.0.0.7:2375",
        ports=(100, 200),
        force=True,
        solo=True,
        max_starts=7,
        output_size=20,
        output_files=3,
    )


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-external", "10.0.0.2"], "external", "10.0.0.2"),
        (["-external=10.0.0.2"], "external", "10.0.0.2"),
        (["-bind", "10.0.0.2"], "bind", "10.0.0.2"),
        (["-id", "h2"], "id", "h2"),
        (["-force"], "force", True),
        (["-state-dir=/s"], "state_dir", Path("/s")),
        (["-attribute", "a=b", "-attribute=c=d"], "attributes", {"a": "b", "c": "d"}),
        (["--attribute", "a=-id"], "attributes", {"a": "-id"}),
        (["--attribute", "-id=5"], "attributes", {"-id": "5"}),
        (["-attribute", "-force=5", "-id", "h3"], "attributes", {"-force": "5"}),
    ],
)
def test_one_dash(words: list[str], name: str, value: Any) -> None:
    """One dash is as good as two, as in Flynn's scripts; values stay as they are."""
    assert getattr(parsed(*words), name) == value


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--nonsense"], "option --nonsense not recognized"),
        (["-nonsense"], "option -n not recognized"),
        (["--id"], "option --id requires argument"),
        (["--force=yes"], "option --force must not have an argument"),
        (["word"], "Wrong number of arguments."),
        (["--external", "host"], "external must be an IP address, not 'host'"),
        (["--bind", "eth0"], "bind must be an IP address, not 'eth0'"),
        (["--id", "h-1"], "id must have no dash: job IDs are HOST-UUID, so 'h-1' would be ambiguous"),
        (["--id="], "id must be a text, not ''"),
        (["--attribute", "zone"], "attribute must be KEY=VALUE, not 'zone'"),
        (["--state-dir="], "state-dir must be a text, not ''"),
        (["--listen="], "listen must be a text, not ''"),
        (["--docker", "ssh://h"], "docker must begin with unix:// or tcp://, not 'ssh://h'"),
        (["--ports", "9-1"], "ports must be FROM-TO within 1-65535, not '9-1'"),
        (["--output-size", "0"], "output-size must be a number from 1 to 100000, not '0'"),
        (["--output-files", "1"], "output-files must be a number from 2 to 100, not '1'"),
        (["--max-starts", "0"], "max-starts must be a number from 1 to 1000, not '0'"),
        (["--config", "/none"], "config /none can't be read: No such file or directory"),
    ],
)
def test_bad_option(words: list[str], reason: str) -> None:
    """A bad option ends the process with a line that names it."""
    assert refused(*words).lower() == reason.lower()


def test_no_way_to_elect(monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither an etcd nor --solo nobody can be elected, and it is said what to give."""
    monkeypatch.delenv("ETCD_ENDPOINTS", raising=False)
    with pytest.raises(SystemExit, match=r"flynn-host: etcd must be given.*solo"):
        Options().parseOptions(["--external", "10.0.0.1", "--id", "h1"])


def test_options_of_etcd() -> None:
    """Each option for etcd has its place in the settings."""
    words = (
        "--external=10.0.0.9 --id h9 --etcd http://a:1,https://b:2 --etcd-ca /ca --etcd-cert /cert "
        "--etcd-key /key --etcd-user me --etcd-password-file /word --lease-ttl 9"
    )
    options = Options()
    options.parseOptions(words.split())
    assert options.settings == Settings(
        external="10.0.0.9",
        id="h9",
        etcd=("http://a:1", "https://b:2"),
        etcd_ca="/ca",
        etcd_cert="/cert",
        etcd_key="/key",
        etcd_user="me",
        etcd_password_file="/word",
        lease_ttl=9,
    )


def test_bad_attribute() -> None:
    """What is no text in Unicode is refused, with the name of the attribute."""
    told = refused("--attribute", "a=\udcff")
    assert told.endswith("the value of 'a' must be a text in Unicode, not '\\udcff'")


def test_file(tmp_path: Path) -> None:
    """A file can say everything but is overruled; flags and attributes of both count."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"solo": True, "id": "filed", "attributes": {"a": "1", "b": "2"}}))
    options = Options()
    options.parseOptions(
        ["--config", str(path), "--external", "10.0.0.1", "--id", "h5", "--attribute", "b=3"]
    )
    assert (options.settings.id, options.settings.solo) == ("h5", True)
    assert options.settings.attributes == {"a": "1", "b": "3"}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is shown, and nothing else is done."""
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(["--version"])
    assert not caught.value.code
    assert capsys.readouterr().out == f"flynn-host {flynnhost.__version__}\n"


def test_help() -> None:
    """The help names every option with its default."""
    told = Options().getUsage(120)
    for word in (
        "--external",
        "--listen",
        "--attribute",
        "--etcd",
        "ETCD_ENDPOINTS",
        "--lease-ttl",
        "/var/lib/flynn-host",
        "55000-65535",
        "tcp:1113",
    ):
        assert word in told


# --- services -----------------------------------------------------------------


def options(state_dir: Path, *words: str) -> Options:
    options = Options()
    options.parseOptions(["--solo", "--external=10.0.0.1", "--id=h1", "--state-dir", str(state_dir), *words])
    return options


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


@pytest.fixture
def service(tmp_path: Path, reactor: MemoryReactorClock) -> Iterator[MultiService]:
    """A host on two ports; not started."""
    given = options(tmp_path / "state", "--listen=tcp:1113", "--listen=tcp:80:interface=127.0.0.1")
    made: Any = makeService(given, reactor)
    yield made
    made.services[0].stopService()


def test_tree(service: MultiService) -> None:
    """A host has its agent, the leader's role, the API and the election, started in this order."""
    assert IService.providedBy(service)
    kinds = [type(each) for each in service]
    assert kinds[-4:] == [Agent, LeaderRole, Listener, SoloElection]


def test_tree_of_one_of_many(tmp_path: Path, reactor: MemoryReactorClock) -> None:
    """In a cluster the election of etcd takes the place of the other, and waits for the agent."""
    given = Options()
    given.parseOptions(
        ["--etcd=http://10.0.0.2:2379", "--external=10.0.0.1", "--id=h1", "--state-dir", str(tmp_path / "s")]
    )
    made: Any = makeService(given, reactor)
    assert [type(each) for each in made][-4:] == [Agent, LeaderRole, Listener, StartedAfter]
    made.services[0].stopService()


def test_ports(service: MultiService, reactor: MemoryReactorClock) -> None:
    """The API is served where it is told to, once the service is started, and not before."""
    assert reactor.tcpServers == []
    service.privilegedStartService()
    assert [(server[0], server[3]) for server in reactor.tcpServers] == [(1113, ""), (80, "127.0.0.1")]


def test_state_dir_is_taken(service: MultiService, tmp_path: Path, reactor: MemoryReactorClock) -> None:
    """A second host on the same state directory is told no in a line, the first one being untouched."""
    with pytest.raises(SystemExit) as caught:
        makeService(options(tmp_path / "state"), reactor)
    assert caught.value.code == (
        f"flynn-host: the state directory {tmp_path / 'state'} is in use by another flynn-host"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--listen=nonsense"],
        ["--listen=tcp"],
        ["--listen=tcp:x"],
        ["--listen=tcp:80:backlog=x"],
        ["--listen=udp:80"],
        ["--docker=tcp://nowhere"],
        ["--docker=unix://relative"],
        ["--etcd=10.0.0.2:2379"],
        ["--etcd=http://10.0.0.2,http://user@10.0.0.3"],
        ["--etcd=https://10.0.0.2", "--etcd-ca=/nowhere"],
        ["--etcd=http://10.0.0.2", "--etcd-user=me", "--etcd-password-file=/nowhere"],
    ],
)
def test_bad_when_made(words: list[str], tmp_path: Path, reactor: MemoryReactorClock) -> None:
    """What only shows when the services are made is told in a line too, and nothing stays locked."""
    given = Options()
    solo = [] if words[0].startswith("--etcd") else ["--solo"]
    given.parseOptions(
        [*solo, "--external=10.0.0.1", "--id=h1", "--state-dir", str(tmp_path / "state"), *words]
    )
    with pytest.raises(SystemExit) as caught:
        makeService(given, reactor)
    message = caught.value.code
    assert isinstance(message, str)
    assert message.startswith(f"flynn-host: {words[0][2:].partition('=')[0]} ")
    assert "\n" not in message
    lock_state_dir(tmp_path / "state").release()


def test_state_dir_that_can_not_be(tmp_path: Path, reactor: MemoryReactorClock) -> None:
    """A state directory that can't be made is named, with the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as caught:
        makeService(options(tmp_path / "file" / "state"), reactor)
    assert caught.value.code == (
        f"flynn-host: state-dir {tmp_path / 'file' / 'state'} can't be used: Not a directory"
    )


def test_plugin() -> None:
    """twistd finds the plugin."""
    from twisted.application.service import IServiceMaker

    (plugin,) = [each for each in getPlugins(IServiceMaker) if each.tapname == "flynn-host"]
    assert plugin.options is Options
    assert plugin.makeService is makeService
