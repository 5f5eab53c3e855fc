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
from typing import Any, Literal

from airflow_provider_qadzd.errors import FixFirst, SetAside, TryLater
from airflow_provider_qadzd.ledger import Ledger, accounts, changes
from airflow_provider_qadzd.ledger.changes import Change as Item
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.records import Candidate, Kind, fold
from airflow_provider_qadzd.sync.draft import settled
from airflow_provider_qadzd.sync.mirror import held, observe
from airflow_provider_qadzd.sync.pairs import FEW, Pairs, refusal
from airflow_provider_qadzd.sync.plan import Change, Settled, decide
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.pace import calls_used_up
from airflow_provider_qadzd.zendesk.wire import BULK_IMPORT_OFF, JobStatus, NotFound

log = logging.getLogger(__name__)

CHUNK = 100
LEASE_SECONDS = 300.0
"""How long a silent run keeps others out; each send prolongs it."""
LOST_AFTER = 900.0
"""Seconds after which a sent change without a job is asked about even while jobs of its kind are open."""
MOST_JOBS = 25
"""Of our jobs at once: Zendesk runs 30 an account, and others have some too."""
POLL_SECONDS = 2.0
TRIES = 6
"""How often one change is decided anew after a refusal, at most: each time something new must have been learnt."""
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
    writes: int = 0
    pairs: Pairs = field(init=False)

    def __post_init__(self) -> None:
        self.pairs = Pairs(self.ledger, self.flow, self.client)

    def step(self) -> Waiting | Done:
        """Resolve what is open, send what can be sent. TryLater while another run applies to this account.

        Where Zendesk's limits are used up, that is Waiting as well: what was done so far is written down.
        """
        lease = changes.take_applier(self.ledger, self.flow.account_id, self.owner, LEASE_SECONDS)
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
            changes.end_applier(self.ledger, lease)
            raise
        changes.end_applier(self.ledger, lease)
        outcomes = changes.outcomes_of(self.ledger, self.flow, self.plan_id)
        return Done({"outcomes": outcomes, "zendesk_writes": self.writes})

    # -- what is open --------------------------------------------------------------------------------------------------

    def _resolve_open(self) -> None:
        """Every job that ended is read per row; every change whose answer was lost is looked for in Zendesk."""
        open_items = changes.in_flight(self.ledger, self.flow)
        by_job: dict[str, list[Item]] = {}
        for item in open_items:
            by_job.setdefault(item.job_id, []).append(item)
        lost = by_job.pop("", [])
        known = {job.id: job for ids in _hundreds(by_job) for job in self.client.jobs.show_many(ids)}
        for job_id, items in by_job.items():
            job = known.get(job_id)
            if job is None:
                log.warning("Zendesk no longer knows job %s; looking for its %s records.", job_id, len(items))
            if job is None or job.done:
                self._read_back(items, job)
        if lost and self._may_look(lost):
            self._read_back(lost, None)

    def _may_look(self, lost: Sequence[Item]) -> bool:
        """A lost request may still be a running job: look once none of its kind is open, or after a while."""
        now = self.ledger.clock.time()
        if all(now - (item.sent_epoch or 0) > LOST_AFTER for item in lost):
            return True
        kinds = {item.kind for item in lost}
        return not any(kind in job.job_type.lower() for job in self.client.jobs.list_open() for kind in kinds)

    def _read_back(self, items: Sequence[Item], job: JobStatus | None) -> None:
        for chunk in _hundreds(items):
            by_kind: dict[Kind, list[Item]] = {}
            for item in chunk:
                by_kind.setdefault(item.kind, []).append(item)
            for kind, some in by_kind.items():
                if kind == "organization" or kind == "user":
                    self._look_for(kind, some, job)
                else:
                    self.pairs.look_for(some, job, self.owner)

    def _look_for(self, kind: Literal["organization", "user"], items: Sequence[Item], job: JobStatus | None) -> None:
        """Read what Zendesk has of these now: what was written is over, what was not is planned again, singly.

        A create is over once a record carries its external id. An update is over once nothing is left to change. Where
        a field differs although the job says that the row went well, Zendesk keeps a value of its own in it.
        """
        creates = [item for item in items if item.operation == "create"]
        made = {
            fold(row["external_id"]): held(kind, row)
            for row in self._observe(kind, external_ids=self._external_ids(kind, creates))
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
            decision = decide(candidate)
            if there is None:
                again.append(item.change_id)
            elif there.zendesk_id in went_well:
                ended.append(self._success(item, there.zendesk_id, there.digest))
            elif isinstance(decision, Settled) and decision.zendesk_id is not None:
                ended.append(self._success(item, decision.zendesk_id, decision.base))
            elif isinstance(decision, Settled):
                ended.append(settled(candidate, decision, item.change_id))
            elif item.operation == "create":
                # Made, and not quite as wanted: the link says so, and the next plan puts it right.
                ended.append(replace(self._success(item, there.zendesk_id, there.digest), fingerprint=""))
            else:
                again.append(item.change_id)
        self._settle(ended)
        if again:
            changes.plan_again(self.ledger, again, singly=True)

    # -- what is planned -----------------------------------------------------------------------------------------------

    def _send_all(self, lease: changes.ApplierLease, kind: Kind) -> None:
        while True:
            if changes.jobs_in_flight(self.ledger, self.flow) >= MOST_JOBS:
                return
            items = changes.planned(self.ledger, self.flow, kind, CHUNK)
            if not items:
                return
            if kind == "organization" or kind == "user":
                self._send_records(lease, kind, items)
            else:
                self._observe("user", ids=self.pairs.user_ids(items))
                self.writes += self.pairs.send(lease, items, self.owner)

    def _send_records(
        self, lease: changes.ApplierLease, kind: Literal["organization", "user"], items: Sequence[Item]
    ) -> None:
        self._observe(kind, ids=[item.zendesk_id for item in items if item.zendesk_id is not None])
        decided = {
            one.key: (one, decide(one)) for one in accounts.candidates(self.ledger, self.flow, kind, _keys(items))
        }
        to_send: list[tuple[Item, Candidate, Change]] = []
        ended: list[Ended] = []
        for item in items:
            candidate, decision = decided[item.record_key]
            if isinstance(decision, Settled):
                ended.append(settled(candidate, decision, item.change_id))
            elif decision.operation != item.operation:
                ended.append(Ended(kind, item.record_key, "superseded", "decided anew", change_id=item.change_id))
            else:
                to_send.append((item, candidate, decision))
        self._settle(ended)
        if not to_send:
            return
        many = len(to_send) > FEW and items[0].attempts == 0
        if many and not (kind == "user" and items[0].operation == "create" and self.bulk is False):
            self._send_job(lease, kind, to_send)
        else:
            homes = self._homes(kind, to_send)
            for item, candidate, change in to_send:
                self._send_singly(lease, kind, item, candidate, change, _body(item, change, homes))

    def _send_job(
        self, lease: changes.ApplierLease, kind: Literal["organization", "user"],
        to_send: Sequence[tuple[Item, Candidate, Change]],
    ) -> None:  # fmt: skip
        group = self.client.organizations if kind == "organization" else self.client.users
        ids = [item.change_id for item, _, _ in to_send]
        homes = self._homes(kind, to_send)
        bodies = [_body(item, change, homes) for item, _, change in to_send]
        changes.mark_sent(
            self.ledger, lease, ids, {item.change_id: candidate.fingerprint for item, candidate, _ in to_send}
        )
        try:
            create = to_send[0][0].operation == "create"
            job = group.create_many(bodies) if create else group.update_many(bodies)
        except TryLater as error:
            changes.not_answered(self.ledger, ids, error)
            raise
        except FixFirst as error:
            changes.plan_again(self.ledger, ids, singly=False)
            if error.facts.code != BULK_IMPORT_OFF:
                raise
            log.info("Bulk user import is off in this Zendesk account; users are created one by one.")
            self.bulk = False
            return
        except SetAside:
            changes.plan_again(self.ledger, ids, singly=True)
            return
        self.writes += 1
        changes.mark(self.ledger, ids, job_id=job.id)

    def _send_singly(
        self, lease: changes.ApplierLease, kind: Literal["organization", "user"], item: Item, candidate: Candidate,
        change: Change, body: dict[str, Any],
    ) -> None:  # fmt: skip
        group = self.client.organizations if kind == "organization" else self.client.users
        changes.mark_sent(self.ledger, lease, [item.change_id], {item.change_id: candidate.fingerprint})
        try:
            if change.operation == "create":
                answer = group.create(body)
            else:
                answer = group.update(int(change.zendesk_id or 0), {k: v for k, v in body.items() if k != "id"})
        except TryLater as error:
            changes.not_answered(self.ledger, [item.change_id], error)
            raise
        except FixFirst:
            changes.plan_again(self.ledger, [item.change_id], singly=False)
            raise
        except NotFound:
            observe(self.ledger, self.flow.account_id, kind, [], asked=[int(change.zendesk_id or 0)])
            self._settle([Ended(kind, item.record_key, "failed_retryable", "gone", change_id=item.change_id)])
            return
        except SetAside as error:
            self._refused(kind, item, candidate, change, error)
            return
        self.writes += 1
        observe(self.ledger, self.flow.account_id, kind, [answer])
        written = self._success(item, int(answer["id"]), held(kind, answer).digest)
        self._settle([replace(written, fingerprint=candidate.fingerprint)])

    def _refused(
        self, kind: Literal["organization", "user"], item: Item, candidate: Candidate, change: Change, error: SetAside
    ) -> None:
        """Zendesk refused this one record. A value that another record holds: find the holder, decide once more.

        Where that decides the same again, the record is set aside. But a holder that nobody sees yet may be new, and
        search lags: then the record is only put off, once, until the mirror has been read again.
        """
        taken = {name for name, code in error.facts.details if code == "DuplicateValue"}
        outcome, detail = "set_aside", refusal(error)
        if taken and item.attempts < TRIES:
            holders = self._holders(kind, candidate, taken)
            observe(self.ledger, self.flow.account_id, kind, holders)
            (again,) = accounts.candidates(self.ledger, self.flow, kind, [item.record_key])
            decision = decide(again)
            if isinstance(decision, Settled):
                self._settle([settled(again, decision, item.change_id)])
                return
            if (decision.operation, decision.body) != (change.operation, change.body):
                changes.mark(
                    self.ledger, [item.change_id], change_state="planned", operation=decision.operation,
                    intended=decision.outcome, attempts=item.attempts + 1, zendesk_id=decision.zendesk_id,
                )  # fmt: skip
                return
            if len(holders) == 1:
                detail += f", held by {holders[0]['id']}"
            elif changes.last_outcome(self.ledger, self.flow, item) != "failed_retryable":
                outcome = "failed_retryable"
        self._settle([Ended(kind, item.record_key, outcome, detail, change_id=item.change_id)])

    def _holders(
        self, kind: Literal["organization", "user"], candidate: Candidate, taken: Iterable[str]
    ) -> list[dict[str, Any]]:
        """Who has the name, or the email as any of their addresses, or the external id."""
        rows: list[dict[str, Any]] = []
        if kind == "organization" and "name" in taken:
            rows += self.client.organizations.search(name=str(candidate.body["name"]))
        elif "email" in taken and candidate.body.get("email"):
            rows += self.client.users.search(email=str(candidate.body["email"]))
        group = self.client.organizations if kind == "organization" else self.client.users
        if "external_id" in taken:
            rows += group.show_many(external_ids=[candidate.external_id])
        return rows

    # -- the small steps -----------------------------------------------------------------------------------------------

    def _homes(self, kind: Kind, to_send: Sequence[tuple[Item, Candidate, Change]]) -> dict[str, int]:
        """The organization that each new user starts in."""
        contacts = [item.record_key for item, _, change in to_send if kind == "user" and change.operation == "create"]
        return self.pairs.first_organizations(contacts) if contacts else {}

    def _success(self, item: Item, zendesk_id: int, base: str) -> Ended:
        return Ended(
            item.kind, item.record_key, item.intended, change_id=item.change_id, linked=True, zendesk_id=zendesk_id,
            base=base, fingerprint=item.fingerprint, difference=item.difference,
        )  # fmt: skip

    def _observe(
        self, kind: Literal["organization", "user"], *, ids: Iterable[int | None] = (), external_ids: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Read these as they are now, into the mirror; known ids that Zendesk leaves out are gone."""
        group = self.client.organizations if kind == "organization" else self.client.users
        found = [(group.show_many(ids=some), some) for some in _hundreds(one for one in ids if one is not None)]
        found += [(group.show_many(external_ids=some), []) for some in _hundreds(external_ids)]
        for rows, asked in found:
            observe(self.ledger, self.flow.account_id, kind, rows, asked)
        return [row for rows, _ in found for row in rows]

    def _external_ids(self, kind: Kind, items: Sequence[Item]) -> list[str]:
        return [one.external_id for one in accounts.candidates(self.ledger, self.flow, kind, _keys(items))]

    def _settle(self, ended: Sequence[Ended]) -> None:
        if ended:
            with self.ledger.writing() as tx:
                changes.settle(tx, self.ledger, self.flow, ended, self.owner)

    def _waiting(self, stage: Sequence[Kind]) -> Waiting | None:
        flying = [item for kind in stage for item in changes.in_flight(self.ledger, self.flow, kind)]
        if not flying and not any(changes.planned(self.ledger, self.flow, kind, 1) for kind in stage):
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
