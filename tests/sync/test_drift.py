"""Looks at Zendesk: what somebody did there by hand is named, told once, and put right by the usual plan when asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import forgetting
from airflow_provider_qadzd.sync import drift
from airflow_provider_qadzd.sync.drift import Looked, as_table
from airflow_provider_qadzd.sync.mapping_file import parse_mapping
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
    return drift.look(world.ledger, world.flow, world.zendesk, "night", world.rules)


def standing(world: World) -> list[tuple[str, str, str, str]]:
    """What stands: sort, kind, key, other key."""
    return [(row["what"], row["kind"], row["record_key"], row["other_key"]) for row in world.rows("drift")]


def detail(world: World, key: str, what: str) -> dict[str, Any]:
    """What is known of one difference."""
    (row,) = world.rows("drift", record_key=key, what=what)
    found: dict[str, Any] = row["detail"]
    return found


def concerns(world: World, key: str, what: str) -> int | None:
    """Which other Zendesk record a difference concerns."""
    (row,) = world.rows("drift", record_key=key, what=what)
    return row["other_id"]


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
    assert detail(synced, CUSTOMER, "edited") == {"changed": {"name": ["Nobody's name", "Åkesson Verktyg AB"]}}
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
    assert list(detail(synced, CUSTOMER, "edited")["changed"]) == ["name"]


@pytest.mark.parametrize("now", [None, "somebody-elses"], ids=["removed", "changed"])
def test_an_external_id_that_went_is_told_and_put_back(synced: World, now: str | None) -> None:
    """An external id that was removed or changed by hand is told, and the usual plan writes it again."""
    edit_organization(synced, CUSTOMER, external_id=now)
    assert look(synced).standing == {"external_id": 1}
    assert detail(synced, CUSTOMER, "external_id") == {"changed": {"external_id": [now, CUSTOMER]}}
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
    """An organization that was merged into another customer's is told with that one's id and external id."""
    loser, winner = (synced.organizations()[key]["id"] for key in (CUSTOMER, "C0000204"))
    merge_organization(synced, loser, winner)
    look(synced)
    (row,) = [row for row in drift.drift.standing(synced.ledger, synced.flow) if row.what == "merged"]
    told = f"gone: merged into {winner} (external id c0000204)"
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
    assert told[0]["detail"]["other_id"] == winner


def test_a_record_merged_into_nobodys_is_linked_to_the_winner(synced: World) -> None:
    """An organization that was merged into one without an external id: repaired, that one is this customer's."""
    loser = synced.organizations()[CUSTOMER]["id"]
    in_zendesk(synced, "POST", "/organizations", {"organization": {"name": "Akesson, made by hand"}})
    winner = synced.organizations()["Akesson, made by hand"]["id"]
    merge_organization(synced, loser, winner)
    look(synced)
    assert concerns(synced, CUSTOMER, "merged") == winner
    before = len(synced.organizations())
    repair(synced)
    after = synced.organizations()
    assert (after[CUSTOMER]["id"], after[CUSTOMER]["name"], len(after)) == (winner, "Åkesson Verktyg AB", before)
    assert look_again(synced).standing == {}


def test_a_merged_user_names_the_winner(synced: World) -> None:
    """A user that was merged into another contact's is told with that one's id, and is not made again."""
    users = synced.users()
    loser, winner = users["50001"]["id"], users["50006"]["id"]
    in_zendesk(synced, "PUT", f"/users/{loser}/merge", {"user": {"id": winner}})
    look(synced)
    assert concerns(synced, "50001", "merged") == winner
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
    assert concerns(synced, "50006", "moved") == other
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
    assert found[CUSTOMER] == {"same": "organization_fields.qad_customer"}
    assert concerns(synced, CUSTOMER, "duplicate") == synced.organizations()["Akesson again"]["id"]
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
    """A look that was stopped in between goes on: organizations that it has asked for are not asked for again."""
    edit_organization(synced, CUSTOMER, name="Nobody's name")
    user = synced.users()["50001"]["id"]
    synced.clock.sleep(86_400)
    synced.fault(f"GET /api/v2/users/{user}/organization_memberships", action="status", status=503, times=20)
    with pytest.raises(TryLater):
        drift.look(synced.ledger, synced.flow, synced.zendesk, "night", synced.rules)
    synced.sandbox.delete_control("faults")
    synced.count_anew()
    found = drift.look(synced.ledger, synced.flow, synced.zendesk, "night", synced.rules)
    assert found.standing == {"edited": 1}
    assert synced.calls()["GET /api/v2/organizations/show_many"] == 0


