"""Every intended write from plan to outcome, the links that outcomes leave, the audit, and who may apply.

A change is `planned`, then `sent` (with its job once Zendesk named it), then `done` with an outcome; `unknown` is a
sent change whose answer was lost. What is not `done` is open, and one record has at most one open change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, or_, select, update

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import applier, audit_entry, change_item, link, plan, wanted
from airflow_provider_qadzd.ledger.store import Ledger, upsert
from airflow_provider_qadzd.records import Kind

Change = Row[Any]
"""A row of `change_item`."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one record, with the link it leaves (`zendesk_id` may be None for a membership)."""

    kind: Kind
    key: str
    outcome: str
    detail: str = ""
    other: str = ""
    change_id: int | None = None
    linked: bool = False
    zendesk_id: int | None = None
    base: str = ""
    fingerprint: str = ""
    ours: bool = True
    difference: Mapping[str, Any] = field(default_factory=dict)


# -- plans -------------------------------------------------------------------------------------------------------------


def supersede_planned(ledger: Ledger, flow: Flow) -> None:
    """What an earlier plan wanted and never sent is over; what was sent stays open."""
    with ledger.writing() as tx:
        tx.execute(
            update(change_item)
            .where(change_item.c.flow_id == flow.flow_id, change_item.c.change_state == "planned")
            .values(change_state="done", outcome="superseded", ended_at=ledger.now())
        )


def new_plan(ledger: Ledger, flow: Flow, run: str) -> int:
    """The id of a new, empty plan."""
    row = {"flow_id": flow.flow_id, "plan_hash": "", "counts": {}, "made_at": ledger.now(), "run": run}
    with ledger.writing() as tx:
        return int(tx.execute(insert(plan).values(row).returning(plan.c.plan_id)).scalar_one())


def end_plan(ledger: Ledger, plan_id: int, plan_hash: str, counts: Mapping[str, Any]) -> None:
    """The plan is whole: its counts by decision and the hash over what it would do."""
    with ledger.writing() as tx:
        tx.execute(update(plan).where(plan.c.plan_id == plan_id).values(plan_hash=plan_hash, counts=dict(counts)))


def add_planned(ledger: Ledger, flow: Flow, plan_id: int, rows: Sequence[Mapping[str, Any]], run: str) -> int:
    """Plan these changes, leaving out records that already have an open one. How many were added."""
    if not rows:
        return 0
    with ledger.writing() as tx:
        taken = {
            (kind, target)
            for kind, target in tx.execute(
                select(change_item.c.kind, change_item.c.target).where(
                    change_item.c.account_id == flow.account_id, change_item.c.change_state != "done"
                )
            )
        }
        fresh = [
            {
                "plan_id": plan_id, "flow_id": flow.flow_id, "account_id": flow.account_id, "other_key": "",
                "base": "", "fingerprint": "", "zendesk_id": None, "change_state": "planned",
                "planned_at": ledger.now(), "run": run, **row,
            }
            for row in rows
            if (row["kind"], row["target"]) not in taken
        ]  # fmt: skip
        if fresh:
            tx.execute(insert(change_item), fresh)
    return len(fresh)


# -- changes -----------------------------------------------------------------------------------------------------------


def planned(ledger: Ledger, flow: Flow, kind: Kind, limit: int) -> list[Change]:
    """The next changes of `kind` to send, all of one operation, oldest first; those to be sent singly by themselves."""
    c = change_item.c
    open_of_kind = and_(c.flow_id == flow.flow_id, c.kind == kind, c.change_state == "planned")
    with ledger.reading() as tx:
        first = tx.execute(select(change_item).where(open_of_kind).order_by(c.change_id).limit(1)).one_or_none()
        if first is None:
            return []
        alike = and_(c.operation == first.operation, (c.attempts > 0) == (first.attempts > 0))
        rows = tx.execute(select(change_item).where(open_of_kind, alike).order_by(c.change_id).limit(limit))
        return list(rows.all())


