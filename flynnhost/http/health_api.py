"""Whether this host lives, and whether it can work."""

from __future__ import annotations

from attrs import asdict, define
from klein import Klein
from twisted.web.server import Request

from flynnhost.errors import NoLeader
from flynnhost.http.bodies import json_body
from flynnhost.http.encode import encode_json
from flynnhost.http.errors import json_errors, retry_later
from flynnhost.http.media import JSON, negotiate
from flynnhost.http.routes import exact_routes
from flynnhost.interfaces import Check, Following, IAgent, ICluster


@define(eq=False)
class HealthAPI:
    """The routes ``/health`` and ``/ready``."""

    app = Klein()
    exact_routes(app)
    json_errors(app)

    _agent: IAgent
    _cluster: ICluster
    _following: Following | None = None

    @app.route("/health", methods=["GET"])
    def health(self, request: Request) -> bytes:
        """Answers as long as the process serves at all."""
        negotiate(request, JSON)
        return json_body(request, b'{"status":"ok"}')

    @app.route("/ready", methods=["GET"])
    def ready(self, request: Request) -> bytes:
        """The checks of this host and its cluster; success when all of them pass."""
        negotiate(request, JSON)
        checks = (*self._agent.readiness(), self._leadership())
        report = [asdict(check) for check in checks]
        failed = [check.name for check in checks if not check.ok]
        if failed:
            return retry_later(request, f"not ready: {', '.join(failed)}", report)
        return json_body(request, encode_json(report))

    def _leadership(self) -> Check:
        """Whether this host takes part in the cluster: it leads, or has joined whoever does."""
        try:
            return Check("leader", True, f"{self._cluster.leader()['id']} leads")
        except NoLeader as e:
            record = self._following.leader() if self._following is not None else None
            if self._following is None or record is None:
                return Check("leader", False, str(e))
            if self._following.joined_term() == record.term:
                return Check("leader", True, f"{record.id} leads")
            return Check("leader", False, f"{record.id} leads, and this host has no session with it")
