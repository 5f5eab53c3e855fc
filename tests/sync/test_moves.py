"""Contacts who move: the default follows, our old membership goes once no open ticket needs it, tickets find home."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from airflow_provider_qadzd.errors import TryLater, UnsafePlan
from airflow_provider_qadzd.ledger import moves
from airflow_provider_qadzd.ledger.schema import link
from airflow_provider_qadzd.sync.export import Run, export_live
from airflow_provider_qadzd.sync.plan import Brake
from airflow_provider_qadzd.sync.policies import Policies
from airflow_provider_qadzd.sync.receive import match_again
from tests.sync.test_absence import DAY, delete, nights
from tests.sync.test_collisions import in_zendesk
from tests.sync.world import World

CONTACT, NEW = "50006", "C0000209"


def old_home(world: World) -> str:
    """The customer of the contact before it moves."""
    (home,) = world.homes(world.users()[CONTACT]["id"])
    return home


def own(world: World, contact: str, ours: bool = True) -> None:
    """The contact's memberships are such as we have added, or such as were there before."""
    of_contact = (link.c.kind == "membership", link.c.record_key == contact)
    with world.ledger.writing() as tx:
        tx.execute(update(link).where(*of_contact).values(ours=ours))


def move(world: World) -> tuple[int, str, int]:
    """The contact moves in QAD: its user's id, its old customer, and the organization of the new one."""
    user, old = world.users()[CONTACT]["id"], old_home(world)
    own(world, CONTACT)
    world.sandbox.post_control("contacts", {"id": int(CONTACT), "customers": [NEW]})
    return user, old, world.organizations()[NEW]["id"]


def default_of(world: World, user: int) -> int | None:
    """The user's default organization."""
    return next(row["organization_id"] for row in world.there()["users"] if row["id"] == user)


def close_tickets(world: World, user: int) -> None:
    """Nothing is open of this requester."""
    for ticket in world.there()["tickets"]:
        if ticket["requester_id"] == user and ticket["status"] not in moves.OVER:
            world.sandbox.post_control("tickets", {"id": ticket["id"], "status": "solved"})


def test_a_moved_contact_is_at_home_in_the_new_place(synced: World) -> None:
    """The new membership is added at once and then made the default; ours of before goes after days; then all rests."""
    user, old, new = move(synced)
    close_tickets(synced, user)
    synced.sync()
    assert synced.homes(user) == {old, NEW}
    plan, _ = synced.sync()
    assert plan.counts["membership"] == {"made_default": 1}
    assert default_of(synced, user) == new
    nights(synced, 3)
    assert synced.homes(user) == {NEW}
    (told,) = synced.rows("audit_entry", kind="membership", record_key=CONTACT, event="membership_removed")
    assert told["detail"]["other"] == old
    assert not synced.rows("link", kind="membership", record_key=CONTACT, other_key=old)
    synced.count_anew()
    nights(synced, 1)
    assert synced.writes() == 0


def test_an_open_ticket_keeps_the_old_membership(synced: World) -> None:
    """While an open ticket of theirs sits in the old organization, the membership stays, also one we never heard of."""
    user, old, _ = move(synced)
    close_tickets(synced, user)
    home = synced.organizations()[old]["id"]
    in_zendesk(
        synced, "POST", "/tickets",
        {"ticket": {"subject": "Open", "comment": {"body": "x"}, "requester_id": user, "organization_id": home}},
    )  # fmt: skip
    nights(synced, 5)
    assert synced.homes(user) == {old, NEW}
    done = synced.rows("change_item", operation="remove")[-1]
    assert (done["outcome"], done["reason"]) == ("postponed", "1 open tickets there")
    close_tickets(synced, user)
    nights(synced, 1)
    assert synced.homes(user) == {NEW}


def test_what_others_made_stays(synced: World) -> None:
    """A membership that was there before the sync is not removed when the contact moves."""
    user, old, _ = move(synced)
    close_tickets(synced, user)
    own(synced, CONTACT, ours=False)
    nights(synced, 6)
    assert synced.homes(user) == {old, NEW}


def test_moved_keep_removes_nothing(synced: World) -> None:
    """With contact_moved = keep the default follows and the old membership stays."""
    synced.rules = replace(synced.rules, policies=Policies(contact_moved="keep"))
    user, old, new = move(synced)
    close_tickets(synced, user)
    nights(synced, 6)
    assert (synced.homes(user), default_of(synced, user)) == ({old, NEW}, new)


def test_a_contact_that_comes_back_loses_nothing(synced: World) -> None:
    """A move that was a slip is taken back before anything was removed, and nothing is removed afterwards."""
    user, old, _ = move(synced)
    close_tickets(synced, user)
    nights(synced, 2)
    synced.sandbox.post_control("contacts", {"id": int(CONTACT), "customers": [old]})
    nights(synced, 5)
    assert old in synced.homes(user)
    assert default_of(synced, user) == synced.organizations()[old]["id"]


