"""What comes in is a job as it should be, or a complaint that says where."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flynnhost.canonical import canonical, parse_canonical
from flynnhost.encoded import EncodedJobs
from flynnhost.errors import BadSyntax, FlynnHostError, InvalidField
from flynnhost.http.decode import (
    MAX_BATCH_JOBS,
    MAX_JOB_BYTES,
    decode_batch,
    decode_batch_stepwise,
    decode_job,
)
from flynnhost.http.encode import encode_active_job, encode_json, host_pieces
from flynnhost.model import (
    Artifact,
    ContainerConfig,
    HealthCheck,
    Host,
    Job,
    Mount,
    Port,
    PortService,
    Quantity,
    Resources,
    VolumeBinding,
)
from flynnhost.testing.agent import active_job

FULL: dict[str, Any] = {
    "id": "job1",
    "metadata": {"app": "a"},
    "artifact": {"url": "busybox", "type": "docker"},
    "resources": {"memory": {"request": 1, "limit": 2}, "cpu": {"limit": None}, "max_fd": None},
    "config": {
        "tty": True,
        "stdin": True,
        "data": True,
        "host_network": True,
        "disable_log": True,
        "entry_point": ["/bin/sh"],
        "cmd": ["-c", "true"],
        "env": {"A": "1"},
        "mounts": [{"location": "/l", "target": "/t", "writeable": True}],
        "volumes": [{"target": "/v", "volume": "vol", "writeable": True}],
        "ports": [
            {
                "port": 80,
                "proto": "tcp",
                "service": {
                    "name": "web",
                    "create": True,
                    "check": {
                        "type": "http",
                        "interval": 1_500_000_000,
                        "threshold": 2,
                        "kill_down": True,
                        "start_timeout": 10_000_000_000,
                        "path": "/",
                        "host": "h",
                        "match": "m",
                        "status.omitempty": 204,
                    },
                },
            }
        ],
        "working_dir": "/w",
        "uid": 7,
        "stop_timeout": 2_500_000_000,
    },
    "resurrect": True,
}

DECODED = Job(
    id="job1",
    metadata={"app": "a"},
    artifact=Artifact("busybox", "docker"),
    resources=Resources(memory=Quantity(1, 2)),
    config=ContainerConfig(
        tty=True,
        stdin=True,
        data=True,
        host_network=True,
        disable_log=True,
        entry_point=("/bin/sh",),
        cmd=("-c", "true"),
        env={"A": "1"},
        mounts=(Mount("/l", "/t", True),),
        volumes=(VolumeBinding("/v", "vol", True),),
        ports=(
            Port(
                80,
                "tcp",
                PortService("web", True, HealthCheck("http", 1.5, 2, True, 10, "/", "h", "m", 204)),
            ),
        ),
        working_dir="/w",
        uid=7,
        stop_timeout=2.5,
    ),
    resurrect=True,
)


def decoded(job: Any) -> Job:
    return decode_job(json.dumps(job).encode(), "job1")


def complaint(job: Any) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        decoded(job)
    return caught.value


def with_config(**config: Any) -> dict[str, Any]:
    return {"artifact": {"url": "busybox"}, "config": config}


def test_every_field() -> None:
    """Each field of the wire arrives in its place."""
    assert decoded(FULL) == DECODED


def test_round_trip() -> None:
    """What is written of a job is read as the same job."""
    host = json.loads(b"".join(host_pieces(Host("h1", {"a": "b"}, (DECODED,)))))
    assert host["id"] == "h1"
    assert host["metadata"] == {"a": "b"}
    assert decoded(host["jobs"][0]) == DECODED
    assert decoded(json.loads(encode_active_job(active_job(DECODED)))["job"]) == DECODED


@pytest.mark.parametrize("count", [1, 31, 32, 33, 100])
def test_host_in_pieces(count: int) -> None:
    """However many jobs a host has, its pieces are one proper JSON value."""
    jobs = tuple(Job(f"j{n}", Artifact("busybox")) for n in range(count))
    host = json.loads(b"".join(host_pieces(Host("h1", {}, jobs))))
    assert [decoded(job | {"id": "job1"}) for job in host["jobs"]] == [
        Job("job1", Artifact("busybox"))
    ] * count


def test_nulls_of_go() -> None:
    """Go's encoder writes null for what is nil: maps, lists and nested objects."""
    nulls = {"metadata": None, "artifact": {"url": "busybox"}, "resources": None}
    config = dict.fromkeys(["entry_point", "cmd", "env", "mounts", "volumes", "ports", "uid", "stop_timeout"])
    assert decoded(nulls | {"config": None}) == Job("job1", Artifact("busybox"))
    assert decoded(nulls | {"config": config}) == Job("job1", Artifact("busybox"))
    assert decoded(with_config(ports=[{"service": None}])).config.ports == (Port(),)
    assert decoded(with_config(ports=[{"service": {"name": "a", "check": None}}])).config.ports == (
        Port(service=PortService("a")),
    )


