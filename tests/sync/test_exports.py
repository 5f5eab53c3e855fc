"""The journey in by the exports: what webhooks missed, and the past."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger import exports
from airflow_provider_qadzd.ledger.store import iso
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync.export import Exported, Run, export_live, export_window
from airflow_provider_qadzd.sync.receive import drain
from tests.sync.test_deliveries import change, deliver, event, live
from tests.sync.world import World, world_of

DAY = 86_400.0


def export(world: World, run_id: str) -> Exported:
    """One run of the live export."""
    return export_live(world.ledger, world.account.account_id, world.zendesk, Run("export", run_id))


def cursors(world: World) -> dict[str, str]:
    """Where each leg goes on."""
    return {row["leg"]: row["position"] for row in world.rows("export_cursor") if row["leg"].startswith("ticket")}


def tickets_there(world: World) -> dict[int, str]:
    """Every ticket of the sandbox, with its status."""
    return {row["id"]: row["status"] for row in world.there()["tickets"]}


def tickets_here(world: World) -> dict[int, str]:
    """Every ticket of the ledger, with its status."""
    return {row["ticket_id"]: row["status"] for row in world.rows("ticket")}


# -- live --------------------------------------------------------------------------------------------------------------


def test_both_legs_read_on_from_their_cursors(small: World) -> None:
    """A run brings every ticket and its history; the next brings only what has changed since."""
    small.start_exports()
    first = export(small, "1")
    assert (first.tickets, first.repaired) == (20, 20)
    assert tickets_here(small) == tickets_there(small)
    assert first.history == small.there()["counts"]["ticket_events"] == len(small.rows("ticket_history"))
    moved = live(small)[0]
    change(small, moved, subject="Changed")
    small.clock.sleep(130)
    second = export(small, "2")
    assert (second.tickets, second.repaired) == (1, 1)
    assert [(row["ticket_id"], row["kind"], row["found_by"]) for row in small.rows("ticket_event")][20:] == [
        (moved, "updated", "export")
    ]
    small.clock.sleep(130)
    assert export(small, "3").tickets == 0


def test_kinds_are_told_as_webhooks_would(small: World) -> None:
    """What an export finds is told as created, updated, solved or deleted."""
    small.start_exports()
    export(small, "1")
    seen = len(small.rows("ticket_event"))
    one, two, three = live(small, "solved")[:3]
    made = small.sandbox.post_control("tickets", {"subject": "New"})["ticket"]["id"]
    change(small, one, subject="Changed")
    change(small, two, status="solved")
    change(small, three, deleted=True)
    small.clock.sleep(130)
    export(small, "2")
    kinds = {row["ticket_id"]: row["kind"] for row in small.rows("ticket_event")[seen:]}
    assert kinds == {made: "created", one: "updated", two: "solved", three: "deleted"}


def test_repaired_counts_only_what_webhooks_missed(small: World) -> None:
    """What a webhook told of is not repaired, whether drained or still pending, nor is Zendesk's own upkeep."""
    small.start_exports()
    export(small, "1")
    drained, pending, missed, touched = live(small)[:4]
    for ticket_id in (drained, pending, missed):
        change(small, ticket_id, subject="Changed")
    deliver(small, event(drained))
    drain(small.ledger, small.account.account_id, small.zendesk)
    deliver(small, event(pending))
    with small.sandbox.state.lock:
        row = small.sandbox.state.zendesk.tickets.rows[touched]
        row.generated_timestamp = int(small.clock.time())
        small.sandbox.state.zendesk.tickets.changed(row, small.clock.time())
    small.clock.sleep(130)
    done = export(small, "2")
    assert (done.tickets, done.repaired) == (4, 1)
    drain(small.ledger, small.account.account_id, small.zendesk)
    events = [(row["ticket_id"], row["found_by"]) for row in small.rows("ticket_event")][20:]
    assert events == [(drained, "webhook"), (missed, "export"), (pending, "webhook")]


def test_an_export_never_writes_an_older_version(small: World) -> None:
    """A page that was read before a webhook's fetch does not put the older state back."""
    small.start_exports()
    ticket_id = live(small)[0]
    change(small, ticket_id, subject="Newest")
    deliver(small, event(ticket_id))
    drain(small.ledger, small.account.account_id, small.zendesk)
    old = {"id": ticket_id, "subject": "Old", "status": "open", "generated_timestamp": 1_000, "updated_at": iso(1_000)}
    page = {"tickets": [old], "after_cursor": "next", "end_of_stream": True}
    small.fault("GET /api/v2/incremental/tickets/cursor", status=200, body=page)
    assert export(small, "1").tickets == 1
    (row,) = small.rows("ticket")
    assert row["subject"] == "Newest"


