"""100,000 customers over REST into the ledger, beside a loop that only asks and parses."""

from __future__ import annotations

from typing import Any

import requests

from airflow_provider_qadzd.qad import browse
from airflow_provider_qadzd.qad.client import QadClient, QadSettings, connect
from tests.bench.measures import Measure, timed
from tests.bench.reading import Edition, measured
from tests.bench.wiring import QAD_PASSWORD, QAD_USER

SETTINGS = QadSettings(auth="basic", page_size=1000)


def measure() -> list[Measure]:
    """As for the other edition."""
    return measured(Edition("REST", "requests and json", _loop, _client, _address, floor=40_000))


def _loop(url: str) -> float:
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
            body = session.get(_address(url) + browse.PATH, params=params, timeout=60).json()
            rows, more = rows + len(body["data"]), body["auxillaryData"]["HasMoreParams"] == "true"
    return rows / watch.seconds


def _client(url: str, session: requests.Session) -> QadClient:
    return connect(_address(url), QAD_USER, QAD_PASSWORD, SETTINGS, session=session)


def _address(url: str) -> str:
    return f"{url}/clouderp"