def test_status_under_both_names() -> None:
    """A check's status is read under its own name too, and Flynn's name wins."""

    def status(**check: int) -> int:
        job = decoded(with_config(ports=[{"service": {"name": "a", "check": check}}]))
        service = job.config.ports[0].service
        assert service is not None and service.check is not None
        return service.check.status

    assert status(status=201) == 201
    assert status(**{"status.omitempty": 202}) == 202
    assert status(**{"status": 201, "status.omitempty": 202}) == 202


@pytest.mark.parametrize(
    ("job", "field"),
    [
        ([], "body"),
        (None, "body"),
        ({}, "artifact.url"),
        ({"artifact": None}, "artifact.url"),
        ({"artifact": {}}, "artifact.url"),
        ({"artifact": {"url": "Big"}}, "artifact.url"),
        ({"artifact": {"url": "a", "type": "tar"}}, "artifact.type"),
        ({"artifact": {"url": "a", "typ": "tar"}}, "artifact.typ"),
        ({"artifact": {"url": 1}}, "artifact.url"),
        ({"id": "other"}, "id"),
        ({"id": 1}, "id"),
        ({"id": None}, "id"),
        ({"nonsense": 1}, "nonsense"),
        ({"metadata": {"a": "b", "c": 1}}, "metadata.c"),
        ({"metadata": {"a": ["b"]}}, "metadata.a"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": "\0"}}, "metadata.a"),
        ({"metadata": {"a\0": "x"}}, "metadata.a\0"),
        ({"resurrect": "yes"}, "resurrect"),
        ({"resurrect": 1}, "resurrect"),
        ({"resurrect": None}, "resurrect"),
        ({"resources": {"disk": {}}}, "resources.disk"),
        ({"resources": {"memory": {"request": 0}}}, "resources.memory.request"),
        ({"resources": {"memory": {"limit": -1}}}, "resources.memory.limit"),
        ({"resources": {"memory": {"limit": 1.0}}}, "resources.memory.limit"),
        ({"resources": {"memory": {"limit": "1"}}}, "resources.memory.limit"),
        ({"resources": {"memory": {"limit": True}}}, "resources.memory.limit"),
        ({"resources": {"memory": {"limit": 2**63}}}, "resources.memory.limit"),
        ({"resources": {"memory": {"limit": 10**400}}}, "resources.memory.limit"),
        (
            {"artifact": {"url": "a"}, "resources": {"cpu": {"request": 2, "limit": 1}}},
            "resources.cpu.request",
        ),
        (with_config(nonsense=1), "config.nonsense"),
        (with_config(tty="yes"), "config.tty"),
        (with_config(tty=None), "config.tty"),
        (with_config(cmd="true"), "config.cmd"),
        (with_config(cmd=["a", 1]), "config.cmd[1]"),
        (with_config(cmd=["a", "b\0"]), "config.cmd[1]"),
        (with_config(entry_point={}), "config.entry_point"),
        (with_config(env={"A": "1", "B": 2}), "config.env.B"),
        (with_config(env={"A": None}), "config.env.A"),
        (with_config(env={"A": []}), "config.env.A"),
        (with_config(env={"": "x"}), "config.env"),
        (with_config(env={"A=B": "x"}), "config.env.A=B"),
        (with_config(env={"A\0": "x"}), "config.env.A\0"),
        (with_config(env=[]), "config.env"),
        (with_config(mounts=[{}]), "config.mounts[0].location"),
        (with_config(mounts=[{"location": "/a", "target": "b"}]), "config.mounts[0].target"),
        (with_config(mounts=[{"location": "/", "target": "/b"}]), "config.mounts[0].location"),
        (with_config(mounts=[{"location": "/a/../b", "target": "/b"}]), "config.mounts[0].location"),
        (with_config(mounts=[{"location": "/a/", "target": "/b"}]), "config.mounts[0].location"),
        (with_config(mounts=[{"location": "//a", "target": "/b"}]), "config.mounts[0].location"),
        (with_config(mounts=[{"location": "/a", "target": "/b/./c"}]), "config.mounts[0].target"),
        (with_config(mounts=[{"location": "/a", "target": "/b\0"}]), "config.mounts[0].target"),
        (with_config(mounts=[{"location": "/a", "target": "/b"}] * 2), "config.mounts[1].location"),
        (
            with_config(
                mounts=[{"location": "/a", "target": "/b"}], volumes=[{"target": "/a", "volume": "vv"}]
            ),
            "config.volumes[0].target",
        ),
        (with_config(volumes=[{"target": "/", "volume": "vv"}]), "config.volumes[0].target"),
        (with_config(volumes=[{"target": "/a", "volume": "/b"}]), "config.volumes[0].volume"),
        (with_config(volumes=[{"target": "/a", "volume": ""}]), "config.volumes[0].volume"),
        (with_config(ports=[{"port": -1}]), "config.ports[0].port"),
        (with_config(ports=[{"port": 65536}]), "config.ports[0].port"),
        (with_config(ports=[{"port": 10**30}]), "config.ports[0].port"),
        (with_config(ports=[{"port": 80}, {"port": 80, "proto": "tcp"}]), "config.ports[1].port"),
        (with_config(ports=[{"port": 80, "proto": "sctp"}]), "config.ports[0].proto"),
        (with_config(ports=[{"port": 80, "proto": "TCP"}]), "config.ports[0].proto"),
        (with_config(ports=[None]), "config.ports[0]"),
        (with_config(ports=[{"service": {}}]), "config.ports[0].service.name"),
        (with_config(ports=[{"service": {"name": "a b"}}]), "config.ports[0].service.name"),
        (
            with_config(ports=[{"service": {"name": "a", "check": {"type": "x"}}}]),
            "config.ports[0].service.check.type",
        ),
        (
            with_config(ports=[{"service": {"name": "a", "check": {"interval": -1}}}]),
            "config.ports[0].service.check.interval",
        ),
        (
            with_config(ports=[{"service": {"name": "a", "check": {"status.omitempty": "x"}}}]),
            "config.ports[0].service.check.status.omitempty",
        ),
        (with_config(working_dir="w"), "config.working_dir"),
        (with_config(uid=-1), "config.uid"),
        (with_config(uid=2**31), "config.uid"),
        (with_config(stop_timeout=-1), "config.stop_timeout"),
        (with_config(stop_timeout=3600 * 10**9 + 1), "config.stop_timeout"),
    ],
)
def test_complaints(job: Any, field: str) -> None:
    """A complaint has the path of the field as the sender wrote it, and says what is wrong."""
    error = complaint(job)
    assert error.field == field
    assert error.reason
    assert "`" not in error.reason


def test_words() -> None:
    """A complaint reads well."""
    assert str(complaint(with_config(tty=1))) == "config.tty must be a boolean, not an integer"
    assert str(complaint(with_config(cmd=1))) == "config.cmd must be a list or null, not an integer"
    assert str(complaint(with_config(uid=2**40))) == "config.uid must be at most 2147483647"
    assert str(complaint({"x": 1})) == "x is not a known field"


def test_what_may_be_there_twice() -> None:
    """Ports that the host chooses, and one number for each protocol."""
    ports = [{"port": 0}, {"port": 0}, {"port": 80, "proto": "udp"}, {"port": 80, "proto": "tcp"}]
    assert len(decoded(with_config(ports=ports)).config.ports) == 4


def test_extremes() -> None:
    """The bounds themselves are allowed."""
    job = decoded(with_config(uid=2**31 - 1, stop_timeout=3600 * 10**9, ports=[{"port": 65535}]))
    assert job.config.uid == 2**31 - 1
    assert job.config.stop_timeout == 3600
    assert decoded(
        {"artifact": {"url": "a"}, "resources": {"cpu": {"limit": 2**63 - 1}}}
    ).resources.cpu == Quantity(None, 2**63 - 1)
    assert decoded(with_config(stop_timeout=0, uid=0)).config.stop_timeout == 0


def test_id_of_the_url() -> None:
    """A body without ID gets the URL's; the URL's must be a job ID."""
    body = b'{"artifact":{"url":"busybox"}}'
    assert decode_job(body, "a.b-c_d").id == "a.b-c_d"
    for bad in ("", "-a", "a b", "a" * 65, "ä"):
        with pytest.raises(InvalidField) as caught:
            decode_job(body, bad)
        assert caught.value.field == "id"


def test_escaped_text_that_looks_like_nul() -> None:
    """A backslash and u0000 in a string is no NUL."""
    assert decoded(with_config(cmd=["\\u0000"])).config.cmd == ("\\u0000",)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{}x",
        b'{"a":}',
        b"\xff",
        b'{"id":"\xff"}',
        b'{"\xff":1}',
        b'{"id":"\\ud800"}',
        b"nul",
        b'{"id":01}',
        b"[" * 1_000_000,
        b'{"id":' * 100_000,
        b'{"config":{"cmd":' + b"[" * 100_000,
        b"\xef\xbb\xbf{}",
    ],
)
def test_bad_syntax(body: bytes) -> None:
    """What is no JSON is told from JSON that is wrong, and does no harm."""
    with pytest.raises((BadSyntax, InvalidField)):
        decode_job(body, "job1")
    with pytest.raises((BadSyntax, InvalidField)):
        decode_batch(body)
    with pytest.raises(BadSyntax):
        decode_batch(b'{"h1":[' + body + b"]" if body.strip() else body)