def in_flight(ledger: Ledger, flow: Flow, kind: Kind | None = None) -> list[Change]:
    """The changes that were sent and whose outcome is not known yet."""
    open_sent = and_(change_item.c.flow_id == flow.flow_id, change_item.c.change_state.in_(["sent", "unknown"]))
    if kind is not None:
        open_sent = and_(open_sent, change_item.c.kind == kind)
    with ledger.reading() as tx:
        return list(tx.execute(select(change_item).where(open_sent).order_by(change_item.c.change_id)).all())


def mark_sent(
    ledger: Ledger, lease: ApplierLease, change_ids: Iterable[int], fingerprints: Mapping[int, str] | None = None
) -> None:  # fmt: skip
    """The intent, committed before the call, and only by whoever holds the applier's lease.

    `fingerprints` are of what is wanted at this moment: the link will say that this is what was written.
    """
    with ledger.writing() as tx:
        _still_held(tx, lease, ledger.clock.time())
        tx.execute(
            update(change_item)
            .where(change_item.c.change_id.in_(list(change_ids)))
            .values(change_state="sent", job_id="", sent_epoch=ledger.clock.time())
        )
        for change_id, fingerprint in (fingerprints or {}).items():
            tx.execute(
                update(change_item)
                .where(change_item.c.change_id == change_id, change_item.c.fingerprint != fingerprint)
                .values(fingerprint=fingerprint)
            )


def not_answered(ledger: Ledger, change_ids: Sequence[int], error: TryLater) -> None:
    """A request that may have acted stays open, to be looked for; one that was turned away is planned again."""
    if error.unanswered:
        mark(ledger, change_ids, change_state="unknown")
    else:
        plan_again(ledger, change_ids, singly=False)


def mark(ledger: Ledger, change_ids: Iterable[int], **values: Any) -> None:
    """Set columns of these changes: the job that carries them, or a step back to `planned` or `unknown`."""
    with ledger.writing() as tx:
        tx.execute(update(change_item).where(change_item.c.change_id.in_(list(change_ids))).values(**values))


def plan_again(ledger: Ledger, change_ids: Iterable[int], *, singly: bool) -> None:
    """Nothing came of sending these: they are planned again, `singly` to hear from Zendesk why."""
    attempts = change_item.c.attempts + (1 if singly else 0)
    mark(ledger, change_ids, change_state="planned", job_id="", attempts=attempts)


def outcomes_of(ledger: Ledger, flow: Flow, plan_id: int) -> dict[str, dict[str, int]]:
    """Counts by kind and outcome of a plan's changes, and of earlier ones that ended since it was made.

    What is not over counts as `postponed`.
    """
    made_at = select(plan.c.made_at).where(plan.c.plan_id == plan_id).scalar_subquery()
    ended_since = and_(change_item.c.ended_at >= made_at, change_item.c.outcome != "superseded")
    counted = (
        select(change_item.c.kind, change_item.c.outcome, func.count())
        .where(change_item.c.flow_id == flow.flow_id, or_(change_item.c.plan_id == plan_id, ended_since))
        .group_by(change_item.c.kind, change_item.c.outcome)
    )
    counts: dict[str, dict[str, int]] = {}
    with ledger.reading() as tx:
        for kind, outcome, count in tx.execute(counted):
            counts.setdefault(kind, {})[outcome or "postponed"] = int(count)
    return counts


# -- outcomes ----------------------------------------------------------------------------------------------------------


def settle(tx: Connection, ledger: Ledger, flow: Flow, ended: Sequence[Ended], run: str) -> None:
    """Write outcomes: the change ends, the link stands, the record remembers, and the audit tells if it is news."""
    for one in ended:
        if one.change_id is not None:
            tx.execute(
                update(change_item)
                .where(change_item.c.change_id == one.change_id)
                .values(
                    change_state="done", outcome=one.outcome, reason=one.detail, zendesk_id=one.zendesk_id,
                    ended_at=ledger.now(),
                )  # fmt: skip
            )
        before = _remembered(tx, flow, one)
        if one.linked:
            _link(tx, ledger, flow, one, before)
        told = (one.outcome, one.detail)
        news = one.outcome != "unchanged" and (one.change_id is not None or told != (before.outcome, before.detail))
        if news:
            _remember(tx, ledger, flow, one, run)


@dataclass(frozen=True, slots=True)
class _Remembered:
    outcome: str = ""
    detail: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""


