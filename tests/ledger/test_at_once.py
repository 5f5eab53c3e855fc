"""Two processes that act on the same rows at once, move by move: what one of them has ended stays ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from airflow_provider_qadzd.ledger import Ledger, accounts, changes
from airflow_provider_qadzd.ledger.changes import Ended
from tests.ledger.rows import a_change, a_flow, a_wanted, an_end, plan_changes, settle, want
from tests.ledger.test_accounts import a_person
from tests.ledger.test_changes import audit, items, send


def test_a_change_has_one_outcome(ledger: Ledger) -> None:
    """Whoever comes second with an outcome of a change has none: neither the change nor the audit tells it twice."""
    flow = a_flow(ledger)
    want(ledger, flow, a_wanted("C1"))
    plan_changes(ledger, flow, a_change("C1"))
    (item,) = items(ledger)
    send(ledger, flow.account_id, item.change_id)
    settle(ledger, flow, an_end("organization", "C1", 7, change_id=item.change_id))
    settle(ledger, flow, Ended("organization", "C1", "set_aside", "too late", change_id=item.change_id))
    assert [event for _, event, _ in audit(ledger)] == ["created"]
    assert items(ledger)[0].outcome == "created"
    assert changes.linked_id(ledger, flow, "organization", "C1") == 7


def test_an_ended_change_is_not_opened_again(ledger: Ledger) -> None:
    """A process that comes back late with a job, or to plan a change again, finds it over; its target may be open."""
    flow = a_flow(ledger)
    want(ledger, flow, a_wanted("C1"))
    plan_changes(ledger, flow, a_change("C1"))
    (item,) = items(ledger)
    settle(ledger, flow, an_end("organization", "C1", 7, change_id=item.change_id))
    assert plan_changes(ledger, flow, a_change("C1")) == 1
    changes.plan_again(ledger, [item.change_id], "smaller")
    changes.mark(ledger, [item.change_id], job_id="late")
    assert [(one.change_state, one.job_id) for one in items(ledger)] == [("done", ""), ("planned", "")]


def test_what_two_planners_settle_is_told_once(open_ledger: Callable[[], Ledger]) -> None:
    """Two that decide at once that a record needs no call tell it once."""
    ledgers = [open_ledger() for _ in range(4)]
    flow = a_flow(ledgers[0])
    keys = [f"C{n:02d}" for n in range(30)]
    want(ledgers[0], flow, *map(a_wanted, keys))
    aside = [Ended("organization", key, "set_aside", "no_name") for key in keys]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda ledger: settle(ledger, flow, *aside), ledgers))
    assert sorted(key for key, _, _ in audit(ledgers[0])) == keys


def test_an_older_read_takes_nothing_back(ledger: Ledger) -> None:
    """Of two reads at once, what the later one told stays, whichever stores its page last."""
    flow = a_flow(ledger)
    first, second = (accounts.begin_read(ledger, flow.source_id, "contact", "full", "run") for _ in range(2))
    for read_id, name in ((second, "Now"), (first, "Then")):
        pages = [("P1", a_person(name))]
        accounts.save_page(ledger, flow.source_id, "contact", read_id, pages, [("P1", "C1")])
    accounts.end_read(ledger, second, complete=True, reason="")
    accounts.end_read(ledger, first, complete=True, reason="")
    want(ledger, flow, a_wanted("C1"), a_wanted("P1", "user"))
    plan_changes(ledger, flow, a_change("C1"), a_change("P1", "user"))
    ((row,),) = accounts.records_to_map(ledger, flow, "contact", "user", "rules")
    assert row.payload["name"] == "Now"
    assert list(accounts.missing_memberships(ledger, flow)) == [("P1", "C1")]