def test_batch() -> None:
    """Hosts and jobs keep their order."""
    jobs = [{"id": name, "artifact": {"url": "busybox"}} for name in "cab"]
    batch = decode_batch(json.dumps({"h2": jobs, "h1": [], "h0": jobs[:1]}).encode())
    assert {host: [job.id for job in jobs] for host, jobs in batch.items()} == {
        "h2": ["c", "a", "b"],
        "h1": [],
        "h0": ["c"],
    }
    assert list(batch) == ["h2", "h1", "h0"]
    assert decode_batch(b"null") == decode_batch(b"{}") == {}


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        ([], "body"),
        ({"h1": None}, "h1"),
        ({"h0": [], "h1": {}}, "h1"),
        ({"h0": [], "h1": "x"}, "h1"),
        ({"": []}, "body"),
        ({"h-1": []}, "h-1"),
        ({"h\0": []}, "h\0"),
        ({"h1": [1]}, "h1[0]"),
        ({"h1": [None]}, "h1[0]"),
        ({"h1": [{"artifact": {"url": "a"}}]}, "h1[0].id"),
        ({"h1": [{"id": "", "artifact": {"url": "a"}}]}, "h1[0].id"),
        ({"h1": [{"id": "a/b", "artifact": {"url": "a"}}]}, "h1[0].id"),
        (
            {"h1": [{"id": "a", "artifact": {"url": "a"}}] * 3 + [with_config(env={"A": 1})]},
            "h1[3].config.env.A",
        ),
        (
            {
                "h1": [
                    {"id": "a", "artifact": {"url": "a"}},
                    {"id": "b", **with_config(ports=[{"proto": "x"}])},
                ]
            },
            "h1[1].config.ports[0].proto",
        ),
    ],
)
def test_complaints_about_batches(batch: Any, field: str) -> None:
    """The path begins with the host and the index of the job."""
    with pytest.raises(InvalidField) as caught:
        decode_batch(json.dumps(batch).encode())
    assert caught.value.field == field


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("a/\0é=", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("a.\0", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each container in a JSON value, with each of its keys."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@given(st.integers(0, len(places(FULL)) - 1), JSON_VALUES)
def test_any_value_anywhere(place: int, value: Any) -> None:
    """Whatever stands in the place of a field, only our own errors come of it."""
    job = copy.deepcopy(FULL)
    container, key = places(job)[place]
    container[key] = value
    body = encode_json(job)
    for decode in (lambda: decode_job(body, "job1"), lambda: decode_batch(b'{"h":[' + body + b"]}")):
        try:
            decode()
        except FlynnHostError as e:
            assert str(e)


@given(st.binary(max_size=40))
def test_any_bytes(body: bytes) -> None:
    """No bytes make anything but our own errors."""
    for decode in (lambda: decode_job(body, "j"), lambda: decode_batch(body)):
        try:
            decode()
        except FlynnHostError as e:
            assert str(e)


NAMES = st.text("abcdefgh", min_size=2, max_size=8)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
QUANTITIES = st.tuples(st.integers(1, 2**61), st.integers(0, 2**61)).map(
    lambda q: Quantity(q[0], q[0] + q[1])
)
JOBS = st.builds(
    Job,
    id=NAMES,
    artifact=st.builds(Artifact, url=NAMES),
    resources=st.builds(Resources, memory=QUANTITIES, cpu=QUANTITIES),
    metadata=st.dictionaries(TEXTS, TEXTS, max_size=3),
    config=st.builds(
        ContainerConfig,
        tty=st.booleans(),
        cmd=st.lists(TEXTS, max_size=3).map(tuple),
        env=st.dictionaries(NAMES, TEXTS, max_size=3),
        mounts=st.lists(st.builds(Mount, PATHS, PATHS, st.booleans()), max_size=1).map(tuple),
        ports=st.lists(
            st.builds(Port, st.integers(0, 65535)), max_size=3, unique_by=lambda port: port.port
        ).map(tuple),
        uid=st.none() | st.integers(0, 2**31 - 1),
        stop_timeout=st.none() | st.floats(0, 3600).map(lambda s: round(s, 9)),
    ),
)


@given(st.lists(JOBS, max_size=4))
def test_any_job_survives(jobs: list[Job]) -> None:
    """Every job that can be is read as it was written."""
    host = json.loads(b"".join(host_pieces(Host("h", {}, tuple(jobs)))))
    assert decode_batch(encode_json({"h": host.get("jobs")} if jobs else {"h": []}))["h"] == jobs


_paths = st.sampled_from(["/a", "/b", "/c/d"])
_maps = st.none() | st.dictionaries(st.text("ab", min_size=1), st.text("xy", max_size=3), max_size=3)
_words = st.none() | st.lists(st.text("ab", max_size=2), max_size=2)
_quantity = st.none() | st.fixed_dictionaries(
    {}, optional={"request": st.none() | st.just(1), "limit": st.none() | st.integers(1, 2**63 - 1)}
)
_duration = st.integers(0, 2**63 - 1)
_status = st.integers(0, 999)
_check = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["", "tcp", "http"]),
        "interval": _duration,
        "start_timeout": _duration,
        "threshold": st.integers(0, 2),
        "kill_down": st.booleans(),
        "path": st.text("/a", max_size=2),
        "status": _status,
        "status.omitempty": _status,
    },
)
_service = st.none() | st.fixed_dictionaries(
    {"name": st.just("web")}, optional={"create": st.booleans(), "check": _check}
)
_port = st.fixed_dictionaries(
    {}, optional={"proto": st.sampled_from(["", "tcp", "udp"]), "service": _service}
)
_mount = st.fixed_dictionaries({"location": _paths, "target": _paths}, optional={"writeable": st.booleans()})
_config = st.fixed_dictionaries(
    {},
    optional={
        "tty": st.booleans(),
        "cmd": _words,
        "entry_point": _words,
        "env": _maps,
        "mounts": st.none() | st.lists(_mount, max_size=1),
        "volumes": st.sampled_from([None, [], [{"target": "/v", "volume": "vol"}]]),
        "ports": st.none() | st.lists(_port, max_size=2),
        "working_dir": st.sampled_from(["", "/w"]),
        "uid": st.none() | st.integers(0, 9),
        "stop_timeout": st.none() | st.integers(0, 3600 * 10**9),
    },
)
_job = st.fixed_dictionaries(
    {
        "id": st.just("job1"),
        "artifact": st.fixed_dictionaries(
            {"url": st.just("busybox")}, optional={"type": st.sampled_from(["", "docker"])}
        ),
    },
    optional={
        "metadata": _maps,
        "config": st.none() | _config,
        "resources": st.none()
        | st.fixed_dictionaries({}, optional={"memory": _quantity, "cpu": _quantity, "max_fd": _quantity}),
        "resurrect": st.booleans(),
    },
)


