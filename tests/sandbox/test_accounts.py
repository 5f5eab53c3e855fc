"""Organizations, users, identities, memberships and the bulk jobs over them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_qadzd.sandbox import Sandbox

from .conftest import Client


def organization(zendesk: Client, name: str, **more: Any) -> dict[str, Any]:
    """A new organization."""
    reply = zendesk.post("/api/v2/organizations.json", {"organization": {"name": name, **more}})
    assert reply.status_code == 201, reply.text
    return dict(reply.json()["organization"])


def user(zendesk: Client, name: str, **more: Any) -> dict[str, Any]:
    """A new user, without a verification mail."""
    reply = zendesk.post("/api/v2/users.json", {"user": {"name": name, "skip_verify_email": True, **more}})
    assert reply.status_code == 201, reply.text
    return dict(reply.json()["user"])


@pytest.mark.parametrize(
    ("values", "field"),
    [({"name": " TAKEN  "}, "name"), ({"name": "Free", "external_id": "c1"}, "external_id")],
    ids=["name, other case and spaces", "external id, other case"],
)
def test_organizations_are_unique_without_regard_to_case(zendesk: Client, values: dict[str, Any], field: str) -> None:
    """A second organization with the same name or external id is 422 DuplicateValue on that field."""
    organization(zendesk, "Taken", external_id="C1")
    reply = zendesk.post("/api/v2/organizations", {"organization": values})
    assert reply.status_code == 422
    assert reply.json()["error"] == "RecordInvalid"
    assert reply.json()["details"][field][0]["error"] == "DuplicateValue"


def test_create_or_update_matches_by_external_id_and_never_by_name(zendesk: Client) -> None:
    """An equal external id updates, an equal name clashes."""
    organization(zendesk, "First", external_id="C1")
    path = "/api/v2/organizations/create_or_update"
    assert zendesk.post(path, {"organization": {"external_id": "c1", "name": "Renamed"}}).status_code == 200
    assert zendesk.post(path, {"organization": {"external_id": "C2", "name": "Renamed"}}).status_code == 422
    assert zendesk.post(path, {"organization": {"external_id": "C2", "name": "Second"}}).status_code == 201


def test_unknown_organization_fields_are_dropped_and_lists_replaced(zendesk: Client) -> None:
    """A custom field that is not defined vanishes in silence; tags and domain names are replaced as a whole."""
    field = {"organization_field": {"key": "qad_code", "title": "QAD code", "type": "text"}}
    assert zendesk.post("/api/v2/organization_fields", field).status_code == 201
    assert zendesk.post("/api/v2/organization_fields", field).status_code == 422
    row = organization(zendesk, "Fields", tags=["a", "b"], domain_names=["a.example"])
    change = {"tags": ["c"], "organization_fields": {"qad_code": "C1", "nobody_knows": 1}}
    row = zendesk.put(f"/api/v2/organizations/{row['id']}", {"organization": change}).json()["organization"]
    assert row["tags"] == ["c"]
    assert row["domain_names"] == ["a.example"]
    assert row["organization_fields"] == {"qad_code": "C1", "region": None}


def test_show_many_takes_a_hundred_values(zendesk: Client) -> None:
    """100 external ids are looked up, 101 are 400 TooManyValues."""
    organization(zendesk, "One", external_id="C1")
    keys = ["C1", *(f"X{number}" for number in range(99))]
    found = zendesk.get("/api/v2/organizations/show_many", external_ids=",".join(keys))
    assert [row["name"] for row in found.json()["organizations"]] == ["One"]
    refused = zendesk.get("/api/v2/organizations/show_many", external_ids=",".join([*keys, "C2"]))
    assert (refused.status_code, refused.json()["error"], refused.json()["max_count"]) == (400, "TooManyValues", 100)


def test_search_is_exact_and_ignores_case(zendesk: Client) -> None:
    """Organizations are found by whole name or external id in any case."""
    organization(zendesk, "Kestrel Pumps", external_id="C1")
    for params, count in (({"name": "kestrel pumps"}, 1), ({"name": "kestrel"}, 0), ({"external_id": "c1"}, 1)):
        assert zendesk.get("/api/v2/organizations/search.json", **params).json()["count"] == count


def test_organization_job_results_carry_no_external_id(sandbox: Sandbox, zendesk: Client) -> None:
    """create_many results are id and status only; a failed row has error and details, the job is completed."""
    rows = [{"name": "A", "external_id": "C1"}, {"name": "a", "external_id": "C2"}]
    reply = zendesk.post("/api/v2/organizations/create_many.json", {"organizations": rows})
    assert reply.json()["job_status"]["status"] == "queued"
    assert reply.json()["job_status"]["results"] is None
    job = zendesk.job(reply)
    assert job["status"] == "completed"
    good, bad = job["results"]
    assert set(good) == {"id", "status"}
    assert set(bad) == {"id", "action", "success", "error", "details"}
    assert not bad["success"]


def test_update_many_takes_ids_external_ids_or_a_batch(zendesk: Client) -> None:
    """The three forms of update_many change what they name and report each row."""
    one, two = organization(zendesk, "One", external_id="C1"), organization(zendesk, "Two", external_id="C2")
    path = "/api/v2/organizations/update_many"
    job = zendesk.job(zendesk.put(path, {"organization": {"notes": "n"}}, ids=f"{one['id']},{two['id']}"))
    assert job["results"][0] == {"action": "update", "id": one["id"], "status": "Updated", "success": True}
    zendesk.job(zendesk.put(path, {"organization": {"details": "d"}}, external_ids="c1"))
    batch = [{"id": two["id"], "name": "Deux"}, {"id": 1, "name": "Nobody"}]
    assert [row["success"] for row in zendesk.job(zendesk.put(path, {"organizations": batch}))["results"]] == [
        True,
        False,
    ]
    rows = zendesk.get("/api/v2/organizations/show_many", external_ids="C1,C2").json()["organizations"]
    assert [(row["name"], row["notes"], row["details"]) for row in rows] == [("One", "n", "d"), ("Deux", "n", None)]


def test_a_job_takes_effect_when_it_completes(sandbox: Sandbox, zendesk: Client) -> None:
    """Queued, then working, then completed by the sandbox's clock; nothing is there before the end."""
    sandbox.post_control("clock", {"frozen": True})
    sandbox.post_control("settings", {"job_delay": 9})
    body = {"organizations": [{"name": "Late", "external_id": "L1"}]}
    job_id = zendesk.post("/api/v2/organizations/create_many", body).json()["job_status"]["id"]
    seen = []
    for _ in range(3):
        status = zendesk.get(f"/api/v2/job_statuses/{job_id}").json()["job_status"]["status"]
        seen.append((status, zendesk.get("/api/v2/organizations/search", external_id="L1").json()["count"]))
        sandbox.post_control("clock", {"advance": 5})
    assert seen == [("queued", 0), ("working", 0), ("completed", 1)]


