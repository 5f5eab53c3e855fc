"""Looks at Zendesk: what somebody did there by hand is named, told once, and put right by the usual plan when asked."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.sync import drift
from airflow_provider_qadzd.sync.drift import Looked, as_table
from tests.sync.test_collisions import change_customer, in_zendesk
from tests.sync.world import World

CUSTOMER, CONTACT = "C0000202", "50005"


def look(world: World) -> Looked:
    """One look, a night after what went before."""
    world.clock.sleep(86_400)
    return look_again(world)


def look_again(world: World) -> Looked:
    """One look, minutes after what went before."""
    world.clock.sleep(130)
    return drift.look(world.ledger, world.flow, world.zendesk, "night")


def standing(world: World) -> list[tuple[str, str, str, str]]:
    """What stands: sort, kind, key, other key."""
    return [(row["what"], row["kind"], row["record_key"], row["other_key"]) for row in world.rows("drift")]


def detail(world: World, key: str, what: str) -> dict[str, Any]:
    """What is known of one difference."""
    (row,) = world.rows("drift", record_key=key, what=what)
    found: dict[str, Any] = row["detail"]
    return found


def repair(world: World) -> dict[str, Any]:
    """What the DAG does when `repair` is asked for, after a look."""
    drift.make_way(world.ledger, world.flow, "run")
    return world.apply(world.plan())


def edit_organization(world: World, code: str, **values: Any) -> int:
    """What a colleague changes by hand in an organization. Its id."""
    found = int(world.organizations()[code]["id"])
    in_zendesk(world, "PUT", f"/organizations/{found}", {"organization": values})
    return found


def merge_organization(world: World, loser: int, winner: int) -> None:
    """What a colleague merges."""
    in_zendesk(world, "POST", f"/organizations/{loser}/merge", {"organization_merge": {"winner_id": winner}})


def test_nothing_stands_after_a_run(synced: World) -> None:
    """Where nobody did anything by hand, a look finds no difference and asks Zendesk for no write."""
    found = look(synced)
    assert (found.standing, found.news, found.over) == ({}, 0, 0)
    assert synced.writes() == 0
    assert not synced.rows("drift")


def test_an_edited_field_is_named_with_both_values(synced: World) -> None:
    """A mapped field that was edited by hand is told with what Zendesk has and what we want; other fields are not."""
    edit_organization(synced, CUSTOMER, name="Nobody's name", notes="Call on Mondays")
    assert look(synced).standing == {"edited": 1}
    assert detail(synced, CUSTOMER, "edited") == {"fields": {"name": ["Nobody's name", "Åkesson Verktyg AB"]}}
    assert repair(synced)["outcomes"] == {"organization": {"updated": 1}}
    assert synced.organizations()[CUSTOMER]["notes"] == "Call on Mondays"
    assert look_again(synced).standing == {}


def test_what_qad_changed_is_no_drift(synced: World) -> None:
    """What the next run will write because QAD changed it is not told, beside a field that was edited by hand."""
    change_customer(synced, CUSTOMER, city="Elsewhere")
    synced.collect()
    synced.plan("dry_run")
    edit_organization(synced, CUSTOMER, name="Nobody's name")
    change_customer(synced, "C0000201", city="Elsewhere")
    synced.collect()
    synced.plan("dry_run")
    look(synced)
    assert standing(synced) == [("edited", "organization", CUSTOMER, "")]
    assert list(detail(synced, CUSTOMER, "edited")["fields"]) == ["name"]


@pytest.mark.parametrize("now", [None, "somebody-elses"], ids=["removed", "changed"])
def test_an_external_id_that_went_is_told_and_put_back(synced: World, now: str | None) -> None:
    """An external id that was removed or changed by hand is told, and the usual plan writes it again."""
    edit_organization(synced, CUSTOMER, external_id=now)
    assert look(synced).standing == {"rekeyed": 1}
    assert detail(synced, CUSTOMER, "rekeyed") == {"external_id": [now, CUSTOMER]}
    repair(synced)
    assert CUSTOMER in synced.organizations()
    assert look_again(synced).standing == {}


def test_a_deleted_organization_is_told_and_made_again(synced: World) -> None:
    """A deleted organization is told as deleted; the usual plan makes it again, and then it is over."""
    old = synced.organizations()[CUSTOMER]["id"]
    in_zendesk(synced, "DELETE", f"/organizations/{old}")
    look(synced)
    assert ("deleted", "organization", CUSTOMER, "") in standing(synced)
    repair(synced)
    found = look_again(synced)
    assert (found.standing, found.over > 0) == ({}, True)
    assert synced.organizations()[CUSTOMER]["id"] != old


def test_a_deleted_user_is_told_and_left(synced: World) -> None:
    """A user deleted by hand is told each time, asked about once, and not made again: it may be an erasure request."""
    user = synced.users()[CONTACT]["id"]
    in_zendesk(synced, "DELETE", f"/users/{user}")
    assert look(synced).standing == {"deleted": 1}
    repair(synced)
    synced.count_anew()
    found = look_again(synced)
    assert (found.standing, found.news) == ({"deleted": 1}, 0)
    assert synced.calls()["GET /api/v2/users/search"] == 0
    assert CONTACT not in {row["external_id"] for row in synced.there()["users"] if row["active"]}


def test_a_merged_organization_names_the_winner_and_its_key(synced: World) -> None:
    """An organization that was merged into another customer's is told with that one's id, external id and key."""
    loser, winner = (synced.organizations()[key]["id"] for key in (CUSTOMER, "C0000204"))
    merge_organization(synced, loser, winner)
    look(synced)
    merged = {"winner": winner, "winner_external_id": "C0000204", "winner_key": "C0000204"}
    assert detail(synced, CUSTOMER, "merged") == merged
    (row,) = [row for row in drift.drift.standing(synced.ledger, synced.flow) if row.what == "merged"]
    told = f"gone: merged into {winner} (external id C0000204 customer or contact C0000204)"
    assert as_table([row]) == f"merged  organization  {CUSTOMER}  {loser}  {told}"


def test_a_merge_is_told_although_a_run_makes_it_again_meanwhile(synced: World) -> None:
    """A run that makes a merged organization again does not hide from a look's news that it was merged."""
    loser, winner = (synced.organizations()[key]["id"] for key in (CUSTOMER, "C0000204"))
    merge_organization(synced, loser, winner)
    look(synced)
    synced.sync()
    look_again(synced)
    assert {what for what, *_ in standing(synced)} == {"moved"}  # its people's default organization is the winner
    told = synced.rows("audit_entry", record_key=CUSTOMER, event="drift")
    assert [row["detail"]["what"] for row in told] == ["merged"]
    assert told[0]["detail"]["winner"] == winner


