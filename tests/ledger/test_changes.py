"""A change from plan to outcome, the link and the audit that outcomes leave, and who may apply."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import Ledger, changes, plans
from airflow_provider_qadzd.ledger.applying import end_applier, take_applier
from airflow_provider_qadzd.ledger.changes import Change, Ended
from airflow_provider_qadzd.ledger.schema import audit_entry, change_item, link, wanted
from tests.conftest import SetClock
from tests.ledger.rows import a_change, a_flow, a_wanted, an_end, found, in_step, one, plan_changes, settle, want


def items(ledger: Ledger) -> list[Change]:
    """All changes, oldest first."""
    with ledger.reading() as tx:
        return list(tx.execute(select(change_item).order_by(change_item.c.change_id)).all())


def audit(ledger: Ledger) -> list[tuple[str, str, dict[str, Any]]]:
    """Key, event and detail of every audit entry."""
    with ledger.reading() as tx:
        a = audit_entry.c
        return [
            (row[0], row[1], row[2]) for row in tx.execute(select(a.record_key, a.event, a.detail).order_by(a.audit_id))
        ]


def send(ledger: Ledger, account_id: int, *ids: int, job: str = "") -> None:
    """Mark these as sent, by a run that may."""
    changes.mark_sent(ledger, take_applier(ledger, account_id, "run", 300), ids)
    if job:
        changes.mark(ledger, ids, job_id=job)


# -- plans -------------------------------------------------------------------------------------------------------------


def test_a_record_has_one_open_change(ledger: Ledger) -> None:
    """What was sent is left out of a plan until it is over, and within a plan each record is there once."""
    flow = a_flow(ledger)
    assert plan_changes(ledger, flow, a_change("C1"), a_change("C2"), a_change("C2"), a_change("c1")) == 2
    first, second = items(ledger)
    send(ledger, flow.account_id, first.change_id, second.change_id)
    assert plan_changes(ledger, flow, a_change("C1"), a_change("C1", "user")) == 1
    want(ledger, flow, a_wanted(first.record_key))
    settle(ledger, flow, Ended("organization", first.record_key, "created", change_id=first.change_id))
    assert plan_changes(ledger, flow, a_change("C1"), a_change("C2")) == 1
    assert plan_changes(ledger, flow) == 0


def test_of_several_that_plan_at_once_the_last_goes_on_alone(open_ledger: Callable[[], Ledger]) -> None:
    """Whoever began last has every change, whatever the others had drafted, and nobody fails."""
    ledgers = [open_ledger() for _ in range(4)]
    flow = a_flow(ledgers[0])
    rows = [a_change(f"C{n:03d}") for n in range(200)]

    def planned_by(one: Ledger, order: list[dict[str, Any]]) -> tuple[int, bool]:
        plan_id = changes.begin_plan(one, flow, "run")
        try:
            for start in range(0, 200, 50):
                changes.add_planned(one, flow, plan_id, order[start : start + 50], "run")
        except changes.Superseded:
            return plan_id, False
        return plan_id, plans.release(one, plan_id, "run", ["drafting"])

    for _ in range(15):
        with ThreadPoolExecutor(4) as threads:
            ends = dict(threads.map(planned_by, ledgers, [rows, rows[::-1], rows, rows[::-1]]))
        last = max(ends)
        assert ends[last]
        still_open = [item for item in items(ledgers[0]) if item.change_state != "done"]
        assert {(item.plan_id, item.change_state) for item in still_open} == {(last, "planned")}
        assert len(still_open) == 200


def test_a_superseded_plan_stays_so(ledger: Ledger) -> None:
    """Once a newer one has begun, nothing is drafted, shown or sent of a plan any more."""
    flow = a_flow(ledger)
    earlier = changes.begin_plan(ledger, flow, "run")
    changes.add_planned(ledger, flow, earlier, [a_change("C1")], "run")
    changes.begin_plan(ledger, flow, "another")
    with pytest.raises(changes.Superseded):
        changes.add_planned(ledger, flow, earlier, [a_change("C2")], "run")
    assert not plans.finish(ledger, earlier, "waiting")
    assert not plans.release(ledger, earlier, "run", ["drafting"])
    assert [(item.change_state, item.outcome) for item in items(ledger)] == [("done", "superseded")]


def test_a_new_plan_supersedes_what_was_not_sent(ledger: Ledger) -> None:
    """What was planned is over; what was sent or lost stays open; another flow's changes stay."""
    flow = a_flow(ledger)
    other = a_flow(ledger, "other", zendesk="https://other.zendesk.com")
    plan_changes(ledger, flow, *(a_change(f"C{n}") for n in range(3)))
    plan_changes(ledger, other, a_change("C0"))
    ids = [item.change_id for item in items(ledger)]
    send(ledger, flow.account_id, ids[0], ids[1])
    changes.mark(ledger, [ids[1]], change_state="unknown")
    changes.supersede_planned(ledger, flow)
    states = [(item.change_state, item.outcome) for item in items(ledger)]
    assert states == [("sent", ""), ("unknown", ""), ("done", "superseded"), ("planned", "")]
    assert [item.change_id for item in changes.in_flight(ledger, flow)] == ids[:2]
    assert changes.in_flight(ledger, flow, "user") == []


