"""Which records are missing, which memberships have ended and which may go: one contract on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select

from airflow_provider_qadzd.ledger import Ledger, absence, accounts, moves, schema
from airflow_provider_qadzd.ledger.identity import Flow
from tests.conftest import SetClock
from tests.ledger.rows import a_flow, a_record, a_wanted, an_end, in_step, observe, settle, want

HOUR = 3600.0
DAYS = 48 * HOUR


def read(
    ledger: Ledger, flow: Flow, kind: str, keys: str = "", *, mode: str = "full", complete: bool = True,
    pairs: tuple[tuple[str, str], ...] = (), modified: str = "",
) -> int:  # fmt: skip
    """A read that saw these keys (in words), or the contacts of these pairs."""
    read_id = accounts.begin_read(ledger, flow.source_id, kind, mode, "run")
    seen = dict.fromkeys([*keys.split(), *(contact for contact, _ in pairs)])
    payloads = [(key, {"name": key, "email": "", "phone": "", "function": "", "modified": modified}) for key in seen]
    accounts.save_page(ledger, flow.source_id, kind, read_id, payloads, pairs)
    accounts.end_read(ledger, read_id, complete=complete, reason="")
    return read_id


def gone(ledger: Ledger, flow: Flow, kind: str = "customer") -> list[str]:
    """The keys that are taken to be gone."""
    r = schema.qad_record.c
    asked = select(r.record_key).where(r.source_id == flow.source_id, r.kind == kind, r.absent_at.is_not(None))
    with ledger.reading() as tx:
        return list(tx.execute(asked.order_by(r.record_key)).scalars())


@pytest.mark.parametrize(
    ("hours", "reads", "missing"),
    [
        pytest.param(24, 4, ["C2"], id="three more reads over 48 hours"),
        pytest.param(24, 3, [], id="two more"),
        pytest.param(23.9, 4, [], id="three over less than 48 hours"),
        pytest.param(1, 50, ["C2"], id="many over 48 hours"),
        pytest.param(1, 49, [], id="many over less"),
    ],
)
def test_missing_from_enough_reads_over_long_enough(
    ledger: Ledger, clock: SetClock, hours: float, reads: int, missing: list[str]
) -> None:  # fmt: skip
    """A record is missing once three complete full reads over 48 hours have not seen it; `reads` with the first."""
    flow = a_flow(ledger)
    read(ledger, flow, "customer", "C1 C2")
    for _ in range(reads - 1):
        clock.sleep(hours * HOUR)
        read(ledger, flow, "customer", "C1")
    before = absence.bound(ledger, flow.source_id, "customer", 3, DAYS)
    if before is not None:
        absence.mark(ledger, flow.source_id, "customer", before)
    assert gone(ledger, flow) == missing


def test_only_complete_full_reads_count_and_any_sighting_does(ledger: Ledger, clock: SetClock) -> None:
    """Deltas and incomplete reads make nobody missing; a record that one of them saw is there."""
    flow = a_flow(ledger)
    read(ledger, flow, "customer", "C1 C2 C3")
    for _ in range(5):
        clock.sleep(DAYS)
        read(ledger, flow, "customer", "C1", mode="delta")
        read(ledger, flow, "customer", "C1", complete=False)
    assert absence.bound(ledger, flow.source_id, "customer", 3, DAYS) is None
    for _ in range(3):
        clock.sleep(DAYS)
        read(ledger, flow, "customer", "C1")
    read(ledger, flow, "customer", "C2", complete=False)
    before = absence.bound(ledger, flow.source_id, "customer", 2, DAYS)
    assert before is not None
    assert [row.record_key for row in absence.missing(ledger, flow.source_id, "customer", before, 10)] == ["C3"]
    assert absence.mark(ledger, flow.source_id, "customer", before) == 1
    assert absence.mark(ledger, flow.source_id, "customer", before) == 0
    assert gone(ledger, flow) == ["C3"]
    read(ledger, flow, "customer", "C3", mode="delta")
    assert gone(ledger, flow) == []


def test_going_and_coming_back_are_mapped(ledger: Ledger, clock: SetClock) -> None:
    """A record is mapped again when it goes and when it comes back, though its payload is the same."""
    flow = a_flow(ledger)
    read(ledger, flow, "customer", "C1")

    def mapped() -> list[tuple[str, bool]]:
        found = []
        for page in accounts.records_to_map(ledger, flow, "customer", "organization", "rules"):
            found += [(row.record_key, row.absent_at is not None) for row in page]
            accounts.save_wanted(ledger, flow, [(a_wanted(row.record_key), row.digest) for row in page])
        accounts.note_mapping(ledger, flow, "rules")
        return found

    assert mapped() == [("C1", False)]
    latest = read(ledger, flow, "customer")
    absence.mark(ledger, flow.source_id, "customer", latest)
    assert mapped() == [("C1", True)]
    assert mapped() == []
    read(ledger, flow, "customer", "C1")
    assert mapped() == [("C1", False)]


def test_an_older_read_that_ends_late_takes_nothing_back(ledger: Ledger) -> None:
    """Of two reads at once, the one begun later stands: its sightings and payloads are not replaced by older ones."""
    flow = a_flow(ledger)
    old = accounts.begin_read(ledger, flow.source_id, "customer", "delta", "run")
    new = read(ledger, flow, "customer", "C1")
    accounts.save_page(ledger, flow.source_id, "customer", old, [("C1", {"name": "Old"})])
    with ledger.reading() as tx:
        row = tx.execute(select(schema.qad_record)).one()
    assert (row.last_read, row.payload["name"]) == (new, "C1")


def test_what_the_next_read_has_to_know(ledger: Ledger, clock: SetClock) -> None:
    """The last full read, the last complete one, its rows, and the newest day of a change since."""
    flow = a_flow(ledger)
    assert absence.last_reads(ledger, flow.source_id, "customer") == absence.LastReads()
    read(ledger, flow, "customer", "C1", modified="2099-01-01T00:00:00.000Z")
    first = clock.time()
    clock.sleep(60)
    read(ledger, flow, "customer", "C1 C2", modified="2026-01-03T00:00:00.000Z")
    second = clock.time()
    clock.sleep(60)
    read(ledger, flow, "customer", "C1", mode="delta", modified="2026-01-05")
    delta = clock.time()
    clock.sleep(60)
    read(ledger, flow, "customer", complete=False)
    told = absence.last_reads(ledger, flow.source_id, "customer")
    assert first < second < delta
    assert told == absence.LastReads(pytest.approx(clock.time()), 2, pytest.approx(delta), "2026-01-05")


def moved(ledger: Ledger, *, email: str = "") -> Flow:
    """P1 was with C1, whose organization is its default, and is with C2 now; both memberships are ours."""
    flow = a_flow(ledger)
    read(ledger, flow, "contact", pairs=(("P1", "C1"),))
    for zendesk_id, key in ((11, "C1"), (12, "C2")):
        in_step(ledger, flow, zendesk_id, a_wanted(key))
    in_step(ledger, flow, 7, a_wanted("P1", "user", email=email), organization_id=11)
    settle(ledger, flow, an_end("membership", "P1", None, "membership_added", other="C1"))
    read(ledger, flow, "contact", pairs=(("P1", "C2"),))
    settle(ledger, flow, an_end("membership", "P1", None, "membership_added", other="C2"))
    return flow


def removable(ledger: Ledger, flow: Flow) -> list[moves.Pair]:
    """What may go if every read so far were long enough ago."""
    return moves.to_remove(ledger, flow, 10**9)


def at_home(ledger: Ledger, organization: int, **more: Any) -> None:
    """The user's default organization is this one now."""
    observe(ledger, a_record(7, 1, "user", organization_id=organization, observed_epoch=200.0, **more))


