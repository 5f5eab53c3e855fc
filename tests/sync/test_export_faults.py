"""The exports under every fault, on both databases: the right rows, once, each time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from airflow_provider_qadzd.errors import FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from airflow_provider_qadzd.ledger.store import iso
from airflow_provider_qadzd.sandbox import Sandbox, Size
from airflow_provider_qadzd.sync.receive import drain
from tests.sync.test_deliveries import change, deliver, event, live
from tests.sync.test_exports import DAY, cursors, expected, export, midnight, tickets_here, tickets_there, window
from tests.sync.world import SandboxClock, World

TICKETS, EVENTS = "GET /api/v2/incremental/tickets/cursor", "GET /api/v2/incremental/ticket_events"
COUNT = 1100


@pytest.fixture
def world(sync_sandbox: Sandbox, ledger_url: str) -> Iterator[World]:
    """Few accounts and 1,100 tickets, two pages of them, with exports that start before the first."""
    sync_sandbox.state.size = Size(3, 3, COUNT)
    sync_sandbox.post_control("reset")
    sync_sandbox.post_control("limits", {"enabled": False})
    clock = SandboxClock(sync_sandbox)
    made = World(sync_sandbox, Ledger(ledger_url, clock), clock)
    made.start_exports()
    LedgerBudget(made.ledger, made.account.account_id).learn("exports", 100_000)
    yield made
    sync_sandbox.delete_control("faults")
    made.close()


def again_and_again(world: World, act: Callable[[], Any], most: int = 30) -> Counter[str]:
    """Call until it succeeds, waiting as long as each TryLater says, as Airflow would; what they were about."""
    told: Counter[str] = Counter()
    for _ in range(most):
        try:
            act()
        except TryLater as error:
            told[error.facts.code or str(error).split(".")[0]] += 1
            world.clock.sleep(error.wait)
        else:
            return told
    raise AssertionError(f"never: {told}")


def whole(world: World) -> None:
    """Every ticket as it is there, each with one event of the export's, and every entry of history, once."""
    assert tickets_here(world) == tickets_there(world)
    assert len(world.rows("ticket_history")) == world.there()["counts"]["ticket_events"]
    events = [row for row in world.rows("ticket_event") if row["found_by"] == "export"]
    assert len(events) == len({row["ticket_id"] for row in events}) == len(tickets_there(world))
    assert [row["seq"] for row in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"retry_after": "7"}, id="whole seconds"),
        pytest.param({"retry_after": "7.5"}, id="decimal"),
        pytest.param({"retry_after": "date"}, id="a date"),
        pytest.param({"retry_after": "0"}, id="zero"),
        pytest.param({"retry_after": "soon"}, id="a word"),
        pytest.param({"body": "Too many requests", "content_type": "text/plain"}, id="none, plain text"),
        pytest.param({"retry_after": "600"}, id="ten minutes"),
    ],
)
def test_every_third_call_is_refused(world: World, how: dict[str, Any]) -> None:
    """A 429 for every third call, in whatever form, costs time and nothing else."""
    if how.get("retry_after") == "date":
        how = {**how, "retry_after": formatdate(world.clock.time() + 9, usegmt=True)}
    world.fault("GET /api/v2/incremental/*", status=429, every=3, times=None, **how)
    again_and_again(world, lambda: export(world, "1"))
    whole(world)


@pytest.mark.parametrize("action", ["drop", "reset-after", "html"])
def test_connections_that_break(world: World, action: str) -> None:
    """A connection that is reset before, within or instead of every second page loses and repeats nothing."""
    more = {"status": 503} if action == "html" else {"after_bytes": 40_000} if action == "reset-after" else {}
    world.fault("GET /api/v2/incremental/*", action=action, every=2, times=None, **more)
    again_and_again(world, lambda: export(world, "1"))
    whole(world)


def test_a_cursor_that_comes_again(world: World) -> None:
    """A page whose cursor is the one that was asked with is not stored; the leg stays where it was, and goes on."""
    export(world, "1")
    cursor = cursors(world)["tickets"]
    stuck = {"tickets": [{"id": 1, "status": "open"}], "after_cursor": cursor, "end_of_stream": False}
    world.fault(TICKETS, status=200, body=stuck, times=1)
    with pytest.raises(TryLater, match="same cursor"):
        export(world, "2")
    assert cursors(world)["tickets"] == cursor
    assert tickets_here(world) == tickets_there(world)
    moved = live(world)[0]
    change(world, moved, subject="Changed")
    world.clock.sleep(130)
    assert export(world, "2").tickets == 1