def test_a_record_merged_into_nobodys_is_linked_to_the_winner(synced: World) -> None:
    """An organization that was merged into one without an external id: repaired, that one is this customer's."""
    loser = synced.organizations()[CUSTOMER]["id"]
    in_zendesk(synced, "POST", "/organizations", {"organization": {"name": "Akesson, made by hand"}})
    winner = synced.organizations()["Akesson, made by hand"]["id"]
    merge_organization(synced, loser, winner)
    look(synced)
    assert detail(synced, CUSTOMER, "merged") == {"winner": winner}
    before = len(synced.organizations())
    repair(synced)
    after = synced.organizations()
    assert (after[CUSTOMER]["id"], after[CUSTOMER]["name"], len(after)) == (winner, "Åkesson Verktyg AB", before)
    assert look_again(synced).standing == {}


def test_a_merged_user_names_the_winner(synced: World) -> None:
    """A user that was merged into another contact's is told with that one's id and key, and is not made again."""
    users = synced.users()
    loser, winner = users["50001"]["id"], users["50006"]["id"]
    in_zendesk(synced, "PUT", f"/users/{loser}/merge", {"user": {"id": winner}})
    look(synced)
    merged = {"winner": winner, "winner_external_id": "50006", "winner_key": "50006"}
    assert detail(synced, "50001", "merged") == merged
    repair(synced)
    assert "50001" not in {row["external_id"] for row in synced.there()["users"] if row["active"]}


def test_a_removed_membership_is_told_and_added_again(synced: World) -> None:
    """A membership of ours that was removed by hand is told with its customer, and added again when asked."""
    user = synced.users()["50001"]["id"]
    homes = synced.homes(user)
    (lost,) = [
        row
        for row in synced.there()["organization_memberships"]
        if row["user_id"] == user and row["organization_id"] == synced.organizations()["C0000210"]["id"]
    ]
    in_zendesk(synced, "DELETE", f"/organization_memberships/{lost['id']}")
    assert look(synced).standing == {"moved": 1}
    assert standing(synced) == [("moved", "user", "50001", "C0000210")]
    synced.count_anew()
    assert synced.sync()[0].changes == 0  # a usual run takes what it wrote once for done
    assert repair(synced)["outcomes"] == {"membership": {"membership_added": 1}}
    assert synced.homes(user) == homes
    assert look_again(synced).standing == {}


