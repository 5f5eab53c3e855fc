"""A plan as a value: what it says, that nothing of it is sent before somebody approved it, and what moved since."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_qadzd.errors import FixFirst, UnsafePlan
from airflow_provider_qadzd.ledger import plans
from airflow_provider_qadzd.sync.draft import Plan
from airflow_provider_qadzd.sync.mapping import Rules
from airflow_provider_qadzd.sync.plan import Brake
from airflow_provider_qadzd.sync.review import Released, release_reviewed
from tests.sync.world import RULES, World


def read_all(world: World) -> None:
    """QAD and Zendesk, as a run reads them first."""
    world.clock.sleep(130)
    world.collect()
    world.mirror()


def waiting_plan(world: World) -> Plan:
    """A plan that waits for a review."""
    read_all(world)
    return world.plan("approve")


def reviewed(world: World, plan: Plan, run: str = "reviewed", *, skip: bool = False) -> Released:
    """Let it go, as the run that was triggered for it does."""
    read_all(world)
    return release_reviewed(world.ledger, world.flow, RULES, plan.plan_id, run, skip_moved=skip)


def state(world: World, plan: Plan) -> str:
    """How far a plan is."""
    return str(plans.plan_at(world.ledger, plan.plan_id).plan_state)


def rename(world: World, code: str, name: str) -> None:
    """A customer's new name in QAD."""
    world.sandbox.post_control("customers", {"code": code, "name": name})


def test_a_plan_waits_until_it_is_approved(small: World) -> None:
    """In mode approve nothing is sent, whatever run applies; once approved, all of it is, and then nothing is left."""
    plan = waiting_plan(small)
    assert state(small, plan) == "waiting"
    report = small.apply(plan)
    assert (report["outcomes"], report["zendesk_writes"], small.writes()) == ({}, 0, 0)
    plans.approve(small.ledger, plan.plan_id, "anna")
    assert reviewed(small, plan).moved == ()
    small.apply(plan, "reviewed")
    assert state(small, plan) == "applied"
    assert len([key for key in small.organizations() if key.startswith("C")]) == 12
    small.count_anew()
    again, _ = small.sync()
    assert (again.changes, small.writes()) == (0, 0)


def test_a_plan_that_is_the_same_again_goes_on_waiting(small: World) -> None:
    """Scheduled runs do not take a plan from under its reviewer as long as it would do the same."""
    first = waiting_plan(small)
    second = waiting_plan(small)
    assert (second.plan_id, second.plan_hash) == (first.plan_id, first.plan_hash)
    assert state(small, first) == "waiting"
    assert len(small.rows("change_item")) == first.changes
    rename(small, code_of(small), "Renamed Ltd")
    third = waiting_plan(small)
    assert third.plan_id != first.plan_id
    assert (state(small, first), state(small, third)) == ("superseded", "waiting")


def code_of(world: World) -> str:
    """The last customer, which no other contests."""
    keys = [row["record_key"] for row in world.rows("change_item", kind="organization", operation="create")]
    return max(keys or [row["record_key"] for row in world.rows("link", kind="organization")])


def moved_in_qad(world: World, code: str) -> None:
    """QAD has another name by now."""
    rename(world, code, "Moved in QAD")


def moved_in_zendesk(world: World, code: str) -> None:
    """Somebody has renamed it in Zendesk."""
    world.zendesk.organizations.update(world.organizations()[code]["id"], {"name": "Moved in Zendesk"})


def done_by_hand(world: World, code: str) -> None:
    """Somebody has done in Zendesk what was planned."""
    world.zendesk.organizations.update(world.organizations()[code]["id"], {"name": "Planned Ltd"})


@pytest.mark.parametrize(
    ("move", "words", "left"),
    [
        (moved_in_qad, "wanted otherwise", None),
        (moved_in_zendesk, "changed in Zendesk", "Moved in Zendesk"),
        (done_by_hand, "now unchanged", "Planned Ltd"),
    ],
)
def test_what_moved_is_named_and_nothing_is_sent(
    move: Callable[[World, str], None], words: str, left: str | None, synced: World
) -> None:
    """A reviewed plan of which one change moved is refused, naming it; the rest goes with skip_moved, and only that."""
    code, other = sorted(row["record_key"] for row in synced.rows("link", kind="organization"))[-2:]
    rename(synced, code, "Planned Ltd")
    rename(synced, other, "Other Planned Ltd")
    before = synced.organizations()[code]["name"]
    plan = waiting_plan(synced)
    assert plan.counts["organization"]["updated"] == 2
    plans.approve(synced.ledger, plan.plan_id, "anna")
    move(synced, code)
    synced.count_anew()
    with pytest.raises(UnsafePlan, match=rf"1 moved .*organization {code} \({words}.*skip_moved"):
        reviewed(synced, plan)
    assert (state(synced, plan), synced.apply(plan)["zendesk_writes"]) == ("waiting", 0)
    released = reviewed(synced, plan, skip=True)
    assert [(one.key, one.why.split(":")[0]) for one in released.moved] == [(code, words)]
    synced.apply(plan, "reviewed")
    assert synced.organizations()[other]["name"] == "Other Planned Ltd"
    assert synced.organizations()[code]["name"] == (left or before)


