"""Docker's frames; see ``flynnhost.docker_frames``."""

from flynnhost.docker_frames import ENGINE_ERROR, STDERR, STDOUT, BadFrame, FrameDecoder

__all__ = ["ENGINE_ERROR", "STDERR", "STDOUT", "BadFrame", "FrameDecoder"]
