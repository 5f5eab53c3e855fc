"""100,000 customers over REST into the ledger, beside a loop that only asks and parses."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests

from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.qad import browse
from airflow_provider_qadzd.qad.client import QadClient, QadSettings, connect
from airflow_provider_qadzd.sync.collect import collect
from tests.bench.measures import Measure, peak_memory, timed
from tests.bench.wiring import QAD_PASSWORD, QAD_USER, CustomersOnly, Sandbox, ledgers, sandbox

CUSTOMERS, FEWER = 100_000, 10_000
FLOOR, FIRST_READ, AGAIN, MEMORY = 40_000, 0.15, 0.3, 1.2
SETTINGS = QadSettings(auth="basic", page_size=1000)


def measure() -> list[Measure]:
    """Rows a second of the floor, the first read and an unchanged one; and what memory a read takes."""
    found = []
    with TemporaryDirectory() as folder, sandbox(CUSTOMERS) as served:
        _floor(served)  # the sandbox makes each row's bytes when they are first asked for
        with ledgers(Path(folder)) as opened:
            for name, ledger in opened.items():
                found += _reads(f"REST into {name}", served, ledger)
        with sandbox(FEWER) as smaller:
            peaks = [_peak(one.url) for one in (smaller, served)]
    ratio = peaks[1] / peaks[0]
    return [*found, Measure("REST memory", f"peak of {CUSTOMERS:,} to {FEWER:,} rows", ratio, "times", MEMORY)]


def _reads(case: str, served: Sandbox, ledger: Ledger) -> list[Measure]:
    """Floor, first and second read in turns, so that all of them meet the same machine."""
    floor = _floor(served)
    source_id = identity.source_id_of(ledger, _address(served.url), ())
    first, again = (_read(served.url, ledger, source_id, run) for run in ("first", "again"))
    floor = max(floor, _floor(served))
    return [
        Measure(case, "requests and json alone", floor, "rows/s", FLOOR, at_least=True),
        Measure(case, "first read", first, "rows/s"),
        Measure(case, "first read, of the floor", first / floor, "", FIRST_READ, at_least=True),
        Measure(case, "unchanged read", again, "rows/s"),
        Measure(case, "unchanged read, of the floor", again / floor, "", AGAIN, at_least=True),
    ]


def _floor(served: Sandbox) -> float:
    """Rows a second of a loop that a good engineer would write in ten minutes: it checks and keeps nothing."""
    rows, page, more = 0, 0, True
    with requests.Session() as session, timed() as watch:
        session.auth = (QAD_USER, QAD_PASSWORD)
        while more:
            page += 1
            params: dict[str, Any] = {
                "browseId": browse.CUSTOMERS_BROWSE, "page": page, "pageSize": SETTINGS.page_size, "callId": "floor",
                "pageAction": "first" if page == 1 else "next",
            }  # fmt: skip
            body = session.get(_address(served.url) + browse.PATH, params=params, timeout=60).json()
            rows, more = rows + len(body["data"]), body["auxillaryData"]["HasMoreParams"] == "true"
    return rows / watch.seconds


def _read(url: str, ledger: Ledger, source_id: int, run: str) -> float:
    """Rows a second of a full read of all customers into the ledger."""
    with requests.Session() as session, timed() as watch:
        customers, _ = collect(ledger, source_id, CustomersOnly(_client(url, session)), run, full=True)
    if not customers.complete:
        raise RuntimeError(customers.summary())
    return customers.rows / watch.seconds


def _peak(url: str) -> float:
    """The most memory that reading all customers takes, in a process of its own that keeps none of them."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_here, (url,))


def _peak_here(url: str) -> float:
    with requests.Session() as session:
        rows = sum(len(page) for page in _client(url, session).customers())
    if rows not in (CUSTOMERS, FEWER):
        raise RuntimeError(f"{rows} rows")
    return peak_memory()


def _client(url: str, session: requests.Session) -> QadClient:
    return connect(_address(url), QAD_USER, QAD_PASSWORD, SETTINGS, session=session)


def _address(url: str) -> str:
    return f"{url}/clouderp"
