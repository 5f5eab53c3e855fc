"""100,000 customers over SOAP into the ledger, beside a loop that only asks, parses and makes dictionaries."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from lxml import etree

from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.qad.qxtend import Ask, envelopes_of
from airflow_provider_qadzd.qad.qxtend_client import connect
from airflow_provider_qadzd.qad.qxtend_settings import SERVICES, qxtend_settings
from airflow_provider_qadzd.sync.collect import collect
from tests.bench.measures import Measure, peak_memory, timed
from tests.bench.wiring import QAD_PASSWORD, QAD_USER, CustomersOnly, Sandbox, ledgers, sandbox

CUSTOMERS, FEWER = 100_000, 10_000
FIRST_READ, AGAIN, MEMORY = 0.15, 0.3, 1.2
SETTINGS = qxtend_settings({"receiver": "QADERP", "page_size": 1000}, "the bench")
ROW, KEY = f"{{{SERVICES}}}customer", f"{{{SERVICES}}}cmAddr"


def measure() -> list[Measure]:
    """Rows a second of the floor, the first read and an unchanged one; and what memory a read takes."""
    found = []
    with TemporaryDirectory() as folder, sandbox(CUSTOMERS) as served:
        _floor(served)  # the sandbox makes each row's bytes when they are first asked for
        with ledgers(Path(folder)) as opened:
            for name, ledger in opened.items():
                found += _reads(f"QXtend into {name}", served, ledger)
        with sandbox(FEWER) as smaller:
            peaks = [_peak(one.url) for one in (smaller, served)]
    ratio = peaks[1] / peaks[0]
    return [*found, Measure("QXtend memory", f"peak of {CUSTOMERS:,} to {FEWER:,} rows", ratio, "times", MEMORY)]


def _reads(case: str, served: Sandbox, ledger: Ledger) -> list[Measure]:
    """Floor, first and second read in turns, so that all of them meet the same machine."""
    floor = _floor(served)
    source_id = identity.source_id_of(ledger, _address(served.url), SETTINGS.source_parts)
    first, again = (_read(served.url, ledger, source_id, run) for run in ("first", "again"))
    floor = max(floor, _floor(served))
    return [
        Measure(case, "requests and lxml alone", floor, "rows/s"),
        Measure(case, "first read", first, "rows/s"),
        Measure(case, "first read, of the floor", first / floor, "", FIRST_READ, at_least=True),
        Measure(case, "unchanged read", again, "rows/s"),
        Measure(case, "unchanged read, of the floor", again / floor, "", AGAIN, at_least=True),
    ]


def _floor(served: Sandbox) -> float:
    """Rows a second of a loop that a good engineer would write in ten minutes: it checks and keeps nothing."""
    envelopes = envelopes_of(SETTINGS, contacts=False, username="", password="", where="the bench")
    rows, key = 0, ""
    with requests.Session() as session, timed() as watch:
        session.auth = (QAD_USER, QAD_PASSWORD)
        while True:
            body = envelopes.envelope(Ask("DEMO1", last_key=key, page_size=SETTINGS.page_size))
            answer = session.post(_address(served.url), data=body, headers=envelopes.headers(), timeout=60)
            page = [{child.tag: child.text for child in row} for row in etree.fromstring(answer.content).iter(ROW)]
            if not page:
                break
            rows, key = rows + len(page), page[-1][KEY] or ""
    return rows / watch.seconds


def _read(url: str, ledger: Ledger, source_id: int, run: str) -> float:
    """Rows a second of a read of all customers into the ledger."""
    with requests.Session() as session:
        client = connect(_address(url), QAD_USER, QAD_PASSWORD, SETTINGS, session=session)
        started = time.perf_counter()
        customers, _ = collect(ledger, source_id, CustomersOnly(client), run, full=True)
        seconds = time.perf_counter() - started
    if not customers.complete:
        raise RuntimeError(customers.summary())
    return customers.rows / seconds


def _peak(url: str) -> float:
    """The most memory that reading all customers takes, in a process of its own that keeps none of them."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_here, (url,))


def _peak_here(url: str) -> float:
    with requests.Session() as session:
        client = connect(_address(url), QAD_USER, QAD_PASSWORD, SETTINGS, session=session)
        rows = sum(len(page) for page in client.customers())
    if rows not in (CUSTOMERS, FEWER):
        raise RuntimeError(f"{rows} rows")
    return peak_memory()


def _address(url: str) -> str:
    return f"{url}/qxi/services/QdocWebService"
