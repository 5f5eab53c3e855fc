"""Limits, lost answers and outages on the way out: waited out or put off, and then the right end state."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger.applying import take_applier
from airflow_provider_qadzd.sync.apply import LEASE_SECONDS, Applier, Waiting
from airflow_provider_qadzd.sync.collect import collect
from tests.sync.world import World

JSON_429 = {"error": "APIRateLimitExceeded", "description": "Number of allowed API requests per minute exceeded"}
TEXT_429 = "You have exceeded the rate limit for updating a single unique user. user email:  id:  external_id: "


def whole(world: World) -> None:
    """Everything arrived once, and a further run has nothing to do."""
    there = world.there()
    external_ids = [row["external_id"] for row in there["organizations"] + there["users"] if row["external_id"]]
    assert len(external_ids) == len(set(external_ids)) == 25
    pairs = [(row["user_id"], row["organization_id"]) for row in there["organization_memberships"]]
    assert len(pairs) == len(set(pairs)) == 15
    asides = {key for key, (outcome, _) in world.outcomes().items() if outcome == "set_aside"}
    assert asides == {("user", "50002")}
    assert {row["change_state"] for row in world.rows("change_item")} == {"done"}
    world.sandbox.delete_control("faults")
    world.count_anew()
    assert (world.sync()[0].changes, world.writes()) == (0, 0)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"retry_after": "7", "body": JSON_429}, id="whole seconds, JSON"),
        pytest.param({"retry_after": "7.5", "body": TEXT_429, "content_type": "text/plain"}, id="decimal, plain text"),
        pytest.param({"retry_after": "date", "body": TEXT_429, "content_type": "text/plain"}, id="a date, plain text"),
        pytest.param({"body": JSON_429}, id="no Retry-After, JSON"),
        pytest.param({"body": TEXT_429, "content_type": "text/plain"}, id="no Retry-After, plain text"),
        pytest.param({"retry_after": "600", "body": JSON_429}, id="longer than a call may wait"),
    ],
)
def test_a_429_anywhere_is_waited_out(small: World, how: dict[str, Any]) -> None:
    """A 429 on reads and on writes is waited out, in place or by coming back, and everything arrives once."""
    if how.get("retry_after") == "date":
        how = {**how, "retry_after": formatdate(small.clock.time() + 9, usegmt=True)}
    small.collect()
    small.mirror()
    plan = small.plan()
    for call in ("GET /api/v2/*/show_many", "POST /api/v2/*", "PUT /api/v2/*", "GET /api/v2/job_statuses*"):
        small.fault(call, status=429, times=2, **how)
    before = small.clock.time()
    small.apply_through(plan)
    assert small.clock.time() - before >= 7
    assert small.sandbox.get_control("stats")["rate_limited"] == 8
    whole(small)


def test_our_own_budget_is_kept(small: World) -> None:
    """The account's limits are never run into: the sandbox refuses no call of a whole sync."""
    small.sandbox.post_control("limits", {"enabled": True, "requests_per_minute": 40})
    small.sandbox.post_control("settings", {"bulk_import": False})
    for _ in range(3):
        try:
            small.mirror()
            break
        except TryLater as error:
            small.clock.sleep(error.wait)
    small.collect()
    small.apply_through(small.plan())
    assert small.sandbox.get_control("stats")["rate_limited"] == 0


@pytest.mark.parametrize(
    "call",
    [
        "POST /api/v2/organizations/create_many",
        "POST /api/v2/users/create_many",
        "PUT /api/v2/users/update_many",
        "PUT /api/v2/organizations/[0-9]*",
        "POST /api/v2/organization_memberships/create_many",
    ],
)
@pytest.mark.parametrize("acted", [True, False], ids=["done, answer lost", "never done"])
def test_a_write_whose_answer_is_lost_is_looked_for(small: World, call: str, acted: bool) -> None:
    """A write without an answer is unknown until Zendesk was asked: done or not, everything arrives once."""
    small.collect()
    small.mirror()
    plan = small.plan()
    small.fault(call, action="drop", after_effect=acted, times=9 if call.startswith("PUT") else 1)
    with pytest.raises(TryLater, match="lost"):
        small.apply(plan)
    assert "unknown" in {row["change_state"] for row in small.rows("change_item")}
    small.sandbox.delete_control("faults")
    small.apply_through(plan)
    whole(small)


def test_unknown_changes_outlive_a_new_plan(small: World) -> None:
    """A next run leaves what is unknown open, looks for it first, and counts it among its outcomes."""
    small.collect()
    small.mirror()
    small.fault("POST /api/v2/organizations/create_many", action="drop", after_effect=True)
    with pytest.raises(TryLater):
        small.apply(small.plan(), owner="first")
    small.clock.sleep(301)
    _, report = small.sync("second")
    assert report["outcomes"]["organization"]["created"] == 11
    whole(small)


