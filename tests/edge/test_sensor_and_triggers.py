"""Waiting for ticket changes: what the sensor returns, when it defers, and that the triggers survive trouble."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import TriggerEvent

from airflow_provider_qadzd import config
from airflow_provider_qadzd.ledger import Ledger, identity, tickets
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sensors.zendesk import ZendeskEventSensor
from airflow_provider_qadzd.triggers.zendesk import DeliveriesPending, TicketEventsAppear


@pytest.fixture
def ledger(sandbox: Sandbox) -> Ledger:
    """The ledger that sensor and triggers open, with the sandbox's account in it."""
    opened = config.open_ledger()
    identity.account_at(opened, sandbox.url)
    return opened


def happen(ledger: Ledger, *kinds: str, customer: str | None = "C1") -> None:
    """Ticket events, as the drain writes them."""
    row = {
        "ticket_id": 5,
        "status": "open",
        "flow_id": 1,
        "customer_key": customer,
        "updated_at": "2026-01-01T00:00:00Z",
    }
    with ledger.writing() as tx:
        tickets.add_events(tx, ledger, 1, [tickets.event_of(row, kind, "webhook") for kind in kinds])


def context(run: str, dag: str = "mine", index: int = -1) -> dict[str, Any]:
    """As much of a task's context as the sensor reads."""
    return {"dag": SimpleNamespace(dag_id=dag), "run_id": run, "ti": SimpleNamespace(map_index=index)}


def look(run: str, dag: str = "mine", index: int = -1, **filters: Any) -> dict[str, Any] | None:
    """What the sensor returns in that run, None if it defers."""
    sensor = ZendeskEventSensor(task_id="wait", **filters)
    try:
        return sensor.execute(context(run, dag, index))
    except TaskDeferred:
        return None


def test_a_new_sensor_starts_with_what_comes_from_now_on(ledger: Ledger) -> None:
    """What happened before a sensor first ran is not its business; what happens while it waits is."""
    happen(ledger, "created")
    assert look("r1") is None
    happen(ledger, "solved")
    found = look("r1")
    assert found is not None
    assert found["events"] == [[2, 5]]


def test_each_sensor_sees_every_event_once(ledger: Ledger) -> None:
    """Two DAGs that wait both see everything; a next run goes on where the last one stopped."""
    assert look("r1", "a") is None
    assert look("r1", "b") is None
    happen(ledger, "created", "updated")
    assert look("r1", "a") == look("r1", "b")
    happen(ledger, "solved")
    second = look("r2", "a")
    assert second is not None
    assert second["events"] == [[3, 5]]
    assert look("r3", "a") is None


def test_a_cleared_run_returns_the_same(ledger: Ledger) -> None:
    """Clearing a run that succeeded returns its own stretch, whatever came since."""
    look("r1")
    happen(ledger, "created")
    first = look("r1")
    happen(ledger, "updated", "solved")
    assert look("r1") == first


def test_runs_that_wait_at_once_do_not_both_get_an_event(ledger: Ledger) -> None:
    """A sensor whose runs overlap sees each event once: what one run has returned, the other waits beyond."""
    assert look("r1") is None
    assert look("r2") is None
    happen(ledger, "created")
    first = look("r2")
    assert first is not None
    assert look("r1") is None
    happen(ledger, "solved")
    second = look("r1")
    assert second is not None
    assert (first["events"], second["events"]) == ([[1, 5]], [[2, 5]])
    assert look("r2") == first


def test_each_place_of_a_mapped_sensor_has_its_own_position(ledger: Ledger) -> None:
    """Sensors that are expanded from one task see every event each."""
    for index in (0, 1):
        assert look("r1", index=index) is None
    happen(ledger, "created")
    found = [look("r1", index=index) for index in (0, 1)]
    assert [one and one["events"] for one in found] == [[[1, 5]], [[1, 5]]]


def test_filters_let_only_their_own_through(ledger: Ledger) -> None:
    """Kinds and customers filter; an unmatched ticket wakes nobody."""
    look("r1", kinds=["solved"], customers=["C2"])
    happen(ledger, "created", customer="C2")
    happen(ledger, "solved", customer="C1")
    happen(ledger, "solved", customer=None)
    assert look("r1", kinds=["solved"], customers=["C2"]) is None
    happen(ledger, "solved", customer="C2")
    found = look("r1", kinds=["solved"], customers=["C2"])
    assert found is not None
    assert (found["count"], found["to_seq"]) == (1, 4)


def test_more_than_a_hundred_events_are_counted_and_cut(ledger: Ledger) -> None:
    """The XCom stays small: a hundred pairs, the full count, and the positions to read the rest by."""
    look("r1")
    happen(ledger, *["updated"] * 130)
    found = look("r1")
    assert found is not None
    assert (len(found["events"]), found["count"], found["from_seq"], found["to_seq"]) == (100, 130, 0, 130)


async def first_of(trigger: Any, seconds: float) -> TriggerEvent | None:
    """The first event of a trigger within that time."""
    try:
        return await asyncio.wait_for(anext(aiter(trigger.run())), seconds)
    except asyncio.TimeoutError:
        return None


def test_the_event_trigger_fires_when_an_event_appears(ledger: Ledger) -> None:
    """It waits while there is nothing, and fires once there is; its arguments survive serialisation."""
    path, given = TicketEventsAppear(1, 0, ["solved"], poll_seconds=0.05).serialize()
    assert path == "airflow_provider_qadzd.triggers.zendesk.TicketEventsAppear"
    assert asyncio.run(first_of(TicketEventsAppear(**given), 0.3)) is None
    happen(ledger, "solved")
    assert asyncio.run(first_of(TicketEventsAppear(**given), 5)) is not None


def test_the_wake_trigger_signals_while_a_delivery_waits(ledger: Ledger) -> None:
    """Level-triggered: nothing pending, no signal; something pending, a signal, also for one that came before."""
    trigger = DeliveriesPending(poll_seconds=0.05)
    assert asyncio.run(first_of(trigger, 0.3)) is None
    tickets.store_delivery(
        ledger, {"account_id": 1, "payload_id": "p", "signature": "s", "body": b"{}", "kind": "created", "ticket_id": 5}
    )  # fmt: skip
    assert asyncio.run(first_of(trigger, 5)) is not None


def test_the_wake_trigger_survives_what_goes_wrong(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A trigger that raised would be restarted for ever unseen: it waits and tells instead."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QADZD_LEDGER_URL", "mysql://nowhere/ledger")
    assert asyncio.run(first_of(DeliveriesPending(poll_seconds=0.05), 0.5)) is None


async def signals_within(trigger: Any, seconds: float) -> int:
    """How often a trigger signals in that time."""
    count = 0

    async def listen() -> None:
        nonlocal count
        async for _ in trigger.run():
            count += 1

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(listen(), seconds)
    return count


def test_the_wake_trigger_does_not_repeat_itself_at_once(ledger: Ledger) -> None:
    """One delivery that stays is one signal in the first ten seconds, however often it is looked for."""
    tickets.store_delivery(
        ledger, {"account_id": 1, "payload_id": "p", "signature": "s", "body": b"{}", "kind": "created", "ticket_id": 5}
    )  # fmt: skip
    assert asyncio.run(signals_within(DeliveriesPending(poll_seconds=0.02), 0.6)) == 1
