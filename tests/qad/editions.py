"""The editions of QAD that the reader contract is tried on: how a reader of each is opened, and how each one fails.

An edition is added by adding it to `EDITIONS`; `test_reader_contract.py` then holds it to the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import requests

from airflow_provider_qadzd.errors import FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.qad import qxtend_client
from airflow_provider_qadzd.qad.client import QadSettings, connect
from airflow_provider_qadzd.qad.qxtend import SOAP
from airflow_provider_qadzd.qad.qxtend_settings import qxtend_settings
from airflow_provider_qadzd.qad.reader import QadReader
from airflow_provider_qadzd.records import Clock
from airflow_provider_qadzd.sandbox import Sandbox
from tests.qad.replies import MemoryTokens

PASSWORD = "sandbox"


class Open(Protocol):
    """Opens a reader of the sandbox, as a connection of that edition would."""

    def __call__(
        self, sandbox: Sandbox, session: requests.Session, clock: Clock, *, page_size: int = 7, password: str = PASSWORD
    ) -> QadReader: ...


@dataclass(frozen=True)
class Lasting:
    """A fault that stays: what the sandbox is told, the error that it must become, and what the error says."""

    fault: Mapping[str, Any]
    error: type[QadzdError]
    says: str


@dataclass(frozen=True)
class Edition:
    """One edition. `page_calls` is the pattern of the calls that bring pages (and maybe others)."""

    name: str
    opened: Open
    page_calls: str
    calls_before: int = 0
    """How many calls of that pattern a read makes before it asks for its first page."""
    customer_column: str = ""
    """A column of the customers beyond those of every record, for `further`, and what the sandbox's row calls it."""
    customer_value: str = ""
    passing: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Faults that pass: a few repetitions must get over them."""
    lasting: Mapping[str, Lasting] = field(default_factory=dict)


def _rest(
    sandbox: Sandbox, session: requests.Session, clock: Clock, *, page_size: int = 7, password: str = PASSWORD
) -> QadReader:  # fmt: skip
    settings = QadSettings(client_id="sandbox", page_size=page_size)
    return connect(
        f"{sandbox.url}/clouderp", "svc_zendesk", password, settings, tokens=MemoryTokens(), session=session,
        clock=clock, where="connection qad_default",
    )  # fmt: skip


REST = Edition(
    name="rest",
    opened=_rest,
    page_calls="GET /clouderp/api/qracore/browses",
    calls_before=1,
    customer_column="CUSTOMERV2.customerTypeCode",
    customer_value="type",
    passing={
        "429": {"status": 429},
        "503 with Retry-After": {"status": 503, "retry_after": "3"},
        "503 with a decimal": {"status": 503, "retry_after": "1.5"},
        "504": {"status": 504},
        "a dropped connection": {"action": "drop"},
        "an answer that breaks off": {"action": "reset-after"},
    },
    lasting={
        "401": Lasting({"status": 401, "body": ""}, FixFirst, "refused the credentials"),
        "403": Lasting({"status": 403, "body": {"errors": [{"severity": 1, "code": "403"}]}}, FixFirst, "forbids"),
        "404": Lasting({"status": 404}, FixFirst, "context root"),
        "500": Lasting({"status": 500}, TryLater, "HTTP 500"),
        "503 for long": Lasting({"status": 503, "retry_after": "600"}, TryLater, "Wait 600 s"),
        "a page with 200": Lasting({"action": "html"}, TryLater, "platform fault"),
        "the login page with 200": Lasting(
            {"action": "html", "body": "<html><form action='login'><input type='password'>"}, FixFirst, "login page"
        ),
        "302 to the login": Lasting(
            {"status": 302, "headers": {"Location": "/login.jsp?error=1"}}, FixFirst, "login page"
        ),
        "302 elsewhere": Lasting(
            {"status": 302, "headers": {"Location": "https://evil.invalid/x"}}, FixFirst, "redirects to evil.invalid"
        ),
        "success = false": Lasting(
            {"status": 200, "body": {"submitResult": {"success": False, "errors": [{"code": "47"}]}}},
            FixFirst, "success = false",
        ),
        "no data": Lasting({"status": 200, "body": {}}, FixFirst, "without rows"),
        "an empty body": Lasting({"status": 200, "body": ""}, TryLater, "empty body"),
        "half an answer": Lasting({"status": 200, "body": '{"data": [{"customerV2.cu'}, TryLater, "broke off"),
    },
)  # fmt: skip


def _qxtend(
    sandbox: Sandbox, session: requests.Session, clock: Clock, *, page_size: int = 7, password: str = PASSWORD
) -> QadReader:  # fmt: skip
    where = "connection qad_qxtend"
    settings = qxtend_settings({"receiver": "QADERP", "page_size": page_size}, where)
    address = f"{sandbox.url}/qxi/services/QdocWebService"
    return qxtend_client.connect(
        address, "svc_zendesk", password, settings, session=session, clock=clock, where=where
    )  # fmt: skip


QXTEND = Edition(
    name="qxtend",
    opened=_qxtend,
    page_calls="POST /qxi/services/QdocWebService",
    customer_column="CUSTOMER.cmtype",
    customer_value="type",
    passing={
        "429": {"status": 429},
        "503 with Retry-After": {"status": 503, "retry_after": "3"},
        "a dropped connection": {"action": "drop"},
        "an answer that breaks off": {"action": "reset-after"},
        "a Server fault": {"action": "soap", "soap": "server-fault"},
        "no session to spare": {"action": "soap", "soap": "process-001"},
        "a timeout behind QXtend": {"action": "soap", "soap": "process-009"},
        "a page for a moment": {"action": "html"},
    },
    lasting={
        "401": Lasting({"status": 401, "body": ""}, FixFirst, "refused the credentials"),
        "403": Lasting({"status": 403}, FixFirst, "forbids"),
        "404": Lasting({"status": 404}, FixFirst, "the service's own path"),
        "500 without a fault": Lasting({"status": 500}, TryLater, "HTTP 500"),
        "503 for long": Lasting({"status": 503, "retry_after": "600"}, TryLater, "Wait 600 s"),
        "a Client fault": Lasting({"action": "soap", "soap": "client-fault"}, FixFirst, "code=Client"),
        "a Server fault": Lasting({"action": "soap", "soap": "server-fault"}, TryLater, "code=Server"),
        "an error": Lasting({"action": "soap", "soap": "error"}, FixFirst, "code=6135 details=tt_domain:6135"),
        "an OpenEdge error": Lasting({"action": "soap", "soap": "oe-error"}, FixFirst, "code=OE-1422"),
        "no session to spare": Lasting({"action": "soap", "soap": "process-001"}, TryLater, "no session to spare"),
        "a timeout behind QXtend": Lasting({"action": "soap", "soap": "process-009"}, TryLater, "ProcessException009"),
        "a page with 200": Lasting({"action": "html"}, TryLater, "page or an empty body"),
        "the login page with 200": Lasting(
            {"action": "html", "body": "<html><form action='login'><input type='password'>"}, FixFirst, "login page"
        ),
        "302 elsewhere": Lasting(
            {"status": 302, "headers": {"Location": "https://evil.invalid/x"}}, FixFirst, "redirects to evil.invalid"
        ),
        "an empty body": Lasting({"status": 200, "body": ""}, TryLater, "empty body"),
        "half an answer": Lasting(
            {"status": 200, "body": f'<e:Envelope xmlns:e="{SOAP}"><e:'}, TryLater, "broke off"
        ),
        "no result": Lasting(
            {"status": 200, "body": f'<e:Envelope xmlns:e="{SOAP}"><e:Body/></e:Envelope>'}, FixFirst, "no result"
        ),
        "a document type": Lasting(
            {"status": 200, "body": f'<!DOCTYPE e><e:Envelope xmlns:e="{SOAP}"><e:Body/></e:Envelope>'},
            FixFirst, "document type declaration",
        ),
        "JSON": Lasting({"status": 200, "body": {"data": []}}, FixFirst, "no SOAP 1.1 envelope"),
    },
)  # fmt: skip

EDITIONS = (REST, QXTEND)
