"""A process that leads: a real leader behind the real HTTP site, but no etcd and no Docker.

usage: python -m benchmarks.cluster.leader PORT | --bare PORT

``POST /bench/lead?term=T&hosts=N`` elects it and has it expect so many simulated hosts. ``POST
/bench/turns`` answers how long the reactor was held at a time since it was last asked. With
``--bare`` it is nothing but a Klein application that answers small POSTs, for comparison.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from klein import Klein
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from benchmarks.cluster.lean_hosts import host_name
from benchmarks.cluster.turns import Turns
from flynnhost.cluster.leader import Leader
from flynnhost.cluster.role import LeaderRole, Leading
from flynnhost.http.listener import Listener
from flynnhost.http.site import build_site
from flynnhost.process import ShortCollections, allow_many_files
from flynnhost.testing.agent import FakeAgent


class _Control(Resource):
    """What the benchmark tells and asks its leader."""

    isLeaf = True

    def __init__(self, role: LeaderRole, turns: Turns) -> None:
        super().__init__()
        self.hosts = 0
        self._role = role
        self._turns = turns

    def render_POST(self, request: Request) -> bytes:
        """See ``twisted.web.resource.Resource``."""
        request.setHeader(b"Content-Type", b"application/json")
        if request.postpath == [b"lead"]:
            asked: Any = request.args
            self.hosts = int(asked[b"hosts"][0])
            self._role.elected(int(asked[b"term"][0]))
        return json.dumps(self._turns.taken()).encode()


def _serve_cluster(reactor: Any, port: int) -> None:
    def leading(term: int) -> Leading:
        expected = [host_name(number) for number in range(control.hosts)]
        leader = Leader(
            reactor, lambda: datetime.now(UTC), term, "leader", f"127.0.0.1:{port}", expected=expected
        )
        return Leading(leader, leader)

    role = LeaderRole(leading)
    control = _Control(role, Turns.watch(reactor))
    site, streams = build_site(reactor, FakeAgent(reactor), role)
    site.resource.putChild(b"bench", control)
    listener = Listener(reactor, (f"tcp:{port}:interface=127.0.0.1",), site, streams)
    role.startService()
    listener.privilegedStartService()
    listener.startService()
    reactor.callWhenRunning(ShortCollections(reactor).startService)


def _serve_bare(reactor: Any, port: int) -> None:
    app = Klein()

    @app.route("/cluster/jobs", methods=["POST"])
    def jobs(request: Request) -> bytes:
        content: Any = request.content
        length = len(content.read())
        request.setHeader(b"Content-Type", b"application/json")
        return b'{"jobs":[{"id":"%032d","host_id":"h1","state":"starting"}]}' % length

    reactor.listenTCP(port, Site(app.resource(), reactor=reactor), interface="127.0.0.1")


def main() -> None:
    """Run from the command line until it is killed."""
    from twisted.internet import reactor

    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    allow_many_files()
    if sys.argv[1] == "--bare":
        _serve_bare(reactor, int(sys.argv[2]))
    else:
        _serve_cluster(reactor, int(sys.argv[1]))
    reactor.run()


if __name__ == "__main__":
    main()
