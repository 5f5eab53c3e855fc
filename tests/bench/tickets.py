"""The inward journey: the live export into the ledger, beside a reader that parses the same pages and keeps nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests

from airflow_provider_qadzd.ledger import exports
from airflow_provider_qadzd.sync.export import EVENTS, TICKETS, Run, export_live
from tests.bench.measures import Measure, timed
from tests.bench.wiring import Sandbox, Wired, ledgers, sandbox

COUNT = 20_000
DAYS = 90
SETTLE = 120.0


def measure() -> list[Measure]:
    """Tickets stored a second, with their history, by database."""
    with sandbox(customers=500, contacts=1_000, tickets=COUNT) as served:
        _floor(served)  # the sandbox encodes each row once; nobody shall pay for that but this first reader
        floor = max(_floor(served) for _ in range(2))
        found = [Measure("Tickets", "read and parsed alone", floor, "tickets/s")]
        with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
            for name, ledger in opened.items():
                rate = _stored(Wired(served, ledger))
                found.append(Measure("Tickets", f"stored in {name}", rate, "tickets/s"))
                found.append(Measure("Tickets", f"stored in {name}, of the floor", rate / floor, "ratio"))
    return found


def _stored(wired: Wired) -> float:
    """The export is where onboarding leaves it, only earlier. Both legs are read, as every run does."""
    account_id, client = wired.account.account_id, wired.zendesk
    wired.learn_limits()
    for leg in (TICKETS, EVENTS):
        exports.start_once(wired.ledger, account_id, leg, exports.start_position(time.time() - DAYS * 86_400))
    with timed() as watch:
        done = export_live(wired.ledger, account_id, client, Run("bench", "first"), SETTLE)
    if done.tickets < COUNT:
        raise RuntimeError(f"only {done.tickets} of {COUNT} tickets were stored")
    return done.tickets / watch.seconds


def _floor(served: Sandbox) -> float:
    """Tickets a second by `requests` and `json` alone, over the same pages of both legs."""
    start = int(time.time() - DAYS * 86_400)
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {served.token()}"
        with timed() as watch:
            tickets = _legs(session, f"{served.url}/api/v2/incremental/", start)
    return tickets / watch.seconds


def _legs(session: requests.Session, base: str, start: int) -> int:
    tickets, body = 0, dict[str, Any]()
    params: dict[str, Any] = {"start_time": start}
    while not body.get("end_of_stream"):
        body = json.loads(session.get(f"{base}tickets/cursor", params=params, timeout=60).content)
        tickets, params = tickets + len(body["tickets"]), {"cursor": body["after_cursor"]}
    body = {"end_time": start}
    while not body.get("end_of_stream"):
        params = {"start_time": body["end_time"]}
        body = json.loads(session.get(f"{base}ticket_events", params=params, timeout=60).content)
        if body["end_time"] == params["start_time"] and not body["end_of_stream"]:
            raise RuntimeError("the export does not get past one second")
    return tickets