def test_only_thirty_jobs_may_be_in_flight(sandbox: Sandbox, zendesk: Client) -> None:
    """The 31st open job is 429 TooManyJobs; more than 100 rows are 400."""
    sandbox.post_control("limits", {"enabled": True})
    sandbox.post_control("settings", {"job_delay": 600})
    path = "/api/v2/organizations/create_many"
    for number in range(30):
        assert zendesk.post(path, {"organizations": [{"name": f"J{number}"}]}).status_code == 200
    refused = zendesk.post(path, {"organizations": [{"name": "J30"}]})
    assert (refused.status_code, refused.json()["error"]) == (429, "TooManyJobs")
    assert len(refused.json()["current_job_ids"]) == 30
    many = [{"name": f"M{number}"} for number in range(101)]
    assert zendesk.post(path, {"organizations": many}).status_code == 400


def test_user_job_results_carry_email_and_external_id(zendesk: Client) -> None:
    """create_many results of users name email and external id; a job in which every row fails is failed."""
    rows = [{"name": "Ana", "email": "ana@x.example", "external_id": "U1", "skip_verify_email": True}]
    job = zendesk.job(zendesk.post("/api/v2/users/create_many", {"users": rows}))
    assert set(job["results"][0]) == {"id", "status", "email", "external_id"}
    again = zendesk.job(zendesk.post("/api/v2/users/create_many", {"users": rows}))
    assert again["status"] == "failed"
    assert set(again["results"][0]) == {"index", "error", "details"}


@pytest.mark.parametrize("path", ["create_many", "create_or_update_many"])
def test_bulk_import_can_be_switched_off(sandbox: Sandbox, zendesk: Client, path: str) -> None:
    """Both bulk imports are 403 while the setting is off."""
    sandbox.post_control("settings", {"bulk_import": False})
    assert zendesk.post(f"/api/v2/users/{path}", {"users": [{"name": "A"}]}).status_code == 403


