"""How all our applications match paths."""

from __future__ import annotations

from klein import Klein


def exact_routes(app: Klein) -> None:
    """Match paths as they are written: a redirect would mean nothing to Flynn's clients."""
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