@given(_job)
@settings(max_examples=300, deadline=None)
def test_a_batch_is_encoded_in_the_one_way(job: dict[str, Any]) -> None:
    """However a job was written, what is passed on of it is its canonical form."""
    text = json.dumps(job).encode()
    jobs = decode_batch(b'{"h1":[' + text + b"]}")["h1"]
    assert jobs.encoded() == [canonical(decode_job(text, "job1"))]
    assert jobs.ids() == ["job1"]
    assert jobs == [decode_job(text, "job1")]


@pytest.mark.parametrize("interval", [2**63 - 1, 2**63 - 400, 9_223_372_036_854_775_000])
def test_the_longest_durations_are_read_again(interval: int) -> None:
    """What a duration is rounded to is no longer than what can be read."""
    ports = [{"service": {"name": "web", "check": {"interval": interval}}}]
    job = decode_job(json.dumps(with_config(ports=ports)).encode(), "job1")
    assert parse_canonical(canonical(job)) == job


def test_one_job_may_be_written_in_many_ways() -> None:
    """What means the same is the same job."""

    def encoded(**parts: Any) -> bytes:
        batch = {"h1": [{"id": "j", "artifact": {"url": "busybox"}, **parts}]}
        return decode_batch(json.dumps(batch).encode())["h1"].encoded()[0]

    plain = encoded()
    assert plain == b'{"id":"j","artifact":{"url":"busybox","type":"docker"},"config":{}}'
    others: list[dict[str, Any]] = [
        {"config": None},
        {"config": {"env": {}, "cmd": [], "entry_point": None, "ports": [], "mounts": [], "volumes": []}},
        {"metadata": {}},
        {"resources": {}},
        {"resources": {"memory": {}, "cpu": {"limit": None}}},
        {"artifact": {"url": "busybox", "type": "docker"}},
    ]
    for other in others:
        assert encoded(**other) == plain
    maps = [{"A": "1", "B": "2"}, {"B": "2", "A": "1"}]
    assert len({encoded(metadata=each, config={"env": each}) for each in maps}) == 1
    ports = [[{}], [{"port": 0, "proto": "tcp", "service": None}]]
    assert len({encoded(config={"ports": each}) for each in ports}) == 1


