"""What QAD said, what is wanted, what Zendesk has: each kept by its own rule of what replaces what."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Table, select

from airflow_provider_qadzd.ledger import Ledger, accounts
from airflow_provider_qadzd.ledger.schema import mirror, qad_contact_of, qad_read, qad_record, wanted
from tests.conftest import SetClock
from tests.ledger.rows import a_flow, a_record, a_wanted, observe, want


def rows_of(ledger: Ledger, table: Table) -> list[dict[str, Any]]:
    """All rows of a table, by its key."""
    with ledger.reading() as tx:
        return [row._asdict() for row in tx.execute(select(table).order_by(*table.primary_key.columns))]


def a_person(name: str = "Ada", **more: Any) -> dict[str, Any]:
    """A contact's payload."""
    return {"name": name, "email": "ada@example.com", "phone": "", "function": "", "primary": False, **more}


def read_contacts(ledger: Ledger, source_id: int, *pages: list[tuple[str, str, dict[str, Any]]]) -> int:
    """A complete read of (key, customer, payload) pages."""
    read_id = accounts.begin_read(ledger, source_id, "contact", "full", "run")
    for page in pages:
        payloads = [(key, payload) for key, _, payload in page]
        accounts.save_page(ledger, source_id, "contact", read_id, payloads, [(key, of) for key, of, _ in page])
    accounts.end_read(ledger, read_id, complete=True, reason="")
    return read_id


def test_a_read_counts_its_rows_and_says_whether_it_was_complete(ledger: Ledger) -> None:
    """A read is neither complete nor incomplete while it runs, and every page adds to its count."""
    first = accounts.begin_read(ledger, 1, "customer", "full", "run")
    accounts.save_page(ledger, 1, "customer", first, [("C1", {"name": "A"}), ("C2", {"name": "B"})])
    second = accounts.begin_read(ledger, 1, "customer", "full", "run")
    accounts.end_read(ledger, second, complete=False, reason="a page came twice")
    told = [(row["row_count"], row["complete"], row["reason"]) for row in rows_of(ledger, qad_read)]
    assert first < second
    assert told == [(2, None, ""), (0, False, "a page came twice")]


def test_a_contact_of_two_customers_is_one_record(ledger: Ledger) -> None:
    """Rows with one key and equal person fields are one contact of several customers; any primary row makes it so."""
    read_id = read_contacts(ledger, 1, [("P1", "C1", a_person())], [("P1", "C2", a_person(primary=True))])
    (record,) = rows_of(ledger, qad_record)
    assert (record["contradicted"], record["payload"]["primary"]) == (False, True)
    of = [(row["contact_key"], row["customer_key"], row["last_read"]) for row in rows_of(ledger, qad_contact_of)]
    assert of == [("P1", "C1", read_id), ("P1", "C2", read_id)]


@pytest.mark.parametrize("pages", [pytest.param(1, id="on one page"), pytest.param(2, id="on two pages")])
@pytest.mark.parametrize("differs", ["name", "email", "phone", "function"])
def test_one_key_with_two_different_persons_is_a_contradiction(ledger: Ledger, pages: int, differs: str) -> None:
    """A key whose rows of one read differ in a person's field stands for nobody, and the first row is kept."""
    rows = [("P1", "C1", a_person()), ("P1", "C2", a_person(**{differs: "other"}))]
    read_contacts(ledger, 1, *([rows] if pages == 1 else [[row] for row in rows]))
    (record,) = rows_of(ledger, qad_record)
    assert record["contradicted"]
    assert record["payload"] == a_person()


def test_a_contradiction_ends_with_the_read_that_does_not_repeat_it(ledger: Ledger, clock: SetClock) -> None:
    """Only rows of one read contradict each other; a later read replaces the payload and keeps `first_seen_at`."""
    read_contacts(ledger, 1, [("P1", "C1", a_person()), ("P1", "C2", a_person("Eve"))])
    (before,) = rows_of(ledger, qad_record)
    clock.sleep(3600)
    read_contacts(ledger, 1, [("P1", "C1", a_person("Eve"))])
    (after,) = rows_of(ledger, qad_record)
    assert (after["contradicted"], after["payload"]["name"]) == (False, "Eve")
    assert after["first_seen_at"] == before["first_seen_at"]
    assert after["digest"] != before["digest"]