def test_when_a_ticket_was_solved(small: World) -> None:
    """The export tells when a ticket was solved; a fetch that does not keeps it, until the ticket is open again."""
    small.start_exports()
    ticket_id = live(small, "solved")[0]
    change(small, ticket_id, status="solved")
    small.clock.sleep(130)
    export(small, "1")

    def stored() -> dict[str, Any]:
        return small.rows("ticket", ticket_id=ticket_id)[0]

    def fetched(**values: Any) -> dict[str, Any]:
        change(small, ticket_id, **values)
        deliver(small, event(ticket_id))
        drain(small.ledger, small.account.account_id, small.zendesk)
        return stored()

    solved_at = stored()["solved_at"]
    assert solved_at == stored()["updated_at"] > ""
    assert fetched(subject="Thanks")["solved_at"] == solved_at
    assert fetched(status="open")["solved_at"] == ""
    assert fetched(status="solved")["solved_at"] == ""  # the export will tell
    small.clock.sleep(130)
    export(small, "2")
    assert stored()["solved_at"] == stored()["updated_at"] > solved_at
    unsolved = {row["status"] for row in small.rows("ticket") if not row["solved_at"]}
    assert unsolved & {"solved", "closed"} == set()


def test_a_cleared_run_reads_its_stretch_again_and_moves_nothing(small: World) -> None:
    """A run that is cleared reads what it read before, ends in the same state, and moves no cursor."""
    small.start_exports()
    first = export(small, "1")
    change(small, live(small)[0], subject="Changed")
    small.clock.sleep(130)
    export(small, "2")
    before = cursors(small), small.rows("ticket_event"), small.rows("ticket_history")
    again = export(small, "1")
    assert (again.tickets, again.repaired) == (first.tickets, 0)
    assert (cursors(small), small.rows("ticket_event"), small.rows("ticket_history")) == before
    # also the newest run, with more to read since
    change(small, live(small)[1], subject="Changed")
    small.clock.sleep(130)
    assert export(small, "2").repaired == 1
    assert cursors(small) == before[0]
    assert export(small, "3").repaired == 0
    assert cursors(small) != before[0]


def test_a_cleared_run_brings_back_what_was_lost(small: World) -> None:
    """A cleared run stores its stretch again where the ledger has lost it."""
    small.start_exports()
    export(small, "1")
    with small.ledger.writing() as tx:
        tx.exec_driver_sql("DELETE FROM qadzd_ticket")
        tx.exec_driver_sql("DELETE FROM qadzd_ticket_history")
    export(small, "1")
    assert tickets_here(small) == tickets_there(small)
    assert len(small.rows("ticket_history")) == small.there()["counts"]["ticket_events"]


def test_a_run_that_read_nothing_reads_nothing_again(small: World) -> None:
    """A cleared run whose stretch was empty asks Zendesk for no export."""
    small.start_exports()
    export(small, "1")
    small.clock.sleep(130)
    export(small, "2")
    small.count_anew()
    assert export(small, "2").tickets == 0
    assert small.calls()["GET /api/v2/incremental/tickets/cursor"] == 0


def test_a_try_that_was_cut_short_goes_on(sync_sandbox: Sandbox, ledger_path: Path) -> None:
    """A run that fails after its first page goes on after it: pages are not read twice, and none is left out."""
    with world_of(sync_sandbox, ledger_path, (3, 3, 2300), fields=False) as world:
        world.start_exports()
        world.fault("GET /api/v2/incremental/tickets/cursor", status=429, retry_after="900", skip=1, times=1)
        with pytest.raises(TryLater) as told:
            export(world, "1")
        assert len(world.rows("ticket")) == 1000
        world.clock.sleep(told.value.wait)
        world.count_anew()
        done = export(world, "1")
        assert done.tickets == 1300
        assert world.calls()["GET /api/v2/incremental/tickets/cursor"] == 2
        assert tickets_here(world) == tickets_there(world)
        # cleared afterwards, the stretch of both tries is read again
        world.clock.sleep(61)
        assert export(world, "1").tickets == 2300


