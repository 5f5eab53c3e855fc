"""100,000 customers over SOAP into the ledger, beside a loop that only asks, parses and makes dictionaries."""

from __future__ import annotations

import requests
from lxml import etree

from airflow_provider_qadzd.qad.qxtend import Ask, envelopes_of
from airflow_provider_qadzd.qad.qxtend_client import QxtendClient, connect
from airflow_provider_qadzd.qad.qxtend_settings import SERVICES, qxtend_settings
from tests.bench.measures import Measure, timed
from tests.bench.reading import Edition, measured
from tests.bench.wiring import QAD_PASSWORD, QAD_USER

SETTINGS = qxtend_settings({"receiver": "QADERP", "page_size": 1000}, "the bench")
ROW, KEY = f"{{{SERVICES}}}customer", f"{{{SERVICES}}}cmAddr"


def measure() -> list[Measure]:
    """As for the other edition."""
    return measured(Edition("QXtend", "requests and lxml", _loop, _client, _address, SETTINGS.source_parts))


def _loop(url: str) -> float:
    """Rows a second of a loop that a good engineer would write in ten minutes: it checks and keeps nothing."""
    envelopes = envelopes_of(SETTINGS, contacts=False, username="", password="", where="the bench")
    rows, key = 0, ""
    with requests.Session() as session, timed() as watch:
        session.auth = (QAD_USER, QAD_PASSWORD)
        while True:
            body = envelopes.envelope(Ask("DEMO1", last_key=key, page_size=SETTINGS.page_size))
            answer = session.post(_address(url), data=body, headers=envelopes.headers(), timeout=60)
            page = [{child.tag: child.text for child in row} for row in etree.fromstring(answer.content).iter(ROW)]
            if not page:
                break
            rows, key = rows + len(page), page[-1][KEY] or ""
    return rows / watch.seconds


def _client(url: str, session: requests.Session) -> QxtendClient:
    return connect(_address(url), QAD_USER, QAD_PASSWORD, SETTINGS, session=session)


def _address(url: str) -> str:
    return f"{url}/qxi/services/QdocWebService"