def test_a_move_ends_the_old_membership(ledger: Ledger) -> None:
    """It is marked once, with news; the default follows, and only then the old one may go."""
    flow = moved(ledger)
    assert moves.note_ended(ledger, flow, "run") == 1
    assert moves.note_ended(ledger, flow, "run") == 0
    assert moves.to_make_default(ledger, flow) == [("P1", "C2")]
    assert removable(ledger, flow) == []
    at_home(ledger, 12)
    assert moves.to_make_default(ledger, flow) == []
    assert removable(ledger, flow) == [("P1", "C1")]
    assert moves.to_remove(ledger, flow, 1) == []
    read(ledger, flow, "contact", pairs=(("P1", "C1"), ("P1", "C2")))
    assert removable(ledger, flow) == []
    assert moves.note_ended(ledger, flow, "run") == 1
    assert moves.added_count(ledger, flow) == 2


@pytest.mark.parametrize(
    ("status", "home", "goes"),
    [("open", 11, False), ("pending", 11, False), ("solved", 11, True), ("closed", 11, True), ("open", 12, True)],
)
def test_an_open_ticket_in_the_old_organization(ledger: Ledger, status: str, home: int, goes: bool) -> None:
    """Only an open ticket of the user's own in that organization keeps the membership."""
    flow = moved(ledger)
    moves.note_ended(ledger, flow, "run")
    at_home(ledger, 12)
    row = {
        "account_id": flow.account_id, "ticket_id": 1, "version_epoch": 1.0, "fetched_epoch": 1.0, "status": status,
        "gone": False, "requester_id": 7, "organization_id": home, "tags": [], "custom_fields": [],
    }  # fmt: skip
    with ledger.writing() as tx:
        tx.execute(insert(schema.ticket).values(row))
    assert removable(ledger, flow) == ([("P1", "C1")] if goes else [])


