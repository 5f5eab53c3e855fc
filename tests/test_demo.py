"""The demo: its table tells every difference, its processes end with it, and it holds in a real Airflow."""

from __future__ import annotations

import copy
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.sandbox.demo.__main__ import verdict
from airflow_provider_qadzd.sandbox.demo.processes import (
    Failed,
    Progress,
    Service,
    alone_in,
    end_forgotten,
    free_ports,
    members,
)
from airflow_provider_qadzd.sandbox.demo.report import Asked, Kept, Line, compare, read_ledger, staff_of, table

ROOT = Path(__file__).parents[1]
ORG, USER, AGENT = 11, 21, 29


def organization(number: int, key: str | None, name: str) -> dict[str, Any]:
    """An organization of Zendesk, with the fields that QAD would give it."""
    fields = {"qad_customer": key, "qad_status": "active", "qad_city": "Leeds", "qad_country": "GBR"}
    return {"id": number, "external_id": key, "name": name, "organization_fields": fields}


def user(number: int, key: str | None, email: str | None, role: str = "end-user") -> dict[str, Any]:
    """A user of Zendesk."""
    return {"id": number, "external_id": key, "email": email, "role": role}


def ticket(number: int, requester: int, home: int | None = None, changed: int = 1000) -> dict[str, Any]:
    """An open ticket, as the sandbox's state shows it."""
    return {
        "id": number, "status": "open", "requester_id": requester, "organization_id": home,
        "updated_at": "2026-01-01T00:00:00Z", "generated_timestamp": changed,
    }  # fmt: skip


def state() -> dict[str, Any]:
    """Two customers; contacts 1 and 2 with users, 3 with the mailbox of 1, 4 with an agent's; five tickets."""
    customer = {"active": True, "city": "Leeds", "country": "GBR"}
    contacts = [
        (1, "a@x.example", ["C1"]),
        (2, "", ["C1", "C2"]),
        (3, "A@x.example", ["C2"]),
        (4, "S@z.example", ["C2"]),
    ]
    ties = [(USER, ORG), (USER, ORG + 1), (USER + 1, ORG), (USER + 1, ORG + 1)]
    return {
        "qad": {
            "customers": [{"code": "C1", "name": "Åkesson", **customer}, {"code": "C2", "name": "Åkesson", **customer}],
            "contacts": [{"id": key, "email": email, "customers": codes} for key, email, codes in contacts],
        },
        "organizations": [
            organization(ORG, "C1", "Åkesson"), organization(ORG + 1, "C2", "Åkesson (C2)"),
            organization(19, None, "Walk-in"),
        ],
        "users": [
            user(USER, "1", "a@x.example"), user(USER + 1, "2", None), user(28, None, "b@y.example"),
            user(AGENT, None, "s@z.example", "agent"),
        ],
        "organization_memberships": [{"user_id": one, "organization_id": home} for one, home in ties],
        "identities": [{"user_id": AGENT, "value": "s@z.example"}],
        "webhooks": [{"id": "W"}],
        "tickets": [
            ticket(31, 28), ticket(32, USER, ORG), ticket(33, USER), ticket(34, 28, changed=10),
            ticket(35, 28, changed=20),
        ],
    }  # fmt: skip


def stats() -> dict[str, Any]:
    """Event a came twice, b was forged."""
    answers = [("a", 202), ("a", 202), ("b", 401)]
    return {
        "verification_mails": 0, "deliveries": [{"event_id": key, "statuses": [code]} for key, code in answers],
        "calls": {"GET /clouderp/api/qracore/browses": 4},
    }  # fmt: skip


def kept() -> Kept:
    """What a ledger says that has understood all of it. Ticket 34 was not asked for, of 35 a webhook told."""
    tickets = {row["id"]: row for row in state()["tickets"] if row["id"] != 34}
    columns = ("status", "requester_id", "organization_id", "updated_at")
    unknown = ("requester_unknown", None)
    return Kept(
        customers={"C1": "Åkesson", "C2": "Åkesson"},
        contacts={"1": "a@x.example", "2": "", "3": "A@x.example", "4": "S@z.example"},
        organizations={"C1": ORG, "C2": ORG + 1},
        users={"1": USER, "2": USER + 1},
        memberships=frozenset({("1", "C1"), ("1", "C2"), ("2", "C1"), ("2", "C2")}),
        shared={"3": "1"},
        aside={"user 4": f"email_of_agent {AGENT}"},
        tickets={key: tuple(row[name] for name in columns) for key, row in tickets.items()},
        matches={31: unknown, 32: ("organization", "C1"), 33: ("ambiguous", None), 35: unknown},
        inbox={"a": "drained"},
        drained=frozenset("a"),
        secrets=frozenset("W"),
        changes=9,
    )


