"""Where services are kept, and in what form."""

from __future__ import annotations

import hashlib
import json

import pytest

from flynnhost.discovery.records import Instance, ServiceKeys, ServiceRecord
from flynnhost.errors import InvalidField
from flynnhost.etcd.values import decode, encode

KEYS = ServiceKeys(b"/c/")
ID = Instance("192.0.2.1:80").id


def test_ids_are_those_of_the_clients() -> None:
    """An instance has the ID that discoverd's clients make for it."""
    assert Instance("192.0.2.1:1113").id == hashlib.md5(b"tcp-192.0.2.1:1113").hexdigest()
    assert Instance("192.0.2.1:1113", "udp").id == "61a0d67db72e95691d6045e59e047a1e"


def test_same_instance() -> None:
    """What is said of an instance makes it no other one."""
    assert Instance("a:1", meta={"k": "v"}).id == Instance("a:1").id
    assert len({Instance("a:1").id, Instance("a:2").id, Instance("b:1").id, Instance("a:1", "udp").id}) == 4


@pytest.mark.parametrize(
    "addr", ["192.0.2.1:1", "host.example:65535", "[2001:db8::1]:1113", "[fe80::1%eth0]:1113"]
)
def test_addresses(addr: str) -> None:
    """Instances have addresses that can be dialled."""
    assert Instance(addr).addr == addr


@pytest.mark.parametrize(
    "addr",
    [
        "",
        ":80",
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "a:b",
        "::1:80",
        "a b:80",
        "a:80\n",
    ],
)
def test_no_addresses(addr: str) -> None:
    """What can't be dialled is refused."""
    with pytest.raises(InvalidField) as caught:
        Instance(addr)
    assert str(caught.value) == f"addr must be HOST:PORT, not {addr!r}"


@pytest.mark.parametrize("proto", ["", "TCP", "tcp ", "a-b"])
def test_no_protocols(proto: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Instance("a:1", proto)
    assert caught.value.field == "proto"


@pytest.mark.parametrize("service", ["", "A", "a.b", "a/b", "a_b", "ä", "a\n", "web/instances"])
def test_no_services(service: str) -> None:
    """A name that discoverd does not allow has no keys."""
    for keys in (KEYS.record, KEYS.meta, KEYS.leader, KEYS.instances, KEYS.everything):
        with pytest.raises(InvalidField) as caught:
            keys(service)
        assert str(caught.value) == f"service must be of a-z, 0-9 and -, not {service!r}"


@pytest.mark.parametrize("instance_id", ["", "x", ID.upper() + "0", f"{ID}/", f"../{ID[:29]}"])
def test_no_instances(instance_id: str) -> None:
    with pytest.raises(InvalidField) as caught:
        KEYS.instance("web", instance_id)
    assert caught.value.field == "id"


def test_keys() -> None:
    """Everything of a service, and nothing of another, is in its range."""
    web = {KEYS.record("web"), KEYS.meta("web"), KEYS.leader("web"), KEYS.instance("web", ID)}
    assert len(web) == 4
    for key in web:
        assert key.startswith(b"/c/services/web/")
        assert key in KEYS.everything("web")
        assert key in KEYS.all
        for other in ("we", "web-2", "webb", "instances"):
            assert key not in KEYS.everything(other)
    assert [key for key in web if key in KEYS.instances("web")] == [KEYS.instance("web", ID)]


def test_a_service_may_be_named_like_a_key() -> None:
    """No name of a service can be taken for something of another."""
    for service in ("instances", "service", "leader", "meta"):
        assert KEYS.record(service) not in KEYS.instances("web")
        assert KEYS.record(service) not in KEYS.everything("web")


def test_values() -> None:
    """Records are JSON that others can read, and are read again as they were."""
    assert encode(ServiceRecord("manual")) == b'{"leader_type":"manual"}'
    instance = Instance("a:1", meta={"id": "h1"})
    assert json.loads(encode(instance)) == {"addr": "a:1", "proto": "tcp", "meta": {"id": "h1"}}
    assert decode(encode(instance), Instance) == instance


@pytest.mark.parametrize("value", [b"", b"{}", b'{"leader_type":"youngest"}', b"\xff", b"[]"])
def test_values_of_others(value: bytes) -> None:
    """What is no record is not taken for one."""
    assert decode(value, ServiceRecord) is None