def test_what_was_read_is_mapped_once(ledger: Ledger) -> None:
    """A payload is mapped when it is new or has changed, and all are when the rules have changed; in key order."""
    flow = a_flow(ledger)
    read_id = accounts.begin_read(ledger, flow.source_id, "customer", "full", "run")
    accounts.save_page(ledger, flow.source_id, "customer", read_id, [(f"C{n}", {"name": "A"}) for n in (3, 1, 2)])

    def mapped(rules: str) -> list[str]:
        keys = []
        for page in accounts.records_to_map(ledger, flow, "customer", "organization", rules):
            keys += [row.record_key for row in page]
            accounts.save_wanted(ledger, flow, [(a_wanted(row.record_key), row.digest) for row in page])
        accounts.note_mapping(ledger, flow, rules)
        return keys

    assert mapped("rules 1") == ["C1", "C2", "C3"]
    assert mapped("rules 1") == []
    later = accounts.begin_read(ledger, flow.source_id, "customer", "full", "run")
    accounts.save_page(ledger, flow.source_id, "customer", later, [("C1", {"name": "A"}), ("C2", {"name": "B"})])
    assert mapped("rules 1") == ["C2"]
    assert mapped("rules 2") == ["C1", "C2", "C3"]


def test_more_records_than_a_page_are_all_mapped(ledger: Ledger) -> None:
    """Pages follow each other without a gap or a repeat, and a page that is larger than a query's list is stored."""
    flow = a_flow(ledger)
    count = 2 * accounts.PAGE + 1
    read_id = accounts.begin_read(ledger, flow.source_id, "customer", "full", "run")
    payloads = [(f"C{n:05d}", {"name": "A"}) for n in range(count)]
    accounts.save_page(ledger, flow.source_id, "customer", read_id, payloads)
    pages = list(accounts.records_to_map(ledger, flow, "customer", "organization", "rules"))
    assert [row.record_key for page in pages for row in page] == [key for key, _ in payloads]
    assert len(pages) == 3


def test_wanted_keeps_what_last_became_of_a_record(ledger: Ledger) -> None:
    """Mapping a record again replaces what is wanted and leaves its last outcome."""
    flow = a_flow(ledger)
    want(ledger, flow, a_wanted("C1"))
    with ledger.writing() as tx:
        tx.execute(wanted.update().values(last_outcome="set_aside", last_detail="name taken"))
    want(ledger, flow, a_wanted("C1", name="Éclair GmbH"))
    (row,) = rows_of(ledger, wanted)
    assert (row["last_outcome"], row["last_detail"], row["name_folded"]) == ("set_aside", "name taken", "éclair gmbh")


@pytest.mark.parametrize(
    ("updated", "observed", "replaced"),
    [
        pytest.param("2026-01-02T00:00:00Z", 50.0, True, id="newer in Zendesk, however late we look"),
        pytest.param("2026-01-01T00:00:00Z", 101.0, True, id="same second, seen later"),
        pytest.param("2026-01-01T00:00:00Z", 100.0, True, id="same second, seen at the same time"),
        pytest.param("2026-01-01T00:00:00Z", 99.0, False, id="same second, seen earlier"),
        pytest.param("2025-12-31T23:59:59Z", 200.0, False, id="older in Zendesk"),
    ],
)
def test_a_mirror_row_gives_way_only_to_one_not_older(
    ledger: Ledger, updated: str, observed: float, replaced: bool
) -> None:
    """What Zendesk calls older never replaces what is there."""
    observe(ledger, a_record(7, 1, name_folded="before"))
    observe(ledger, a_record(7, 1, name_folded="after", updated_at=updated, observed_epoch=observed))
    (row,) = rows_of(ledger, mirror)
    assert row["name_folded"] == ("after" if replaced else "before")


def test_of_two_rows_of_one_page_the_newer_stays(ledger: Ledger) -> None:
    """A page that holds a record twice leaves its newer state, in whatever order they come."""
    newer = a_record(7, 1, name_folded="newer", updated_at="2026-01-02T00:00:00Z")
    observe(ledger, newer, a_record(7, 1, name_folded="older"))
    (row,) = rows_of(ledger, mirror)
    assert row["name_folded"] == "newer"


def test_what_zendesk_does_not_have_is_marked_gone(ledger: Ledger) -> None:
    """Only the ids named, of that kind and account, become inactive."""
    observe(ledger, a_record(7, 1), a_record(8, 1), a_record(7, 2), a_record(7, 1, "user"))
    with ledger.writing() as tx:
        accounts.mark_gone(tx, 1, "organization", [7])
        accounts.mark_gone(tx, 1, "organization", [])
    gone = [(row["account_id"], row["kind"], row["zendesk_id"]) for row in rows_of(ledger, mirror) if not row["active"]]
    assert gone == [(1, "organization", 7)]