def test_a_default_that_somebody_chose_stays(synced: World) -> None:
    """The default organization is ours to move only away from a customer that the contact has left."""
    user, _, _ = move(synced)
    somewhere = synced.organizations()["Walk-in enquiries"]["id"]
    pair = {"user_id": user, "organization_id": somewhere, "default": True}
    in_zendesk(synced, "POST", "/organization_memberships", {"organization_membership": pair})
    nights(synced, 2)
    assert default_of(synced, user) == somewhere


def test_who_became_an_agent_is_not_moved(synced: World) -> None:
    """Neither default nor membership of somebody who has become staff is touched, also between plan and write."""
    user, old, _ = move(synced)
    close_tickets(synced, user)
    nights(synced, 2)
    synced.clock.sleep(DAY)
    synced.collect(full=True)
    synced.mirror()
    plan = synced.plan()
    assert plan.counts["membership"] == {"removed": 1}
    in_zendesk(synced, "PUT", f"/users/{user}", {"user": {"role": "agent"}})
    synced.count_anew()
    synced.apply(plan)
    assert (synced.writes(), old in synced.homes(user)) == (0, True)
    synced.sync()
    assert synced.writes() == 0


@pytest.mark.parametrize("acted", [True, False], ids=["done, answer lost", "never done"])
def test_a_removal_whose_answer_is_lost(synced: World, acted: bool) -> None:
    """A removal is looked for after its answer was lost, and ends as removed exactly once."""
    user, _, _ = move(synced)
    close_tickets(synced, user)
    nights(synced, 2)
    synced.fault("DELETE /api/v2/organization_memberships/*", action="drop", after_effect=acted, times=None)
    with pytest.raises(TryLater, match="lost"):
        nights(synced, 1)
    synced.sandbox.delete_control("faults")
    synced.clock.sleep(1000)
    synced.sync()
    assert synced.homes(user) == {NEW}
    told = synced.rows("audit_entry", kind="membership", record_key=CONTACT, event="membership_removed")
    assert len(told) == 1
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_the_brake_on_removals(synced: World) -> None:
    """More removals than their own brake allows stop the plan with count, limit and way out."""
    user, _, _ = move(synced)
    close_tickets(synced, user)
    nights(synced, 2)
    synced.clock.sleep(DAY)
    synced.collect(full=True)
    synced.mirror()
    with pytest.raises(UnsafePlan, match=r"1 removals of \d+ memberships that we added; the brake allows 0.*release"):
        synced.plan(brake=Brake(removals_share=0.0, removals_floor=0))
    assert not [row for row in synced.rows("change_item") if row["change_state"] == "planned"]
    assert synced.plan(brake=Brake.released()).counts["membership"] == {"removed": 1}


def test_a_moved_contacts_tickets_are_not_ambiguous(synced: World) -> None:
    """Tickets without an organization belong to the customer where the contact is now, not to two of them."""
    synced.rules = replace(synced.rules, policies=Policies(contact_moved="keep"))
    user, old, _ = move(synced)
    made = synced.sandbox.post_control("tickets", {"requester_id": user, "organization_id": None, "subject": "Where?"})
    ticket = made["ticket"]["id"]
    synced.start_exports()
    synced.clock.sleep(130)
    export_live(synced.ledger, synced.account.account_id, synced.zendesk, Run("dag", "run"))
    in_zendesk(synced, "PUT", f"/tickets/{ticket}", {"ticket": {"organization_id": None}})
    synced.clock.sleep(130)
    export_live(synced.ledger, synced.account.account_id, synced.zendesk, Run("dag", "run2"))
    (row,) = synced.rows("ticket", ticket_id=ticket)
    assert (row["customer_key"], row["match_reason"]) == (old, "requester")
    nights(synced, 1)
    synced.sync()
    match_again(synced.ledger, synced.account.account_id)
    (row,) = synced.rows("ticket", ticket_id=ticket)
    assert (row["customer_key"], row["match_reason"]) == (NEW, "requester")


def test_a_contact_who_leaves_one_of_two_customers(synced: World) -> None:
    """A contact of two customers who leaves one keeps the other; the one that was left is removed after days."""
    user = synced.users()["50001"]["id"]
    own(synced, "50001")
    synced.sandbox.post_control("contacts", {"id": 50001, "customers": ["C0000210"]})
    close_tickets(synced, user)
    nights(synced, 4)
    assert synced.homes(user) == {"C0000210"}


def test_a_shared_mailbox_keeps_what_the_others_need(synced: World) -> None:
    """A membership of a shared user ends only when no contact of that mailbox is with the customer any more."""
    user = synced.users()["50003"]["id"]
    own(synced, "50003")
    synced.sandbox.post_control("contacts", {"id": 50003, "customers": ["C0000204"]})
    close_tickets(synced, user)
    nights(synced, 4)
    assert synced.homes(user) == {"C0000204"}
    delete(synced, "contacts", id=50004)
    nights(synced, 4)
    assert synced.homes(user) == {"C0000204"}