def test_a_budget_that_is_used_up_puts_the_run_off(sync_sandbox: Sandbox, ledger_path: Path) -> None:
    """Where the ten calls a minute are gone the run is put off, and the next try makes progress until all is there."""
    with world_of(sync_sandbox, ledger_path, (3, 3, 2300), fields=False) as world:
        world.start_exports()
        limits = {"enabled": True, "incremental_per_minute": 2, "requests_per_minute": 100_000}
        world.sandbox.post_control("limits", limits)
        for calls in (3, 6):
            # the second time the run is cleared, and reads its whole stretch again
            for _ in range(12):
                try:
                    export(world, "1")
                    break
                except TryLater as error:
                    world.clock.sleep(error.wait)
            assert tickets_here(world) == tickets_there(world)
            assert calls <= world.calls()["GET /api/v2/incremental/tickets/cursor"] <= calls + 2
            assert len(world.rows("ticket_history")) == world.there()["counts"]["ticket_events"]
            with world.ledger.writing() as tx:
                tx.exec_driver_sql("DELETE FROM qadzd_ticket")
                tx.exec_driver_sql("DELETE FROM qadzd_ticket_history")


def test_a_crash_between_pages_loses_nothing(sync_sandbox: Sandbox, ledger_path: Path) -> None:
    """A page's rows and its cursor are committed together: whatever dies between them, the next run has it all."""
    with world_of(sync_sandbox, ledger_path, (3, 3, 1300), fields=False) as world:
        world.start_exports()
        world.fault("GET /api/v2/incremental/tickets/cursor", action="reset-after", skip=1, times=9)
        with pytest.raises(TryLater):
            export(world, "1")
        world.sandbox.delete_control("faults")
        export(world, "another run")
        assert tickets_here(world) == tickets_there(world)
        assert len(world.rows("ticket_event")) == 1300


def test_the_newest_changes_wait(small: World) -> None:
    """A leg whose start is too recent reads nothing yet, without an error."""
    small.start_exports(days=0)
    assert export(small, "1") == Exported()
    small.clock.sleep(130)
    export(small, "2")


def test_an_export_without_onboarding_says_so(small: World) -> None:
    """Without a starting point the export says which DAG sets it."""
    with pytest.raises(FixFirst, match="qadzd_onboard"):
        export(small, "1")


def test_a_stream_that_has_nothing_yet_keeps_its_start(small: World) -> None:
    """Where Zendesk gives no cursor because there is nothing yet, the next run begins at the same start again."""
    small.start_exports()
    before = cursors(small)["tickets"]
    empty = {"tickets": [], "after_cursor": None, "end_of_stream": True}
    small.fault("GET /api/v2/incremental/tickets/cursor", status=200, body=empty)
    export(small, "1")
    assert cursors(small)["tickets"] == before
    assert export(small, "2").tickets == 20


def test_a_mirror_that_has_nothing_yet_keeps_its_start(small: World) -> None:
    """The mirror, too, begins again where Zendesk gave no cursor."""
    empty = {"users": [], "after_cursor": None, "end_of_stream": True}
    small.fault("GET /api/v2/incremental/users/cursor", status=200, body=empty)
    assert small.mirror()["user"] == 0
    assert small.mirror()["user"] == len(small.there()["users"])


def test_history_whose_page_ends_where_it_began_comes_to_an_end(small: World) -> None:
    """Events of the very second at which the leg stopped are read again, stored once, and end the run."""
    now = int(small.clock.time()) - 600
    small.start_exports()
    with small.sandbox.state.lock:
        entries = list(small.sandbox.state.zendesk.ticket_events)
        for entry in entries:
            entry.timestamp, entry.created_at = now, iso(now)
            small.sandbox.state.zendesk.ticket_events.changed(entry, now)
    export(small, "1")
    assert cursors(small)["ticket_events"] == exports.start_position(now)
    export(small, "2")
    assert cursors(small)["ticket_events"] == exports.start_position(now)
    assert len(small.rows("ticket_history")) == len(entries)


# -- history -----------------------------------------------------------------------------------------------------------


def window(world: World, starts: float, ends: float) -> Any:
    """Export one window."""
    return export_window(world.ledger, world.account.account_id, world.zendesk, starts, ends)


def midnight(world: World) -> float:
    """The start of today (UTC)."""
    return world.clock.time() // DAY * DAY


def expected(world: World, starts: float, ends: float) -> set[int]:
    """The tickets whose latest change lies in the window, by the sandbox."""
    return {row["id"] for row in world.there()["tickets"] if starts <= row["generated_timestamp"] < ends}


def test_windows_hold_exactly_their_interval(world: World) -> None:
    """A window holds the tickets whose latest change lies in it; days side by side leave none out and share none."""
    today, count = midnight(world), 0
    for day in range(1, 12):
        starts, ends = today - day * DAY, today - (day - 1) * DAY
        done = window(world, starts, ends)
        world.clock.sleep(10)
        assert done.complete
        assert done.ticket_count == len(expected(world, starts, ends))
        count += done.ticket_count
        assert len(world.rows("ticket")) == count
    assert set(tickets_here(world)) == expected(world, today - 11 * DAY, today)
    assert world.rows("ticket_event") == []


