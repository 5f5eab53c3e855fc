"""The sandbox under zenpy, a Zendesk client that nobody wrote for it, over a real socket and without a change to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from zenpy import Zenpy
from zenpy.lib.api_objects import Identity, Organization, OrganizationMembership, Ticket, Trigger, User, Webhook
from zenpy.lib.exception import APIException, RecordNotFoundException

from airflow_provider_qadzd.sandbox import Sandbox

from .conftest import token_for

EPOCH = 1


@pytest.fixture
def zenpy(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zenpy]:
    """zenpy on a default sandbox; its links carry the sandbox's own host, since zenpy follows them as they are."""
    sandbox.post_control("settings", {"export_host": ""})
    monkeypatch.setenv("ZENPY_FORCE_SCHEME", "http")
    monkeypatch.setenv("ZENPY_FORCE_NETLOC", sandbox.url.removeprefix("http://"))
    with requests.Session() as session:
        session.trust_env = False
        yield Zenpy(
            subdomain="sandbox", oauth_token=token_for(sandbox.url), session=session, disable_cache=True, timeout=30
        )


def ended(zenpy: Zenpy, job: Any) -> Any:
    """The job, asked for once more."""
    return zenpy.job_status(id=job.id)


def test_records_live_through_zenpy(zenpy: Zenpy) -> None:
    """What zenpy creates it reads, changes, finds by external id, and deletes, which then is not found."""
    made = zenpy.organizations.create(Organization(name="Alder Ltd", external_id="Z-1"))
    made.notes = "seen"
    assert zenpy.organizations.update(made).notes == "seen"
    user = zenpy.users.create(User(name="Una", email="una@alder.example", organization_id=made.id, verified=True))
    user.phone = "+44 113 496 0000"
    assert zenpy.users.update(user).phone == "+44 113 496 0000"
    assert [row.id for row in zenpy.organizations(external_ids=["Z-1"])] == [made.id]
    # zenpy begins its own parameters with a second question mark; the ampersand ends the value before it.
    assert [row.id for row in zenpy.organizations.external("Z-1&")] == [made.id]
    assert [row.id for row in zenpy.users.organizations(user)] == [made.id]
    assert zenpy.users.me().role == "admin"
    zenpy.organizations.delete(made)
    with pytest.raises(RecordNotFoundException):
        zenpy.organizations(id=made.id)


def test_upserts_match_through_zenpy(zenpy: Zenpy) -> None:
    """create_or_update meets the same user and the same organization a second time."""
    first = zenpy.users.create_or_update(User(name="Una", email="una@alder.example", external_id="Z-1"))
    again = zenpy.users.create_or_update(User(name="Una Reyes", external_id="Z-1"))
    assert (again.id, again.name) == (first.id, "Una Reyes")
    made = zenpy.organizations.create_or_update(Organization(name="Alder", external_id="Z-2"))
    assert zenpy.organizations.create_or_update(Organization(name="Birch", external_id="z-2")).id == made.id


def test_jobs_are_polled_by_zenpy(sandbox: Sandbox, zenpy: Zenpy) -> None:
    """A list makes a bulk call whose job ends when its time has come, with a result for each row."""
    sandbox.post_control("settings", {"job_delay": 5})
    rows = [Organization(name=f"Bulk {number}", external_id=f"B-{number}") for number in range(3)]
    job = zenpy.organizations.create(rows)
    assert ended(zenpy, job).status == "queued"
    sandbox.post_control("clock", {"advance": 6})
    done = ended(zenpy, job)
    assert (done.status, len(done.results)) == ("completed", 3)
    made = [zenpy.organizations(id=row.id) for row in done.results]
    assert sorted(row.external_id for row in made) == ["B-0", "B-1", "B-2"]
    for row in made:
        row.notes = "again"
    change = zenpy.organizations.update(made)
    sandbox.post_control("clock", {"advance": 6})
    assert [job.status for job in zenpy.job_status(ids=[job.id, change.id])["job_statuses"]] == ["completed"] * 2


@pytest.mark.parametrize("kind", ["users", "tickets"])
def test_bulk_creation_and_deletion_by_zenpy(zenpy: Zenpy, kind: str) -> None:
    """Users and tickets are made and deleted by the list."""
    rows = [User(name=f"P {n}", email=f"p{n}@z.example", verified=True) for n in range(2)]
    if kind == "tickets":
        rows = [Ticket(subject=f"T {n}", description="Please help.") for n in range(2)]
    group = getattr(zenpy, kind)
    done = ended(zenpy, group.create(rows))
    made = [group(id=row.id) for row in done.results]
    assert ended(zenpy, group.delete(made)).status == "completed"


def test_upserts_in_bulk_by_zenpy(zenpy: Zenpy) -> None:
    """A list of users is matched row by row."""
    zenpy.users.create(User(name="Old", email="old@z.example", verified=True))
    rows = [User(name="Older", email="old@z.example"), User(name="New", email="new@z.example")]
    done = ended(zenpy, zenpy.users.create_or_update(rows))
    assert [row.status for row in done.results] == ["Updated", "Created"]