def test_the_only_membership_removed_is_seen(synced: World) -> None:
    """Somebody whose one membership was removed has no default organization: both are told."""
    user = synced.users()["50006"]["id"]
    (lost,) = [row for row in synced.there()["organization_memberships"] if row["user_id"] == user]
    in_zendesk(synced, "DELETE", f"/organization_memberships/{lost['id']}")
    assert look(synced).standing == {"moved": 2}
    repair(synced)
    assert look_again(synced).standing == {}


def test_another_default_organization_is_told_and_left(synced: World) -> None:
    """A default organization that is none of the contact's customers is told, and stays: an agent chose it."""
    user, other = synced.users()["50006"]["id"], synced.organizations()["C0000204"]["id"]
    pair = {"user_id": user, "organization_id": other, "default": True}
    in_zendesk(synced, "POST", "/organization_memberships", {"organization_membership": pair})
    look(synced)
    assert standing(synced) == [("moved", "user", "50006", "")]
    home = {"default_organization": other, "its_external_id": "c0000204"}
    assert detail(synced, "50006", "moved") == home
    repair(synced)
    assert synced.users()["50006"]["organization_id"] == other


def test_duplicates_are_told(synced: World) -> None:
    """A second record that carries a customer's code, or a contact's name in the same organization, is told."""
    body = {"name": "Akesson again", "organization_fields": {"qad_customer": CUSTOMER}}
    in_zendesk(synced, "POST", "/organizations", {"organization": body})
    contact = synced.users()["50006"]
    twin = {
        "name": contact["name"],
        "email": "private@somewhere.example",
        "organization_id": contact["organization_id"],
    }
    in_zendesk(synced, "POST", "/users", {"user": {**twin, "skip_verify_email": True}})
    assert look(synced).standing == {"duplicate": 2}
    found = {row["record_key"]: row["detail"] for row in synced.rows("drift")}
    assert found[CUSTOMER] == {
        "other": synced.organizations()["Akesson again"]["id"], "same": "organization_fields.qad_customer",
    }  # fmt: skip
    assert found["50006"]["same"] == "name and organization"
    repair(synced)
    assert look_again(synced).standing == {"duplicate": 2}


def test_news_is_told_once(synced: World) -> None:
    """The audit tells a difference when it is new, when it is another one, and when it is over; not every night."""
    organization = edit_organization(synced, CUSTOMER, name="Nobody's name")
    assert (look(synced).news, look(synced).news) == (1, 0)
    in_zendesk(synced, "PUT", f"/organizations/{organization}", {"organization": {"name": "Another one's"}})
    assert look(synced).news == 1
    in_zendesk(synced, "PUT", f"/organizations/{organization}", {"organization": {"name": "Åkesson Verktyg AB"}})
    assert look(synced).over == 1
    told = [row["event"] for row in synced.rows("audit_entry", record_key=CUSTOMER, run="night")]
    assert told == ["drift", "drift", "drift_over"]


def test_staff_are_no_drift(synced: World) -> None:
    """Somebody who has become an agent is never written, and their fields are theirs."""
    user = synced.users()[CONTACT]["id"]
    in_zendesk(synced, "PUT", f"/users/{user}", {"user": {"role": "agent", "name": "Now an agent"}})
    look(synced)
    assert standing(synced) == []


def test_a_look_goes_on_where_it_was_stopped(synced: World) -> None:
    """A look that was stopped in between goes on: what it has read of the organizations is not read again."""
    edit_organization(synced, CUSTOMER, name="Nobody's name")
    user = synced.users()["50001"]["id"]
    synced.clock.sleep(86_400)
    synced.fault(f"GET /api/v2/users/{user}/organization_memberships", action="status", status=503, times=20)
    with pytest.raises(TryLater):
        drift.look(synced.ledger, synced.flow, synced.zendesk, "night")
    synced.sandbox.delete_control("faults")
    synced.count_anew()
    found = drift.look(synced.ledger, synced.flow, synced.zendesk, "night")
    assert found.standing == {"edited": 1}
    assert synced.calls()["GET /api/v2/incremental/organizations"] == 1  # the mirror's own


def test_repair_waits_for_a_run_that_applies(synced: World) -> None:
    """Links are not taken from under a run that applies changes at that moment."""
    drift.take_applier(synced.ledger, synced.flow.account_id, "another", 300.0)
    with pytest.raises(TryLater, match="another"):
        drift.make_way(synced.ledger, synced.flow, "run")
