"""What a sensor of ticket events has returned, and what it returns next.

Each run of a sensor returns a stretch of the account's numbered events, and the same stretch whenever it is cleared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from airflow_provider_qadzd.ledger.bulk import upsert
from airflow_provider_qadzd.ledger.schema import account, sensor_stretch, ticket_event
from airflow_provider_qadzd.ledger.store import Ledger
from airflow_provider_qadzd.ledger.tickets import lock

EventRow = Row[Any]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Events after `from_seq`, up to `to_seq`."""

    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a sensor lets through; an empty filter lets all through."""

    kinds: tuple[str, ...] = ()
    customers: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()


def claim_stretch(
    ledger: Ledger, account_id: int, dag_id: str, task_id: str, run_id: str, wanted: Wanted
) -> tuple[Stretch, list[EventRow]]:  # fmt: skip
    """What this run of this sensor returns, now and whenever it is cleared; an empty stretch while there is nothing.

    It begins where the sensor's runs before have ended, in whatever order they end: of two that wait at the same time
    one gets an event, under the account row's lock. The first run of a sensor begins with what comes from now on; that
    is written before anything is waited for, so that a try that dies does not begin later.
    """
    c = sensor_stretch.c
    mine = and_(c.account_id == account_id, c.dag_id == dag_id, c.task_id == task_id)
    with ledger.writing() as tx:
        lock(tx, account_id)
        own = tx.execute(select(c.from_seq, c.to_seq).where(mine, c.run_id == run_id)).one_or_none()
        if own is not None and own.to_seq > own.from_seq:
            return Stretch(own.from_seq, own.to_seq), events_after(tx, account_id, own.from_seq, wanted, own.to_seq)
        start = tx.execute(select(func.max(c.to_seq)).where(mine)).scalar_one()
        if start is None:
            start = tx.execute(select(account.c.event_seq).where(account.c.account_id == account_id)).scalar_one()
        found = events_after(tx, account_id, start, wanted)
        stretch = Stretch(int(start), int(found[-1].seq) if found else int(start))
        row = {
            "account_id": account_id, "dag_id": dag_id, "task_id": task_id, "run_id": run_id,
            "from_seq": stretch.from_seq, "to_seq": stretch.to_seq, "recorded_at": ledger.now(),
        }  # fmt: skip
        upsert(tx, sensor_stretch, [row])
        return stretch, found


def any_event(ledger: Ledger, account_id: int, after: int, wanted: Wanted) -> bool:
    """Whether there is an event above `after` that the sensor wants."""
    with ledger.reading() as tx:
        return bool(events_after(tx, account_id, after, wanted, limit=1))


def events_after(
    tx: Connection, account_id: int, after: int, wanted: Wanted, upto: int | None = None, limit: int | None = None
) -> list[EventRow]:
    """Events of matched tickets numbered above `after` (at most `upto`) that pass the filters, in order."""
    c = ticket_event.c
    asked = [c.account_id == account_id, c.seq > after, c.customer_key.is_not(None)]
    if upto is not None:
        asked.append(c.seq <= upto)
    for column, allowed in ((c.kind, wanted.kinds), (c.customer_key, wanted.customers), (c.status, wanted.statuses)):
        if allowed:
            asked.append(column.in_(allowed))
    return list(tx.execute(select(ticket_event).where(*asked).order_by(c.seq).limit(limit)).all())
