"""Compares what the sandbox holds with what the ledger says, record by record, and draws the table.

The reader shares no code with the sync: the ledger is read by plain SQL from its file, opened read-only, and the
sandbox by one GET of its state. What should have become of a record is worked out here anew, from the sandbox alone.
Every line can fail: by a record that only one side has, by a value that differs, or by having nothing to compare.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .expected import Expected, expected_of

EDITIONS = {"rest": "/clouderp/", "qxtend": "/qxi/"}
"""How QAD may be read, and below which path the sandbox is called for it."""
SHOWN = 4
"""How many differences of one line are spelt out."""


@dataclass(frozen=True)
class Line:
    """One comparison: a figure of each side, what differs (nothing, if all is well), and a word of explanation."""

    what: str
    sandbox: str
    ledger: str
    differences: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Kept:
    """What the ledger says, by key."""

    customers: Mapping[str, str] = field(default_factory=dict)
    contacts: Mapping[str, str] = field(default_factory=dict)
    organizations: Mapping[str, int] = field(default_factory=dict)
    users: Mapping[str, int] = field(default_factory=dict)
    memberships: frozenset[tuple[str, str]] = frozenset()
    shared: Mapping[str, str] = field(default_factory=dict)
    aside: Mapping[str, str] = field(default_factory=dict)
    tickets: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)
    matches: Mapping[int, tuple[str, str | None]] = field(default_factory=dict)
    inbox: Mapping[str, str] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    changes: int = 0


@dataclass(frozen=True)
class Asked:
    """What the demo did, that a comparison must know: the events it dropped, and what later runs wrote."""

    staff_before: Mapping[int, str]
    tickets_since: float
    tickets_told: frozenset[int] = frozenset()
    accepted: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    repeated: frozenset[str] = frozenset()
    later_writes: int = 0
    later_changes: int = 0
    later_says: int = 0
    qad: str = "rest"


def read_ledger(path: Path) -> Kept:
    """The ledger's rows, from its file, without any right to write."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as file:
        file.execute("begin")  # one moment for all tables
        return _kept(file)


def _kept(file: sqlite3.Connection) -> Kept:
    def rows(sql: str, *values: str) -> list[Any]:
        return file.execute(sql, values).fetchall()

    linked = "select record_key, zendesk_id from qadzd_link where other_key = '' and kind = ?"
    record = "select record_key, json_extract(payload, ?) from qadzd_qad_record where kind = ?"
    ended = "select kind, record_key, last_detail from qadzd_wanted where last_outcome = ?"
    tickets = rows(
        "select ticket_id, status, requester_id, organization_id, updated_at, match_reason, customer_key "
        "from qadzd_ticket"
    )
    drained = rows(
        "select payload_id from qadzd_ticket_event join qadzd_inbox using (delivery_id) where found_by = 'webhook'"
    )
    secrets = rows("select credential_name from qadzd_credential where credential_name like 'signing:%'")
    return Kept(
        customers=dict(rows(record, "$.name", "customer")),
        contacts=dict(rows(record, "$.email", "contact")),
        organizations=dict(rows(linked, "organization")),
        users=dict(rows(linked, "user")),
        memberships=frozenset(rows("select record_key, other_key from qadzd_link where kind = 'membership'")),
        shared={key: detail for _, key, detail in rows(ended, "shared_with")},
        aside={f"{kind} {key}": detail for kind, key, detail in rows(ended, "set_aside")},
        tickets={row[0]: tuple(row[1:5]) for row in tickets},
        matches={row[0]: (row[5], row[6]) for row in tickets},
        # All but what onboarding had Zendesk send to try the way.
        inbox=dict(rows("select payload_id, inbox_state from qadzd_inbox where payload_id not like 'qadzd-test-%'")),
        drained=frozenset(key for (key,) in drained),
        secrets=frozenset(name.partition(":")[2] for (name,) in secrets),
        changes=rows("select count(*) from qadzd_change_item")[0][0],
    )


def compare(state: Mapping[str, Any], stats: Mapping[str, Any], kept: Kept, asked: Asked) -> list[Line]:
    """Every line of the table."""
    seen = expected_of(state, asked.tickets_since, asked.tickets_told)
    return [
        _edition_line(stats, asked),
        *_customer_lines(seen, kept),
        *_contact_lines(seen, kept),
        *_staff_lines(state, stats, kept, asked),
        *_ticket_lines(seen, kept),
        *_event_lines(stats, kept, asked),
        _later_line(asked),
    ]


