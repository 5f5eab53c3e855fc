"""How fast the sandbox serves: it must not be what the other cases measure."""

from __future__ import annotations

from typing import Any

import requests

from tests.bench.measures import Measure, timed
from tests.bench.wiring import QAD_PASSWORD, QAD_USER, Sandbox, sandbox

CUSTOMERS, CONTACTS, TICKETS = 10_000, 20_000, 20_000
BROWSES = {"urn:browse:bebrowse:com.qad.erp.base.customerV2s": CUSTOMERS, "urn:browse:mfg:cm803": CONTACTS}
PAGE = 1000


def measure() -> list[Measure]:
    """Rows served a second, read by a client that looks at nothing. The better of two reads."""
    with sandbox(CUSTOMERS, CONTACTS, TICKETS) as served:
        rows = max(_qad_rows(served) for _ in range(2))
        tickets = max(_tickets(served) for _ in range(2))
    return [
        Measure("Sandbox", "QAD rows served", rows, "rows/s", 40_000, at_least=True),
        Measure("Sandbox", "tickets served", tickets, "tickets/s", 12_000, at_least=True),
    ]


def _qad_rows(served: Sandbox) -> float:
    with requests.Session() as session:
        session.auth = (QAD_USER, QAD_PASSWORD)
        with timed() as watch:
            for browse, count in BROWSES.items():
                for page in range(1, count // PAGE + 1):
                    _page_of(session, served, browse, page)
    return sum(BROWSES.values()) / watch.seconds


def _page_of(session: requests.Session, served: Sandbox, browse: str, page: int) -> bytes:
    params: dict[str, Any] = {
        "browseId": browse, "page": page, "pageSize": PAGE, "callId": "bench",
        "pageAction": "first" if page == 1 else "next",
    }  # fmt: skip
    answer = session.get(f"{served.url}/clouderp/api/qracore/browses", params=params, timeout=60)
    answer.raise_for_status()
    return answer.content


def _tickets(served: Sandbox) -> float:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {served.token()}"
        url, params = f"{served.url}/api/v2/incremental/tickets/cursor", {"start_time": "1"}
        with timed() as watch:
            for _ in range(TICKETS // PAGE):
                answer = session.get(url, params=params, timeout=60)
                answer.raise_for_status()
                _, _, rest = answer.content.rpartition(b'"after_cursor":"')
                params = {"cursor": rest.split(b'"', 1)[0].decode()}
    return TICKETS / watch.seconds
