"""How far the pull of an image is, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

_DONE = ("Pull complete", "Already exists")
_DOWNLOADED = (*_DONE, "Verifying Checksum", "Download complete", "Extracting")
_NOT_A_LAYER = "Pulling from"


@define
class _Layer:
    done: bool = False
    received_bytes: int = 0
    total_bytes: int = 0


@define
class PullProgress:
    """Makes one line of text of what the engine says of many layers."""

    image: str
    _layers: dict[str, _Layer] = field(factory=dict)

    def update(self, message: Mapping[str, Any]) -> None:
        """Take in one message of the engine."""
        layer_id, status = message.get("id"), str(message.get("status", ""))
        if not layer_id or status.startswith(_NOT_A_LAYER):
            return
        layer = self._layers.setdefault(layer_id, _Layer())
        layer.done = status in _DONE
        detail = message.get("progressDetail") or {}
        if status == "Downloading":
            layer.total_bytes = max(layer.total_bytes, detail.get("total", 0))
            layer.received_bytes = detail.get("current", 0)
        elif status in _DOWNLOADED:
            layer.received_bytes = layer.total_bytes

    def __str__(self) -> str:
        if not self._layers:
            return f"pulling {self.image}"
        layers = self._layers.values()
        done = sum(layer.done for layer in layers)
        text = f"pulling {self.image}: {done} of {len(layers)} layers"
        total = sum(layer.total_bytes for layer in layers)
        if total:
            received = sum(layer.received_bytes for layer in layers)
            text += f", {received / 1e6:.1f} of {total / 1e6:.1f} MB"
        return text