def test_a_lost_single_membership_and_email_are_looked_for(synced: World) -> None:
    """A membership and an email whose answers were lost are found in the user's own lists."""
    new = {"id": 50006, "customers": ["C0000209"], "email": "other@somewhere.example"}
    synced.sandbox.post_control("contacts", new)
    synced.collect()
    synced.mirror()
    plan = synced.plan()
    synced.fault("POST /api/v2/organization_memberships", action="drop", after_effect=True)
    synced.fault("POST /api/v2/users/*/identities", action="drop", after_effect=True)
    synced.apply_through(plan)
    user = synced.users()["50006"]
    assert "C0000209" in synced.homes(user["id"])
    emails = [row["value"] for row in synced.there()["identities"] if row["user_id"] == user["id"]]
    assert sorted(emails) == sorted([user["email"], "other@somewhere.example"])
    synced.sync()  # the default organization follows
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_a_lost_write_waits_for_the_jobs_of_its_kind(small: World) -> None:
    """A lost request may be a job that still runs: nothing is sent again until no job of its kind is open."""
    small.settings(job_delay=120)
    small.collect()
    small.mirror()
    plan = small.plan()
    small.fault("POST /api/v2/organizations/create_many", action="drop", after_effect=True)
    with pytest.raises(TryLater):
        small.apply(plan)
    state = small.applier(plan).step()
    assert isinstance(state, Waiting)
    small.clock.sleep(60)
    small.applier(plan).step()
    assert small.calls()["POST /api/v2/organizations/create_many"] == 1
    small.apply_through(plan)
    assert small.calls()["POST /api/v2/organizations/create_many"] == 1
    assert small.calls()["POST /api/v2/organizations"] == 0
    whole(small)


def test_a_lost_write_is_looked_for_after_a_while_in_any_case(small: World) -> None:
    """Where somebody's jobs never end, a lost request is looked for after a quarter of an hour."""
    small.collect()
    small.mirror()
    plan = small.plan()
    small.fault("POST /api/v2/organizations/create_many", action="drop", after_effect=True)
    with pytest.raises(TryLater):
        small.apply(plan)
    small.settings(job_delay=100_000)
    small.zendesk.organizations.create_many([{"name": "Somebody else's"}])
    assert isinstance(small.applier(plan).step(), Waiting)
    small.clock.sleep(901)
    small.settings(job_delay=0)
    small.apply_through(plan)
    whole(small)


def test_a_vanished_job_is_resolved_by_reading(small: World) -> None:
    """A job that Zendesk no longer knows is resolved by what is there: no duplicate, no gap."""
    small.settings(job_delay=30)
    small.collect()
    small.mirror()
    plan = small.plan()
    assert isinstance(small.applier(plan).step(), Waiting)
    small.clock.sleep(31)
    small.sandbox.state.jobs.all.clear()
    small.settings(job_delay=0)
    small.apply_through(plan)
    assert small.calls()["POST /api/v2/organizations"] == 0
    whole(small)


def test_a_job_that_died_is_done_singly(small: World) -> None:
    """Rows of a job that ended without doing them are sent one by one."""
    small.settings(job_delay=30)
    small.collect()
    small.mirror()
    plan = small.plan()
    assert isinstance(small.applier(plan).step(), Waiting)
    with small.sandbox.state.lock:
        for job in list(small.sandbox.state.jobs.all.values()):
            job.rows.clear()
    small.clock.sleep(31)
    small.settings(job_delay=0)
    small.apply_through(plan)
    assert small.calls()["POST /api/v2/organizations"] == 11
    whole(small)


def test_too_many_jobs_is_waited_for(small: World) -> None:
    """While other people's jobs fill the account, ours wait their turn."""
    small.sandbox.post_control("limits", {"enabled": True, "jobs_in_flight": 1, "requests_per_minute": 100_000})
    small.settings(job_delay=45)
    small.zendesk.organizations.create_many([{"name": "Somebody else's"}])
    small.collect()
    small.mirror()
    small.apply_through(small.plan())
    assert small.sandbox.get_control("stats")["rate_limited"] > 0
    whole(small)


@pytest.mark.parametrize("status", [500, 502, 503], ids=["500", "502", "503"])
def test_an_outage_of_zendesk_is_put_off(small: World, status: int) -> None:
    """While Zendesk is away the run says so and can be repeated; then everything arrives once."""
    small.collect()
    small.mirror()
    plan = small.plan()
    small.fault("* /api/v2/*", status=status, times=None)
    with pytest.raises(TryLater, match="not available"):
        small.apply(plan)
    small.sandbox.delete_control("faults")
    small.apply_through(plan)
    whole(small)


