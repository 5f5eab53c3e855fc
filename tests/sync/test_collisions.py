"""The journey out where Zendesk has moved meanwhile: deleted, taken, promoted, refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from airflow_provider_qadzd.errors import TryLater, UnsafePlan
from airflow_provider_qadzd.ledger.schema import mirror
from airflow_provider_qadzd.sync.plan import Brake
from tests.sync.world import World


def in_zendesk(world: World, method: str, path: str, body: dict[str, Any] | None = None) -> None:
    """What a colleague does by hand in Zendesk, not counted as a write of ours."""
    before = world.writes()
    world.zendesk.send(method, path, body=body)
    world.hand_made += world.writes() - before


def change_customer(world: World, code: str, **values: Any) -> None:
    """What a colleague does in QAD."""
    world.sandbox.post_control("customers", {"code": code, **values})


def test_an_organization_deleted_in_zendesk_is_recreated_with_its_members(synced: World) -> None:
    """An organization deleted by hand is noticed within a day, made again, and its contacts are members again."""
    old = synced.organizations()["C0000201"]
    members = [
        row["user_id"] for row in synced.there()["organization_memberships"] if row["organization_id"] == old["id"]
    ]
    in_zendesk(synced, "DELETE", f"/organizations/{old['id']}")
    synced.clock.sleep(86_400)
    plan, _ = synced.sync()
    assert plan.counts["organization"]["recreated"] == 1
    new = synced.organizations()["C0000201"]
    assert new["id"] != old["id"]
    there = synced.there()["organization_memberships"]
    assert sorted(row["user_id"] for row in there if row["organization_id"] == new["id"]) == sorted(members)
    assert synced.rows("audit_entry", kind="organization", record_key="C0000201", event="recreated")
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_an_organization_found_deleted_just_before_writing_is_recreated(synced: World) -> None:
    """The read just before an update finds an organization gone; the next run makes it again."""
    old = synced.organizations()["C0000201"]
    in_zendesk(synced, "DELETE", f"/organizations/{old['id']}")
    change_customer(synced, "C0000201", city="Elsewhere")
    _, report = synced.sync()
    assert report["outcomes"] == {"organization": {"superseded": 1}}
    assert synced.writes() == 0
    synced.sync()
    assert synced.organizations()["C0000201"]["organization_fields"]["qad_city"] == "Elsewhere"
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_organizations_that_all_seem_gone_are_not_all_recreated(synced: World) -> None:
    """Recreating is under the brake as well: a list that comes back empty is no proof that everything was deleted."""
    with synced.ledger.writing() as tx:
        tx.execute(update(mirror).where(mirror.c.kind == "organization").values(active=False))
    with pytest.raises(UnsafePlan):
        synced.plan(brake=Brake(share=0.3, floor=5))


def test_many_deleted_organizations_are_recreated_by_a_job(synced: World) -> None:
    """Organizations made again by a job are linked to what the job made, not to what was deleted."""
    for code in ("C0000201", "C0000202", "C0000204", "C0000205", "C0000207"):
        in_zendesk(synced, "DELETE", f"/organizations/{synced.organizations()[code]['id']}")
    synced.clock.sleep(86_400)
    _, report = synced.sync()
    assert report["outcomes"]["organization"] == {"recreated": 5}
    links = {row["record_key"]: row["zendesk_id"] for row in synced.rows("link", kind="organization")}
    assert links == {key: row["id"] for key, row in synced.organizations().items() if row["external_id"]}
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


@pytest.mark.parametrize("acted", [True, False], ids=["done, answer lost", "never done"])
@pytest.mark.parametrize("count", [1, 5], ids=["alone", "in a job"])
def test_a_recreation_whose_answer_is_lost(synced: World, count: int, acted: bool) -> None:
    """A recreated organization whose answer was lost is linked to what is there now, never to what was deleted."""
    codes = ("C0000201", "C0000202", "C0000204", "C0000205", "C0000207")[:count]
    for code in codes:
        in_zendesk(synced, "DELETE", f"/organizations/{synced.organizations()[code]['id']}")
    synced.clock.sleep(86_400)
    synced.fault("POST /api/v2/organizations*", action="drop", after_effect=acted)
    with pytest.raises(TryLater, match="lost"):
        synced.sync()
    synced.sync()
    links = {row["record_key"]: row["zendesk_id"] for row in synced.rows("link", kind="organization")}
    assert links == {key: row["id"] for key, row in synced.organizations().items() if row["external_id"]}
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_a_user_deleted_in_zendesk_is_set_aside(synced: World) -> None:
    """A user deleted by hand is not made again, and gets no membership and no email any more."""
    user = synced.users()["50006"]
    in_zendesk(synced, "DELETE", f"/users/{user['id']}")
    new = {"id": 50006, "customers": ["C0000209"], "email": "other@somewhere.example"}
    synced.sandbox.post_control("contacts", new)
    plan, _ = synced.sync()
    assert synced.outcomes()["user", "50006"] == ("set_aside", "user_deleted_in_zendesk")
    assert (plan.changes, synced.writes()) == (0, 0)


def test_a_user_deleted_after_the_mirror_gets_nothing(synced: World) -> None:
    """A user deleted between the plan and its application gets neither membership nor email."""
    user = synced.users()["50006"]
    new = {"id": 50006, "customers": ["C0000209"], "email": "other@somewhere.example", "function": "Owner"}
    synced.sandbox.post_control("contacts", new)
    synced.collect()
    synced.mirror()
    plan = synced.plan()
    assert plan.changes == 3
    in_zendesk(synced, "DELETE", f"/users/{user['id']}")
    synced.apply(plan)
    assert synced.writes() == 0
    synced.sync()
    assert synced.writes() == 0


def test_somebody_who_became_an_agent_is_not_written(synced: World) -> None:
    """The role is read again just before writing: who became an agent since the mirror is not touched in any way."""
    user = synced.users()["50006"]
    new = {"id": 50006, "customers": ["C0000209"], "email": "other@somewhere.example", "function": "Owner"}
    synced.sandbox.post_control("contacts", new)
    synced.collect()
    synced.mirror()
    plan = synced.plan()
    in_zendesk(synced, "PUT", f"/users/{user['id']}", {"user": {"role": "agent"}})
    agent, homes = synced.users()["50006"], synced.homes(user["id"])
    synced.apply(plan)
    assert synced.writes() == 0
    assert synced.outcomes()["user", "50006"] == ("set_aside", "is_agent")
    plan, _ = synced.sync()
    assert (plan.changes, synced.writes()) == (0, 0)
    assert (synced.users()["50006"], synced.homes(user["id"])) == (agent, homes)


def test_who_became_an_agent_while_the_job_ran_is_told_as_set_aside(synced: World) -> None:
    """An update that was lost on somebody who has become an agent is set aside, not called updated."""
    user = synced.users()["50006"]
    synced.sandbox.post_control("contacts", {"id": 50006, "function": "Owner"})
    synced.collect()
    synced.mirror()
    plan = synced.plan()
    synced.fault("PUT /api/v2/users/*", action="drop", times=10)
    with pytest.raises(Exception, match="lost"):
        synced.apply(plan)
    synced.sandbox.delete_control("faults")
    in_zendesk(synced, "PUT", f"/users/{user['id']}", {"user": {"role": "agent"}})
    synced.count_anew()
    synced.apply_through(plan)
    assert synced.outcomes()["user", "50006"] == ("set_aside", "is_agent")
    assert synced.writes() == 0


def test_a_name_taken_meanwhile_gets_the_suffix(small: World) -> None:
    """A name that somebody else's keyed organization took after the mirror was read gets the customer's code."""
    small.collect()
    small.mirror()
    plan = small.plan()
    taken = {"name": "NORTHWIND pumps & valves", "external_id": "crm-77"}
    in_zendesk(small, "POST", "/organizations", {"organization": taken})
    report = small.apply(plan)
    assert small.organizations()["C0000201"]["name"] == "Northwind Pumps & Valves (C0000201)"
    assert report["outcomes"]["organization"] == {"created": 11, "adopted": 1}


def test_a_name_given_by_hand_meanwhile_is_adopted(small: World) -> None:
    """An organization made by hand after the mirror was read, with exactly the name, is adopted."""
    small.collect()
    small.mirror()
    plan = small.plan()
    in_zendesk(small, "POST", "/organizations", {"organization": {"name": "Northwind Pumps & Valves"}})
    made = small.organizations()["Northwind Pumps & Valves"]["id"]
    report = small.apply(plan)
    assert small.organizations()["C0000201"]["id"] == made
    assert report["outcomes"]["organization"] == {"created": 10, "adopted": 2}


def test_an_email_taken_meanwhile_by_an_agent_is_set_aside(small: World) -> None:
    """One row of a job that is refused is sent alone, and its reason is exact; the other rows are written."""
    small.collect()
    small.mirror()
    plan = small.plan()
    email = next(row["email"] for row in small.there()["qad"]["contacts"] if row["id"] == 50006)
    body = {"name": "New colleague", "email": email, "role": "agent", "verified": True}
    if email in small.users():
        in_zendesk(small, "PUT", f"/users/{small.users()[email]['id']}", {"user": {"role": "agent"}})
    else:
        in_zendesk(small, "POST", "/users", {"user": body})
    agent = small.users()[email]
    small.apply(plan)
    assert small.outcomes()["user", "50006"] == ("set_aside", f"email_of_agent {agent['id']}")
    assert small.users()[email] == agent
    small.count_anew()
    assert (small.sync()[0].changes, small.writes()) == (0, 0)


def test_an_email_that_is_somebodys_second_one_is_set_aside_once(small: World) -> None:
    """An email held as a secondary one is refused once, the holder is named, and later runs do not ask again."""
    small.sandbox.post_control(
        "contacts", {"id": 60001, "name": "Ada Late", "email": "ada@late.example", "customers": ["C0000201"]}
    )
    holder = small.users()["theo.brandt@support-desk.example"]["id"]
    in_zendesk(
        small, "POST", f"/users/{holder}/identities", {"identity": {"type": "email", "value": "ada@late.example"}}
    )
    small.sync()
    assert small.outcomes()["user", "60001"] == (
        "set_aside",
        f"refused_by_zendesk email DuplicateValue, held by {holder}",
    )
    small.count_anew()
    plan, _ = small.sync()
    assert (plan.changes, small.writes()) == (0, 0)
    assert plan.counts["user"]["set_aside"] == 2
    # a day later it is tried once more, and a changed record at once
    small.clock.sleep(86_400)
    assert small.sync()[1]["outcomes"]["user"] == {"set_aside": 1}
    small.sandbox.post_control("contacts", {"id": 60001, "email": "ada.late@late.example"})
    small.sync()
    assert small.outcomes()["user", "60001"] == ("created", "")


def test_a_second_email_that_is_refused_is_not_asked_for_again(synced: World) -> None:
    """A changed email that belongs to somebody else is refused once; later runs do not ask again."""
    email = synced.users()["theo.brandt@support-desk.example"]["email"]
    synced.sandbox.post_control("contacts", {"id": 50006, "email": email})
    _, report = synced.sync()
    assert report["outcomes"] == {"identity": {"set_aside": 1}}
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_a_holder_that_search_does_not_show_yet_is_tried_once_more(small: World) -> None:
    """While search lags, a refused record is only put off; after the next mirror pass it is decided by the table."""
    small.settings(search_lag=600)
    small.collect()
    small.mirror()
    plan = small.plan()
    contact = {"id": 60001, "name": "Ada Late", "email": "ada@late.example", "customers": ["C0000201"]}
    small.sandbox.post_control("contacts", contact)
    small.collect()
    plan = small.plan()
    in_zendesk(small, "POST", "/users", {"user": {"name": "Ada", "email": "ada@late.example"}})
    small.apply(plan)
    assert small.outcomes()["user", "60001"][0] == "failed_retryable"
    small.sync()
    assert small.outcomes()["user", "60001"][0] == "adopted"


def test_what_was_there_before_is_not_called_ours(small: World) -> None:
    """A membership that a requester already had is adopted, so that it is not removed as ours one day."""
    small.collect()
    small.mirror()
    small.apply(small.plan())
    small.count_anew()
    user = small.users()["50001"]
    small.sandbox.post_control("contacts", {"id": 50001, "customers": ["C0000201", "C0000210", "C0000209"]})
    home = small.organizations()["C0000209"]["id"]
    pair = {"user_id": user["id"], "organization_id": home, "default": True}
    in_zendesk(small, "POST", "/organization_memberships", {"organization_membership": pair})
    small.sync()
    (link,) = small.rows("link", kind="membership", record_key="50001", other_key="C0000209")
    assert link["ours"] is False
    assert small.writes() == 0


def test_a_shared_mailbox_of_an_agent_is_set_aside_for_all(small: World) -> None:
    """Where an agent holds a mailbox that several contacts share, all of them are set aside."""
    agent = small.users()["mina.walsh@support-desk.example"]
    contact = {"id": 60001, "name": "Second", "email": agent["email"], "customers": ["C0000201"]}
    small.sandbox.post_control("contacts", contact)
    small.sync()
    reason = ("set_aside", f"email_of_agent {agent['id']}")
    assert {key: small.outcomes()["user", key] for key in ("50002", "60001")} == {"50002": reason, "60001": reason}


def test_a_field_changed_by_hand_is_put_right(synced: World) -> None:
    """A mapped field that somebody edits in Zendesk is QAD's: the next run writes it back; others are left alone."""
    found = synced.organizations()["C0000202"]
    body = {"organization": {"name": "By hand", "notes": "Call first.", "tags": ["vip"]}}
    in_zendesk(synced, "PUT", f"/organizations/{found['id']}", body)
    plan, _ = synced.sync()
    assert plan.changes == 1
    after = synced.organizations()["C0000202"]
    assert (after["name"], after["notes"], after["tags"]) == (found["name"], "Call first.", ["vip"])


def test_a_refused_update_of_a_name_takes_the_suffix(synced: World) -> None:
    """A linked customer renamed to a name that another organization holds is updated with its code behind."""
    in_zendesk(synced, "POST", "/organizations", {"organization": {"name": "Shiny New", "external_id": "crm-9"}})
    change_customer(synced, "C0000201", name="Shiny New")
    synced.collect()
    plan = synced.plan()
    synced.apply(plan)
    assert synced.organizations()["C0000201"]["name"] == "Shiny New (C0000201)"
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)
