"""What jobs write can be read, all of it, part of it, and while they write it."""

from __future__ import annotations

import http.client
import itertools
import json
import re
from urllib.parse import urlencode

import pytest

from flynnhost.docker_frames import FrameDecoder
from tests.support.host_process import HostProcess
from tests.support.waiting import wait_until
from tests.support.wire_jobs import shell_job, wire_job

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

MEGABYTE = 1 << 20


def test_output_of_an_ended_job(host: HostProcess) -> None:
    """Both streams together or one of them, whole or its end.

    Each is in order; between the two, Docker knows none for what is written at the same time.
    """
    job = shell_job("for n in 1 2 3; do echo out$n; sleep 0.1; echo err$n >&2; sleep 0.1; done")
    host.api.run(job)
    host.api.ended(job)
    answer = host.api.log(job)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain")
    assert sorted(answer.body.split()) == [b"err1", b"err2", b"err3", b"out1", b"out2", b"out3"]
    assert host.api.log(job, stream="stdout").body == b"out1\nout2\nout3\n"
    assert host.api.log(job, stream="stderr").body == b"err1\nerr2\nerr3\n"
    assert host.api.log(job, tail=2).body == b"\n".join(answer.body.split()[-2:]) + b"\n"
    assert host.api.log(job, stream="stdout", tail=2).body == b"out2\nout3\n"
    assert host.api.log(job, stream="stderr", tail=9).body == b"err1\nerr2\nerr3\n"
    assert host.api.log(job, tail=0).body == b""
    assert host.api.log(job, follow="true").body == answer.body


def test_output_of_a_running_job(host: HostProcess) -> None:
    """What there is comes at once; a reader that follows gets the rest, to the end."""
    job = shell_job("trap 'echo over; exit 0' TERM; echo begun; while :; do sleep 0.1; done")
    host.api.run(job)
    host.api.running(job)
    wait_until(lambda: host.api.log(job).body == b"begun\n", "the first line")
    connection = http.client.HTTPConnection("127.0.0.1", host.api.port, timeout=30)
    try:
        connection.request("GET", f"/host/jobs/{job['id']}/log?follow=true")
        answer = connection.getresponse()
        assert answer.readline() == b"begun\n"
        assert host.api.stop(job).status == 200
        assert answer.read() == b"over\n"
    finally:
        connection.close()


def test_output_that_is_followed_from_before_the_start(host: HostProcess) -> None:
    """A reader may come before the job runs."""
    job = shell_job("echo all; echo there >&2; exit 3")
    host.api.run(job)
    assert host.api.log(job, follow="true").body in (b"all\nthere\n", b"there\nall\n")


def test_output_of_a_terminal(host: HostProcess) -> None:
    """What goes to a terminal comes as the terminal has it, in one stream."""
    job = shell_job("tty; echo err >&2", tty=True)
    host.api.run(job)
    host.api.ended(job)
    assert host.api.log(job).body == b"/dev/pts/0\r\nerr\r\n"


def test_output_that_is_not_there(host: HostProcess) -> None:
    """The reason is told when there is nothing to be read."""
    unkept, failed = wire_job("true", disable_log=True), wire_job("/no/such/program")
    host.api.run(unkept, failed)
    host.api.ended(unkept)
    host.api.ended(failed)
    answer = host.api.log(unkept)
    assert (answer.status, answer.json["code"]) == (410, "gone")
    assert "disable_log" in answer.json["message"]
    answer = host.api.log(failed)
    assert (answer.status, answer.json["code"]) == (410, "gone")
    assert "it never started" in answer.json["message"]
    assert host.api.log(wire_job("true")).status == 404
    assert host.api.log(unkept, tail="many").json["detail"]["field"] == "tail"


def test_output_in_three_forms(host: HostProcess) -> None:
    """As text, in frames, and as events from each of which one can continue, also on a host started anew."""
    long_line = "head -c 40000 /dev/zero | tr '\\0' x; echo"
    job = shell_job(f"printf 'one\\n\\377\\n'; sleep 0.1; echo two >&2; sleep 0.1; {long_line}")
    host.api.run(job)
    host.api.ended(job)
    path = f"/host/jobs/{job['id']}/log"
    answer = host.api.request("GET", path, headers={"Accept": "application/vnd.docker.multiplexed-stream"})
    pieces = list(FrameDecoder().feed(answer.body))
    assert b"".join(data for stream, data in pieces if stream == 2) == b"two\n"
    events = _events(host, path)
    lines = [json.loads(data) for _, data in events]
    assert [line["stream"] for line in lines] == ["stdout", "stdout", "stderr", "stdout", "stdout", "stdout"]
    assert (lines[0]["data"], lines[1]["base64"], lines[2]["data"]) == ("one", "/w==", "two")
    assert [line.get("partial", False) for line in lines] == [False, False, False, True, True, False]
    assert "".join(line["data"] for line in lines[3:]) == "x" * 40_000
    host.restart()
    for number, (event_id, _) in enumerate(events):
        assert _events(host, path, event_id) == events[number + 1 :]
    since = urlencode({"since": lines[2]["time"]})
    assert _events(host, f"{path}?{since}") == events[2:]
    gone = host.api.request("GET", f"{path}?since=20200101{events[0][0][8:]}")
    assert (gone.status, gone.json["code"]) == (410, "gone")


def _events(host: HostProcess, path: str, last_id: str = "") -> list[tuple[str, str]]:
    """The IDs and data of the events that come after one."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
    answer = host.api.request("GET", path, headers=headers)
    assert answer.status == 200, answer.body
    return re.findall(r"id: (.*)\ndata: (.*)\n\n", answer.body.decode())


def test_slow_reader(host: HostProcess) -> None:
    """A reader who does not read costs the host no memory, harms neither the job nor others, and gets all
    that was written in the end.
    """
    total = 64 * MEGABYTE
    job = shell_job(f"yes 123456789012345678901234567890123456789012345678901234567890123 | head -c {total}")
    host.api.run(job)
    host.api.running(job)
    before = host.resident_bytes()
    highest = before
    readers = [http.client.HTTPConnection("127.0.0.1", host.api.port, timeout=60) for _ in range(3)]
    try:
        answers = []
        for reader in readers:
            reader.request("GET", f"/host/jobs/{job['id']}/log?follow=true")
            answers.append(reader.getresponse())
            answers[-1].read(MEGABYTE)
        for _ in itertools.count():
            highest = max(highest, host.resident_bytes())
            if host.api.job(job).get("status", 0) > 1:
                break
        assert host.api.job(job)["status"] == 2
        received = MEGABYTE
        while piece := answers[0].read(MEGABYTE):
            received += len(piece)
            highest = max(highest, host.resident_bytes())
    finally:
        for reader in readers:
            reader.close()
    print(f"{received} bytes of {total} received; {(highest - before) / MEGABYTE:.1f} MB more")
    assert highest - before < 30 * MEGABYTE
    assert received == total
    kept = host.api.log(job).body
    assert len(kept) == total
    assert set(kept.splitlines()) == {b"123456789012345678901234567890123456789012345678901234567890123"}