def test_a_second_run_waits_for_the_first(small: World) -> None:
    """One run applies to an account at a time; another is told who does, and comes in once the lease has lapsed."""
    small.settings(job_delay=50)
    small.collect()
    small.mirror()
    plan = small.plan()
    assert isinstance(small.applier(plan, "first").step(), Waiting)
    with pytest.raises(TryLater, match=r"Another run \(first\)") as told:
        small.applier(plan, "second").step()
    assert 0 < told.value.wait <= 60
    small.clock.sleep(301)
    small.applier(plan, "second").step()
    with pytest.raises(TryLater, match="second"):
        small.applier(plan, "first").step()
    small.apply(plan, "second")
    small.apply(plan, "first")
    whole(small)


def test_a_long_stretch_of_single_calls_keeps_the_lease(small: World) -> None:
    """Single calls that take longer than the lease lasts prolong it as they go."""
    small.settings(bulk_import=False)
    small.collect()
    small.mirror()
    plan = small.plan()
    small.fault("POST /api/v2/users", status=429, retry_after="50", every=2, times=None)
    before = small.clock.time()
    small.apply(plan)
    assert small.clock.time() - before > 300
    whole(small)


def test_a_run_that_was_overtaken_stops(small: World) -> None:
    """Whoever lost the lease while waiting for an answer sends nothing more: each intent is refused without it."""
    small.settings(bulk_import=False)
    small.collect()
    small.mirror()
    plan = small.plan()
    first = small.applier(plan, "first")
    lease = take_applier(small.ledger, small.flow.account_id, "first", LEASE_SECONDS)
    small.clock.sleep(301)
    small.applier(plan, "second").step()
    small.count_anew()
    with pytest.raises(TryLater, match="taken over"):
        first._send_all(lease, "user")
    assert small.writes() == 0
    small.apply(plan, "second")
    whole(small)


def test_wrong_zendesk_credentials_fail_at_once(small: World) -> None:
    """Wrong credentials are a person's to mend: FixFirst at once, naming the connection, without the secret."""
    wrong = Applier(small.ledger, small.flow, small.zendesk_client("not-the-secret"), "run", 1)
    small.collect()
    small.mirror()
    small.plan()
    before = small.clock.time()
    with pytest.raises(FixFirst, match="connection zendesk_default") as told:
        wrong.step()
    assert "not-the-secret" not in str(told.value)
    assert small.clock.time() - before < 1
    # and the lease is free for the next run
    assert small.apply(small.plan(), "next")["zendesk_writes"] > 0


def test_a_revoked_right_leaves_changes_planned(small: World) -> None:
    """Where Zendesk forbids a write, the run fails at once and the changes are planned as before."""
    small.collect()
    small.mirror()
    plan = small.plan()
    small.fault("POST /api/v2/organizations/create_many", status=403, body={"error": "Forbidden"}, times=None)
    with pytest.raises(FixFirst, match="permit"):
        small.apply(plan)
    assert {row["change_state"] for row in small.rows("change_item")} == {"planned"}
    small.sandbox.delete_control("faults")
    small.apply(plan, "next")
    whole(small)


def test_wrong_qad_credentials_fail_at_once(small: World) -> None:
    """A wrong QAD password is FixFirst at once, naming the connection, without the password."""
    with pytest.raises(FixFirst, match="connection qad_default") as told:
        collect(small.ledger, small.flow.source_id, small.qad_client("wrong-password"), "run")
    assert "wrong-password" not in str(told.value)


def test_qad_away_in_the_middle_of_a_read(synced: World) -> None:
    """Pages before the fault are stored, the read is incomplete with its reason, and nothing is concluded from it."""
    synced.sandbox.post_control("customers", {"code": "C0000201", "name": "First page"})
    synced.sandbox.post_control("customers", {"code": "C0000212", "name": "Third page"})
    before = synced.organizations()
    synced.fault("GET /clouderp/*", contains="page=2", status=503, times=None)
    with pytest.raises(TryLater, match="QAD") as told:
        collect(synced.ledger, synced.flow.source_id, synced.qad_client(page_size=5), "run", full=True)
    assert told.value.wait > 0
    read = synced.rows("qad_read")[-1]
    assert (read["complete"], read["row_count"]) == (False, 5)
    assert "QAD" in read["reason"]
    plan = synced.plan()
    assert plan.counts["organization"] == {"updated": 1, "unchanged": 11}
    assert plan.counts["user"]["unchanged"] == 13
    synced.apply(plan)
    after = synced.organizations()
    assert {key for key in after if after[key] != before[key]} == {"C0000201"}
    assert all(
        row["organization_fields"]["qad_status"] == "active"
        for row in after.values()
        if row["external_id"] not in (None, "C0000208")
    )


def test_an_empty_read_of_qad_deactivates_nothing(synced: World) -> None:
    """Silence is not deletion: customers that QAD stops telling of stay as they are."""
    for code in ("C0000209", "C0000210", "C0000211"):
        synced.sandbox.post_control("customers", {"code": code, "delete": True})
    before = synced.organizations()
    plan, _ = synced.sync()
    assert (plan.changes, synced.writes()) == (0, 0)
    assert synced.organizations() == before
