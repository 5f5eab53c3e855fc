"""Plans on both databases: how far they are, what may be sent, and what is found in them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger, changes, plans
from airflow_provider_qadzd.ledger.budget import LedgerBudget, limit_of
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import change_item
from tests.conftest import SetClock
from tests.ledger.rows import a_change, a_flow, a_wanted, settle, want


def waiting(ledger: Ledger, flow: Flow, *rows: dict[str, Any]) -> int:
    """A plan of these changes that waits for a review."""
    plan_id = changes.begin_plan(ledger, flow, "run", "approve")
    count = changes.add_planned(ledger, flow, plan_id, rows, "run")
    changes.end_plan(ledger, plan_id, f"hash {plan_id}", {"organization": {"created": count}})
    plans.finish(ledger, plan_id, "waiting", change_count=count)
    return plan_id


def states(ledger: Ledger) -> list[tuple[int, str, str]]:
    """Plan, state and outcome of every change, oldest first."""
    c = change_item.c
    with ledger.reading() as tx:
        return [tuple(row) for row in tx.execute(select(c.plan_id, c.change_state, c.outcome).order_by(c.change_id))]


def test_nothing_drafted_is_sent_before_release(ledger: Ledger) -> None:
    """Drafted changes are none to send; released ones are, but those left out; a second release is refused."""
    flow = a_flow(ledger)
    plan_id = waiting(ledger, flow, a_change("C1"), a_change("C2"))
    assert changes.planned(ledger, flow, "organization", (9,)) == []
    first, _ = plans.drafted(ledger, plan_id, 0, 9)
    assert plans.release(ledger, plan_id, "run", ["waiting", "approved"], [first.change_id])
    assert [row.record_key for row in changes.planned(ledger, flow, "organization", (9,))] == ["C2"]
    assert states(ledger)[0] == (plan_id, "done", "superseded")
    assert not plans.release(ledger, plan_id, "other", ["waiting", "approved"])
    plans.note_applied(ledger, plan_id)
    assert plans.plan_at(ledger, plan_id).plan_state == "applied"


def test_an_approval_is_remembered_for_a_while(ledger: Ledger, clock: SetClock) -> None:
    """An approved plan says by whom, and holds new ones off until it lapses; refused, it waits again."""
    flow = a_flow(ledger)
    plan_id = waiting(ledger, flow, a_change("C1"))
    assert plans.waiting(ledger, flow).plan_id == plan_id  # type: ignore[union-attr]
    assert plans.approve(ledger, plan_id, "anna").approved_by == "anna"
    assert plans.approved(ledger, flow).plan_id == plan_id  # type: ignore[union-attr]
    clock.now += plans.APPROVAL_LASTS + 1
    assert plans.approved(ledger, flow) is None
    plans.hold_again(ledger, plan_id)
    assert plans.plan_at(ledger, plan_id).plan_state == "waiting"


@pytest.mark.parametrize("state", ["drafting", "shown", "stopped", "going", "applied", "superseded"])
def test_only_a_plan_that_waits_is_approved(state: plans.PlanState, ledger: Ledger) -> None:
    """Every other one is refused in words, with what to do."""
    flow = a_flow(ledger)
    plan_id = changes.begin_plan(ledger, flow, "run")
    changes.add_planned(ledger, flow, plan_id, [a_change("C1")], "run")
    plans.finish(ledger, plan_id, state)
    with pytest.raises(FixFirst, match=f"Plan {plan_id} .*\\."):
        plans.approve(ledger, plan_id, "anna")
    assert plans.plan_at(ledger, plan_id).plan_state == state


def test_the_same_plan_again_is_the_earlier_one(ledger: Ledger) -> None:
    """The new draft's changes become the earlier plan's, and no number is left over."""
    flow = a_flow(ledger)
    earlier = waiting(ledger, flow, a_change("C1"))
    changes.supersede_planned(ledger, flow)
    plans.keep_earlier(ledger, earlier, waiting(ledger, flow, a_change("C1")))
    assert states(ledger) == [(earlier, "drafted", "")]
    assert [row.plan_id for row in plans.recent(ledger, ["default"], 9)] == [earlier]
    assert plans.latest(ledger).plan_state == "waiting"


def test_another_flows_plan_stays(ledger: Ledger) -> None:
    """A newer plan supersedes its own flow's alone; a list has those of the flows that are asked for."""
    flow, other = a_flow(ledger), a_flow(ledger, "other", zendesk="https://other.zendesk.com")
    mine, theirs = waiting(ledger, flow, a_change("C1")), waiting(ledger, other, a_change("C1"))
    changes.supersede_planned(ledger, flow)
    assert plans.plan_at(ledger, mine).plan_state == "superseded"
    assert plans.plan_at(ledger, theirs).plan_state == "waiting"
    assert [row.plan_id for row in plans.recent(ledger, ["other"], 9)] == [theirs]
    assert plans.recent(ledger, ["other"], 9, before=theirs) == []