def asked() -> Asked:
    """A demo that exported what changed since 100, told of ticket 35, and dropped the events a and b."""
    return Asked(staff_of(state()), 100.0, frozenset({35}), frozenset("a"), frozenset("b"), frozenset("a"))


def differing(lines: list[Line]) -> dict[str, str]:
    """What differs, by line."""
    return {line.what.strip(): " | ".join(line.differences) for line in lines if line.differences}


def test_a_ledger_that_says_what_the_sandbox_holds_differs_nowhere() -> None:
    """Shared mailboxes, suffixed names, set-aside contacts and unasked tickets are no differences."""
    assert differing(compare(state(), stats(), kept(), asked())) == {}


LEDGER_IS_WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "a customer was not read": ({"customers": {"C1": "Åkesson"}}, "QAD customers read", "C2 is only in the sandbox"),
    "a contact's email is another": (
        {"contacts": {**kept().contacts, "1": "b@x.example"}}, "QAD contacts read", "'b@x.example' in the ledger",
    ),
    "a link leads to another organization": (
        {"organizations": {"C1": ORG, "C2": ORG}}, "organizations of customers", "C2 is 12 in the sandbox and 11",
    ),
    "a user is not linked": ({"users": {"1": USER}}, "users of contacts", "2 is only in the sandbox"),
    "staff is linked": (
        {"users": {**kept().users, "4": AGENT}}, "agents and admins as before", "contact 4 is linked to staff user 29",
    ),
    "a membership is missing": (
        {"memberships": kept().memberships - {("1", "C2")}}, "memberships that QAD asks for", "1 / C2 is only in the",
    ),
    "a contact shares another user": ({"shared": {"3": "2"}}, "contacts who share a user", "'1' in the sandbox and"),
    "nobody was set aside": ({"aside": {}}, "contacts set aside", "4 is only in the sandbox"),
    "the reason is another": ({"aside": {"user 4": "no_name"}}, "contacts set aside", "'no_name' in the ledger"),
    "a customer was set aside": (
        {"aside": {**kept().aside, "organization C9": "no_name"}}, "customers set aside", "C9 is only in the ledger",
    ),
    "a ticket is missing": (
        {"tickets": {k: v for k, v in kept().tickets.items() if k != 31}}, "tickets exported, state for state",
        "31 is only in the sandbox",
    ),
    "a ticket's state is old": (
        {"tickets": {**kept().tickets, 31: ("new", 28, None, "")}}, "tickets exported, state for state", "31 is (",
    ),
    "a forged delivery's ticket is there": (
        {"tickets": {**kept().tickets, 34: kept().tickets[31]}}, "tickets exported, state for state",
        "34 is only in the ledger",
    ),
    "a ticket has the wrong customer": (
        {"matches": {**kept().matches, 32: ("organization", "C2")}}, "matched by their organization", "32 is 'C1'",
    ),
    "a ticket is unmatched for another reason": (
        {"matches": {**kept().matches, 33: ("requester_unknown", None)}}, "unmatched: ambiguous",
        "33 is only in the sandbox",
    ),
    "no ticket is matched": ({"matches": {31: ("requester_unknown", None)}}, "matched to a QAD customer", "no ticket"),
    "an accepted event is not kept": ({"inbox": {}}, "ticket events accepted", "a is only in the sandbox"),
    "a refused event is kept": (
        {"inbox": {"a": "drained", "b": "drained"}}, "ticket events refused (forged, stale)", "is in the inbox",
    ),
    "an event waits": ({"inbox": {"a": "pending"}}, "ticket events drained", "1 deliveries are pending"),
    "an event was drained into nothing": ({"drained": frozenset()}, "ticket events drained", "a is only in"),
    "the signing secret is missing": (
        {"secrets": frozenset()}, "webhooks with a sealed signing secret", "W is only in the sandbox",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "what", "told"), LEDGER_IS_WRONG.values(), ids=LEDGER_IS_WRONG)
def test_a_ledger_that_says_something_else_is_found(changed: dict[str, Any], what: str, told: str) -> None:
    """Each thing that the ledger can get wrong makes its line differ, and the line says how."""
    assert told in differing(compare(state(), stats(), replace(kept(), **changed), asked()))[what]


def without(name: str, index: int) -> Callable[[dict[str, Any]], Any]:
    """The change that takes one row away."""
    return lambda held: held[name].pop(index)


def with_value(rows: str, index: int, **values: Any) -> Callable[[dict[str, Any]], Any]:
    """The change that gives one row other values."""
    return lambda held: held[rows][index].update(values)


