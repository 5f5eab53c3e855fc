"""What the ledger lets go of, and when: the audit, changes that are over, and deliveries, each after its days.

Of every link the first and the last audit entry stay. What waits or is open stays. Rows go in batches, each in a short
transaction of its own, so that nobody waits long; stopped in between, the next run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, Table, and_, delete, exists, func, or_, select

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.schema import audit_entry, change_item, inbox, plan
from airflow_provider_qadzd.ledger.store import Ledger, iso

BATCH = 5000
"""Rows looked at in one transaction."""

_DAY = 86_400.0
_OF_LINKS = ("organization", "user", "membership", "identity")


@dataclass(frozen=True, slots=True)
class Keep:
    """For how many days each is kept."""

    inbox: float = 30
    audit: float = 400
    changes: float = 90

    def checked(self) -> Keep:
        """These; FixFirst for less than two days, within which they still decide what is done."""
        for name in self.__slots__:
            days = getattr(self, name)
            if not days >= 2:
                raise FixFirst(f"[qadzd] keep_{name}_days is {days:g}.", advice="Keep at least 2 days.")
        return self


def tidy(ledger: Ledger, keep: Keep, batch: int = BATCH) -> dict[str, int]:
    """Delete what is older than it is to be kept. How many rows went, by table."""
    keep, now = keep.checked(), ledger.clock.time()
    before = {name: iso(now - days * _DAY) for name, days in (("inbox", keep.inbox), ("audit", keep.audit))}
    over = iso(now - keep.changes * _DAY)
    a, c, i = audit_entry.c, change_item.c, inbox.c
    return {
        "inbox": _sweep(
            ledger, inbox, i.delivery_id, and_(i.received_at < before["inbox"], i.inbox_state != "pending"), batch
        ),
        "audit_entry": _sweep(
            ledger, audit_entry, a.audit_id, and_(a.happened_at < before["audit"], _between_others()), batch
        ),
        "change_item": _sweep(
            ledger, change_item, c.change_id, and_(c.change_state == "done", c.ended_at < over), batch
        ),
        "plan": _sweep(ledger, plan, plan.c.plan_id, and_(plan.c.made_at < over, _without_changes(ledger)), batch),
    }  # fmt: skip


def _sweep(ledger: Ledger, table: Table, key: Column[int], which: ColumnElement[bool], batch: int) -> int:
    """Delete such rows, walking along the primary key. How many went."""
    gone = 0
    for first, last in _stretches(ledger, table, key, batch):
        with ledger.writing() as tx:
            gone += tx.execute(delete(table).where(key >= first, key <= last, which)).rowcount
    return gone


def _stretches(ledger: Ledger, table: Table, key: Column[int], batch: int) -> Iterator[tuple[int, int]]:
    """The first and last number of every so many rows."""
    after = -1
    while True:
        some = select(key).where(key > after).order_by(key).limit(batch).subquery()
        with ledger.reading() as tx:
            first, last = tx.execute(select(func.min(some.c[0]), func.max(some.c[0]))).one()
        if first is None:
            return
        yield first, last
        after = last


def _between_others() -> ColumnElement[bool]:
    """About a link, and neither its first entry nor its last; or about no link at all."""
    a = audit_entry.c
    other = audit_entry.alias("other")
    same = and_(
        other.c.kind == a.kind, other.c.record_key == a.record_key,
        func.coalesce(other.c.flow_id, -1) == func.coalesce(a.flow_id, -1),
        func.coalesce(other.c.detail["other"].as_string(), "") == func.coalesce(a.detail["other"].as_string(), ""),
    )  # fmt: skip
    earlier = exists().where(same, other.c.audit_id < a.audit_id).correlate(audit_entry)
    later = exists().where(same, other.c.audit_id > a.audit_id).correlate(audit_entry)
    return or_(a.kind.not_in(_OF_LINKS), and_(earlier, later))


def _without_changes(ledger: Ledger) -> ColumnElement[bool]:
    """Older than every plan that a kept change belongs to."""
    with ledger.reading() as tx:
        oldest = tx.execute(select(func.min(change_item.c.plan_id))).scalar_one()
        if oldest is None:
            oldest = tx.execute(select(func.max(plan.c.plan_id))).scalar_one() or 0
    return plan.c.plan_id < int(oldest)