def test_changes_are_found(ledger: Ledger) -> None:
    """By kind, by what is done, by the start of a key and by a part of a name, whatever the case; in pages."""
    flow = a_flow(ledger)
    want(ledger, flow, a_wanted("C1", name="Åkesson Pumps"), a_wanted("C2"), a_wanted("7", "user", name="Ada O'Dell"))
    pair = a_change("7", "membership", other_key="C1", target="pair", operation="add", intended="")
    rows = [a_change("C1"), a_change("C2", operation="update", intended="updated", difference={"name": ["A", "B"]})]
    plan_id = waiting(ledger, flow, *rows, a_change("7", "user"), pair)

    def keys(**asked: Any) -> list[str]:
        return [f"{row.kind} {row.record_key}" for row in plans.page(ledger, plan_id, 9, **asked)]

    assert sorted(keys()) == ["membership 7", "organization C1", "organization C2", "user 7"]
    assert keys(kind="user") == ["user 7"]
    assert keys(action="add") == ["membership 7"]
    assert keys(action="updated") == ["organization C2"]
    assert sorted(keys(search="ÅKESSON")) == ["membership 7", "organization C1"]
    assert sorted(keys(search="o'dell")) == ["membership 7", "user 7"]
    assert keys(search="c2") == ["organization C2"]
    assert keys(search="_") == []
    (found,) = plans.page(ledger, plan_id, 9, kind="membership")
    assert (found.name, found.other_name) == ("Ada O'Dell", "Åkesson Pumps")
    first = plans.page(ledger, plan_id, 1)[0].change_id
    assert len(plans.page(ledger, plan_id, 9, after=first)) == 3
    assert plans.tally(ledger, plan_id)["organization", "update"] == 1
    assert plans.with_their_user(ledger, plan_id) == 1
    assert plans.updates(ledger, plan_id, 9) == [("organization", "C2", {"name": ["A", "B"]})]
    assert plans.progress(ledger, plan_id) == {"drafted": 4}


def test_who_is_set_aside_now(ledger: Ledger) -> None:
    """By the first word of the reason, by a part of the name, and in pages."""
    flow = a_flow(ledger)
    want(ledger, flow, *(a_wanted(key, "user", name=f"Name {key}") for key in ("1", "2", "3")), a_wanted("C1"))
    settle(
        ledger, flow, Ended("user", "1", "set_aside", "email_of_agent 5"), Ended("user", "2", "set_aside", "no_name"),
        Ended("organization", "C1", "set_aside", "no_name"),
    )  # fmt: skip

    def keys(**asked: Any) -> list[str]:
        return [row.record_key for row in plans.set_aside_now(ledger, flow.flow_id, 9, **asked)]

    assert keys() == ["C1", "1", "2"]
    assert keys(reason="email_of_agent") == ["1"]
    assert keys(reason="no_name", kind="user") == ["2"]
    assert keys(reason="no") == []
    assert keys(search="name 2") == ["2"]
    assert keys(after=("user", "1")) == ["2"]


def test_the_learnt_limit(ledger: Ledger) -> None:
    """Until the server tells, the cautious default; then our share of what it told."""
    flow = a_flow(ledger)
    assert limit_of(ledger, flow.account_id) == 140
    LedgerBudget(ledger, flow.account_id, 0.5).learn("requests", 700)
    assert limit_of(ledger, flow.account_id) == 350