def test_repair_waits_for_a_run_that_applies(synced: World) -> None:
    """Links are not taken from under a run that applies changes at that moment."""
    drift.take_applier(synced.ledger, synced.flow.account_id, "another", 300.0)
    with pytest.raises(TryLater, match="another"):
        drift.make_way(synced.ledger, synced.flow, "run")


def test_a_look_that_is_stopped_again_and_again_gets_on(synced: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few calls are left each time, a look comes to its end: whom it has asked about, it does not ask again."""
    monkeypatch.setattr(drift, "_FEW", 1)
    synced.clock.sleep(86_400)
    synced.fault("GET /api/v2/users/*/organization_memberships", action="status", status=503, every=2)
    synced.count_anew()
    for _ in range(20):
        try:
            found = drift.look(synced.ledger, synced.flow, synced.zendesk, "night", synced.rules)
            break
        except TryLater:
            continue
    assert found.standing == {}
    asked = [count for call, count in synced.calls().items() if call.endswith("/organization_memberships")]
    assert max(asked) <= 3


TAGGED = """
organization:
  tags: [qad, "{customerV2.customerTypeCode|lower}"]
"""


def test_a_merged_list_is_edited_where_an_entry_of_ours_is_gone(small: World) -> None:
    """Tags that others add are no drift, nor is a tag that QAD changed; one of ours that somebody took away is."""
    small.rules = replace(small.rules, mapping=parse_mapping(TAGGED, "map.yaml"))
    small.sync()
    ours = small.organizations()[CUSTOMER]["tags"]
    edit_organization(small, CUSTOMER, tags=[*ours, "vip"])
    change_customer(small, CUSTOMER, type="ANOTHER")
    small.collect()
    small.mirror()
    small.plan("dry_run")
    assert look(small).standing == {}
    edit_organization(small, CUSTOMER, tags=["qad", "vip"])
    assert look(small).standing == {"edited": 1}
    repair(small)
    assert small.organizations()[CUSTOMER]["tags"] == ["another", "qad", "vip"]
    assert look_again(small).standing == {}


def test_every_sort_is_found_and_repaired_on_either_database(either: World) -> None:
    """Each sort of difference is told once, and what the usual rules let us put right is put right."""
    either.sync()
    users, organizations = either.users(), either.organizations()
    edit_organization(either, CUSTOMER, name="Nobody's name")
    edit_organization(either, "C0000203", external_id=None)
    in_zendesk(either, "POST", "/organizations", {"organization": {"name": "By hand"}})
    merge_organization(either, organizations["C0000205"]["id"], either.organizations()["By hand"]["id"])
    in_zendesk(either, "DELETE", f"/users/{users[CONTACT]['id']}")
    away = {"user_id": users["50006"]["id"], "organization_id": organizations["C0000204"]["id"], "default": True}
    in_zendesk(either, "POST", "/organization_memberships", {"organization_membership": away})
    twin = {"name": "Twin", "user_fields": {"qad_contact": "50001"}, "skip_verify_email": True}
    in_zendesk(either, "POST", "/users", {"user": twin})
    found = look(either)
    assert found.standing.keys() == set(drift.drift.WHATS)
    assert as_table(drift.drift.standing(either.ledger, either.flow)).count("\n") == sum(found.standing.values()) - 1
    repair(either)
    assert look_again(either).standing == {"deleted": 1, "moved": 1, "duplicate": 1}
    assert set(either.organizations()) >= {CUSTOMER, "C0000203", "C0000205"}
    for key in (CUSTOMER, "50001", "50006"):
        (subject,) = forgetting.subjects(either.ledger, key)
        forgetting.forget(either.ledger, subject, "a person")
        assert either.rows("drift", record_key=key) == []
