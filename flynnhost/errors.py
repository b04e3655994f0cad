"""What can go wrong, one class for each decision a caller can take.

These know nothing of HTTP, Docker or SQLite: adapters translate into them, and
the HTTP edge has one table that translates out of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen


class FlynnHostError(Exception):
    """The root of all errors that flynn-host raises on purpose."""


# --- what a caller asked for -------------------------------------------------


@frozen
class InvalidField(FlynnHostError):
    """A value that was handed in can't be accepted.

    :param field: the path of the value, as in ``h1[3].config.ports[0].proto``.
    :param reason: what is wrong with it, to be read after the path.
    """

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field} {self.reason}"

    def under(self, prefix: str) -> InvalidField:
        """The same error, seen from one level further out.

        :param prefix: the path of what holds the field.
        """
        return InvalidField(field=f"{prefix}.{self.field}" if self.field else prefix, reason=self.reason)


@frozen
class BadSyntax(FlynnHostError):
    """What was sent can't be read at all.

    :param reason: what is wrong with it, to be read after its name.
    """

    reason: str

    def __str__(self) -> str:
        return f"the body {self.reason}"


@frozen
class UnknownJob(FlynnHostError):
    """This host has no such job."""

    job_id: str

    def __str__(self) -> str:
        return f"no job {self.job_id} on this host"


@frozen
class UnknownAttribute(FlynnHostError):
    """This host has no such attribute."""

    attribute: str

    def __str__(self) -> str:
        return f"this host has no attribute {self.attribute!r}"


@frozen
class UnknownHost(FlynnHostError):
    """The cluster has no such host."""

    host_id: str

    def __str__(self) -> str:
        return f"no host {self.host_id} in this cluster"


@frozen
class HostNotReady(FlynnHostError):
    """A host that was asked for can't take jobs now. Another one may.

    :param job_id: a job that was meant for it.
    :param reason: what is the matter with it, to be read after its ID.
    """

    host_id: str
    job_id: str
    reason: str

    def __str__(self) -> str:
        return f"host {self.host_id} can't take job {self.job_id}: it {self.reason}"


@frozen
class DuplicateHost(FlynnHostError):
    """A host of this ID is in the cluster, and it is not the one that asks."""

    host_id: str

    def __str__(self) -> str:
        return f"another host {self.host_id} is in this cluster"


@frozen
class JobConflict(FlynnHostError):
    """The job ID is taken by a job with other content, or on another host."""

    job_id: str
    reason: str

    def __str__(self) -> str:
        return f"job {self.job_id} {self.reason}"


@frozen
class JobNotRunning(FlynnHostError):
    """The request needs a running job, and this one is not."""

    job_id: str
    phase: str

    def __str__(self) -> str:
        return f"job {self.job_id} is not running: it is {self.phase}"


@frozen
class OutputGone(FlynnHostError):
    """The job's output is not there to be read."""

    job_id: str
    reason: str

    def __str__(self) -> str:
        return f"no output of job {self.job_id}: {self.reason}"


@frozen
class PositionGone(FlynnHostError):
    """The output after a place in it is not kept any more, though later output is."""

    def __str__(self) -> str:
        return "what was written next is not kept any more"


# --- what this host can't do now ---------------------------------------------


@frozen
class NotReady(FlynnHostError):
    """The host can't take the request now; the same request may succeed later."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@frozen
class NoLeader(FlynnHostError):
    """Nobody leads the cluster at the moment, or whoever does can't be reached from this host.

    :param reason: which of both.
    """

    reason: str = "the cluster has no leader at the moment"

    def __str__(self) -> str:
        return self.reason


@frozen
class TooManyRequests(FlynnHostError):
    """This host has as many requests of a kind under way as it takes at a time.

    :param what: how many of what.
    """

    what: str

    def __str__(self) -> str:
        return f"there are {self.what} under way already"


@frozen
class CannotLead(FlynnHostError):
    """This host was elected and is not able to lead. Another one may be."""

    term: int

    def __str__(self) -> str:
        return f"this host can't lead, in term {self.term}"


@frozen
class TookTooLong(FlynnHostError):
    """A deadline passed before the work was known to be done.

    :param what: what was waited for, with its deadline.
    :param outcomes: for work on several things, what is known of each.
    """

    what: str
    outcomes: Sequence[tuple[str, str]] = ()

    def __str__(self) -> str:
        return self.what


@frozen
class StaleTerm(FlynnHostError):
    """A command came from a leader whose term is over."""

    term: int
    highest: int

    def __str__(self) -> str:
        return f"term {self.term} is over: this host has seen term {self.highest}"


@frozen
class JournalFailed(FlynnHostError):
    """The journal could not be read or written."""

    reason: str

    def __str__(self) -> str:
        return f"the job journal can't be written: {self.reason}"


@frozen
class NoPortsLeft(FlynnHostError):
    """Every port of the range is leased or bound by another program."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"no ports left between {self.first} and {self.last}"


