"""Delta and full reads of QAD: which is made, what it may conclude, and how a delta that cannot work is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_qadzd.ledger.absence import LastReads
from airflow_provider_qadzd.ledger.store import epoch_of
from airflow_provider_qadzd.sync.collect import collect, delta_since
from airflow_provider_qadzd.sync.mapping_file import parse_mapping
from tests.sync.test_absence import DAY, delete
from tests.sync.world import World

NOON = epoch_of("2026-11-24T12:00:00Z")
LAST = LastReads(NOON - 3600, 40, NOON - 300, "2026-11-23")


@pytest.mark.parametrize(
    ("last", "since"),
    [
        pytest.param(LAST, "2026-11-22", id="the day before the newest change"),
        pytest.param(replace(LAST, newest="2026-11-24"), "2026-11-23", id="changes of today"),
        pytest.param(replace(LAST, newest="2031-01-01"), "2026-11-23", id="a date in the future: before the last read"),
        pytest.param(LastReads(), "", id="nothing was read yet"),
        pytest.param(replace(LAST, full_rows=None), "", id="no full read was complete yet"),
        pytest.param(replace(LAST, newest=""), "", id="QAD tells no dates"),
        pytest.param(replace(LAST, full_begun=NOON - 36 * 3600), "2026-11-22", id="the last full read at the limit"),
        pytest.param(replace(LAST, full_begun=NOON - 36 * 3600 - 1), "", id="the last full read is too long ago"),
    ],
)
def test_from_when_a_delta_reads(last: LastReads, since: str) -> None:
    """A delta begins a day before the newest known change or the last read, whichever is earlier."""
    assert delta_since(last, "", NOON) == since


def test_the_second_read_is_a_delta(synced: World) -> None:
    """After a complete full read only what was changed lately is read, and a change arrives by it."""
    synced.clock.sleep(600)
    synced.sandbox.post_control("customers", {"code": "C0000202", "city": "Elsewhere"})
    synced.sandbox.post_control("contacts", {"id": 50005, "function": "Chief buyer"})
    reads = synced.collect()
    assert [(read.mode, read.complete) for read in reads] == [("delta", True), ("delta", True)]
    assert reads[0].rows < 12
    synced.mirror()
    synced.apply(synced.plan())
    assert synced.organizations()["C0000202"]["organization_fields"]["qad_city"] == "Elsewhere"
    assert synced.users()["50005"]["user_fields"]["qad_function"] == "Chief buyer"
    modes = [row["read_mode"] for row in synced.rows("qad_read", kind="customer")]
    assert modes == ["full", "delta"]


def test_a_full_read_is_made_when_asked_for(synced: World) -> None:
    """With `full` everything is read, however fresh the last full read is."""
    reads = collect(synced.ledger, synced.flow.source_id, synced.qad, "run", full=True)
    assert [(read.mode, read.rows) for read in reads] == [("full", 12), ("full", 16)]


def test_a_full_read_is_made_when_the_last_one_is_long_ago(synced: World) -> None:
    """Where nobody makes the nightly full read, an ordinary run does."""
    synced.clock.sleep(2 * DAY)
    assert [read.mode for read in synced.collect()] == ["full", "full"]


def test_without_a_column_every_read_is_full(synced: World) -> None:
    """A browse that has no date of change is always read in full."""
    synced.qad = synced.qad_client(customer_columns={"modified": ""})
    assert [read.mode for read in synced.collect()] == ["full", "delta"]


def test_a_filter_that_qad_does_not_understand_is_noticed(synced: World) -> None:
    """A delta without a single row is not believed: everything is read instead, in the same run."""
    synced.qad = synced.qad_client(customer_filters=("no.such,eq,1,literal",))
    reads = synced.collect()
    assert reads[0].mode == "full"
    (delta,) = synced.rows("qad_read", kind="customer", read_mode="delta")
    assert delta["complete"] is False
    assert "filter" in delta["reason"]


def test_deltas_conclude_nothing_from_what_did_not_come(synced: World) -> None:
    """However many deltas miss a record over days, it is not gone: only complete full reads count."""
    delete(synced, "customers", code="C0000211")
    delete(synced, "contacts", id=50006)
    for _ in range(6):
        synced.clock.sleep(DAY - 200)
        with synced.ledger.writing() as tx:  # the nightly read was made and is not complete
            tx.exec_driver_sql(
                "INSERT INTO qadzd_qad_read (source_id, kind, read_mode, complete, started_at)"
                " SELECT source_id, kind, 'full', false, ? FROM qadzd_qad_read GROUP BY source_id, kind",
                (synced.ledger.now(),),
            )
        plan, _ = synced.sync()
        assert plan.changes == 0
    assert {row["read_mode"] for row in synced.rows("qad_read") if row["complete"]} == {"full", "delta"}
    assert len(synced.rows("qad_read", read_mode="full", complete=True)) == 2
    assert synced.organizations()["C0000211"]["organization_fields"]["qad_status"] == "active"


def test_a_delta_shows_that_a_contact_moved(synced: World) -> None:
    """All rows of a changed contact come in one delta, so a customer that is not among them has been left."""
    synced.clock.sleep(600)
    synced.sandbox.post_control("contacts", {"id": 50006, "customers": ["C0000209"]})
    assert synced.collect()[1].mode == "delta"
    pairs = {row["customer_key"]: row["left_read"] for row in synced.rows("qad_contact_of", contact_key="50006")}
    assert pairs.pop("C0000209") is None
    assert all(pairs.values())
    others = [row for row in synced.rows("qad_contact_of") if row["contact_key"] != "50006"]
    assert not [row for row in others if row["left_read"]]


def test_another_column_is_read_of_every_record(synced: World) -> None:
    """Where the mapping names a column that was not read before, a delta would leave it out of what did not change."""
    text = "organization:\n  details: '{customerV2.customerTypeCode}'\n"
    synced.rules = replace(synced.rules, mapping=parse_mapping(text, "mapping.yaml"))
    assert [read.mode for read in synced.collect()] == ["full", "delta"]
    assert [read.mode for read in synced.collect()] == ["delta", "delta"]
