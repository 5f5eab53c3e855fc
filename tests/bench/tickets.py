"""The inward journey: the live export into the ledger, matched, beside who reads the same pages and keeps nothing.

Every reader runs in a process of its own and reads both legs, with metric sets. The floor is `requests` and `json`;
zenpy is the client that most people use. Limits are off for all. Half the requesters are linked to QAD contacts.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests

from airflow_provider_qadzd.ledger import Ledger, exports
from airflow_provider_qadzd.ledger.changes import Ended, end
from airflow_provider_qadzd.sync.export import EVENTS, TICKETS, Run, export_live
from tests.bench.measures import Measure, peak_memory, timed
from tests.bench.wiring import KEY, Sandbox, Wired, ledgers, sandbox

COUNTS = (20_000, 100_000)
DAYS = 90
SETTLE = 120.0
FLOORS = {"SQLite": 0.35, "PostgreSQL": 0.25}
TIMES_ZENPY = 3.0
MEMORY = 1.2


def measure() -> list[Measure]:
    """Tickets stored a second, with their history, by database; memory by count."""
    found, peaks = list[Measure](), dict[str, list[float]]()
    for count in COUNTS:
        with sandbox(customers=500, contacts=1_000, tickets=count) as served:
            found += _of_count(served, count, peaks)
    for name, (few, many) in peaks.items():
        found.append(Measure("Tickets", f"peak memory into {name}", many, "MiB"))
        found.append(Measure("Tickets", f"peak memory into {name}, of 20,000's", many / few, "ratio", MEMORY))
    return found


def _of_count(served: Sandbox, count: int, peaks: dict[str, list[float]]) -> list[Measure]:
    case = f"Tickets, {count:,}"
    # zenpy follows the links of pages as they are.
    served.post("settings", {"export_host": ""})
    size = _alone(_bytes_a_ticket, served.url)[0]
    _alone(_floor, served.url)  # the sandbox encodes each row once; nobody shall pay for that but this first reader
    floor = max(_alone(_floor, served.url)[0] for _ in range(2))
    zenpy = _alone(_zenpy, served.url)[0]
    found = [
        Measure(case, "size of a ticket, as served", size, "bytes"),
        Measure(case, "requests and json, kept nowhere", floor, "tickets/s"),
        Measure(case, "zenpy, kept nowhere", zenpy, "tickets/s"),
    ]
    with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
        for name, ledger in opened.items():
            _link(Wired(served, ledger))
            url = ledger.engine.url.render_as_string(hide_password=False)
            rate, peak = _alone(_stored, served.url, url, KEY, count)
            peaks.setdefault(name, []).append(peak)
            found += [
                Measure(case, f"stored in {name}, matched", rate, "tickets/s"),
                Measure(case, f"stored in {name}, of the floor", rate / floor, "ratio", FLOORS[name], at_least=True),
                Measure(case, f"stored in {name}, of zenpy", rate / zenpy, "times", TIMES_ZENPY, at_least=True),
            ]
    return found


def _alone(reader: Callable[..., float], *given: Any) -> tuple[float, float]:
    """What it returns in a process of its own, and the most memory (MiB) that the process had."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_peak, (reader, *given))


def _with_peak(reader: Callable[..., float], *given: Any) -> tuple[float, float]:
    return reader(*given), peak_memory()


# -- ours --------------------------------------------------------------------------------------------------------------


def _link(wired: Wired) -> None:
    """Every customer to its organization's id to be, and half the users that QAD knows to their contacts."""
    state = requests.get(f"{wired.sandbox.url}/_sandbox/state", timeout=600).json()
    by_email = {row["email"].lower(): row for row in state["qad"]["contacts"] if row["email"]}
    ended = [
        Ended("organization", row["code"], "created", linked=True, zendesk_id=900_000_000_000 + number)
        for number, row in enumerate(state["qad"]["customers"])
    ]
    for user in state["users"][::2]:
        contact = by_email.get((user["email"] or "").lower())
        if contact is not None:
            key = str(contact["id"])
            ended.append(Ended("user", key, "created", linked=True, zendesk_id=user["id"]))
            ended += [Ended("membership", key, "added", other=code, linked=True) for code in contact["customers"]]
    end(wired.ledger, wired.flow, ended, "bench")


def _stored(url: str, ledger_url: str, key: str, count: int) -> float:
    """The export is where onboarding leaves it, only earlier. Both legs are read, as every run does."""
    wired = Wired(Sandbox(url), Ledger(ledger_url), key)
    account_id, client = wired.account.account_id, wired.zendesk
    wired.learn_limits()
    for leg in (TICKETS, EVENTS):
        exports.start_once(wired.ledger, account_id, leg, exports.start_position(time.time() - DAYS * 86_400))
    with timed() as watch:
        done = export_live(wired.ledger, account_id, client, Run("bench", "first"), SETTLE)
    if done.tickets < count:
        raise RuntimeError(f"only {done.tickets} of {count} tickets were stored")
    return done.tickets / watch.seconds


# -- others ------------------------------------------------------------------------------------------------------------


def _floor(url: str) -> float:
    """Tickets a second by `requests` and `json` alone, over the same pages of both legs."""
    start = int(time.time() - DAYS * 86_400)
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {Sandbox(url).token()}"
        with timed() as watch:
            tickets = _legs(session, f"{url}/api/v2/incremental/", start)
    return tickets / watch.seconds


def _legs(session: requests.Session, base: str, start: int) -> int:
    tickets, body = 0, dict[str, Any]()
    params: dict[str, Any] = {"start_time": start}
    while not body.get("end_of_stream"):
        asked = {**params, "include": "metric_sets"}
        body = json.loads(session.get(f"{base}tickets/cursor", params=asked, timeout=60).content)
        tickets, params = tickets + len(body["tickets"]), {"cursor": body["after_cursor"]}
    body = {"end_time": start}
    while not body.get("end_of_stream"):
        params = {"start_time": body["end_time"]}
        body = json.loads(session.get(f"{base}ticket_events", params=params, timeout=60).content)
        if body["end_time"] == params["start_time"] and not body["end_of_stream"]:
            raise RuntimeError("the export does not get past one second")
    return tickets


def _bytes_a_ticket(url: str) -> float:
    headers = {"Authorization": f"Bearer {Sandbox(url).token()}"}
    asked = {"start_time": int(time.time() - DAYS * 86_400)}
    answer = requests.get(f"{url}/api/v2/incremental/tickets/cursor", params=asked, headers=headers, timeout=60)
    return len(answer.content) / len(answer.json()["tickets"])


def _zenpy(url: str) -> float:
    """Tickets a second by zenpy, which makes an object of each row as it is iterated."""
    os.environ.update(ZENPY_FORCE_SCHEME="http", ZENPY_FORCE_NETLOC=url.removeprefix("http://"))
    from zenpy import Zenpy

    start = int(time.time() - DAYS * 86_400)
    with requests.Session() as session:
        api = Zenpy(
            subdomain="sandbox", oauth_token=Sandbox(url).token(), session=session, disable_cache=True, timeout=60
        )
        with timed() as watch:
            tickets = sum(1 for _ in api.tickets.incremental(start, paginate_by_time=False, include=["metric_sets"]))
            for _ in api.tickets.events(start):
                pass
    return tickets / watch.seconds
