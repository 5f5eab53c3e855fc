"""Replay: what came to nothing is decided again from what is wanted now, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.replays import Chosen, Replayed, replay
from airflow_provider_qadzd.ledger.schema import inbox
from tests.sync.test_collisions import in_zendesk
from tests.sync.test_deliveries import deliver, drained, event, live
from tests.sync.world import World


def again(world: World, **chosen: str) -> Replayed:
    """Replay what is chosen in the flow."""
    return replay(world.ledger, world.flow, Chosen(**chosen), "by hand")


def taken_address(world: World) -> str:
    """A new contact's address is somebody's second one in Zendesk, so that the run sets the contact aside."""
    holder, email = world.users()["50001"]["id"], "second.address@elsewhere.example"
    in_zendesk(world, "POST", f"/users/{holder}/identities", {"identity": {"type": "email", "value": email}})
    world.sandbox.post_control(
        "contacts", {"id": 50999, "name": "New Person", "email": email, "customers": ["C0000201"]}
    )
    for _ in range(2):
        world.sync()
    outcome, detail = world.outcomes()["user", "50999"]
    assert (outcome, detail.split()[0]) == ("set_aside", "refused_by_zendesk")
    return email


def given_up(world: World, email: str) -> None:
    """The holder gives the address up."""
    holder = world.users()["50001"]["id"]
    (identity,) = [row["id"] for row in world.zendesk.identities.of_user(holder) if row["value"] == email]
    in_zendesk(world, "DELETE", f"/users/{holder}/identities/{identity}")


@pytest.mark.parametrize("how", ["key", "reason", "run", "since"], ids=["by key", "by reason", "by run", "by time"])
def test_a_refused_record_is_tried_again_at_once(synced: World, how: str) -> None:
    """A refusal holds for a day, unless it is replayed: then the next run decides it by what is wanted then."""
    before = synced.ledger.now()
    given_up(synced, taken_address(synced))
    plan, _ = synced.sync()
    assert plan.counts["user"]["set_aside"] == 2
    assert "50999" not in synced.users()
    chosen = {"key": "50999", "reason": "refused_by_zendesk", "run": "run", "since": before}[how]
    done = again(synced, **{how: chosen})
    assert "user 50999" in done.examples
    synced.sandbox.post_control("contacts", {"id": 50999, "name": "New Name"})
    synced.sync()
    assert synced.users()["50999"]["name"] == "New Name"
    assert [row["event"] for row in synced.rows("audit_entry", record_key="50999", kind="user")][-2:] == [
        "replayed", "created"
    ]  # fmt: skip


def test_what_is_not_chosen_stays_as_it_is(synced: World) -> None:
    """Another key, reason, run or time chooses nothing, and the refused write is not asked for again."""
    given_up(synced, taken_address(synced))
    future = "2099-01-01T00:00:00Z"
    for chosen in ({"key": "50998"}, {"reason": "is_agent"}, {"run": "another"}, {"since": future}, {"until": "2001"}):
        assert again(synced, **chosen) == Replayed(0, 0)
    synced.count_anew()
    synced.sync()
    assert synced.writes() == 0


def test_a_record_in_step_is_looked_at_and_left_alone(synced: World) -> None:
    """A record that is as it should be may be replayed: it is decided anew, and nothing is written."""
    assert again(synced, key="C0000201").records == 1
    synced.count_anew()
    plan, report = synced.sync()
    assert (plan.changes, report["zendesk_writes"], synced.writes()) == (0, 0, 0)
    assert plan.counts["organization"]["unchanged"] == 12
    assert synced.rows("link", record_key="C0000201")[0]["fingerprint"]


def test_a_second_replay_does_no_harm(synced: World) -> None:
    """Twice in a row is as good as once."""
    given_up(synced, taken_address(synced))
    again(synced, key="50999")
    again(synced, key="50999")
    synced.sync()
    assert "50999" in synced.users()
    synced.count_anew()
    synced.sync()
    assert synced.writes() == 0


def test_nothing_given_is_refused(synced: World) -> None:
    """Replaying everything has to be said, for instance by a time."""
    with pytest.raises(FixFirst, match="Nothing says what"):
        again(synced, key="  ")


def test_a_delivery_that_was_set_aside_is_read_again(synced: World) -> None:
    """Unreadable once, it is drained when it can be read by now; else it is set aside again and blocks nothing."""
    (ticket_id, *_) = live(synced)
    deliver(synced, event(ticket_id, event_id="readable-by-now"))
    deliver(synced, {"id": "unreadable", "type": "zen:event-type:user.created"})
    with synced.ledger.writing() as tx:  # as an older version stored it, which could not read it
        tx.execute(update(inbox).where(inbox.c.payload_id == "readable-by-now").values(ticket_id=None))
        tx.execute(update(inbox).values(inbox_state="aside"))
    assert again(synced, reason="names").deliveries == 0
    assert again(synced, since="2001").deliveries == 2
    done = drained(synced)
    assert (done.drained, done.aside) == (1, 1)
    states = {row["payload_id"]: (row["inbox_state"], row["body"] is None) for row in synced.rows("inbox")}
    assert states == {"readable-by-now": ("drained", True), "unreadable": ("aside", False)}


def test_a_drained_delivery_is_drained_again_by_its_ticket(synced: World) -> None:
    """By the ticket's id, its deliveries are opened again, and the ticket is fetched as it is now."""
    (ticket_id, *_) = live(synced)
    deliver(synced, event(ticket_id, event_id="one"))
    drained(synced)
    assert again(synced, reason="x").deliveries == 0
    assert again(synced, key=str(ticket_id)).deliveries == 1
    assert drained(synced).drained == 1


# -- by clearing -------------------------------------------------------------------------------------------------------


def test_clearing_apply_of_a_finished_run_writes_nothing(synced: World) -> None:
    """Its changes are over: whatever QAD wants by now waits for the next plan."""
    first = synced.rows("plan")[0]["plan_id"]
    synced.sandbox.post_control("customers", {"code": "C0000201", "name": "Northwind Pumps"})
    synced.collect()
    synced.count_anew()
    plan = replace(synced.plan("dry_run"), plan_id=first)
    assert synced.apply(plan)["zendesk_writes"] == synced.writes() == 0
    assert synced.organizations()["C0000201"]["name"] == "Northwind Pumps & Valves"


def test_clearing_plan_and_apply_of_an_old_run_brings_nothing_old_back(synced: World) -> None:
    """A later run has written a newer state: the old run's tasks, executed again, leave it."""
    synced.sandbox.post_control("customers", {"code": "C0000201", "name": "Northwind Pumps"})
    synced.sync("a later run")
    synced.count_anew()
    again = synced.plan()
    assert synced.apply(again, "run")["zendesk_writes"] == synced.writes() == 0
    assert synced.organizations()["C0000201"]["name"] == "Northwind Pumps"


def test_clearing_an_old_apply_takes_nothing_from_a_newer_plan(synced: World) -> None:
    """What a newer plan has planned goes out once, as it is wanted now, whichever run's apply comes first."""
    first = synced.rows("plan")[0]["plan_id"]
    synced.sandbox.post_control("customers", {"code": "C0000201", "name": "Northwind Pumps"})
    synced.collect()
    newer = synced.plan()
    synced.sandbox.post_control("customers", {"code": "C0000201", "name": "Northwind Pumps Again"})
    synced.count_anew()
    synced.apply(replace(newer, plan_id=first), "the old run")
    synced.apply(newer, "the newer run")
    assert synced.writes() == 1
    synced.sync()
    assert synced.writes() == 2
    assert synced.organizations()["C0000201"]["name"] == "Northwind Pumps Again"