def test_other_rules_move_a_plan(small: World) -> None:
    """A mapping that changed since the review is seen in every change that it touches."""
    plan = waiting_plan(small)
    rules = Rules(customer_page="https://elsewhere.example/{code}")
    with pytest.raises(UnsafePlan, match="QAD or the mapping changed"):
        release_reviewed(small.ledger, small.flow, rules, plan.plan_id, "reviewed")


def test_a_superseded_plan_is_refused(small: World) -> None:
    """What a newer plan has replaced is not sent, and the newer one is named."""
    old = waiting_plan(small)
    new = small.plan("dry_run")
    with pytest.raises(FixFirst, match=f"Plan {old.plan_id} is superseded by plan {new.plan_id}"):
        plans.approve(small.ledger, old.plan_id, "anna")
    with pytest.raises(FixFirst, match="superseded"):
        reviewed(small, old)
    with pytest.raises(FixFirst, match="dry run"):
        reviewed(small, new)


def test_an_applied_plan_is_refused_but_its_own_task_may_be_cleared(small: World) -> None:
    """A second approval is told that nothing is left; the run that let it go may ask again at any time."""
    plan = waiting_plan(small)
    reviewed(small, plan)
    assert reviewed(small, plan).changes == plan.changes
    small.apply(plan, "reviewed")
    assert reviewed(small, plan).moved == ()
    with pytest.raises(FixFirst, match="applied already"):
        reviewed(small, plan, "another")
    with pytest.raises(FixFirst, match="applied already"):
        plans.approve(small.ledger, plan.plan_id, "anna")


def test_an_unknown_plan_is_refused(small: World) -> None:
    """A number that no plan has is told."""
    with pytest.raises(FixFirst, match="no plan 77"):
        plans.approve(small.ledger, 77, "anna")


def test_a_plan_over_the_brake_is_kept_to_be_seen(synced: World) -> None:
    """What the brake stopped can be looked at, with the brake's sentence, and cannot be approved."""
    for row in synced.rows("link", kind="organization"):
        rename(synced, row["record_key"], f"Renamed {row['record_key']}")
    read_all(synced)
    with pytest.raises(UnsafePlan):
        synced.plan("approve", Brake(0.0, 0))
    row = plans.latest(synced.ledger)
    assert (row.plan_state, row.change_count > 0) == ("stopped", True)
    assert "the brake allows 0" in row.stopped
    with pytest.raises(FixFirst, match="stopped by the brake"):
        plans.approve(synced.ledger, row.plan_id, "anna")


def test_nothing_is_sent_of_a_plan_that_is_not_whole(small: World) -> None:
    """A run that applies while another one drafts sends nothing that the brake has not seen."""
    read_all(small)
    plan = small.plan("approve")
    plans.finish(small.ledger, plan.plan_id, "drafting")  # as if the process had died before the brake
    assert small.apply(plan)["zendesk_writes"] == 0
    assert small.plan().changes == plan.changes


def test_reasons_are_grouped_with_examples(world: World) -> None:
    """A plan says for each kind why records are set aside, how many, and a few of them; no name and no email."""
    plan = waiting_plan(world)
    row = plans.plan_at(world.ledger, plan.plan_id)
    for kind in ("organization", "user"):
        told = row.asides.get(kind, {})
        assert sum(group["count"] for group in told.values()) == plan.counts[kind].get("set_aside", 0)
    assert row.asides["user"]
    assert all(1 <= len(group["examples"]) <= 5 for by in row.asides.values() for group in by.values())
    assert "@" not in str(row.asides)


@pytest.mark.parametrize("bulk", [True, False], ids=["bulk import on", "bulk import off"])
def test_the_estimate_is_near_what_is_called(bulk: bool, world: World) -> None:
    """What a plan says that it takes is within a quarter of the calls that applying it makes."""
    world.settings(bulk_import=bulk)
    read_all(world)
    plan = world.plan(bulk=bulk)
    world.count_anew()
    applier = world.applier(plan, bulk=bulk)
    while not hasattr(done := applier.step(), "report"):
        world.clock.sleep(max(0.0, done.until - world.clock.time()))
    made = sum(world.calls().values())
    assert plan.estimate is not None
    assert 0.75 * made <= plan.estimate.calls <= 1.25 * made + 3, (plan.estimate, world.calls())


def test_changes_are_paged_by_id_and_found_by_key_and_name(world: World) -> None:
    """Pages meet without a gap or a repetition; a search finds a record by its key's start and by part of its name."""
    plan = waiting_plan(world)
    seen: list[int] = []
    while page := plans.page(world.ledger, plan.plan_id, 7, after=seen[-1] if seen else 0):
        seen += [item.change_id for item in page]
    assert len(seen) == len(set(seen)) == plan.changes
    first = plans.page(world.ledger, plan.plan_id, 1, kind="user", action="created")[0]
    by_key = plans.page(world.ledger, plan.plan_id, 50, search=first.record_key.lower())
    assert first.change_id in [item.change_id for item in by_key]
    by_name = plans.page(world.ledger, plan.plan_id, 50, search=first.name[1:].upper())
    assert first.change_id in [item.change_id for item in by_name]
    assert plans.page(world.ledger, plan.plan_id, 50, search="%") == []
    pair = plans.page(world.ledger, plan.plan_id, 1, kind="membership")[0]
    assert pair.name
    assert pair.other_name