def test_what_each_step_asks_does_not_depend_on_how_much_is_planned(tmp_path: Path) -> None:
    """Which changes are next and how many jobs run is read off an index of just these, in its order."""
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db").opened()
    flow = a_flow(ledger)
    plan_changes(ledger, flow, a_change("C1"), a_change("C2"))
    asked: list[tuple[str, Any]] = []
    event.listen(ledger.engine, "after_cursor_execute", lambda _1, _2, sql, values, *_: asked.append((sql, values)))
    (first,) = changes.planned(ledger, flow, "organization", (1,))
    (second,) = changes.planned(ledger, flow, "organization", (1,), after=first)
    assert (first.record_key, second.record_key) == ("C1", "C2")
    assert changes.jobs_in_flight(ledger, flow.account_id) == 0
    questions = [one for one in asked if one[0].startswith("SELECT")]
    with ledger.reading() as tx:
        looks = [tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all() for sql, values in questions]
    *next_ones, jobs = ([row[3] for row in steps] for steps in looks)
    assert len(next_ones) == 4
    assert [step for step in next_ones if len(step) != 1 or "INDEX qadzd_change_item_next" not in step[0]] == []
    assert "INDEX qadzd_change_item_in_a_job" in jobs[0]


def test_planned_changes_come_alike(ledger: Ledger) -> None:
    """A batch is of one kind, one operation and as many attempts, oldest first."""
    flow = a_flow(ledger)
    plan_changes(
        ledger, flow, a_change("C1"), a_change("C2", operation="update", zendesk_id=7), a_change("C3"),
        a_change("P1", "user"), a_change("C4"),
    )  # fmt: skip

    def keys(limit: int = 100) -> list[str]:
        return [item.record_key for item in changes.planned(ledger, flow, "organization", (limit,))]

    assert keys() == ["C1", "C3", "C4"]
    assert keys(2) == ["C1", "C3"]
    changes.plan_again(ledger, [items(ledger)[2].change_id], "singly")
    assert keys() == ["C1", "C4"]
    first, _, third, *_ = items(ledger)
    changes.plan_again(ledger, [first.change_id], "smaller")
    changes.plan_again(ledger, [third.change_id], "smaller")
    assert keys() == ["C2"]  # what was tried goes last
    changes.supersede_planned(ledger, flow)
    assert keys() == []


# -- a change's life ---------------------------------------------------------------------------------------------------


def test_a_change_from_plan_to_outcome(ledger: Ledger, clock: SetClock) -> None:
    """planned, sent with its time, its job once known, unknown once the answer is lost, done with its outcome."""
    flow = a_flow(ledger)
    want(ledger, flow, a_wanted("C1"))
    plan_changes(ledger, flow, a_change("C1", fingerprint="planned"))
    (item,) = items(ledger)
    lease = take_applier(ledger, flow.account_id, "run", 300)
    changes.mark_sent(ledger, lease, [item.change_id], {item.change_id: ("wanted now", {})})
    changes.mark(ledger, [item.change_id], job_id="job-1")
    (sent,) = items(ledger)
    assert (sent.change_state, sent.job_id, sent.sent_epoch) == ("sent", "job-1", clock.time())
    assert sent.fingerprint == "wanted now"
    changes.not_answered(ledger, [item.change_id], TryLater("lost", unanswered=True))
    assert items(ledger)[0].change_state == "unknown"
    settle(ledger, flow, an_end("organization", "C1", 7, change_id=item.change_id, fingerprint="wanted now"))
    (done,) = items(ledger)
    assert (done.change_state, done.outcome, done.zendesk_id) == ("done", "created", 7)
    assert done.ended_at == ledger.now()