def _edition_line(stats: Mapping[str, Any], asked: Asked) -> Line:
    """QAD was read as it was to be, and in no other way."""
    calls = {
        name: sum(count for pattern, count in stats["calls"].items() if path in pattern)
        for name, path in EDITIONS.items()
    }
    wrong = [f"{count} calls over {name}" for name, count in calls.items() if (count > 0) is not (name == asked.qad)]
    return Line(f"calls to QAD over {asked.qad} alone", str(calls[asked.qad]), "-", tuple(wrong))


def _customer_lines(seen: Expected, kept: Kept) -> Iterable[Line]:
    aside = {key.partition(" ")[2]: why for key, why in kept.aside.items() if key.startswith("organization ")}
    yield _by_key("QAD customers read", seen.customers, kept.customers)
    yield _by_key("organizations of customers", seen.organizations, kept.organizations)
    yield _by_key("  with name and fields as in QAD", seen.like_qad, dict.fromkeys(kept.organizations, True))
    yield _by_key("  customers set aside", seen.customers_aside, aside, least=0)


def _contact_lines(seen: Expected, kept: Kept) -> Iterable[Line]:
    aside = {key.partition(" ")[2]: why for key, why in kept.aside.items() if key.startswith("user ")}
    yield _by_key("QAD contacts read", seen.contacts, kept.contacts)
    yield _by_key("users of contacts", seen.users, kept.users)
    told = "; ".join(f"{key} uses the mailbox of {other}" for key, other in sorted(kept.shared.items()))
    yield _by_key("  contacts who share a user", seen.shared, kept.shared, note=told)
    told = "; ".join(f"{key}: {why.replace('_', ' ')}" for key, why in sorted(aside.items()))
    yield _by_key("  contacts set aside", seen.contacts_aside, aside, note=told)
    pairs = dict.fromkeys(kept.memberships, True)
    yield _by_key("memberships that QAD asks for", dict.fromkeys(seen.memberships_asked, True), pairs)
    yield _by_key("memberships that Zendesk has", dict.fromkeys(seen.memberships, True), pairs)


def _staff_lines(
    state: Mapping[str, Any], stats: Mapping[str, Any], kept: Kept, asked: Asked
) -> Iterable[Line]:  # fmt: skip
    now = staff_of(state)
    same = sum(asked.staff_before.get(key) == row for key, row in now.items())
    touched = [f"user {key} is not as before" for key, row in asked.staff_before.items() if now.get(key) != row]
    touched += [f"user {key} is new among the staff" for key in now if key not in asked.staff_before]
    linked = [f"contact {key} is linked to staff user {one}" for key, one in kept.users.items() if one in now]
    empty = [] if now else ["nothing to compare"]
    yield Line(
        "agents and admins as before", f"{same} of {len(now)}", f"{len(linked)} linked", (*touched, *linked, *empty)
    )
    mails = int(stats["verification_mails"])
    yield Line("verification mails sent", str(mails), "-", () if mails == 0 else (f"Zendesk sent {mails}",))
    hooks = {row["id"]: True for row in state["webhooks"]}
    yield _by_key("webhooks with a sealed signing secret", hooks, dict.fromkeys(kept.secrets, True))


def _ticket_lines(seen: Expected, kept: Kept) -> Iterable[Line]:
    yield _by_key("tickets exported, state for state", seen.tickets, kept.tickets)
    reasons = sorted({reason for reason, _ in [*seen.matches.values(), *kept.matches.values()]}, key=_matched_first)
    for reason in reasons:
        title = f"  matched by their {reason}" if reason in _MATCHING else f"  unmatched: {reason}"
        yield _by_key(title, _of_reason(seen.matches, reason), _of_reason(kept.matches, reason))
    matched = sum(customer is not None for _, customer in kept.matches.values())
    if not matched:
        yield Line("  matched to a QAD customer", "-", "0", ("no ticket is matched",))


_MATCHING = ("organization", "requester")


def _matched_first(reason: str) -> tuple[bool, str]:
    return reason not in _MATCHING, reason


def _of_reason(matches: Mapping[int, tuple[str, str | None]], reason: str) -> dict[int, str | None]:
    return {ticket: customer for ticket, (why, customer) in matches.items() if why == reason}