def test_a_page_by_time_that_never_advances(world: World) -> None:
    """A full page that is the same whatever is asked for is told as such and not read for ever; tickets are stored."""
    now = int(world.clock.time() - 100 * DAY)
    rows = [{"id": n, "ticket_id": 1, "timestamp": now, "child_events": []} for n in range(1000)]
    world.fault(
        EVENTS, status=200, times=None, body={"ticket_events": rows, "end_time": now, "end_of_stream": False}
    )  # fmt: skip
    with pytest.raises(FixFirst, match="does not get past the second"):
        export(world, "1")
    assert world.calls()[EVENTS] <= 4
    assert tickets_here(world) == tickets_there(world)


def test_a_page_with_duplicates(world: World) -> None:
    """Of a ticket that a page holds three times, and the next one again, the newest state stands, with one event."""
    export(world, "1")
    events, now = len(world.rows("ticket_event")), world.clock.time()
    versions = [
        {"id": 5, "status": status, "subject": status, "generated_timestamp": now + at, "updated_at": iso(now + at)}
        for at, status in ((2, "pending"), (3, "solved"), (1, "open"))
    ]
    first = {"tickets": [*versions, versions[0]], "after_cursor": "next", "end_of_stream": False}
    world.fault(TICKETS, status=200, body=first, times=1)
    world.fault(TICKETS, status=200, body={**first, "after_cursor": "last", "end_of_stream": True}, times=1)
    export(world, "2")
    assert tickets_here(world)[5] == "solved"
    assert [row["ticket_id"] for row in world.rows("ticket_event")[events:]] == [5]


def test_a_drain_and_an_export_race(world: World) -> None:
    """Both on the same tickets at once: every ticket right, one event for each delivery, none of the export's twice."""
    ids = live(world)[:120]
    for number, ticket_id in enumerate(ids):
        change(world, ticket_id, subject=f"Changed {number}")
        deliver(world, event(ticket_id))
    world.clock.sleep(130)
    start = threading.Barrier(2)

    def drains() -> int:
        start.wait()
        return drain(world.ledger, world.account.account_id, world.zendesk).drained

    def exports() -> int:
        start.wait()
        return export(world, "1").tickets

    with ThreadPoolExecutor(2) as threads:
        drained, exported = threads.submit(drains), threads.submit(exports)
        assert (drained.result(120), exported.result(120)) == (120, COUNT)
    assert tickets_here(world) == tickets_there(world)
    subjects = {row["ticket_id"]: row["subject"] for row in world.rows("ticket")}
    assert [subjects[one] for one in ids] == [f"Changed {number}" for number in range(120)]
    told = Counter((row["ticket_id"], row["found_by"]) for row in world.rows("ticket_event"))
    assert set(told.values()) == {1}
    assert all(told[one, "webhook"] == 1 for one in ids)


@pytest.mark.parametrize("ahead", [-3600.0, -90.0, 90.0, 3600.0])
def test_a_clock_that_is_wrong(world: World, ahead: float) -> None:
    """With our clock wrong by a minute or an hour, either way, nothing is lost once enough time has passed."""
    world.clock.ahead = ahead  # type: ignore[attr-defined]
    again_and_again(world, lambda: export(world, "1"))
    moved = live(world)[0]
    change(world, moved, subject="Changed")
    for run in ("2", "3", "4"):
        world.clock.sleep(2000)
        again_and_again(world, lambda run=run: export(world, run))  # type: ignore[misc]
    assert tickets_here(world) == tickets_there(world)
    assert next(row["subject"] for row in world.rows("ticket", ticket_id=moved)) == "Changed"


