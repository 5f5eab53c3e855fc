"""Who may write to a Zendesk account: one run at a time, because the account's limits are one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from airflow_provider_qadzd.errors import Facts, TryLater
from airflow_provider_qadzd.ledger.schema import applier
from airflow_provider_qadzd.ledger.store import Ledger, insert_into

BUSY = "ApplierBusy"
"""`Facts.code` while another run applies: nothing is wrong, and waiting helps."""


@dataclass(frozen=True, slots=True)
class ApplierLease:
    """The right to write to an account; every send checks it, and prolongs it, in its own transaction."""

    account_id: int
    owner: str
    version: int
    seconds: float


def take_applier(ledger: Ledger, account_id: int, owner: str, seconds: float) -> ApplierLease:
    """The account's one applier lease, taken or taken again. TryLater while another owner holds it.

    Each taking ends every earlier lease, also one of the same owner: a run's first try may still be alive.
    """
    now = ledger.clock.time()
    with ledger.writing() as tx:
        new = insert_into(tx, applier).values(account_id=account_id, owner=owner, lease_until=now + seconds, version=1)
        taken = tx.execute(
            new.on_conflict_do_update(
                index_elements=["account_id"],
                set_={"owner": owner, "lease_until": now + seconds, "version": applier.c.version + 1},
                where=or_(applier.c.owner == owner, applier.c.lease_until <= now),
            ).returning(applier.c.version)
        ).scalar_one_or_none()
        if taken is None:
            held = tx.execute(select(applier).where(applier.c.account_id == account_id)).one()
            raise TryLater(
                f"Another run ({held.owner}) is applying changes to this Zendesk account.",
                wait=max(1.0, min(60.0, held.lease_until - now)),
                facts=Facts(code=BUSY),
            )
    return ApplierLease(account_id, owner, int(taken), seconds)


def end_applier(ledger: Ledger, lease: ApplierLease) -> None:
    """Give the lease back, if it is still ours."""
    with ledger.writing() as tx:
        tx.execute(update(applier).where(_is(lease)).values(lease_until=0.0))


def prolong(tx: Connection, lease: ApplierLease, now: float) -> None:
    """A lease that has lapsed, but that nobody has taken since, is still ours."""
    if tx.execute(update(applier).where(_is(lease)).values(lease_until=now + lease.seconds)).rowcount != 1:
        raise TryLater("Another run has taken over applying changes to this Zendesk account.", wait=60.0)


def _is(lease: ApplierLease) -> ColumnElement[bool]:
    return and_(applier.c.account_id == lease.account_id, applier.c.version == lease.version)