def test_an_email_belongs_to_one_user_whichever_identity_it_is(zendesk: Client) -> None:
    """An email that is anybody's secondary identity is 422 DuplicateValue for others."""
    ana = user(zendesk, "Ana", email="ana@x.example")
    second = {"identity": {"type": "email", "value": "second@x.example", "skip_verify_email": True}}
    assert zendesk.post(f"/api/v2/users/{ana['id']}/identities", second).status_code == 201
    reply = zendesk.post("/api/v2/users", {"user": {"name": "Bo", "email": "SECOND@x.example"}})
    assert (reply.status_code, reply.json()["details"]["email"][0]["error"]) == (422, "DuplicateValue")
    bo = user(zendesk, "Bo", email="bo@x.example")
    reply = zendesk.post(f"/api/v2/users/{bo['id']}/identities", second)
    assert (reply.status_code, reply.json()["details"]["value"][0]["error"]) == (422, "DuplicateValue")


def test_an_email_on_an_update_becomes_a_secondary_identity(zendesk: Client) -> None:
    """The primary stays until make_primary is called, which answers with the whole list."""
    ana = user(zendesk, "Ana", email="old@x.example", verified=True)
    path = f"/api/v2/users/{ana['id']}"
    change = {"email": "new@x.example", "skip_verify_email": True}
    assert zendesk.put(path, {"user": change}).json()["user"]["email"] == "old@x.example"
    old, new = zendesk.get(f"{path}/identities").json()["identities"]
    assert (old["primary"], new["primary"], new["verified"]) == (True, False, False)
    listed = zendesk.put(f"{path}/identities/{new['id']}/make_primary").json()["identities"]
    assert [row["primary"] for row in listed] == [False, True]
    assert zendesk.get(path).json()["user"]["email"] == "new@x.example"
    assert zendesk.delete(f"{path}/identities/{old['id']}").status_code == 204


def test_verification_mails_are_counted(sandbox: Sandbox, zendesk: Client) -> None:
    """A user made without skip_verify_email would get a mail; one made with it, or verified, would not."""
    user(zendesk, "Quiet", email="quiet@x.example")
    zendesk.post("/api/v2/users", {"user": {"name": "Verified", "email": "verified@x.example", "verified": True}})
    assert sandbox.get_control("stats")["verification_mails"] == 0
    zendesk.post("/api/v2/users", {"user": {"name": "Loud", "email": "loud@x.example"}})
    assert sandbox.get_control("stats")["verification_mails"] == 1


def test_writing_organization_id_removes_all_other_memberships(zendesk: Client) -> None:
    """A user of two organizations who is written into a third belongs to the third alone."""
    homes = [organization(zendesk, name)["id"] for name in ("One", "Two", "Three")]
    ana = user(zendesk, "Ana", organization_id=homes[0])
    more = {"organization_membership": {"user_id": ana["id"], "organization_id": homes[1]}}
    assert zendesk.post("/api/v2/organization_memberships", more).status_code == 201
    assert zendesk.post("/api/v2/organization_memberships", more).status_code == 422
    path = f"/api/v2/users/{ana['id']}"
    rows = zendesk.get(f"{path}/organization_memberships").json()["organization_memberships"]
    assert [(row["organization_id"], row["default"]) for row in rows] == [(homes[0], True), (homes[1], None)]
    assert zendesk.put(path, {"user": {"organization_id": homes[2]}}).json()["user"]["organization_id"] == homes[2]
    rows = zendesk.get(f"{path}/organization_memberships").json()["organization_memberships"]
    assert [(row["organization_id"], row["default"]) for row in rows] == [(homes[2], True)]


def test_memberships_are_made_in_bulk_and_the_default_moves(zendesk: Client) -> None:
    """create_many answers id and index for each row; make_default moves the user's organization."""
    one, two = organization(zendesk, "One")["id"], organization(zendesk, "Two")["id"]
    ana = user(zendesk, "Ana")["id"]
    rows = [{"user_id": ana, "organization_id": home} for home in (one, two, two)]
    job = zendesk.job(zendesk.post("/api/v2/organization_memberships/create_many", {"organization_memberships": rows}))
    assert [set(row) for row in job["results"]] == [{"id", "index"}, {"id", "index"}, {"index", "error", "details"}]
    second = job["results"][1]["id"]
    path = f"/api/v2/users/{ana}/organization_memberships/{second}"
    assert zendesk.put(f"{path}/make_default").status_code == 200
    assert zendesk.get(f"/api/v2/users/{ana}").json()["user"]["organization_id"] == two
    assert zendesk.delete(f"/api/v2/organization_memberships/{second}").status_code == 204
    assert zendesk.get(f"/api/v2/users/{ana}").json()["user"]["organization_id"] == one