@frozen
class StateDirInUse(FlynnHostError):
    """Another flynn-host runs on this state directory."""

    path: str

    def __str__(self) -> str:
        return f"the state directory {self.path} is in use by another flynn-host"


# --- containers --------------------------------------------------------------


@frozen
class EngineUnavailable(FlynnHostError):
    """The container engine did not answer: gone, hung or shutting down. Try again later."""

    reason: str

    def __str__(self) -> str:
        return f"the container engine does not answer: {self.reason}"


@frozen
class EngineRefused(FlynnHostError):
    """The container engine understood the request and said no; trying again won't help.

    :param reason: the engine's own words.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


@frozen
class PortTaken(FlynnHostError):
    """The engine could not bind a published port: another program has it."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@frozen
class ImageMissing(FlynnHostError):
    """The engine does not have the image."""

    image: str

    def __str__(self) -> str:
        return f"no image {self.image} on this host"


@frozen
class PullFailed(FlynnHostError):
    """The image could not be pulled.

    :param reason: the engine's or the registry's own words.
    """

    image: str
    reason: str

    def __str__(self) -> str:
        return f"can't pull {self.image}: {self.reason}"


@frozen
class NameTaken(FlynnHostError):
    """A container of that name is there already."""

    name: str

    def __str__(self) -> str:
        return f"a container named {self.name} exists already"


@frozen
class NoSuchContainer(FlynnHostError):
    """The engine has no such container."""

    container: str

    def __str__(self) -> str:
        return f"no container {self.container}"


@frozen
class ContainerNotRunning(FlynnHostError):
    """The request needs a running container, and this one is not."""

    container: str

    def __str__(self) -> str:
        return f"container {self.container} is not running"


# --- event feeds -------------------------------------------------------------


@frozen
class ResyncNeeded(FlynnHostError):
    """The events after the given ID are no longer kept, or it is another run's."""

    event_id: str

    def __str__(self) -> str:
        return "resync"


@frozen
class FellBehind(FlynnHostError):
    """A reader was too slow, and was cut off."""

    def __str__(self) -> str:
        return "fell behind"


# --- etcd ---


class EtcdTrouble(FlynnHostError):
    """etcd did not do what was asked of it. Who needs it done tries again, until etcd or its
    operator has changed its mind.
    """


@frozen
class EtcdUnavailable(EtcdTrouble):
    """No member of etcd gave an answer that counts. Try again later.

    What was asked for may have been done all the same, even twice: look before trying again.
    """

    reason: str

    def __str__(self) -> str:
        return f"etcd does not answer: {self.reason}"


@frozen
class EtcdRefused(EtcdTrouble):
    """etcd understood the request and said no; trying again won't help.

    :param reason: etcd's own words.
    """

    reason: str

    def __str__(self) -> str:
        return f"etcd refuses: {self.reason}"


@frozen
class PermissionDenied(EtcdTrouble):
    """etcd does not know our user, or does not let it do this; an operator has to change that."""

    reason: str

    def __str__(self) -> str:
        return f"etcd denies permission: {self.reason}"


@frozen
class Compacted(FlynnHostError):
    """etcd has forgotten the revisions asked for: list the keys again, and go on from there.

    :param revision: the oldest one there is, 0 if etcd did not say.
    """

    revision: int = 0

    def __str__(self) -> str:
        return f"etcd has forgotten all revisions before {self.revision or 'a later one'}"


@frozen
class LeaseLost(FlynnHostError):
    """etcd has no such lease: it has expired or was revoked, and its keys are gone."""

    lease: int

    def __str__(self) -> str:
        return f"etcd has no lease {self.lease:x}"