SANDBOX_IS_WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "an organization is missing in Zendesk": (without("organizations", 1), "organizations of customers"),
    "an organization has another name": (with_value("organizations", 0, name="Acme"), "with name and fields as in QAD"),
    "an organization has another city": (
        lambda held: held["organizations"][0]["organization_fields"].update(qad_city="York"),
        "with name and fields as in QAD",
    ),
    "a user is missing in Zendesk": (without("users", 0), "users of contacts"),
    "a membership is missing in Zendesk": (without("organization_memberships", 0), "memberships that Zendesk has"),
    "an agent was changed": (with_value("users", 3, name="QAD"), "agents and admins as before"),
    "an agent got an address": (with_value("identities", 0, value="new@z.example"), "agents and admins as before"),
    "an agent was demoted": (with_value("users", 3, role="end-user"), "agents and admins as before"),
    "a webhook is missing": (without("webhooks", 0), "webhooks with a sealed signing secret"),
    "a ticket moved": (with_value("tickets", 0, status="solved"), "tickets exported, state for state"),
}


@pytest.mark.parametrize(("change", "what"), SANDBOX_IS_WRONG.values(), ids=SANDBOX_IS_WRONG)
def test_a_sandbox_that_holds_something_else_is_found(change: Callable[[dict[str, Any]], Any], what: str) -> None:
    """Each thing that can be wrong in Zendesk makes its line differ."""
    held = copy.deepcopy(state())
    change(held)
    assert what in differing(compare(held, stats(), kept(), asked()))


STATS_ARE_WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "QAD was read in another way": (
        {"calls": {"POST /qxi/services/QdocWebService": 4}}, "calls to QAD over rest alone", "4 calls over qxtend",
    ),
    "QAD was read in both ways": (
        {"calls": {"POST /qxi/x": 1, "GET /clouderp/x": 1}}, "calls to QAD over rest alone", "1 calls over qxtend",
    ),
    "a mail was sent": ({"verification_mails": 2}, "verification mails sent", "sent 2"),
    "a forged event was accepted": (
        {"deliveries": [{"event_id": key, "statuses": [202]} for key in "aab"]},
        "ticket events refused (forged, stale)", "event b was to be refused",
    ),
    "a genuine event was refused": (
        {"deliveries": [{"event_id": key, "statuses": [401]} for key in "ab"]}, "ticket events accepted",
        "event a was not accepted",
    ),
    "the receiver was in trouble": (
        {"deliveries": [{"event_id": "a", "statuses": [503, 202]}, {"event_id": "b", "statuses": [401]}]},
        "ticket events accepted", "answered 503, 202",
    ),
    "nothing was delivered twice": (
        {"deliveries": [{"event_id": "a", "statuses": [202]}]}, "ticket events accepted", "not delivered twice",
    ),
    "nothing was delivered": ({"deliveries": []}, "ticket events refused (forged, stale)", "nothing to compare"),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "what", "told"), STATS_ARE_WRONG.values(), ids=STATS_ARE_WRONG)
def test_what_the_sandbox_counted_is_held_against_the_demo(changed: dict[str, Any], what: str, told: str) -> None:
    """Mails and the receiver's answers are compared with what the demo did."""
    assert told in differing(compare(state(), {**stats(), **changed}, kept(), asked()))[what]


@pytest.mark.parametrize("counted", ["later_writes", "later_changes", "later_says"])
def test_a_later_run_that_writes_is_found(counted: str) -> None:
    """The second run does nothing: by the sandbox's count, by the ledger's, and by its own word."""
    lines = compare(state(), stats(), kept(), replace(asked(), **{counted: 1}))
    assert "Zendesk writes after the first run" in differing(lines)


def test_nothing_to_compare_is_a_difference() -> None:
    """Two empty sides do not agree."""
    empty: dict[str, Any] = {name: [] for name in state()}
    counted = {**stats(), "deliveries": [], "calls": {}}
    lines = compare({**empty, "qad": {"customers": [], "contacts": []}}, counted, Kept(), asked())
    agreeing = {line.what.strip() for line in lines if not line.differences}
    assert agreeing == {"customers set aside", "verification mails sent", "Zendesk writes after the first run"}


def test_a_difference_is_told_and_ends_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """The table names it, the last line repeats which line it is in, and the exit code is not zero."""
    lines = [Line("organizations", "40", "40"), Line("users", "118", "117", ("50003 is only in the sandbox",))]
    assert verdict(lines) == 1
    said = capsys.readouterr().out
    assert "50003 is only in the sandbox" in said
    assert said.rstrip().endswith("differ in: users.")
    assert verdict(lines[:1]) == 0


def test_many_differences_are_counted_not_listed() -> None:
    """A line spells out a few differences and counts the rest."""
    drawn = table([Line("users", "9", "0", tuple(f"{n} is only in the sandbox" for n in range(9)))])
    assert "DIFFERS" in drawn
    assert "and 5 more" in drawn