def test_a_users_memberships_begin_with_the_default_one(zendesk: Client) -> None:
    """The default comes first, the others by name of the organization, over pages as in one list."""
    homes = {name: organization(zendesk, name)["id"] for name in ("Cedar", "Birch", "Dogwood", "Alder")}
    ana = user(zendesk, "Ana", organization_id=homes["Cedar"])["id"]
    rows = [{"user_id": ana, "organization_id": homes[name]} for name in ("Birch", "Dogwood", "Alder")]
    zendesk.job(zendesk.post("/api/v2/organization_memberships/create_many", {"organization_memberships": rows}))
    path, seen, after = f"/api/v2/users/{ana}/organization_memberships", [], {}
    for _ in range(2):
        page = zendesk.get(path, **{"page[size]": 3}, **after).json()
        seen += [row["organization_name"] for row in page["organization_memberships"]]
        after = {"page[after]": page["meta"]["after_cursor"]}
    assert seen == ["Cedar", "Alder", "Birch", "Dogwood"]
    assert page["meta"]["has_more"] is False
    assert [row["organization_name"] for row in zendesk.get(path).json()["organization_memberships"]] == seen


def test_ending_a_membership_unties_the_open_tickets(sandbox: Sandbox, zendesk: Client) -> None:
    """The user's open tickets lose the organization with the membership."""
    home = organization(zendesk, "Home")["id"]
    ana = user(zendesk, "Ana", email="ana@x.example", organization_id=home)["id"]
    ticket = sandbox.post_control("tickets", {"requester_id": ana, "status": "open"})["ticket"]
    assert ticket["organization_id"] == home
    (row,) = zendesk.get(f"/api/v2/users/{ana}/organization_memberships").json()["organization_memberships"]
    zendesk.delete(f"/api/v2/organization_memberships/{row['id']}")
    assert zendesk.get(f"/api/v2/tickets/{ticket['id']}").json()["ticket"]["organization_id"] is None


def test_a_deleted_user_stays_as_inactive_and_frees_its_email(zendesk: Client) -> None:
    """Deleting answers with active false, and the email can be used again."""
    ana = user(zendesk, "Ana", email="ana@x.example", external_id="U1")
    assert zendesk.delete(f"/api/v2/users/{ana['id']}").json()["user"]["active"] is False
    assert zendesk.get(f"/api/v2/users/{ana['id']}").json()["user"]["active"] is False
    assert user(zendesk, "Ana again", email="ana@x.example", external_id="U1")["id"] != ana["id"]


def test_users_are_found_by_email_and_external_id(zendesk: Client) -> None:
    """Search takes an email query, a plain query and an external id."""
    ana = user(zendesk, "Ana Unusual", email="ana@x.example", external_id="U1")["id"]
    for params in ({"query": "email:ANA@x.example"}, {"query": "unusual"}, {"external_id": "u1"}):
        found = zendesk.get("/api/v2/users/search.json", **params).json()["users"]
        assert [row["id"] for row in found] == [ana]
    assert zendesk.get("/api/v2/users", external_id="u1").json()["users"][0]["id"] == ana


def test_create_or_update_matches_an_agent_by_email(sandbox: Sandbox, zendesk: Client) -> None:
    """create_or_update overwrites whoever holds the email, staff too, as the real one does."""
    values = {"email": "mina.walsh@support-desk.example", "name": "Not Mina"}
    reply = zendesk.post("/api/v2/users/create_or_update", {"user": values})
    assert reply.status_code == 200
    assert (reply.json()["user"]["role"], reply.json()["user"]["name"]) == ("agent", "Not Mina")


def test_lists_are_paged_by_cursor_and_by_number(zendesk: Client) -> None:
    """Cursor pages cover every row once; numbered pages end at 10,000 rows."""
    ids, after = [], None
    while True:
        params = {"page[size]": 20, **({"page[after]": after} if after else {})}
        page = zendesk.get("/api/v2/users.json", **params).json()
        ids += [row["id"] for row in page["users"]]
        if not page["meta"]["has_more"]:
            break
        after = page["meta"]["after_cursor"]
    assert len(ids) == len(set(ids)) == 66
    assert zendesk.get("/api/v2/users", page=101).json()["errors"][0]["code"] == "InvalidPaginationDepth"


@pytest.mark.parametrize("path", ["/api/v2/organizations/1", "/api/v2/users/1.json", "/api/v2/job_statuses/V3-x"])
def test_a_record_that_is_not_there_is_404(zendesk: Client, path: str) -> None:
    """A missing record is RecordNotFound."""
    reply = zendesk.get(path)
    assert (reply.status_code, reply.json()["error"]) == (404, "RecordNotFound")


def test_a_path_that_is_not_there_is_another_404(zendesk: Client) -> None:
    """A doubled suffix is no endpoint."""
    reply = zendesk.post("/api/v2/users/create_or_update_many.json.json", {"users": []})
    assert (reply.status_code, reply.json()["error"]) == (404, "InvalidEndpoint")