def test_large_jobs_are_refused() -> None:
    """A job is bounded, so that none holds all others up; so is the number of jobs of a batch."""
    job = {"id": "j", "artifact": {"url": "busybox"}, "metadata": {"a": "x" * MAX_JOB_BYTES}}
    with pytest.raises(InvalidField, match=r"^h1\[1\] must not be larger than 524288 bytes"):
        decode_batch(json.dumps({"h1": [{**job, "metadata": {}}, job]}).encode())
    with pytest.raises(InvalidField, match=r"^body must not be larger"):
        decode_job(json.dumps(job).encode(), "j")
    many = b'{"h1":[' + b",".join([b"{}"] * MAX_BATCH_JOBS) + b'],"h2":[{}]}'
    with pytest.raises(InvalidField, match=r"^body must not have more than 100000 jobs, but has 100001"):
        decode_batch(many)


def test_large_batches_are_decoded_in_steps() -> None:
    """Between the steps, which are bounded by jobs and by bytes, others can have their turn."""

    def steps(count: int, size: int) -> int:
        job = {"artifact": {"url": "busybox"}, "metadata": {"a": "x" * size}}
        batch = {f"h{host}": [{"id": f"j{n}", **job} for n in range(count)] for host in range(2)}
        found: dict[str, EncodedJobs] = {}
        taken = len(list(decode_batch_stepwise(json.dumps(batch).encode(), found)))
        assert [len(jobs) for jobs in found.values()] == [count, count]
        return taken

    assert steps(10, 10) == 0
    assert steps(1_000, 10) == 3
    assert steps(5, 300_000) >= 9
