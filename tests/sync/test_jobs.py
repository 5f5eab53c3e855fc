"""Bulk jobs read to the end: one outcome for each row, whatever shape Zendesk's answer has and however a job ends."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.sync.apply import Waiting
from airflow_provider_qadzd.sync.draft import Plan
from airflow_provider_qadzd.sync.singly import HANDS, NO_ANSWER
from tests.sync.test_faults import whole
from tests.sync.world import World

INVALID = {"error": "RecordInvalid", "description": "Record validation errors", "details": {}}


def planned(world: World, **settings: Any) -> Plan:
    """The plan of a first run."""
    world.settings(**settings)
    world.collect()
    world.mirror()
    return world.plan()


def test_a_row_that_spoils_its_job_is_found_by_smaller_ones(small: World) -> None:
    """A job that Zendesk will not take is cut into tens, and only the ten with the bad row goes row by row."""
    plan = planned(small)
    keys = [row["record_key"] for row in small.rows("change_item", kind="organization") if row["operation"] == "create"]
    small.fault("POST /api/v2/organizations*", status=422, body=INVALID, contains=f'"{keys[3]}"', times=None)
    small.count_anew()
    small.apply_through(plan)
    calls = small.sandbox.get_control("stats")["calls"]
    assert calls["POST /api/v2/organizations/create_many"] == 2
    assert calls["POST /api/v2/organizations"] == len(keys) == 11
    asides = {key for key, (outcome, _) in small.outcomes().items() if outcome == "set_aside"}
    assert ("organization", keys[3]) in asides
    assert len([key for kind, key in asides if kind == "organization"]) == 1


@pytest.mark.parametrize("delay", [0, 4])
@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"job_failed_items": "documented"}, id="failed rows as documented"),
        pytest.param({"job_failed_items": "index"}, id="failed rows by index"),
        pytest.param({"job_failed_items": "id"}, id="failed rows with an id that names nothing"),
        pytest.param({"job_fails_after": 4}, id="a job that fails half way"),
        pytest.param({"job_fails_after": 4, "job_results": "null"}, id="a job that fails half way and says nothing"),
        pytest.param({"job_fails_after": 0}, id="a job that fails at once"),
        pytest.param({"job_results": "null", "job_message": "null"}, id="a job that ends without results"),
        pytest.param({"job_vanishes": "everywhere"}, id="a job that vanishes"),
        pytest.param({"job_ends": "failed"}, id="a job that did all and says that it failed"),
        pytest.param({"job_ends": "killed"}, id="a job that did all and says that it was killed"),
        pytest.param({"language": "es", "detail_codes": False}, id="texts in Spanish and no codes"),
    ],
)
def test_every_row_has_its_outcome_however_a_job_ends(small: World, how: dict[str, Any], delay: int) -> None:
    """What a job did is told by looking, not by its words: every record arrives once, whatever the job says.

    One row fails in its job, because somebody made an organization of that name meanwhile; it is adopted.
    """
    plan = planned(small, job_delay=delay, **how)
    taken = next(row for row in small.rows("wanted", kind="organization") if row["record_key"] == "C0000204")
    small.zendesk.organizations.create({"name": taken["body"]["name"]})
    small.apply_through(plan)
    small.settings(**dict.fromkeys(("job_vanishes", "job_ends", "job_fails_after")), **USUAL)
    small.sync()
    assert small.outcomes()["organization", "C0000204"][0] == "adopted"
    whole(small)


USUAL = {
    "job_failed_items": "usual", "job_results": "rows", "job_message": "usual", "job_delay": 0, "language": "en",
    "detail_codes": True,
}  # fmt: skip
"""The settings of a sandbox whose jobs go well."""


def applied(world: World, plan: Plan) -> None:
    """Apply, and again after each TryLater, with time enough for what was lost to be looked for."""
    for _ in range(15):
        try:
            world.apply(plan)
            return
        except TryLater:
            world.clock.sleep(1000)
    raise AssertionError("apply is put off for ever")


def test_a_record_that_is_never_answered_stops_nobody_for_ever(small: World) -> None:
    """What Zendesk answers 500 again and again goes last, is put off, and is set aside when it happens again."""
    plan = planned(small)
    key = "C0000204"
    small.fault("POST /api/v2/organizations*", status=500, contains=f'"{key}"', times=None)
    applied(small, plan)
    outcomes = small.outcomes()
    assert outcomes.pop(("organization", key)) == ("failed_retryable", NO_ANSWER)
    assert {outcome for outcome, _ in outcomes.values()} <= {"created", "adopted", "shared_with", "set_aside"}
    small.clock.sleep(130)
    applied(small, small.plan())
    assert small.outcomes()["organization", key] == ("set_aside", NO_ANSWER)


def test_a_row_that_zendesk_cannot_read_is_set_aside_alone(small: World) -> None:
    """A 400 for a whole job is one row's: the job is cut smaller, and only that row is set aside."""
    plan = planned(small)
    small.fault(
        "POST /api/v2/organizations*", status=400, body={"error": "BadRequest"}, contains='"C0000204"', times=None
    )
    small.apply_through(plan)
    outcomes = small.outcomes()
    assert outcomes["organization", "C0000204"] == ("set_aside", "refused_by_zendesk BadRequest")
    assert outcomes["organization", "C0000205"][0] == "created"


