"""Who leads, decided by etcd: of the candidates the one whose key is the oldest.

A bounded number of slots keeps the hosts from waking each other: candidates follow the slots, all
others the leader's record only. A host tries for a slot when it comes, when it is asked to (see
``Vacancies``), and when nobody leads for longer than an election takes. The term is the create
revision of the winning key, which no other key ever has, plus the base that ``Terms`` is about.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background, Backoff, shielded
from flynnhost.cluster.campaign import Campaign
from flynnhost.cluster.candidacy import Candidacy
from flynnhost.cluster.leader_keys import LeaderKeys
from flynnhost.cluster.records import Keys, LeaderRecord
from flynnhost.cluster.terms import MAX_TERM, Terms
from flynnhost.errors import CannotLead, EtcdTrouble
from flynnhost.etcd.lease import Lease
from flynnhost.etcd.mirror import Mirror
from flynnhost.interfaces import IEtcd, ILeadership
from flynnhost.keyvalues import Compare, Delete, Get, KeyValue

MAX_CANDIDATES = 7
"""How many hosts may be elected at a time: with seven, all at once are hardly ever lost."""


@define(eq=False)
class EtcdElection(Service):
    """Campaigns for this host, as an ``IPresenceUser``.

    It holds itself deposed whenever it is not certain of the contrary, by its own clock.

    :param leadership: is told of the outcome.
    :param record: what the leader's record is to be, for a term.
    :param further: what else a leader writes, always with its record and for as long: keys, with
        their values. The same keys for every host.
    :param chance: gives numbers from 0 to below 1.
    :param heard: the highest term of which this host knows.
    """

    log = Logger()

    _clock: IReactorTime
    _etcd: IEtcd
    _keys: Keys
    _host_id: str
    _leadership: ILeadership
    _record: Callable[[int], LeaderRecord]
    _further: Callable[[], Mapping[bytes, bytes]] = dict
    _max_candidates: int = MAX_CANDIDATES
    _chance: Callable[[], float] = random.random
    _heard: Callable[[], int] = lambda: 0
    _terms: Terms = field(init=False)
    _lease: Lease | None = field(init=False, default=None)
    _candidacy: Candidacy | None = field(init=False, default=None)
    _mirror: Mirror | None = field(init=False, default=None)
    _leads: bool = field(init=False, default=False)
    _taking_over: bool = field(init=False, default=False)
    _doubtful: bool = field(init=False, default=False)
    _campaign: Campaign = field(init=False)
    _background: Background = field(init=False, factory=lambda: Background("the election"))
    _leader_keys: LeaderKeys = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._terms = Terms(self._etcd, self._keys)
        self._campaign = Campaign(
            self._clock,
            self._etcd,
            self._keys,
            self._host_id,
            self._max_candidates,
            self._wanting,
            self._stand,
            self._heard,
            self._chance,
        )
        self._leader_keys = LeaderKeys(
            self._clock, self._etcd, self._keys, self._record, self._further, self._chance
        )

    def leads(self) -> bool:
        """Whether it is certain that this host leads. Ask before every act of a leader."""
        return self._leads and self._lease is not None and self._lease.valid()

    def candidates(self) -> Collection[str] | None:
        """The IDs of the hosts that may be elected; None while this host is none of them."""
        if self._mirror is None or not self._mirror.synced:
            return None
        return {kv.value.decode(errors="replace") for kv in self._mirror.values.values()}

    def condition(self) -> Compare | None:
        """What must hold in etcd for whatever a leader writes there; None when this host does not lead."""
        if not self.leads() or self._candidacy is None:
            return None
        return self._candidacy.ours

    def startService(self) -> None:
        """Begin to campaign, when this host is present."""
        super().startService()
        self.campaign()

    def stopService(self) -> Deferred[None]:
        """Resign. Fires when nothing of the leadership runs, and the others may elect anew."""
        super().stopService()
        return Deferred.fromCoroutine(self._resign())

    async def _resign(self) -> None:
        self._lease = None
        await self._campaign.stop()
        await self._background.cancel()
        candidacy, led = self._candidacy, self._leads
        await self._give_up()
        await self._leadership.deposed()  # it may have been told before, and not be over yet
        if candidacy is not None and candidacy.lease.valid():
            written = self._leader_keys.removal() if led else ()
            try:
                await self._etcd.txn([candidacy.ours], [Delete(candidacy.key), *written])
            except EtcdTrouble as e:
                self.log.info("The candidacy is left to end by itself: {reason}", reason=str(e))

    def outranked(self, term: int) -> None:
        """A host has heard this term, and so takes nothing from a leader of a lower one: elect again.

        It was heard before etcd's revisions began anew, or from a leader that this host does not know of.
        """
        candidacy = self._candidacy
        if self._leads and candidacy is not None and term < MAX_TERM:
            self._background.run(
                self._elect_above(term, candidacy), "having a leader of a higher term elected"
            )

    async def _elect_above(self, term: int, candidacy: Candidacy) -> None:
        try:
            await self._terms.raise_above(term)
        except EtcdTrouble as e:
            self.log.warn("A host that has heard the term {term} can't be let in: {e}", term=term, e=str(e))
            return
        if self._leads and candidacy is self._candidacy:
            self.log.info("A host has heard the term {term}: another leader is to be elected", term=term)
            await self._stand_back(candidacy)

    # --- IPresenceUser --------------------------------------------------------

    def present(self, lease: Lease) -> None:
        """See ``IPresenceUser``."""
        self._lease, self._doubtful = lease, False
        self.campaign()

    def lapsed(self) -> None:
        """See ``IPresenceUser``."""
        self._doubtful = True
        self._look()

    def confirmed(self) -> None:
        """The lease is there after all: see whether the slot is, then go on as before."""
        self._background.run(self._verify(), "looking whether this host is a candidate still")

    def absent(self) -> None:
        """See ``IPresenceUser``."""
        self._lease = None
        self._background.run(self._give_up(), "giving up the candidacy")

    # --- the campaign ---------------------------------------------------------

    def campaign(self) -> None:
        """Try for a slot, unless this host has one or tries already."""
        self._campaign.begin()

    def leader_changed(self, record: LeaderRecord | None) -> None:
        """The leader's record changed, or is gone."""
        self._leader_keys.look()
        self._campaign.leader_changed(record is not None)

    def _wanting(self) -> Lease | None:
        """The lease for a slot, if one is wanted."""
        return self._lease if self.running and self._candidacy is None else None

    def _stand(self, candidacy: Candidacy) -> None:
        self.log.info("This host is a candidate, of revision {term}", term=candidacy.revision)
        self._candidacy = candidacy
        self._mirror = Mirror(self._clock, self._etcd, self._keys.candidates, self, self._chance)
        self._mirror.start()

    async def _verify(self) -> None:
        """After a lapse: count on the slot again only if etcd says that it is still ours."""
        candidacy = self._candidacy
        if candidacy is None:
            return
        backoff = Backoff(self._clock, 0.1, 2.0, self._chance)
        while candidacy is self._candidacy:
            try:
                found = await self._etcd.get(Get(candidacy.key))
            except EtcdTrouble:
                await backoff.wait()
                continue
            if not any(kv.create_revision == candidacy.revision for kv in found.values):
                await self._lose_slot()
            else:
                self._doubtful = not candidacy.lease.valid()
                self._look()
            return

    # --- IMirrorListener ------------------------------------------------------

    def key_changed(self, kv: KeyValue, previous: KeyValue | None) -> None:
        """See ``IMirrorListener``."""
        self._look()

    def key_removed(self, previous: KeyValue) -> None:
        """See ``IMirrorListener``."""
        self._look()

    def mirror_synced(self) -> None:
        """See ``IMirrorListener``."""
        self._look()

    def mirror_stale(self, reason: str) -> None:
        """See ``IMirrorListener``. Who leads goes on: the lease is kept on a way of its own."""

    # --- the outcome ----------------------------------------------------------

    def _look(self) -> None:
        """See who leads by what is known now, and act upon it."""
        candidacy, mirror = self._candidacy, self._mirror
        if candidacy is None or mirror is None:
            return
        if mirror.synced and not candidacy.is_held(mirror):
            self._background.run(self._lose_slot(), "giving up a slot that is another's")
            return
        sure = not self._doubtful and candidacy.lease.valid()
        if self._leads and not sure:
            self._step_down()
        elif self._may_lead() and not self._taking_over:
            self._taking_over = True
            self._background.run(self._take_over(candidacy), "taking over the leadership")

    def _may_lead(self) -> bool:
        candidacy, mirror = self._candidacy, self._mirror
        if self._leads or self._doubtful or candidacy is None or mirror is None:
            return False
        return candidacy.lease.valid() and mirror.synced and candidacy.wins(mirror)

    async def _take_over(self, candidacy: Candidacy) -> None:
        """Lead, with a term that is above all that were before: the base is read when they are over."""
        backoff = Backoff(self._clock, 0.1, 2.0, self._chance)
        try:
            while candidacy is self._candidacy and self._may_lead():
                try:
                    base = await self._terms.base()
                except EtcdTrouble as e:
                    self.log.warn("This host can't take over yet: {reason}", reason=str(e))
                    await backoff.wait()
                    continue
                if candidacy is self._candidacy and self._may_lead():
                    self._step_up(candidacy, base + candidacy.revision)
        finally:
            self._taking_over = False

    def _step_up(self, candidacy: Candidacy, term: int) -> None:
        self._leads = True
        self._background.run(self._begin(candidacy, term), "beginning to lead")

    async def _begin(self, candidacy: Candidacy, term: int) -> None:
        try:
            await self._leadership.elected(term)
        except CannotLead as e:
            if candidacy is self._candidacy:
                self.log.error("{reason}. Another host is to try", reason=str(e))
                await self._stand_back(candidacy)
        else:
            if self._leads and candidacy is self._candidacy:
                self._campaign.led_well()
                self._leader_keys.hold(candidacy, term)

    async def _stand_back(self, candidacy: Candidacy) -> None:
        """Leave the slot to others, and be no candidate for a while."""
        await self._campaign.rest(self._leave_slot(candidacy))
        self.campaign()

    async def _leave_slot(self, candidacy: Candidacy) -> None:
        """Remove it. Nothing less: with the slot there this host would be elected again."""
        await self._give_up()
        backoff = Backoff(self._clock, 0.1, 2.0, self._chance)
        while not candidacy.lease.lost:
            try:
                await self._etcd.txn([candidacy.ours], [Delete(candidacy.key), *self._leader_keys.removal()])
                return
            except EtcdTrouble:
                await backoff.wait()

    def _step_down(self) -> Deferred[None]:
        self._leads = False
        self._leader_keys.let_go()
        return self._leadership.deposed()

    async def _lose_slot(self) -> None:
        await self._give_up()
        self.campaign()

    async def _give_up(self) -> None:
        """Be no candidate any more."""
        self._candidacy = None
        mirror, self._mirror = self._mirror, None
        # Whoever waits for this may be stopped: both must come to their end all the same.
        over = [shielded(self._step_down())] if self._leads else []
        if mirror is not None:
            over.append(shielded(mirror.stop()))
        for each in over:
            await each