def test_search_by_zenpy(zenpy: Zenpy) -> None:
    """Search finds by type and term, counts, and pages; users and an export are searched as well."""
    zenpy.organizations.create(Organization(name="Kestrel Pumps"))
    assert [row.name for row in zenpy.search("kestrel", type="organization")] == ["Kestrel Pumps"]
    solved = list(zenpy.search(type="ticket", status="solved"))
    assert solved
    assert {row.status for row in solved} == {"solved"}
    assert zenpy.search.count(type="ticket", status="solved") == len(solved)
    assert len(list(zenpy.search(type="ticket"))) == len({row.id for row in zenpy.search(type="ticket")}) > 100
    assert {row.id for row in zenpy.search_export(type="ticket")} == {row.id for row in zenpy.search(type="ticket")}
    [user] = zenpy.users.search(query="email:mina.walsh@support-desk.example")
    assert user.role == "agent"


def test_search_ends_at_a_thousand_for_zenpy(sandbox: Sandbox, zenpy: Zenpy) -> None:
    """The eleventh page is refused in the form that zenpy knows, so it keeps what it has."""
    for start in range(0, 1000, 100):
        zenpy.organizations.create([Organization(name=f"Many {start + n}") for n in range(100)])
    assert sandbox.get_control("state")["counts"]["organizations"] > 1000
    assert len(list(zenpy.search(type="organization"))) == 1000


@pytest.mark.parametrize("by_time", [False, True], ids=["by cursor", "by time"])
def test_exports_by_zenpy(sandbox: Sandbox, zenpy: Zenpy, by_time: bool) -> None:
    """Tickets and users come completely, over several pages, whichever way they are paged."""
    sandbox.post_control("clock", {"advance": 120})
    seen = sandbox.get_control("state")
    for group, name in ((zenpy.tickets, "tickets"), (zenpy.users, "users")):
        rows = group.incremental(start_time=EPOCH, per_page=30, paginate_by_time=by_time)
        assert {row.id for row in rows} == {row["id"] for row in seen[name]}


def test_other_exports_by_zenpy(sandbox: Sandbox, zenpy: Zenpy) -> None:
    """Organizations and the history of tickets come by time."""
    sandbox.post_control("clock", {"advance": 120})
    seen = sandbox.get_control("state")["organizations"]
    assert {row.id for row in zenpy.organizations.incremental(start_time=EPOCH)} == {row["id"] for row in seen}
    assert {event.ticket_id for event in zenpy.tickets.events(start_time=EPOCH)}


def test_lists_by_zenpy(sandbox: Sandbox, zenpy: Zenpy) -> None:
    """Lists are walked to their end by the links of their pages."""
    counts = sandbox.get_control("state")["counts"]
    assert len(list(zenpy.organizations())) == counts["organizations"]
    assert len(list(zenpy.organization_memberships())) == counts["organization_memberships"]
    assert len({row.id for row in zenpy.tickets()}) > 100


def test_people_are_moved_and_merged_by_zenpy(zenpy: Zenpy) -> None:
    """Identities, memberships and the merging of two users do what zenpy expects of them."""
    home = zenpy.organizations.create(Organization(name="Home"))
    una = zenpy.users.create(User(name="Una", email="una@z.example", verified=True))
    twin = zenpy.users.create(User(name="Una too", email="una2@z.example", verified=True))
    zenpy.organization_memberships.create(OrganizationMembership(user_id=twin.id, organization_id=home.id))
    zenpy.users.identities.create(twin, Identity(type="email", value="una3@z.example", verified=True))
    assert zenpy.users.merge(twin, una).id == una.id
    assert {row.value for row in zenpy.users.identities(id=una.id)} == {
        "una@z.example",
        "una2@z.example",
        "una3@z.example",
    }
    assert [row.organization_id for row in zenpy.users.organization_memberships(una)] == [home.id]
    assert zenpy.users(id=twin.id).active is False


def test_tickets_by_zenpy(zenpy: Zenpy) -> None:
    """A ticket is made and solved, and each time zenpy gets the audit beside it."""
    audit = zenpy.tickets.create(Ticket(subject="Pump", description="It leaks."))
    audit.ticket.status = "solved"
    done = zenpy.tickets.update(audit.ticket)
    assert done.ticket.status == "solved"
    assert done.audit.ticket_id == audit.ticket.id


def test_hooks_by_zenpy(sandbox: Sandbox, zenpy: Zenpy) -> None:
    """A webhook with its secret, and a trigger that calls it, are made, listed and deleted."""
    hook = Webhook(
        name="Z", endpoint=f"{sandbox.url}/_sandbox/stats", http_method="POST", request_format="json",
        status="active", subscriptions=["conditional_ticket_events"],
    )  # fmt: skip
    made = zenpy.webhooks.create(hook)
    assert zenpy.webhooks.show_secret(made).secret
    assert [row.id for row in zenpy.webhooks.list()] == [made.id]
    action = {"field": "notification_webhook", "value": [made.id, "{}"]}
    conditions = {"all": [{"field": "status", "operator": "value", "value": "solved"}], "any": []}
    trigger = zenpy.triggers.create(Trigger(title="T", conditions=conditions, actions=[action]))
    assert [row.id for row in zenpy.triggers()] == [trigger.id]
    zenpy.triggers.delete(trigger)
    zenpy.webhooks.delete(made)
    assert list(zenpy.webhooks.list()) == []


def test_refusals_reach_zenpy(sandbox: Sandbox, zenpy: Zenpy) -> None:
    """A refused record raises with its envelope; a rate limit with a whole number of seconds is waited out."""
    zenpy.organizations.create(Organization(name="Taken"))
    with pytest.raises(APIException, match="DuplicateValue"):
        zenpy.organizations.create(Organization(name="taken"))
    sandbox.post_control("faults", {"match": "GET /api/v2/users/me", "status": 429, "retry_after": 1})
    assert zenpy.users.me().role == "admin"
