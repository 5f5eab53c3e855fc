"""What the seed always holds, and that it is the same each time."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import requests

from airflow_provider_qadzd.sandbox import Sandbox, Size, State, running
from airflow_provider_qadzd.sandbox.control import look_inside

NOW = 1_790_000_000.0


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """Both systems as they are before the first sync."""
    return look_inside(State(now=NOW))


def test_one_seed_gives_one_world() -> None:
    """The same seed gives the same rows, another seed others."""
    size = Size(12, 30, 20, 5)
    first, second = (look_inside(State(size, NOW)) for _ in range(2))
    assert [row["name"] for row in first["users"]] == [row["name"] for row in second["users"]]
    assert [row["email"] for row in first["qad"]["contacts"]] == [row["email"] for row in second["qad"]["contacts"]]
    assert [row["status"] for row in first["tickets"]] == [row["status"] for row in second["tickets"]]
    other = look_inside(State(Size(12, 30, 20, 6), NOW))
    assert [row["email"] for row in first["qad"]["contacts"]] != [row["email"] for row in other["qad"]["contacts"]]


@pytest.mark.parametrize("size", [(1, 0, 0), (1, 1, 1), (3, 5, 2), (11, 4, 9), (0, 0, 0)])
def test_small_worlds_are_possible(size: tuple[int, int, int]) -> None:
    """Every size from nothing up can be had."""
    counts = look_inside(State(Size(*size), NOW))["counts"]
    assert (counts["customers"], counts["contacts"], counts["tickets"]) == size


def test_customers_have_their_troubles(seen: dict[str, Any]) -> None:
    """Two customers share a name, one is inactive, one has an organization of its name without an external id."""
    customers = {row["code"]: row for row in seen["qad"]["customers"]}
    names = Counter(row["name"] for row in customers.values())
    assert [name for name, count in names.items() if count > 1] == ["Harrow & Pike Ltd"]
    assert customers["C0000205"]["name"] == customers["C0000206"]["name"] == "Harrow & Pike Ltd"
    assert [code for code, row in customers.items() if not row["active"]] == ["C0000208"]
    organizations = {row["name"]: row["external_id"] for row in seen["organizations"]}
    assert organizations[customers["C0000203"]["name"]] is None


def test_contacts_have_their_troubles(seen: dict[str, Any]) -> None:
    """A contact of two customers, a shared mailbox, contacts without and with a bad email, an agent's email."""
    contacts = {row["id"]: row for row in seen["qad"]["contacts"]}
    assert [row["customers"] for row in contacts.values() if len(row["customers"]) > 1] == [["C0000201", "C0000210"]]
    shared = [row for row in contacts.values() if row["email"] == "purchasing@brightwater-buying.example"]
    assert [row["customers"] for row in shared] == [["C0000203"], ["C0000204"]]
    assert contacts[50005]["email"] == ""
    assert "@" not in contacts[50009]["email"]
    staff = {row["email"] for row in seen["users"] if row["role"] != "end-user"}
    assert [row["id"] for row in contacts.values() if row["email"] in staff] == [50002]


def test_requesters_are_there_before_the_sync(seen: dict[str, Any]) -> None:
    """About three of four tickets come from people whose email QAD knows, one of them of two customers."""
    emails = {row["email"]: row for row in seen["qad"]["contacts"]}
    people = {row["id"]: row for row in seen["users"]}
    requesters = [people[row["requester_id"]] for row in seen["tickets"]]
    known = [row for row in requesters if row["email"] in emails]
    assert 0.7 < len(known) / len(requesters) < 0.8
    assert {row["external_id"] for row in requesters} == {row["organization_id"] for row in requesters} == {None}
    assert any(len(emails[row["email"]]["customers"]) > 1 for row in known)


def test_tickets_are_recent_and_mixed(seen: dict[str, Any]) -> None:
    """Most tickets are under ten days old, none over sixty, none in the withheld minute; one is deleted."""
    ages = [NOW - row["generated_timestamp"] for row in seen["tickets"]]
    assert min(ages) >= 60
    assert max(ages) < 61 * 86400
    statuses = Counter(row["status"] for row in seen["tickets"])
    assert statuses["deleted"] == 1
    assert {"new", "open", "pending", "hold", "solved", "closed"} <= set(statuses)


def test_no_second_is_crowded() -> None:
    """However many tickets there are, an export by time always gets past a second."""
    store = State(Size(50, 100, 3000), NOW).zendesk
    for table in (store.tickets, store.ticket_events):
        assert max(Counter(second for second, _ in table.times).values()) < 20


def test_nothing_invented_can_be_reached(seen: dict[str, Any]) -> None:
    """Every address in the seed ends in a name that is reserved for examples."""
    rows = [*seen["qad"]["contacts"], *seen["qad"]["customers"], *seen["users"]]
    assert all(row["email"].endswith(".example") for row in rows if "@" in (row["email"] or ""))


def test_a_reset_brings_the_first_state_back(sandbox: Sandbox) -> None:
    """After a reset the records are those of the start, and old tokens are dead."""
    before = [row["name"] for row in sandbox.get_control("state")["qad"]["customers"]]
    sandbox.post_control("customers", {"code": "C0000201", "name": "Changed"})
    sandbox.post_control("clock", {"advance": 86400})
    sandbox.post_control("reset")
    assert [row["name"] for row in sandbox.get_control("state")["qad"]["customers"]] == before


def test_the_clock_can_be_set_frozen_and_moved() -> None:
    """The clock starts where it is told, stands still when frozen, and moves by what it is told."""
    with running(customers=1, contacts=0, tickets=0, now="2026-01-31T08:00:00Z") as sandbox:
        assert sandbox.get_control("clock")["iso"].startswith("2026-01-31T08:00:0")
        frozen = sandbox.post_control("clock", {"frozen": True})["now"]
        assert sandbox.post_control("clock", {"advance": 90})["now"] == frozen + 90
        assert sandbox.post_control("clock", {"now": "2026-02-01T00:00:00Z"})["iso"] == "2026-02-01T00:00:00Z"
        assert sandbox.post_control("clock", {"frozen": False})["frozen"] is False


def test_the_command_prints_its_address_once_it_serves() -> None:
    """`python -m airflow_provider_qadzd.sandbox` prints one line with its base address, and answers there."""
    command = [sys.executable, "-m", "airflow_provider_qadzd.sandbox", "--customers", "3", "--contacts", "4"]
    options = ["--tickets", "5", "--seed", "9", "--no-bulk-import", "--job-delay", "2"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        settings = requests.get(f"{url}/_sandbox/settings", timeout=30).json()
        counts = requests.get(f"{url}/_sandbox/state", timeout=30).json()["counts"]
        process.terminate()
    assert (settings["bulk_import"], settings["job_delay"]) == (False, 2.0)
    assert (counts["customers"], counts["contacts"], counts["tickets"]) == (3, 4, 5)
