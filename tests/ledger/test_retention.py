"""What the ledger lets go of after its days, and what it keeps for ever."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger, changes, tickets
from airflow_provider_qadzd.ledger.retention import Keep, tidy
from airflow_provider_qadzd.ledger.schema import audit_entry, change_item, inbox, plan
from airflow_provider_qadzd.ledger.store import iso
from tests.conftest import START, SetClock
from tests.ledger.rows import a_change, a_flow, plan_changes
from tests.ledger.test_tickets import a_delivery

DAY = 86_400.0
PACKAGE = Path(__file__).parents[2] / "airflow_provider_qadzd"


def an_entry(key: str, days_ago: float, event: str = "updated", **more: Any) -> dict[str, Any]:
    """An audit entry of that many days ago."""
    row = {
        "flow_id": 1, "account_id": 1, "kind": "user", "record_key": key, "event": event, "detail": {},
        "happened_at": iso(START - days_ago * DAY), "run": "run",
    }  # fmt: skip
    return {**row, **more}


def audited(ledger: Ledger, *rows: dict[str, Any]) -> None:
    """Store these entries."""
    with ledger.writing() as tx:
        tx.execute(insert(audit_entry), list(rows))


def events(ledger: Ledger) -> list[tuple[str, str]]:
    """What the audit holds, as (key, event)."""
    with ledger.reading() as tx:
        asked = select(audit_entry.c.record_key, audit_entry.c.event).order_by(audit_entry.c.audit_id)
        return [(row[0], row[1]) for row in tx.execute(asked)]


@pytest.mark.parametrize("batch", [1, 2, 5000])
def test_the_first_and_last_entry_of_each_link_stay(ledger: Ledger, batch: int) -> None:
    """Between them goes what is too old, however it falls into batches; what is young stays."""
    audited(
        ledger,
        an_entry("U1", 900, "created"), an_entry("U1", 800), an_entry("U2", 700, "created"), an_entry("U1", 600),
        an_entry("U1", 399, "young"), an_entry("U1", 1, "last"), an_entry("U1", 800, "other flow", flow_id=2),
    )  # fmt: skip
    assert tidy(ledger, Keep(), batch)["audit_entry"] == 2
    kept = [("U1", "created"), ("U2", "created"), ("U1", "young"), ("U1", "last"), ("U1", "other flow")]
    assert events(ledger) == kept
    assert tidy(ledger, Keep(), batch)["audit_entry"] == 0


def test_each_membership_is_a_link(ledger: Ledger) -> None:
    """A contact's memberships are told apart by their customers; what is about a ticket is no link."""
    rows = [
        an_entry("U1", 900 - n, f"{customer} {n}", kind="membership", detail={"other": customer})
        for n in range(3)
        for customer in ("C1", "C2")
    ]
    audited(ledger, *rows, an_entry("7", 401, "matched", kind="ticket"), an_entry("7", 399, "matched", kind="ticket"))
    assert tidy(ledger, Keep())["audit_entry"] == 3
    assert [event for _, event in events(ledger)] == ["C1 0", "C2 0", "C1 2", "C2 2", "matched"]


def test_deliveries_go_unless_they_wait(ledger: Ledger, clock: SetClock) -> None:
    """Drained and set aside ones go after their days; one that waits stays, however old."""
    for n, state in enumerate(("drained", "aside", "pending", "drained")):
        if n == 3:
            clock.sleep(20 * DAY)
        tickets.store_delivery(ledger, a_delivery(f"s{n}"))
        if state != "pending":
            with ledger.writing() as tx:
                tx.execute(update(inbox).where(inbox.c.signature == f"s{n}").values(inbox_state=state))
    clock.sleep(10 * DAY + 1)
    assert tidy(ledger, Keep())["inbox"] == 2
    with ledger.reading() as tx:
        assert list(tx.execute(select(inbox.c.signature).order_by(inbox.c.signature)).scalars()) == ["s2", "s3"]


def test_changes_that_are_over_go_with_their_plans(ledger: Ledger, clock: SetClock) -> None:
    """What is open stays with its plan, and so does every plan since."""
    flow = a_flow(ledger)
    for keys in (["C1", "C2"], ["C3"], ["C4"]):
        plan_changes(ledger, flow, *(a_change(key) for key in keys))
        with ledger.writing() as tx:  # what was sent outlives the next plan
            tx.execute(update(change_item).values(change_state="sent"))
    over = update(change_item).where(change_item.c.record_key.in_(["C1", "C2", "C4"]))
    with ledger.writing() as tx:
        tx.execute(over.values(change_state="done", outcome="created", ended_at=ledger.now()))
    clock.sleep(90 * DAY)
    assert tidy(ledger, Keep())["change_item"] == 0
    clock.sleep(1)
    gone = tidy(ledger, Keep(), 2)
    assert (gone["change_item"], gone["plan"]) == (3, 1)
    assert [one.record_key for one in changes.in_flight(ledger, flow)] == ["C3"]
    with ledger.writing() as tx:
        tx.execute(update(change_item).values(change_state="done", ended_at=ledger.now()))
    clock.sleep(91 * DAY)
    assert tidy(ledger, Keep())["plan"] == 1
    with ledger.reading() as tx:
        assert len(tx.execute(select(plan.c.plan_id)).all()) == 1


@pytest.mark.parametrize("keep", [Keep(inbox=1), Keep(audit=0), Keep(changes=-1), Keep(changes=float("nan"))])
def test_too_few_days_are_refused(ledger: Ledger, keep: Keep) -> None:
    """Nothing is deleted by a setting that would take what still decides."""
    audited(ledger, *(an_entry("U1", n) for n in (900, 800, 700)))
    with pytest.raises(FixFirst, match="Keep at least 2 days"):
        tidy(ledger, keep)
    assert len(events(ledger)) == 3


def test_the_audit_is_only_ever_added_to() -> None:
    """Nothing but retention and forgetting takes an audit entry away or changes one."""
    writers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"(update|delete|upsert|_delete|_empty|_sweep)\(\s*(tx|ledger)?,?\s*audit_entry", path.read_text())
    }
    assert writers == {"ledger/retention.py", "ledger/forgetting.py"}