def test_a_link_remembers_which_entries_are_ours(ledger: Ledger) -> None:
    """Of a merged list the link holds our entries alone, also when what is wanted has moved on since it was sent."""
    flow = a_flow(ledger)
    row = a_wanted("C1", body={"tags": ["a", "b"]}, owners={"tags": "merge"})
    want(ledger, flow, row)
    settle(ledger, flow, an_end("organization", "C1", 7, fingerprint=row.fingerprint, remember={"tags": ["a"]}))
    candidate = one(ledger, flow, "C1")
    assert (candidate.owners, candidate.remembered) == ({"tags": "merge"}, {**row.body, "tags": ["a"]})
    settle(ledger, flow, an_end("organization", "C1", 7, fingerprint="of before", remember={"tags": ["b"]}))
    assert one(ledger, flow, "C1").remembered == {"tags": ["b"]}


def test_what_may_have_been_added_counts_as_ours(ledger: Ledger) -> None:
    """After a request whose answer was lost, its entries are remembered beside the earlier ones; others' never are."""
    flow = a_flow(ledger)
    for key in ("C1", "C2"):
        want(ledger, flow, a_wanted(key))
        settle(ledger, flow, an_end("organization", key, int(key[1]), remember={"tags": ["old"]}))
    plan_changes(ledger, flow, a_change("C1"), a_change("C3"))
    lease = take_applier(ledger, flow.account_id, "run", 300)
    intents = {item.change_id: ("wanted", {"tags": ["new"]}) for item in items(ledger)}
    changes.mark_sent(ledger, lease, list(intents), intents)
    changes.keep_memory(ledger, flow, items(ledger))
    assert one(ledger, flow, "C1").remembered["tags"] == ["old", "new"]
    assert one(ledger, flow, "C2").remembered["tags"] == ["old"]


def test_another_owner_asks_for_a_decision(ledger: Ledger) -> None:
    """The same body with another owner is wanted otherwise."""
    flow = a_flow(ledger)
    in_step(ledger, flow, 7, a_wanted("C1", owners={"name": "fill"}))
    assert found(ledger, flow) == []
    want(ledger, flow, a_wanted("C1"))
    assert [candidate.key for candidate in found(ledger, flow)] == ["C1"]


def test_what_was_turned_away_is_planned_again(ledger: Ledger) -> None:
    """A request that cannot have acted is as if it had not been sent."""
    flow = a_flow(ledger)
    plan_changes(ledger, flow, a_change("C1"))
    (item,) = items(ledger)
    send(ledger, flow.account_id, item.change_id, job="job-1")
    changes.not_answered(ledger, [item.change_id], TryLater("busy"))
    (again,) = items(ledger)
    assert (again.change_state, again.job_id, again.attempts) == ("planned", "", 0)


def test_what_a_newer_plan_took_back_is_not_sent(ledger: Ledger) -> None:
    """A change that was superseded meanwhile refuses the whole send, and none of it is marked."""
    flow = a_flow(ledger)
    plan_changes(ledger, flow, a_change("C1"), a_change("C2"))
    first, second = (item.change_id for item in items(ledger))
    changes.mark(ledger, [second], change_state="done", outcome="superseded")
    with pytest.raises(TryLater, match="newer plan"):
        send(ledger, flow.account_id, first, second)
    assert [item.change_state for item in items(ledger)] == ["planned", "done"]