@pytest.mark.parametrize(("at", "inside"), [(0, True), (-1, False), (DAY - 1, True), (DAY, False)])
def test_the_start_belongs_to_a_window_and_the_end_does_not(small: World, at: float, inside: bool) -> None:
    """A change in the window's first second is in it, one in the second of its end is in the next."""
    starts = midnight(small) - 70 * DAY
    with small.sandbox.state.lock:
        table = small.sandbox.state.zendesk.tickets
        row = table.rows[1]
        row.generated_timestamp = int(starts + at)
        table.changed(row, starts + at)
    assert (window(small, starts, starts + DAY).ticket_count == 1) is inside


def test_one_page_may_hold_the_whole_past(small: World) -> None:
    """A page that reaches beyond the window ends it; what lies beyond is not stored."""
    starts = midnight(small) - 60 * DAY
    done = window(small, starts, starts + 55 * DAY)
    assert set(tickets_here(small)) == expected(small, starts, starts + 55 * DAY)
    assert done.complete
    assert small.calls()["GET /api/v2/incremental/tickets/cursor"] == 1


def test_an_open_window_goes_on_after_a_crash(sync_sandbox: Sandbox, ledger_path: Path) -> None:
    """A window that was cut short between its pages goes on after the last one; each page is read once."""
    with world_of(sync_sandbox, ledger_path, (3, 3, 2300), fields=False) as world:
        starts, ends = midnight(world) - 100 * DAY, midnight(world)
        world.fault("GET /api/v2/incremental/tickets/cursor", action="drop", skip=2, times=9)
        with pytest.raises(TryLater):
            window(world, starts, ends)
        (row,) = world.rows("export_window")
        assert (row["window_state"], row["ticket_count"]) == ("open", 2000)
        world.sandbox.delete_control("faults")
        world.count_anew()
        done = window(world, starts, ends)
        assert world.calls()["GET /api/v2/incremental/tickets/cursor"] == 1
        assert done.ticket_count == len(expected(world, starts, ends)) == len(world.rows("ticket"))


def test_a_budget_used_up_in_a_window_goes_on_later(sync_sandbox: Sandbox, ledger_path: Path) -> None:
    """Where the export's calls are used up in the middle of a window, the next try goes on with it."""
    with world_of(sync_sandbox, ledger_path, (3, 3, 2300), fields=False) as world:
        world.sandbox.post_control("limits", {"enabled": True, "incremental_per_minute": 1})
        starts, ends = midnight(world) - 100 * DAY, midnight(world)
        waits: Counter[str] = Counter()
        while True:
            try:
                window(world, starts, ends)
                break
            except TryLater as error:
                waits[error.facts.code] += 1
                world.clock.sleep(error.wait)
        assert 2 <= waits.total() <= 4
        assert len(world.rows("ticket")) == len(expected(world, starts, ends))


def test_a_complete_window_starts_again(small: World) -> None:
    """A complete window that is cleared is read again from its start and ends in the same state."""
    starts, ends = midnight(small) - 60 * DAY, midnight(small)
    first = window(small, starts, ends)
    before = small.rows("ticket")
    small.clock.sleep(60)
    assert window(small, starts, ends) == first
    assert [{**row, "fetched_epoch": 0} for row in small.rows("ticket")] == [
        {**row, "fetched_epoch": 0} for row in before
    ]


@pytest.mark.parametrize(("since", "error"), [(-1, TryLater), (0, TryLater), (119, TryLater), (121, None)])
def test_a_window_that_has_just_ended_is_put_off(small: World, since: float, error: type[Exception] | None) -> None:
    """A daily run starts as its interval ends: it is put off until Zendesk shows the last minute, and then reads."""
    now = 20_500 * DAY + since
    small.sandbox.post_control("clock", {"frozen": True, "now": now})
    starts, ends = 20_499 * DAY, 20_500 * DAY
    if error is None:
        assert window(small, starts, ends).complete
        return
    with pytest.raises((TryLater, FixFirst)) as told:
        window(small, starts, ends)
    if since < 0:
        assert isinstance(told.value, FixFirst)
    else:
        assert isinstance(told.value, TryLater)
        assert told.value.wait == pytest.approx(120 - since)


def test_history_and_live_agree(small: World) -> None:
    """Windows and the live export bring the same rows; what comes second moves nothing."""
    small.start_exports()
    export(small, "1")
    before = [{**row, "fetched_epoch": 0} for row in small.rows("ticket")]
    events = len(small.rows("ticket_event"))
    window(small, midnight(small) - 100 * DAY, midnight(small))
    assert [{**row, "fetched_epoch": 0} for row in small.rows("ticket")] == before
    assert len(small.rows("ticket_event")) == events
