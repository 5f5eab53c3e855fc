"""One planned change's life: decided again, sent with its intent written first, read to its end, written down.

`step` does what can be done without waiting and says whether to come back: `Waiting` with the time and the jobs, or
`Done` with the report. It may be called by any process at any time, after any crash: what is open is resolved first, by
asking Zendesk what is there, and only then is anything sent.

    planned --decide again--> sent --job or answer--> read back --> outcome, link, audit
       ^                        |                        |
       |                        | answer lost            | not there: sent singly, to hear why
       +------- not there ------+------------------------+

Organizations go before users, users before memberships and identities, because each needs the ids of the one before.
What is sent is built from *wanted* at that moment; a plan's stored difference is for people to read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_qadzd.errors import FixFirst, SetAside, TryLater
from airflow_provider_qadzd.ledger import Ledger, accounts, changes, plans
from airflow_provider_qadzd.ledger.applying import ApplierLease, end_applier, take_applier
from airflow_provider_qadzd.ledger.changes import Change as Item
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.records import Kind, fold
from airflow_provider_qadzd.sync.draft import settled
from airflow_provider_qadzd.sync.fields import refuse_missing_fields
from airflow_provider_qadzd.sync.mapping import Rules
from airflow_provider_qadzd.sync.mirror import held, observe
from airflow_provider_qadzd.sync.moves import OPERATIONS, Moves
from airflow_provider_qadzd.sync.pairs import CHUNK, FEW, Pairs
from airflow_provider_qadzd.sync.plan import ERASED, ERASED_USER, Change, Settled, decide
from airflow_provider_qadzd.sync.singly import HANDS, NO_ANSWER, TRIES, RecordKind, Sending, Singly, succeeded
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.pace import calls_used_up
from airflow_provider_qadzd.zendesk.wire import BULK_IMPORT_OFF, JobStatus, NotFound

log = logging.getLogger(__name__)

CHUNKS = (CHUNK, 10, CHUNK)
"""How many changes are taken at once by how often a job of theirs came to nothing; after the second time, singly."""
LEASE_SECONDS = 300.0
"""How long a silent run keeps others out; each send prolongs it."""
LOST_AFTER = 900.0
"""Seconds after which a sent change without a job is asked about even while jobs of its kind are open."""
STUCK_AFTER = 3600.0
"""Seconds after which a job that has not ended is not waited for any more: its records are looked for."""
MOST_JOBS = 25
"""Of our jobs at once: Zendesk runs 30 an account, and others have some too."""
POLL_SECONDS = 2.0
_STAGES: tuple[tuple[Kind, ...], ...] = (("organization",), ("user",), ("membership", "identity"))


@dataclass(frozen=True, slots=True)
class Waiting:
    """Jobs are running in Zendesk: call `step` again at `until` (Unix seconds)."""

    until: float
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is open any more. `report` counts outcomes by kind, and what was written in Zendesk."""

    report: dict[str, Any]