def _event_lines(stats: Mapping[str, Any], kept: Kept, asked: Asked) -> Iterable[Line]:
    answers: dict[str, list[int]] = {}
    for one in stats["deliveries"]:
        answers.setdefault(one["event_id"], []).extend(one["statuses"])
    accepted = {key: True for key, statuses in answers.items() if set(statuses) == {202}}
    refused = {key: True for key, statuses in answers.items() if set(statuses) == {401}}
    others = [
        f"event {key} was answered {', '.join(map(str, statuses))}"
        for key, statuses in answers.items()
        if key not in accepted and key not in refused
    ]
    taken = dict.fromkeys(kept.inbox, True)
    twice = [key for key, statuses in answers.items() if statuses.count(202) > 1]
    told = f"{len(twice)} came twice and is kept once" if twice else ""
    missing = [f"event {key} was not accepted" for key in asked.accepted - set(accepted)]
    missing += [f"event {key} was not delivered twice" for key in asked.repeated - set(twice)]
    yield _by_key("ticket events accepted", accepted, taken, (*others, *missing), note=told)
    wrong = [f"event {key} was to be refused" for key in asked.refused - set(refused)]
    wrong += [f"event {key} was refused" for key in set(refused) - asked.refused]
    wrong += [f"event {key} was refused and is in the inbox" for key in refused if key in kept.inbox]
    wrong += [] if refused else ["nothing to compare"]
    outside = f"{sum(key not in kept.inbox for key in refused)} kept out"
    yield Line("ticket events refused (forged, stale)", str(len(refused)), outside, tuple(wrong))
    states = Counter(state for state in kept.inbox.values() if state != "drained")
    left = [f"{count} deliveries are {state}" for state, count in states.items()]
    yield _by_key("ticket events drained", accepted, dict.fromkeys(kept.drained, True), tuple(left))


def _later_line(asked: Asked) -> Line:
    wrong = []
    if asked.later_writes:
        wrong.append(f"the sandbox counted {asked.later_writes} writes")
    if asked.later_changes:
        wrong.append(f"the ledger planned {asked.later_changes} changes")
    if asked.later_says:
        wrong.append(f"the runs themselves say {asked.later_says}")
    return Line(
        "Zendesk writes after the first run", str(asked.later_writes), str(asked.later_changes),
        tuple(wrong),
    )  # fmt: skip


def _by_key(
    what: str, seen: Mapping[Any, Any], kept: Mapping[Any, Any], more: Iterable[str] = (), *, least: int = 1,
    note: str = "",
) -> Line:  # fmt: skip
    """Both sides must have the same keys with the same values, and at least `least` of them."""
    found = [f"{_name(key)} is only in the sandbox" for key in seen if key not in kept]
    found += [f"{_name(key)} is only in the ledger" for key in kept if key not in seen]
    found += [
        f"{_name(key)} is {seen[key]!r} in the sandbox and {kept[key]!r} in the ledger"
        for key in seen
        if key in kept and seen[key] != kept[key]
    ]
    found += ["nothing to compare"] if len(seen) < least else []
    return Line(what, str(len(seen)), str(len(kept)), (*found, *more), note)


def _name(key: Any) -> str:
    return " / ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def staff_of(state: Mapping[str, Any]) -> dict[int, str]:
    """Every agent and admin, whole, as text that can be compared."""
    staff = [row for row in state["users"] if row["role"] in ("agent", "admin")]
    homes: dict[int, list[Any]] = {}
    for name in ("identities", "organization_memberships"):
        for row in state[name]:
            homes.setdefault(row["user_id"], []).append(row)
    return {row["id"]: json.dumps([row, homes.get(row["id"])], sort_keys=True) for row in staff}


def table(lines: Iterable[Line]) -> str:
    """The lines as a table, each followed by its explanation and by what differs."""
    rows = list(lines)
    head = Line("", "sandbox", "ledger")
    first, second, third = (
        max(len(getattr(row, column)) for row in [head, *rows]) for column in ("what", "sandbox", "ledger")
    )
    drawn = [f"{'':{first}}  {head.sandbox:>{second}}  {head.ledger:>{third}}"]
    for row in rows:
        verdict = "DIFFERS" if row.differences else "OK"
        drawn.append(f"{row.what:{first}}  {row.sandbox:>{second}}  {row.ledger:>{third}}  {verdict}")
        if row.note:
            drawn.append(f"      ({row.note})")
        drawn += [f"      - {text}" for text in row.differences[:SHOWN]]
        if len(row.differences) > SHOWN:
            drawn.append(f"      - and {len(row.differences) - SHOWN} more")
    return "\n".join(drawn)