@pytest.mark.parametrize("how", [{"active": False}, {"user_role": "agent"}, {"user_role": "admin"}])
def test_staff_and_deleted_users_are_not_moved(ledger: Ledger, how: dict[str, Any]) -> None:
    """Neither default nor membership of somebody who is gone, or staff, is called for."""
    flow = moved(ledger)
    moves.note_ended(ledger, flow, "run")
    at_home(ledger, 11, **how)
    assert moves.to_make_default(ledger, flow) == []
    at_home(ledger, 12, **how)
    assert removable(ledger, flow) == []


def test_who_shares_the_mailbox_keeps_the_membership(ledger: Ledger) -> None:
    """As long as another contact of the user's mailbox is with the customer, the membership has not ended."""
    flow = moved(ledger, email="both@x.example")
    want(ledger, flow, a_wanted("P2", "user", email="both@x.example"))
    read(ledger, flow, "contact", pairs=(("P1", "C2"), ("P2", "C1")))
    assert moves.note_ended(ledger, flow, "run") == 0
    read(ledger, flow, "contact", pairs=(("P1", "C2"),))
    assert moves.note_ended(ledger, flow, "run") == 1


def test_a_contact_whose_user_others_use_is_not_gone(ledger: Ledger) -> None:
    """A contact of a shared mailbox is not gone while another one is there, and no longer once somebody new shares."""
    flow = a_flow(ledger)
    read(ledger, flow, "contact", "P1 P2")
    in_step(ledger, flow, 7, a_wanted("P1", "user", email="both@x.example"))
    want(ledger, flow, a_wanted("P2", "user", email="both@x.example"))
    latest = read(ledger, flow, "contact", "P2")
    assert absence.mark(ledger, flow.source_id, "contact", latest) == 0
    want(ledger, flow, a_wanted("P2", "user", email="both@x.example", ended=True))
    assert absence.mark(ledger, flow.source_id, "contact", latest) == 1
    assert gone(ledger, flow, "contact") == ["P1"]
    want(ledger, flow, a_wanted("P2", "user", email="both@x.example"))
    assert absence.mark(ledger, flow.source_id, "contact", latest) == 0
    assert gone(ledger, flow, "contact") == []