def test_a_week_of_downtime_is_one_run(world: World) -> None:
    """After a week in which half the tickets changed one run catches up, in as many calls as there are pages."""
    export(world, "1")
    moved = live(world, "closed")[:1050]
    with world.sandbox.state.lock:
        table = world.sandbox.state.zendesk.tickets
        for number, ticket_id in enumerate(moved):
            row, at = table.rows[ticket_id], int(world.clock.time() + number * 500)
            row.subject, row.generated_timestamp, row.updated_at = "Changed", at, iso(at)
            table.changed(row, at)
    world.clock.sleep(7 * DAY)
    world.count_anew()
    done = export(world, "2")
    assert (done.tickets, done.repaired) == (len(moved), len(moved))
    assert world.calls()[TICKETS] == len(moved) // 1000 + 1
    assert world.calls()[EVENTS] == 1
    assert {row["subject"] for row in world.rows("ticket") if row["ticket_id"] in set(moved)} == {"Changed"}


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["1", "another"], ids=["the same run again", "the next run"])
def test_killed_in_the_middle_of_a_page(world: World, ledger_url: str, run: str) -> None:
    """Killed after a page's rows and cursor were written and before they were committed: neither stands, and the next
    try reads that page again, and no other.
    """
    token = world.zendesk._session.auth._credentials.access_token()  # type: ignore[union-attr]
    arguments = [world.sandbox.url, ledger_url, token, "1", str(COUNT)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sync.export_worker", *arguments], cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE, text=True,
    ) as worker:  # fmt: skip
        assert worker.stdout is not None
        assert worker.stdout.readline() == "stored\n"
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
    assert len(world.rows("ticket")) == len(world.rows("ticket_event")) == 1000
    world.count_anew()
    export(world, run)
    assert world.calls()[TICKETS] == 1
    whole(world)


# -- the ledger away ---------------------------------------------------------------------------------------------------


def shut(url: str) -> Callable[[], None]:
    """Take the ledger away from everybody, SQLite's by its lock, PostgreSQL's by refusing them; what gives it back."""
    if url.startswith("sqlite"):
        engine = create_engine(url)
        holder = engine.connect()
        holder.exec_driver_sql("BEGIN EXCLUSIVE")

        def release() -> None:
            holder.close()
            engine.dispose()

        return release
    base, _, rest = url.partition("?")
    server, _, name = base.rpartition("/")
    engine = create_engine(f"{server}/postgres?{rest}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        others = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        connection.execute(others, {"name": name})

    def open_again() -> None:
        with engine.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        engine.dispose()

    return open_again


def test_a_ledger_that_is_away_for_half_a_minute(world: World, ledger_url: str) -> None:
    """A ledger that goes away in the middle of an export puts the run off, and all is there once it is back."""
    impatient = f"{ledger_url}?timeout=0.1" if ledger_url.startswith("sqlite") else ledger_url
    patient, world.ledger = world.ledger, Ledger(impatient, world.clock)
    world.zendesk = world.zendesk_client()
    world.fault(TICKETS, action="delay", seconds=0.5, skip=1)
    reopen: list[Callable[[], None]] = []

    def taken_away() -> None:
        while world.calls()[TICKETS] < 1:
            time.sleep(0.01)
        time.sleep(0.3)
        reopen.append(shut(ledger_url))

    with ThreadPoolExecutor(1) as threads:
        away = threads.submit(taken_away)
        with pytest.raises(TryLater, match="locked or away"):
            export(world, "1")
        away.result(30)
    for _ in range(3):
        with pytest.raises(TryLater, match="locked or away"):
            export(world, "1")
        world.clock.sleep(10)
    reopen[0]()
    export(world, "1")
    world.ledger.engine.dispose()
    world.ledger = patient
    whole(world)


def test_windows_under_faults(world: World) -> None:
    """A window with refused calls and broken connections in it holds its tickets, once."""
    starts, ends = midnight(world) - 100 * DAY, midnight(world)
    world.fault(TICKETS, status=429, retry_after="7", every=2, times=2)
    world.fault(TICKETS, action="reset-after", after_bytes=9_000, every=2, times=2)
    told = again_and_again(world, lambda: window(world, starts, ends))
    assert set(tickets_here(world)) == expected(world, starts, ends), told
    (row,) = world.rows("export_window")
    assert (row["window_state"], row["ticket_count"]) == ("complete", len(expected(world, starts, ends)))


def test_what_is_not_zendesks_is_told(world: World) -> None:
    """A page whose tickets have no usable ids is refused as a whole; the leg stays where it was."""
    page = {"tickets": [{"id": "five", "status": "open"}], "after_cursor": "next", "end_of_stream": True}
    world.fault(TICKETS, status=200, body=page, times=1)
    before = cursors(world)
    with pytest.raises(QadzdError, match="not Zendesk's JSON"):
        export(world, "1")
    assert cursors(world) == before
