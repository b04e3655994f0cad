"""This host's jobs on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Interface

from flynnhost.model import ActiveJob


@frozen
class JournalContents:
    """What a journal held when it was opened.

    :param highest_term: the highest leader's term this host has seen.
    :param draining: whether this host is to get no more jobs from leaders.
    :param attributes: what was said of this host at run time; None for what was removed.
    :param set_aside: in words, what could not be read and where it was put.
    """

    jobs: tuple[ActiveJob, ...] = ()
    highest_term: int = 0
    draining: bool = False
    set_aside: tuple[str, ...] = ()
    attributes: Mapping[str, str | None] = field(factory=dict)


class IJournal(Interface):
    """This host's jobs on disk. Later writes of the same job replace earlier ones, in order."""

    def open() -> Deferred[JournalContents]:
        """Fires with what was written before. What can't be read is set aside, not fatal.

        :raises JournalFailed: when nothing can be written there at all.
        """

    def write(jobs: Sequence[ActiveJob], term: int = 0) -> Deferred[None]:
        """Keep these jobs as they are now, all or none. Fires when they are on disk, and fails
        only when it is certain that they are not, and will not be.

        :param term: also remember this as the highest term seen, if it is.
        :raises JournalFailed: when they could not be written.
        """

    def forget(job_ids: Sequence[str]) -> Deferred[None]:
        """Drop these jobs. Fires when that is on disk.

        :raises JournalFailed: when it could not be written.
        """

    def keep_draining(draining: bool) -> Deferred[None]:
        """Remember whether this host is to get no more jobs from leaders. Fires when that is on disk.

        :raises JournalFailed: when it could not be written.
        """

    def keep_attribute(name: str, value: str | None) -> Deferred[None]:
        """Remember an attribute that this host has been given, or None for one that was removed. Fires
        when that is on disk.

        :raises JournalFailed: when it could not be written.
        """

    def forget_attribute(name: str) -> Deferred[None]:
        """Forget what was remembered of an attribute. Fires when that is on disk.

        :raises JournalFailed: when it could not be written.
        """

    def close() -> Deferred[None]:
        """Write what waits, then free everything. Never fails."""