def test_a_job_that_never_ends_is_not_waited_for_for_ever(small: World) -> None:
    """After an hour its records are looked for, and what is not there is tried anew."""
    plan = planned(small, job_delay=10_000_000)
    assert isinstance(small.applier(plan).step(), Waiting)
    small.settings(job_delay=0)
    small.clock.sleep(3700)
    report = small.apply_through(plan)
    assert report["outcomes"]["organization"]["created"] == 11


def test_single_calls_go_out_by_several_hands(small: World) -> None:
    """Where bulk import is off, new users are made by several calls at once, each once."""
    plan = planned(small, bulk_import=False)
    small.apply_through(plan, hands=HANDS)
    assert small.sandbox.get_control("stats")["calls"]["POST /api/v2/users"] == sum(
        row["operation"] == "create" for row in small.rows("change_item", kind="user")
    )
    whole(small)


@pytest.mark.parametrize("hands", [1, HANDS])
def test_a_limit_stops_all_hands_and_loses_none(small: World, hands: int) -> None:
    """After an answer that stops, nothing more is begun: what was answered is done, the rest stays planned."""
    plan = planned(small, bulk_import=False)
    small.fault("POST /api/v2/users", status=429, retry_after="600", skip=2, times=None)
    applier = small.applier(plan, hands=hands)
    while isinstance(waiting := applier.step(), Waiting) and waiting.until - small.clock.time() < 60:
        small.clock.sleep(2)
    users = [row for row in small.rows("change_item", kind="user") if row["operation"] == "create"]
    assert sum(row["outcome"] == "created" for row in users) == 2
    assert {row["change_state"] for row in users if not row["outcome"]} == {"planned"}
    small.sandbox.delete_control("faults")
    small.apply_through(plan)
    whole(small)


def test_a_user_that_may_not_be_changed_stops_nobody_else(synced: World) -> None:
    """A 403 for one user while the token is an admin's sets that user aside; the others are updated."""
    for contact in ("50006", "50005"):
        synced.sandbox.post_control("contacts", {"id": int(contact), "function": "Buyer of everything"})
    synced.collect()
    synced.mirror()
    plan = synced.plan()
    ids = {row["record_key"]: row["zendesk_id"] for row in synced.rows("link", kind="user")}
    synced.fault(f"PUT /api/v2/users/{ids['50006']}", status=403, body={"error": "Forbidden"}, times=None)
    synced.apply_through(plan)
    outcomes = synced.outcomes()
    assert outcomes["user", "50006"] == ("set_aside", "forbidden_by_zendesk")
    assert outcomes["user", "50005"][0] == "updated"


def test_a_token_that_may_not_write_at_all_is_a_persons_to_mend(synced: World) -> None:
    """A 403 without an admin's rights is FixFirst, and nobody is set aside for it."""
    synced.sandbox.post_control("contacts", {"id": 50005, "function": "Buyer of everything"})
    synced.collect()
    synced.mirror()
    plan = synced.plan()
    synced.fault("PUT /api/v2/users/*", status=403, body={"error": "Forbidden"}, times=None)
    synced.fault("GET /api/v2/users/me", action="html", status=200, body='{"user":{"id":1,"role":"agent"}}', times=None)
    with pytest.raises(FixFirst, match="does not permit"):
        synced.apply_through(plan)
    assert {row["change_state"] for row in synced.rows("change_item") if not row["outcome"]} == {"planned"}