@dataclass
class Applier:
    """Applies a flow's planned changes. `owner` names the run; `bulk` is None until Zendesk showed whether it may."""

    ledger: Ledger
    flow: Flow
    client: ZendeskClient
    owner: str
    plan_id: int
    bulk: bool | None = None
    rules: Rules = field(default_factory=Rules)
    writes: int = 0
    hands: int = HANDS
    pairs: Pairs = field(init=False)
    moves: Moves = field(init=False)
    singly: Singly = field(init=False)
    checked: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.pairs = Pairs(self.ledger, self.flow, self.client, self.rules)
        self.moves = Moves(self.ledger, self.flow, self.client, self.rules.mapping)
        self.singly = Singly(self.ledger, self.flow, self.client, self.owner, self.rules, self.hands)

    def step(self) -> Waiting | Done:
        """Resolve what is open, send what can be sent. TryLater while another run applies to this account.

        Where Zendesk's limits are used up, that is Waiting as well: what was done so far is written down.
        """
        lease = take_applier(self.ledger, self.flow.account_id, self.owner, LEASE_SECONDS)
        try:
            self._resolve_open()
            for stage in _STAGES:
                for kind in stage:
                    self._send_all(lease, kind)
                waiting = self._waiting(stage)
                if waiting:
                    return waiting
        except TryLater as busy:
            if not calls_used_up(busy):
                raise
            return Waiting(self.ledger.clock.time() + busy.wait, ())
        except FixFirst:
            end_applier(self.ledger, lease)
            raise
        end_applier(self.ledger, lease)
        plans.note_applied(self.ledger, self.plan_id)
        outcomes = changes.outcomes_of(self.ledger, self.flow, self.plan_id)
        return Done({"outcomes": outcomes, "zendesk_writes": self.writes})

    # -- what is open --------------------------------------------------------------------------------------------------

    def _resolve_open(self) -> None:
        """Every job that ended is read per row; every change whose answer was lost is looked for in Zendesk.

        That fills the tables which the next questions are about, so stock is taken of them.
        """
        by_job: dict[str, list[Item]] = {}
        for item in changes.in_flight(self.ledger, self.flow):
            by_job.setdefault(item.job_id, []).append(item)
        lost = by_job.pop("", [])
        known = {job.id: job for ids in _hundreds(by_job) for job in self.client.jobs.show_many(ids)}
        due: list[tuple[list[Item], JobStatus | None]] = []
        for job_id, items in by_job.items():
            job = known.get(job_id)
            if job is None:
                log.warning("Zendesk no longer knows job %s; looking for its %s records.", job_id, len(items))
            stuck = job is not None and not job.done and self._age(items) > STUCK_AFTER
            if stuck:
                log.warning("Job %s does not end; looking for its %s records.", job_id, len(items))
            if job is None or job.done or stuck:
                due.append((items, None if stuck else job))
        if lost and self._may_look(lost):
            due.append((lost, None))
        for sent, ended in due:
            self._read_back(sent, ended)
        if due:
            changes.take_stock(self.ledger)

    def _may_look(self, lost: Sequence[Item]) -> bool:
        """A lost request may still be a running job: look once none of its kind is open, or after a while."""
        if self._age(lost) > LOST_AFTER:
            return True
        kinds = {item.kind for item in lost}
        return not any(kind in job.job_type.lower() for job in self.client.jobs.list_open() for kind in kinds)

    def _age(self, items: Sequence[Item]) -> float:
        """Seconds since the last of them was sent."""
        return self.ledger.clock.time() - max(item.sent_epoch or 0.0 for item in items)

    def _read_back(self, items: Sequence[Item], job: JobStatus | None) -> None:
        for chunk in _hundreds(items):
            by_kind: dict[Kind, list[Item]] = {}
            for item in chunk:
                by_kind.setdefault(item.kind, []).append(item)
            for kind, some in by_kind.items():
                if kind == "organization" or kind == "user":
                    self._look_for(kind, some, job)
                else:
                    self.pairs.look_for([one for one in some if one.operation not in OPERATIONS], job, self.owner)
                    self.moves.look_for([one for one in some if one.operation in OPERATIONS], self.owner)

    def _look_for(self, kind: RecordKind, items: Sequence[Item], job: JobStatus | None) -> None:
        """Read what Zendesk has of these now: what was written is over, what was not is planned again.

        What a completed job left out goes singly, to hear why; of a job that came to nothing a smaller one is tried.

        A create is over once a record carries its external id. An update is over once nothing is left to change. Where
        a field differs although the job says that the row went well, Zendesk keeps a value of its own in it.
        """
        creates = [item for item in items if item.operation == "create"]
        made = {
            fold(row["external_id"]): held(kind, row, self.rules.mapping)
            for row in self._observe(
                kind, external_ids=accounts.external_ids(self.ledger, self.flow, kind, _keys(creates))
            )
        }
        self._observe(kind, ids=[item.zendesk_id for item in items if item.operation == "update"])
        went_well = {row.id for row in job.results if row.ok} if job else set()
        found = {one.key: one for one in accounts.candidates(self.ledger, self.flow, kind, _keys(items))}
        ended, again = [], []
        for item in items:
            candidate = found[item.record_key]
            if item.operation == "create":
                # As if it were seen for the first time: what a recreated key is still linked to is gone.
                there = made.get(item.target)
                candidate = replace(candidate, aside="", twin=None, link_id=None, current=None, by_external=there)
            else:
                there = candidate.current or candidate.by_external
            decision = decide(candidate, self.rules.policies)
            if there is None and item.attempts >= TRIES:
                ended.append(changes.given_up(self.ledger, self.flow, item, NO_ANSWER))
            elif there is None:
                again.append(item.change_id)
            elif there.zendesk_id in went_well:
                ended.append(succeeded(item, there.zendesk_id, there.digest))
            elif isinstance(decision, Settled) and decision.zendesk_id is not None:
                ended.append(succeeded(item, decision.zendesk_id, decision.base))
            elif isinstance(decision, Settled):
                ended.append(settled(candidate, decision, item.change_id))
            elif item.operation == "create":
                # Made, and not quite as wanted: the link says so, and the next plan puts it right.
                ended.append(replace(succeeded(item, there.zendesk_id, there.digest), fingerprint=""))
            else:
                again.append(item.change_id)
        changes.end(self.ledger, self.flow, ended, self.owner)
        if again:
            completed = job is not None and job.status == "completed"
            changes.keep_memory(self.ledger, self.flow, [item for item in items if item.change_id in again])
            changes.plan_again(self.ledger, again, "singly" if completed else "smaller")

    # -- what is planned -----------------------------------------------------------------------------------------------

    def _send_all(self, lease: ApplierLease, kind: Kind) -> None:
        while True:
            if changes.jobs_in_flight(self.ledger, self.flow.account_id) >= MOST_JOBS:
                return
            items = changes.planned(self.ledger, self.flow, kind, CHUNKS)
            if not items:
                return
            if kind == "organization" or kind == "user":
                self._send_records(lease, kind, items)
            else:
                self._send_pairs(lease, kind, items)

    def _send_pairs(self, lease: ApplierLease, kind: Kind, items: Sequence[Item]) -> None:
        """What needs no call is over at once, so that what needs one fills its job; then the users are read again."""
        if items[0].operation in OPERATIONS:
            self._observe("user", ids=self.pairs.user_ids(items))
            self.writes += self.moves.send(lease, items, self.owner)
            return
        missing = self.pairs.missing(items, self.owner)
        while len(items) == CHUNK > len(missing):
            items = changes.planned(self.ledger, self.flow, kind, CHUNKS, after=items[-1])
            if not items or items[0].operation in OPERATIONS:
                break
            missing += self.pairs.missing(items, self.owner)[: CHUNK - len(missing)]
        if missing:
            self._observe("user", ids=self.pairs.user_ids(missing))
            self.writes += self.pairs.send(lease, missing, self.owner)

    def _send_records(self, lease: ApplierLease, kind: RecordKind, items: Sequence[Item]) -> None:
        self._observe(kind, ids=[item.zendesk_id for item in items if item.zendesk_id is not None])
        decided = {
            one.key: (one, decide(one, self.rules.policies))
            for one in accounts.candidates(self.ledger, self.flow, kind, _keys(items))
        }
        homes = self._homes(kind, items)
        to_send: list[Sending] = []
        ended: list[Ended] = []
        for item in items:
            candidate, decision = decided[item.record_key]
            if isinstance(decision, Settled):
                ended.append(settled(candidate, decision, item.change_id))
            elif kind == "user" and decision.outcome == "recreated" and self._is_erased(candidate.link_id or 0):
                ended.append(Ended(kind, item.record_key, "set_aside", ERASED_USER, change_id=item.change_id))
            elif decision.operation != item.operation:
                ended.append(Ended(kind, item.record_key, "superseded", "decided anew", change_id=item.change_id))
            else:
                to_send.append(Sending(item, candidate, decision, _body(item, decision, homes)))
        changes.end(self.ledger, self.flow, ended, self.owner)
        if not to_send:
            return
        if not self.checked:
            refuse_missing_fields(self.client, self.rules.mapping)
            self.checked = True
        many = len(to_send) > FEW and items[0].attempts < changes.SINGLY
        if many and not (kind == "user" and items[0].operation == "create" and self.bulk is False):
            self._send_job(lease, kind, to_send)
            return
        taken, stopped = self.singly.send(lease, kind, to_send)
        self.writes += taken
        if stopped is not None:
            raise stopped

    def _send_job(self, lease: ApplierLease, kind: RecordKind, to_send: Sequence[Sending]) -> None:
        group = self.client.organizations if kind == "organization" else self.client.users
        intents = {one.item.change_id: one.intent for one in to_send}
        ids, bodies = list(intents), [one.body for one in to_send]
        changes.mark_sent(self.ledger, lease, ids, intents)
        try:
            create = to_send[0].item.operation == "create"
            job = group.create_many(bodies) if create else group.update_many(bodies)
        except TryLater as error:
            changes.not_answered(self.ledger, ids, error)
            raise
        except FixFirst as error:
            spoilt = error.facts.status in (400, 413)
            changes.plan_again(self.ledger, ids, "smaller" if spoilt else "same")
            if spoilt:
                return
            if error.facts.code != BULK_IMPORT_OFF:
                raise
            log.info("Bulk user import is off in this Zendesk account; users are created one by one.")
            self.bulk = False
            return
        except SetAside:
            changes.plan_again(self.ledger, ids, "smaller")
            return
        self.writes += 1
        changes.mark(self.ledger, ids, job_id=job.id)

    # -- the small steps -----------------------------------------------------------------------------------------------

    def _homes(self, kind: Kind, items: Sequence[Item]) -> dict[str, int]:
        """The organization that each new user starts in."""
        contacts = [item.record_key for item in items if kind == "user" and item.operation == "create"]
        return self.pairs.first_organizations(contacts) if contacts else {}

    def _is_erased(self, user_id: int) -> bool:
        """Whether Zendesk has deleted this user for good: then nobody makes them again, and it is remembered."""
        try:
            self.client.users.show_deleted(user_id)
        except NotFound:
            accounts.mark_erased(self.ledger, self.flow.account_id, user_id, ERASED)
            return True
        return False

    def _observe(
        self, kind: RecordKind, *, ids: Iterable[int | None] = (), external_ids: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Read these as they are now, into the mirror; known ids that Zendesk leaves out are gone."""
        group = self.client.organizations if kind == "organization" else self.client.users
        found = [(group.show_many(ids=some), some) for some in _hundreds(one for one in ids if one is not None)]
        found += [(group.show_many(external_ids=some), []) for some in _hundreds(external_ids)]
        for rows, asked in found:
            observe(self.ledger, self.flow.account_id, kind, rows, self.rules.mapping, asked)
        return [row for rows, _ in found for row in rows]

    def _waiting(self, stage: Sequence[Kind]) -> Waiting | None:
        flying = [item for kind in stage for item in changes.in_flight(self.ledger, self.flow, kind)]
        if not flying and not any(changes.planned(self.ledger, self.flow, kind, (1,)) for kind in stage):
            return None
        jobs = sorted({item.job_id for item in flying} - {""})
        return Waiting(self.ledger.clock.time() + POLL_SECONDS, tuple(jobs))


def _body(item: Item, change: Change, homes: Mapping[str, int]) -> dict[str, Any]:
    if change.operation == "update":
        return {"id": change.zendesk_id, **change.body}
    home = homes.get(item.record_key)
    return dict(change.body) if home is None else {**change.body, "organization_id": home}


def _keys(items: Sequence[Item]) -> list[str]:
    return [item.record_key for item in items]


def _hundreds(items: Iterable[Any]) -> Iterable[list[Any]]:
    listed = list(items)
    return (listed[start : start + CHUNK] for start in range(0, len(listed), CHUNK))