def test_the_reader_reads_the_ledger_by_plain_sql(tmp_path: Path) -> None:
    """Every column that it names is in the ledger's real tables, and each row comes out where it belongs."""
    path = tmp_path / "ledger.db"
    Ledger(f"sqlite:///{path}").opened().engine.dispose()
    assert read_ledger(path) == Kept()
    with closing(sqlite3.connect(path)) as file, file:
        link = "insert into qadzd_link values (1, ?, ?, ?, 1, ?, '{}', '', '', 1, '', null)"
        file.execute(link, ("organization", "C1", "", 11))
        file.execute(link, ("membership", "1", "C1", None))
        file.execute(
            "insert into qadzd_inbox (account_id, payload_id, signature, kind, received_at, inbox_state, reason) "
            "values (1, 'a', 's', 'updated', '', 'pending', '')"
        )
    found = read_ledger(path)
    assert found == Kept(organizations={"C1": 11}, memberships=frozenset({("1", "C1")}), inbox={"a": "pending"})
    with pytest.raises(sqlite3.OperationalError):
        read_ledger(tmp_path / "nowhere.db")


# -- processes ---------------------------------------------------------------------------------------------------------

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.fork()
print("up", flush=True)
time.sleep(60)
"""


def stubborn(folder: Path) -> Service:
    """A running service of two processes that do not heed SIGINT."""
    command = [sys.executable, "-c", STUBBORN]
    service = Service("It", command, dict(os.environ), folder / "it.log", signal.SIGINT)
    service.start()
    up = lambda: (service.log.read_text().count("up") == 2 or None, "")  # noqa: E731
    Progress().until("both", up, 20, pause=0.05)
    return service


def sessions_in(folder: Path) -> list[int]:
    """The sessions that are written down there."""
    return [int(record.read_text()) for record in folder.glob("*.session")]


def test_stopping_leaves_nothing_running(tmp_path: Path) -> None:
    """What a service has forked ends with it, also when it does not heed the first signal."""
    service = stubborn(tmp_path)
    (session,) = sessions_in(tmp_path)
    assert len(members(session)) == 2
    service.stop(patience=0.1)
    assert members(session) == []
    assert sessions_in(tmp_path) == []


def test_what_a_killed_demo_left_running_is_ended(tmp_path: Path) -> None:
    """The next demo finds it by the session that was written down, and touches nobody else's."""
    left = stubborn(tmp_path)
    (tmp_path / "foreign.session").write_text(str(os.getsid(0)))
    assert end_forgotten(tmp_path) == 2
    with pytest.raises(Failed, match="It ended with code"):
        left.must_run()
    assert sessions_in(tmp_path) == []


def test_waiting_ends_when_a_watched_service_does(tmp_path: Path) -> None:
    """Nobody waits for a service that has died; the end of its log says why."""
    progress = Progress()
    command = [sys.executable, "-c", "raise SystemExit('no port')"]
    service = Service("It", command, dict(os.environ), tmp_path / "it.log", signal.SIGINT)
    service.start()
    progress.watch(service)
    begun = time.monotonic()
    with pytest.raises(Failed, match=r"It ended with code 1\.\n(.|\n)*no port"):
        progress.until("nothing", lambda: (None, ""), 60, pause=0.05)
    assert time.monotonic() - begun < 30
    service.stop()


def test_waiting_ends_by_itself_and_says_where_things_stood() -> None:
    """A wait that is in vain names what was waited for and what was seen last."""
    with pytest.raises(Failed, match=r"for a tick\. Last seen: half a tick"):
        Progress().until("a tick", lambda: (None, "half a tick"), 0.1, pause=0.05)


def test_one_demo_in_one_folder(tmp_path: Path) -> None:
    """A second one is told of the first, and may start once that has ended."""
    with alone_in(tmp_path), pytest.raises(Failed, match=f"process {os.getpid()}"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


def test_free_ports_are_different() -> None:
    """Each is free and none is given twice."""
    assert len(set(free_ports(50))) == 50


# -- the whole of it ---------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_the_demo_agrees_in_a_real_airflow(tmp_path: Path) -> None:
    """`make demo ONCE=1`: every line of the table is OK, the exit code is 0, and nothing is left running."""
    command = [
        sys.executable,
        "-m",
        "airflow_provider_qadzd.sandbox.demo",
        "--once",
        "--folder",
        str(tmp_path / "demo"),
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    lines = [line.split() for line in ran.stdout.splitlines()]
    figures = {" ".join(words[:-3]): words[-3:] for words in lines if words[-1:] == ["OK"]}
    assert figures["organizations of customers"] == ["40", "40", "OK"]
    assert figures["memberships that QAD asks for"] == ["120", "120", "OK"]
    assert figures["Zendesk writes after the first run"] == ["0", "0", "OK"]
    assert int(figures["tickets exported, state for state"][1]) > 50
    assert "unmatched: ambiguous" in figures
    assert "DIFFERS" not in ran.stdout
    assert not list((tmp_path / "demo").glob("*.session"))
