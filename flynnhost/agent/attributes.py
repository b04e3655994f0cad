"""What is said of this host for schedulers: by its options, and over them at run time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from attrs import define, field
from twisted.logger import Logger

from flynnhost.agent.listeners import Listeners
from flynnhost.attributes import MAX_ATTRIBUTES, check_name, check_value
from flynnhost.errors import InvalidField, UnknownAttribute
from flynnhost.interfaces import IJournal


@define(eq=False)
class Attributes:
    """What was said at run time counts until something else is said there, whatever the options are later.
    It is on disk before anyone is told.

    :param given: what the options say.
    :ivar now: all that counts.
    :ivar listeners: those who are told of each change, with all that counts then.
    """

    log = Logger()

    _journal: IJournal
    _given: Mapping[str, str]
    now: Mapping[str, str] = field(init=False)
    listeners: Listeners[Mapping[str, str]] = field(init=False, factory=Listeners)
    # None is an attribute of the options that was removed.
    _said: dict[str, str | None] = field(init=False, factory=dict)
    _coming: list[str] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.now = dict(self._given)

    def restore(self, said: Mapping[str, str | None]) -> None:
        """Have what was said at run time count again."""
        self._said = dict(said)
        self.now = self._put_together()

    async def set(self, name: str, value: str) -> None:
        """Have an attribute from now on, in place of what it was.

        :raises InvalidField: when the ``name`` or the ``value`` can't be, or these were too many.
        :raises JournalFailed: when that could not be written.
        """
        check_name(name, "name")
        check_value(value, "value")
        if len({*self.now, *self._coming, name}) > MAX_ATTRIBUTES:
            raise InvalidField("name", f"can't be added: a host has at most {MAX_ATTRIBUTES} attributes")
        with self._comes(name):
            await self._journal.keep_attribute(name, value)
        self._said[name] = value
        self._changed()

    async def remove(self, name: str) -> None:
        """Have an attribute no more.

        :raises UnknownAttribute: when there is none of that name.
        :raises JournalFailed: when that could not be written.
        """
        if name not in self.now and name not in self._coming:
            raise UnknownAttribute(name)
        if name in self._given:
            await self._journal.keep_attribute(name, None)
            self._said[name] = None
        else:
            await self._journal.forget_attribute(name)
            self._said.pop(name, None)
        self._changed()

    @contextmanager
    def _comes(self, name: str) -> Iterator[None]:
        self._coming.append(name)
        try:
            yield
        finally:
            self._coming.remove(name)

    def _put_together(self) -> dict[str, str]:
        merged = {**self._given, **self._said}
        return {name: value for name, value in merged.items() if value is not None}

    def _changed(self) -> None:
        before, self.now = self.now, self._put_together()
        if self.now != before:
            self.log.info("This host's attributes are now {attributes}", attributes=self.now)
            self.listeners.tell(self.now)
