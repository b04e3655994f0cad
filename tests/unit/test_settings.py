"""Settings: what may be said, what follows from silence, and how bad values are refused."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from flynnhost.errors import InvalidField
from flynnhost.settings import Settings, address_of_default_route, attribute, settings

ETCD = "http://192.0.2.1:2379"


def made(given: dict[str, Any] | None = None, /, host_name: str = "web-1", **environ: str) -> Settings:
    """Settings on a host whose own address is known, and an etcd too."""
    return settings(given or {}, {"ETCD_ENDPOINTS": ETCD, **environ}, lambda: host_name, lambda: "192.0.2.1")


def refused(given: dict[str, Any], host_name: str = "web-1", **environ: str) -> str:
    """Why settings are refused, which must be a line."""
    with pytest.raises(InvalidField) as caught:
        made(given, host_name, **environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Writes a file of settings, and gives its path."""

    def write(content: Any) -> str:
        path = tmp_path / "flynn-host.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(path)

    return write


# --- silence ------------------------------------------------------------------


def test_defaults() -> None:
    """Of all that can be said nothing has to be."""
    assert made() == Settings(
        external="192.0.2.1",
        id="web1",
        bind="",
        attributes={},
        state_dir=Path("/var/lib/flynn-host"),
        listen=("tcp:1113",),
        docker="unix:///var/run/docker.sock",
        ports=(55000, 65535),
        force=False,
        solo=False,
        max_starts=4,
        etcd=(ETCD,),
        lease_ttl=5,
    )


@pytest.mark.parametrize(
    ("host_name", "host_id"),
    [
        ("h1", "h1"),
        ("web-1.example.com", "web1"),
        ("a-b-c", "abc"),
        ("-a-", "a"),
        ("A_b", "A_b"),
        (63 * "x", 63 * "x"),
    ],
)
def test_id_of_the_host_name(host_name: str, host_id: str) -> None:
    """Without an ID, a host has its name up to the first dot, without dashes."""
    assert made(host_name=host_name).id == host_id


@pytest.mark.parametrize("host_name", ["", "-", "--.example.com", ".example.com", "höst", 64 * "x", "a b"])
def test_no_id_in_the_host_name(host_name: str) -> None:
    """If the host's name gives no ID, one must be given, and the message says so."""
    assert refused({}, host_name) == (
        f"id must be given: none can be made of this host's name, {host_name!r}"
    )
    assert made({"id": "h1"}, host_name).id == "h1"


def test_no_default_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a way to the world the address must be given, and the message says so."""

    def unreachable(*_: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(InvalidField, match="external must be given: this host has no default route"):
        address_of_default_route()


def test_docker_host() -> None:
    """DOCKER_HOST names the engine, unless the option does."""
    assert made(DOCKER_HOST="tcp://192.0.2.9:2375").docker == "tcp://192.0.2.9:2375"
    assert made(DOCKER_HOST="").docker == "unix:///var/run/docker.sock"
    assert made({"docker": "unix:///d.sock"}, DOCKER_HOST="nonsense").docker == "unix:///d.sock"


def test_bad_docker_host() -> None:
    """A DOCKER_HOST that is of no use is named as what is wrong."""
    message = refused({}, DOCKER_HOST="ssh://root@example.com")
    assert message.startswith("docker must be given, because DOCKER_HOST is of no use: it must begin with")


def test_solo_needs_no_etcd() -> None:
    """A solo host has no etcd, whatever the environment says; with both given, one of them is wrong."""
    assert made({"solo": True}).etcd == ()
    assert refused({"solo": True, "etcd": ETCD}).startswith("etcd can't be given with solo")


def test_no_etcd() -> None:
    """Without an etcd, and not solo, there is no cluster to be part of."""
    assert refused({}, ETCD_ENDPOINTS="").startswith("etcd must be given")


def test_etcd_given_and_in_the_environment() -> None:
    """The option counts."""
    assert made({"etcd": "http://a:1"}, ETCD_ENDPOINTS="http://b:2").etcd == ("http://a:1",)


@pytest.mark.parametrize("given", [{"etcd-user": "me"}, {"etcd-password-file": "/word"}])
def test_user_without_password(given: dict[str, Any]) -> None:
    """A user of etcd has a password."""
    assert refused(given) == "etcd-user and etcd-password-file must both be given, or neither"


# --- good values and bad ones -------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("external", "10.0.0.1", "10.0.0.1"),
        ("external", "2001:DB8:0::1", "2001:db8::1"),
        ("bind", "0.0.0.0", "0.0.0.0"),
        ("bind", "::", "::"),
        ("id", "A.b_9", "A.b_9"),
        ("listen", "tcp:80", ("tcp:80",)),
        ("listen", ["tcp:80", "unix:/s"], ("tcp:80", "unix:/s")),
        ("ports", "1-65535", (1, 65535)),
        ("ports", "80-80", (80, 80)),
        ("max-starts", "1", 1),
        ("max-starts", 1000, 1000),
        ("docker", "tcp://[::1]:2375", "tcp://[::1]:2375"),
        ("state-dir", "/var/lib/x", Path("/var/lib/x")),
        ("state-dir", "x", Path("x").absolute()),
        ("force", True, True),
        ("solo", False, False),
        ("attributes", {"k": ""}, {"k": ""}),
        ("etcd", "http://a:1, https://b", ("http://a:1", "https://b")),
        ("etcd", ["http://a:1", "https://b"], ("http://a:1", "https://b")),
        ("lease-ttl", "2", 2),
        ("lease-ttl", 300, 300),
        ("etcd-ca", "x.pem", str(Path("x.pem").absolute())),
    ],
)
def test_good(name: str, value: Any, result: Any) -> None:
    """Each option takes what it is for."""
    assert getattr(made({name: value}), name.replace("-", "_")) == result


_BAD: dict[str, list[Any]] = {
    "external": ["", "host", "10.0.0", "10.0.0.0/8", "0.0.0.0", "::", "224.0.0.1", 5, None],
    "bind": ["", "eth0", "999.0.0.1", [], True],
    "id": ["", "a-b", "a b", "ä", "a/b", 64 * "x", "x\n", 5, "\0"],
    "attributes": [[], "a=b", {"": "x"}, {"a": 1}, {"a": None}, {"a": "\ud800"}, None],
    "state-dir": ["", "a\0b", 5, None, "\udcff"],
    "listen": ["", [], [""], ["tcp:80", 5], {}, None, 80],
    "docker": ["", "/var/run/docker.sock", "ssh://h", "http://h", 5],
    "ports": ["", "80", "80-", "-80", "0-80", "81-80", "1-65536", "1-2-3", "a-b", " 1-2", "1-2\n", [1, 2]],
    "max-starts": ["", "0", "1001", "-1", "x", "1.0", 0, 1.5, True, None, 5000 * "9", "\uff14"],
    "force": ["yes", 1, None],
    "solo": ["true", 0, []],
}
BAD = [(name, value) for name, values in _BAD.items() for value in values]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: repr(value)[:20])
def test_bad(name: str, value: Any) -> None:
    """A value that can't be is refused in a line that begins with the option."""
    assert refused({name: value}).startswith(f"{name} must ")


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: repr(value)[:20])
def test_bad_in_a_file(name: str, value: Any, config: Any) -> None:
    """The same in a file is refused with the file's name too, even if the command line has a good one."""
    path = config({name: value})
    good = {"external": "10.0.0.1", "id": "h1", "docker": "unix:///d", "bind": "10.0.0.1"}
    assert refused({"config": path, **good}).startswith(f"config {path}: {name} must ")