def test_outcomes_of_a_plan(ledger: Ledger, clock: SetClock) -> None:
    """A plan's own changes count, open ones as postponed, and earlier ones that ended since it was made."""
    flow = a_flow(ledger)
    want(ledger, flow, *(a_wanted(f"C{n}") for n in range(4)))
    plan_changes(ledger, flow, a_change("C0"), a_change("C1"))
    ids = [item.change_id for item in items(ledger)]
    settle(ledger, flow, an_end("organization", "C0", 7, change_id=ids[0]))
    clock.sleep(60)
    plan_id = changes.begin_plan(ledger, flow, "later")
    changes.add_planned(ledger, flow, plan_id, [a_change("C2"), a_change("C3")], "later")
    plans.release(ledger, plan_id, "later", ["drafting"])
    ids = [item.change_id for item in items(ledger)]
    settle(
        ledger, flow, an_end("organization", "C1", 8, change_id=ids[1]),
        an_end("organization", "C2", 9, "adopted", change_id=ids[2]),
    )  # fmt: skip
    counts = changes.outcomes_of(ledger, flow, plan_id)
    assert counts == {"organization": {"created": 1, "adopted": 1, "postponed": 1}}


# -- outcomes ----------------------------------------------------------------------------------------------------------


def test_an_outcome_leaves_a_link_and_a_memory(ledger: Ledger) -> None:
    """The link holds what was written and what was there, the record remembers its outcome, the audit what changed."""
    flow = a_flow(ledger)
    row = a_wanted("C1")
    want(ledger, flow, row)
    settle(ledger, flow, an_end("organization", "C1", 7, fingerprint=row.fingerprint, difference={"name": [None, "A"]}))
    with ledger.reading() as tx:
        stored = tx.execute(select(link)).one()
        remembered = tx.execute(select(wanted.c.last_outcome)).scalar_one()
    assert (stored.zendesk_id, stored.fingerprint, stored.current_digest) == (7, row.fingerprint, "there")
    assert (stored.body, stored.ours, remembered) == (dict(row.body), True, "created")
    assert changes.linked_id(ledger, flow, "organization", "C1") == 7
    assert changes.linked_id(ledger, flow, "organization", "C2") is None
    assert audit(ledger) == [("C1", "created", {"zendesk_id": 7, "changed": {"name": [None, "A"]}})]


def test_a_link_does_not_claim_what_was_not_written(ledger: Ledger) -> None:
    """If what is wanted has moved since it was sent, the link has no body, and the record differs at once."""
    flow = a_flow(ledger)
    want(ledger, flow, a_wanted("C1"))
    settle(ledger, flow, an_end("organization", "C1", 7, fingerprint="sent before it moved"))
    with ledger.reading() as tx:
        assert tx.execute(select(link.c.body)).scalar_one() == {}
    assert [candidate.key for candidate in found(ledger, flow)] == ["C1"]


def test_linking_again_keeps_since_when_and_whose(ledger: Ledger, clock: SetClock) -> None:
    """A record that was recreated has a new id, and a link as old as before."""
    flow = a_flow(ledger)
    settle(ledger, flow, an_end("membership", "P1", 7, "adopted", other="C1", ours=False))
    since = ledger.now()
    clock.sleep(60)
    settle(ledger, flow, an_end("membership", "P1", 8, other="C1"))
    with ledger.reading() as tx:
        row = tx.execute(select(link)).one()
    assert (row.zendesk_id, row.linked_at, row.ours) == (8, since, False)


def test_the_audit_tells_only_news(ledger: Ledger) -> None:
    """The same outcome of the same record is told once, unless a change was made for it.

    Unchanged is news only where it ends a trouble.
    """
    flow = a_flow(ledger)
    want(ledger, flow, a_wanted("C1"))
    for detail in ("name taken", "name taken", "no name"):
        settle(ledger, flow, Ended("organization", "C1", "set_aside", detail))
    settle(ledger, flow, an_end("organization", "C1", 7, "unchanged"))
    settle(ledger, flow, an_end("organization", "C1", 7, "unchanged"))
    settle(ledger, flow)
    plan_changes(ledger, flow, a_change("C1", operation="update"))
    (item,) = items(ledger)
    settle(ledger, flow, Ended("organization", "C1", "set_aside", "no name", change_id=item.change_id))
    events = [(event, detail.get("detail")) for _, event, detail in audit(ledger)]
    aside = ("set_aside", "no name")
    assert events == [("set_aside", "name taken"), aside, ("unchanged", None), aside]


