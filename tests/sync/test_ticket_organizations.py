"""Open tickets without an organization get that of their customer, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger import identity
from airflow_provider_qadzd.ledger import ticket_organizations as memory
from airflow_provider_qadzd.sync.apply import Done
from airflow_provider_qadzd.sync.ticket_organizations import TicketOrganizations, outcome_of, that_would_fire
from airflow_provider_qadzd.zendesk.wire import job_results
from tests.sync.test_deliveries import change
from tests.sync.test_exports import export
from tests.sync.world import World

UPDATES = "PUT /api/v2/tickets/update_many"


def homeless(world: World, count: int, contact: str = "50007") -> list[int]:
    """New tickets of that contact, without an organization, as the export brings them."""
    user = world.users()[contact]["id"]
    ids = [world.sandbox.post_control("tickets", {"requester_id": user})["ticket"]["id"] for _ in range(count)]
    for ticket_id in ids:
        change(world, ticket_id, organization_id=None)
    world.start_exports()
    world.clock.sleep(130)
    export(world, f"after {ids[0]}")
    return ids


def act(world: World, owner: str = "run") -> dict[str, Any]:
    """Step to the end, as the operator does."""
    acting = TicketOrganizations(world.ledger, world.account.account_id, world.zendesk, owner)
    for _ in range(60):
        state = acting.step()
        if isinstance(state, Done):
            return state.report
        world.clock.sleep(max(0.0, state.until - world.clock.time()))
    raise AssertionError("it does not come to an end")


def homes(world: World, ids: list[int]) -> list[int | None]:
    """The organizations of these tickets in Zendesk."""
    there = {row["id"]: row["organization_id"] for row in world.there()["tickets"]}
    return [there[one] for one in ids]


def test_missing_organizations_are_set_once(synced: World) -> None:
    """Each open ticket gets its customer's organization, audited; a second run sends nothing, nor does a later one."""
    ids = homeless(synced, 3)
    home = synced.organizations()["C0000207"]["id"]
    synced.count_anew()
    report = act(synced)
    assert report["organizations"]["set"] >= 3
    assert report["zendesk_writes"] == synced.calls()[UPDATES] == 1
    assert homes(synced, ids) == [home] * 3
    told = {row["record_key"]: row for row in synced.rows("audit_entry", kind="ticket", event="organization_set")}
    assert told[str(ids[0])]["detail"] == {"organization_id": home, "customer": "C0000207", "outcome": "set"}
    assert act(synced) == {"organizations": {}, "zendesk_writes": 0}
    synced.clock.sleep(130)
    export(synced, "later")
    assert act(synced)["zendesk_writes"] == 0
    # somebody takes one away again, and that stands
    change(synced, ids[0], organization_id=None)
    synced.clock.sleep(130)
    export(synced, "latest")
    assert act(synced)["zendesk_writes"] == 0
    assert homes(synced, ids) == [None, home, home]


def test_what_changed_in_zendesk_meanwhile_is_not_touched(synced: World) -> None:
    """A ticket that has an organization by now, is over, is gone, or has another requester stays as it is."""
    ids = homeless(synced, 5)
    act(synced)
    late = homeless(synced, 5)
    other, stranger = synced.organizations()["C0000205"]["id"], synced.users()["50009"]["id"]
    change(synced, late[0], organization_id=other)
    change(synced, late[1], status="solved")
    change(synced, late[2], deleted=True)
    change(synced, late[3], requester_id=stranger)
    act(synced)
    assert homes(synced, late) == [other, None, None, None, homes(synced, ids)[0]]


def test_it_goes_by_hundreds(synced: World) -> None:
    """Zendesk takes a hundred tickets a job; one job runs at a time."""
    synced.settings(job_delay=3)
    ids = homeless(synced, 130)
    synced.count_anew()
    assert act(synced)["zendesk_writes"] == synced.calls()[UPDATES] == 2
    assert None not in homes(synced, ids)