def _remembered(tx: Connection, flow: Flow, one: Ended) -> _Remembered:
    if one.other:
        return _Remembered()
    row = tx.execute(
        select(wanted.c.last_outcome, wanted.c.last_detail, wanted.c.body, wanted.c.fingerprint).where(
            wanted.c.flow_id == flow.flow_id, wanted.c.kind == one.kind, wanted.c.record_key == one.key
        )
    ).one()
    return _Remembered(row.last_outcome, row.last_detail, row.body, row.fingerprint)


def _link(tx: Connection, ledger: Ledger, flow: Flow, one: Ended, before: _Remembered) -> None:
    row = {
        "flow_id": flow.flow_id, "kind": one.kind, "record_key": one.key, "other_key": one.other,
        "account_id": flow.account_id, "zendesk_id": one.zendesk_id,
        "body": dict(before.body) if before.fingerprint == one.fingerprint else {},
        "fingerprint": one.fingerprint, "current_digest": one.base, "ours": one.ours, "linked_at": ledger.now(),
    }  # fmt: skip
    upsert(tx, link, [row], keep=["linked_at", "ours"])


def _remember(tx: Connection, ledger: Ledger, flow: Flow, one: Ended, run: str) -> None:
    if not one.other:
        tx.execute(
            update(wanted)
            .where(wanted.c.flow_id == flow.flow_id, wanted.c.kind == one.kind, wanted.c.record_key == one.key)
            .values(last_outcome=one.outcome, last_detail=one.detail)
        )
    detail = {
        name: value
        for name, value in {
            "detail": one.detail, "other": one.other, "zendesk_id": one.zendesk_id, "changed": dict(one.difference)
        }.items()
        if value
    }  # fmt: skip
    row = {
        "flow_id": flow.flow_id, "account_id": flow.account_id, "kind": one.kind, "record_key": one.key,
        "event": one.outcome, "detail": detail, "happened_at": ledger.now(), "run": run,
    }  # fmt: skip
    tx.execute(insert(audit_entry).values(row))


def linked_id(ledger: Ledger, flow: Flow, kind: Kind, key: str) -> int | None:
    """The Zendesk id that a key is linked to, or None."""
    with ledger.reading() as tx:
        found = tx.execute(
            select(link.c.zendesk_id).where(
                link.c.flow_id == flow.flow_id, link.c.kind == kind, link.c.record_key == key, link.c.other_key == ""
            )
        ).scalar_one_or_none()
    return None if found is None else int(found)


# -- who may apply -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ApplierLease:
    """The right to write to an account; every send checks it in its own transaction."""

    account_id: int
    owner: str
    version: int


def take_applier(ledger: Ledger, account_id: int, owner: str, seconds: float) -> ApplierLease:
    """The account's one applier lease, taken or prolonged. TryLater while another owner holds it."""
    now = ledger.clock.time()
    with ledger.writing() as tx:
        row = tx.execute(select(applier).where(applier.c.account_id == account_id).with_for_update()).one_or_none()
        if row is not None and row.owner != owner and row.lease_until > now:
            raise TryLater(
                f"Another run ({row.owner}) is applying changes to this Zendesk account.",
                wait=max(1.0, min(60.0, row.lease_until - now)),
            )
        version = 1 if row is None else row.version + (row.owner != owner)
        upsert(
            tx, applier,
            [{"account_id": account_id, "owner": owner, "lease_until": now + seconds, "version": version}],
        )  # fmt: skip
    return ApplierLease(account_id, owner, version)


def end_applier(ledger: Ledger, lease: ApplierLease) -> None:
    """Give the lease back, if it is still ours."""
    with ledger.writing() as tx:
        tx.execute(
            update(applier)
            .where(applier.c.account_id == lease.account_id, applier.c.version == lease.version)
            .values(lease_until=0.0)
        )


def _still_held(tx: Connection, lease: ApplierLease, now: float) -> None:
    row = tx.execute(select(applier).where(applier.c.account_id == lease.account_id)).one()
    if row.version != lease.version or row.lease_until <= now:
        raise TryLater("Another run has taken over applying changes to this Zendesk account.", wait=60.0)