@pytest.mark.parametrize("text", ["a=b", "a=", "a=b=c", "ä=ö"])
def test_attribute(text: str) -> None:
    """An attribute is a key and a value."""
    assert "=".join(attribute(text)) == text


@pytest.mark.parametrize("text", ["", "a", "=", "=b"])
def test_bad_attribute(text: str) -> None:
    """Without a key or an equals sign it is none."""
    with pytest.raises(InvalidField, match="attribute must be KEY=VALUE"):
        attribute(text)


# --- a file of settings -------------------------------------------------------

ALL = {
    "external": "10.0.0.1",
    "bind": "10.0.0.2",
    "id": "h1",
    "attributes": {"zone": "a", "disk": "ssd"},
    "state-dir": "/state",
    "listen": ["tcp:80", "tcp:81"],
    "docker": "tcp://10.0.0.3:2375",
    "ports": "100-200",
    "force": True,
    "solo": True,
    "max-starts": 7,
}


def test_file(config: Any) -> None:
    """A file can say all that the command line can."""
    assert made({"config": config(ALL)}) == Settings(
        external="10.0.0.1",
        bind="10.0.0.2",
        id="h1",
        attributes={"zone": "a", "disk": "ssd"},
        state_dir=Path("/state"),
        listen=("tcp:80", "tcp:81"),
        docker="tcp://10.0.0.3:2375",
        ports=(100, 200),
        force=True,
        solo=True,
        max_starts=7,
    )


def test_command_line_wins(config: Any) -> None:
    """What is said on the command line wins over the file; attributes are merged, key by key."""
    given = {
        "external": "10.9.0.1",
        "bind": "10.9.0.2",
        "id": "h9",
        "attributes": {"disk": "none", "new": "1"},
        "state-dir": "/state9",
        "listen": ["tcp:90"],
        "docker": "tcp://10.9.0.3:2375",
        "ports": "900-901",
        "max-starts": "9",
    }
    assert made({"config": config(ALL), **given}) == Settings(
        external="10.9.0.1",
        bind="10.9.0.2",
        id="h9",
        attributes={"zone": "a", "disk": "none", "new": "1"},
        state_dir=Path("/state9"),
        listen=("tcp:90",),
        docker="tcp://10.9.0.3:2375",
        ports=(900, 901),
        force=True,
        solo=True,
        max_starts=9,
    )


def test_file_wins_over_the_environment(config: Any) -> None:
    """What the file says of the engine wins over DOCKER_HOST."""
    path = config({"docker": "unix:///file"})
    assert made({"config": path}, DOCKER_HOST="unix:///environment").docker == "unix:///file"


def test_unknown_key(config: Any) -> None:
    """A key that nobody knows is named, with those that are known."""
    path = config({"solo": True, "exteral": "10.0.0.1"})
    message = refused({"config": path})
    assert message.startswith(f"config {path} has the unknown key 'exteral'; known are attributes, bind, ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\xff", "is not JSON"),
        (b'{"max-starts": ' + 5000 * b"9" + b"}", "is not JSON"),
        (100_000 * b"[", "nested too deeply"),
        (b"[]", "must hold a JSON object"),
        (b'"solo"', "must hold a JSON object"),
        (b"null", "must hold a JSON object"),
    ],
)
def test_bad_file(content: bytes, reason: str, config: Any) -> None:
    """A file that is no object in JSON is named, with what is wrong."""
    path = config(content)
    message = refused({"config": path})
    assert message.startswith(f"config {path}")
    assert reason in message


def test_no_file(tmp_path: Path) -> None:
    """A file that can't be read is named, with the reason."""
    path = str(tmp_path / "none.json")
    assert refused({"config": path}) == f"config {path} can't be read: No such file or directory"
    assert "Is a directory" in refused({"config": str(tmp_path)})