@pytest.mark.parametrize("action", ["drop", "reset-after"])
def test_a_lost_answer_is_looked_for(synced: World, action: str) -> None:
    """Where the answer to a job's start is lost, what became of it is read in Zendesk before anything is sent again."""
    ids = homeless(synced, 2)
    synced.fault(UPDATES, action=action, times=9)
    with pytest.raises(TryLater):
        act(synced)
    synced.sandbox.delete_control("faults")
    synced.clock.sleep(60)
    synced.count_anew()
    report = act(synced, "another")
    assert None not in homes(synced, ids)
    assert report["organizations"]["set"] >= 2
    assert synced.calls()[UPDATES] == (1 if action == "drop" else 0)
    assert memory.in_flight(synced.ledger, synced.account.account_id) == []


def test_a_job_that_comes_to_nothing_is_tried_three_times(synced: World) -> None:
    """A job that fails as a whole is sent again, and in the end its tickets are refused and told."""
    (ticket_id, *_) = homeless(synced, 1)
    synced.fault(UPDATES, action="job", job={"fails_after": 0}, times=3)
    report = act(synced)
    (row,) = synced.rows("ticket_organization", ticket_id=ticket_id)
    assert (row["intent_state"], row["outcome"], row["attempts"]) == ("done", "refused", 3)
    assert report["organizations"]["refused"] >= 1


def test_without_the_right_scope_nothing_is_left_open(synced: World) -> None:
    """A refused call takes the intents back and says what a person must do."""
    homeless(synced, 1)
    synced.fault(UPDATES, status=403, body={"error": "Forbidden"}, times=1)
    with pytest.raises(FixFirst):
        act(synced)
    assert memory.in_flight(synced.ledger, synced.account.account_id) == []
    assert act(synced)["zendesk_writes"] == 1


def test_it_is_off_until_somebody_allows_it(synced: World) -> None:
    """The account's setting is no until it is set, and is kept."""
    assert synced.account.set_ticket_organization is False
    identity.note_ticket_organization(synced.ledger, synced.account.account_id, True)
    assert identity.account_at(synced.ledger, synced.sandbox.url).set_ticket_organization is True


def a_trigger(title: str, *conditions: tuple[str, str, str], active: bool = True) -> dict[str, Any]:
    """A trigger with these conditions, as Zendesk lists it."""
    every = [dict(zip(("field", "operator", "value"), one, strict=True)) for one in conditions]
    return {"title": title, "active": active, "conditions": {"all": every, "any": []}}


def test_which_triggers_would_fire() -> None:
    """Active ones that ask for the organization, or for any update without a change of something else."""
    change = ("update_type", "is", "Change")
    triggers = [
        a_trigger("organization", ("organization_id", "is", "7")),
        a_trigger("off", ("organization_id", "is", "7"), active=False),
        a_trigger("any update", change),
        a_trigger("solved", change, ("status", "value", "solved")),
        a_trigger("created", ("update_type", "is", "Create")),
        {"title": "either", "active": True, "conditions": {"all": None, "any": [{"field": "organization_id"}]}},
    ]
    assert that_would_fire(triggers) == ["organization", "any update", "either"]


class Sent:
    """An intent to give ticket 5 organization 9."""

    ticket_id, organization_id, attempts = 5, 9, 1


@pytest.mark.parametrize(
    ("now", "results", "outcome"),
    [
        pytest.param(None, None, "gone", id="gone"),
        pytest.param({"organization_id": 9}, None, "set", id="there, whatever the job says"),
        pytest.param({"organization_id": 8}, None, "left", id="somebody else was quicker"),
        pytest.param({"organization_id": None, "status": "closed"}, None, "refused over", id="closed meanwhile"),
        pytest.param({"organization_id": None, "status": "open"}, None, None, id="the job is unknown"),
        pytest.param(
            {"organization_id": None, "status": "open"}, [{"id": 5, "success": True}], "refused not kept", id="not kept"
        ),
        pytest.param(
            {"organization_id": None, "status": "open"},
            [{"id": 5, "success": False, "error": "TicketUpdateFailed"}],
            "refused TicketUpdateFailed",
            id="refused",
        ),
    ],
)
def test_what_became_of_an_intent(
    now: dict[str, Any] | None, results: list[dict[str, Any]] | None, outcome: str | None
) -> None:
    """The ticket itself tells first, then the job's row of it; without either it is sent again, three times at most."""
    job = job_results({"id": "J", "status": "completed", "results": results}) if results else None
    assert outcome_of(Sent(), now, job) == outcome
    if outcome is None:
        last = Sent()
        last.attempts = 3
        assert outcome_of(last, now, job) == "refused"