def test_many_outcomes_at_once(ledger: Ledger) -> None:
    """A batch larger than one query's list is written whole."""
    flow = a_flow(ledger)
    keys = [f"C{n:04d}" for n in range(1200)]
    want(ledger, flow, *(a_wanted(key) for key in keys))
    plan_changes(ledger, flow, *(a_change(key) for key in keys))
    ended = [
        an_end("organization", item.record_key, 1000 + item.change_id, change_id=item.change_id)
        for item in items(ledger)
    ]
    settle(ledger, flow, *ended)
    assert {item.outcome for item in items(ledger)} == {"created"}
    assert [key for key, _, _ in audit(ledger)] == keys
    assert changes.linked_id(ledger, flow, "organization", keys[-1]) == ended[-1].zendesk_id


def test_a_zendesk_id_has_one_key(ledger: Ledger) -> None:
    """Who has it keeps it, and of two new ones the lowest folded key; the others are set aside, naming the holder."""
    flow = a_flow(ledger)
    want(ledger, flow, *(a_wanted(key) for key in ("B", "a", "c")))
    settle(ledger, flow, an_end("organization", "B", 7), an_end("organization", "a", 7), an_end("user", "c", 7))
    settle(ledger, flow, an_end("organization", "c", 7), an_end("organization", "a", 7, "updated"))
    told = [(key, event, detail.get("detail")) for key, event, detail in audit(ledger)]
    assert told == [
        ("a", "created", None),
        ("B", "set_aside", "7_held_by a"),
        ("c", "created", None),
        ("a", "updated", None),
        ("c", "set_aside", "7_held_by a"),
    ]


# -- who may apply -----------------------------------------------------------------------------------------------------


def test_one_run_applies_to_an_account(ledger: Ledger, clock: SetClock) -> None:
    """Another owner waits while the lease lasts, and takes it over once it has lapsed or was given back."""
    first = take_applier(ledger, 1, "run 1", 300)
    with pytest.raises(TryLater, match="run 1") as told:
        take_applier(ledger, 1, "run 2", 300)
    assert told.value.wait == 60
    take_applier(ledger, 2, "run 2", 300)
    clock.sleep(299.5)
    with pytest.raises(TryLater) as told:
        take_applier(ledger, 1, "run 2", 300)
    assert told.value.wait == 1
    clock.sleep(0.5)
    second = take_applier(ledger, 1, "run 2", 300)
    end_applier(ledger, first)
    with pytest.raises(TryLater):
        take_applier(ledger, 1, "run 1", 300)
    end_applier(ledger, second)
    assert take_applier(ledger, 1, "run 1", 300).version > second.version


@pytest.mark.parametrize("owner", ["run 2", "run 1"], ids=["another run", "a second try of the same run"])
def test_a_send_under_a_lost_lease_is_refused(ledger: Ledger, clock: SetClock, owner: str) -> None:
    """Whoever was overtaken sends nothing more, and nothing is marked as sent."""
    flow = a_flow(ledger)
    plan_changes(ledger, flow, a_change("C1"))
    (item,) = items(ledger)
    lost = take_applier(ledger, flow.account_id, "run 1", 300)
    clock.sleep(301)
    held = take_applier(ledger, flow.account_id, owner, 300)
    with pytest.raises(TryLater, match="taken over"):
        changes.mark_sent(ledger, lost, [item.change_id])
    assert items(ledger)[0].change_state == "planned"
    changes.mark_sent(ledger, held, [item.change_id])
    assert items(ledger)[0].change_state == "sent"


def test_each_send_prolongs_the_lease(ledger: Ledger, clock: SetClock) -> None:
    """A run that sends for longer than its lease keeps it, also after a pause in which nobody took it."""
    flow = a_flow(ledger)
    plan_changes(ledger, flow, *(a_change(f"C{n}") for n in range(3)))
    lease = take_applier(ledger, flow.account_id, "run 1", 300)
    for item in items(ledger):
        clock.sleep(301)
        changes.mark_sent(ledger, lease, [item.change_id])
    clock.sleep(299)
    with pytest.raises(TryLater):
        take_applier(ledger, flow.account_id, "run 2", 300)


def test_many_runs_ask_for_the_first_lease_at_once(open_ledger: Callable[[], Ledger]) -> None:
    """Of runs that have never met, one gets the lease."""

    def take(number: int) -> bool:
        try:
            take_applier(ledgers[number], 1, f"run {number}", 300)
        except TryLater:
            return False
        return True

    ledgers = [open_ledger() for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(take, range(6))) == 1
