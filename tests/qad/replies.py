"""What the tests of the QAD client stand on: a list of replies, a clock that only moves when told, a token store.

Nothing here sleeps or opens a socket. `Replies` is a transport of `requests`: it hands out its list in order, keeps
what was sent, and a test ends by asking what is left.
"""

from __future__ import annotations

import io
import json
import threading
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from airflow_provider_qadzd.qad.client import QadClient, QadSettings
from airflow_provider_qadzd.records import Lease, Token

BASE = "https://qad.example.invalid/clouderp"
WHERE = "connection qad_default"


@dataclass
class Reply:
    """One answer, or an exception instead of one."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None


def page(*rows: dict[str, Any], more: bool | None = False) -> Reply:
    """A browse page as QAD sends it: `HasMoreParams` is text."""
    told = {} if more is None else {"auxillaryData": {"HasMoreParams": str(more).lower()}}
    return Reply(body={"data": list(rows), **told})


def field_list(*names: str) -> Reply:
    """What the browse that lists the fields of a browse answers."""
    return page(*({"field": name, "fieldLabel": name, "fieldDataType": "character"} for name in names))


class Replies(BaseAdapter):
    """A transport that answers from a list."""

    def __init__(self, *replies: Reply) -> None:
        super().__init__()
        self.left = list(replies)
        self.sent: list[requests.PreparedRequest] = []
        self.options: list[dict[str, Any]] = []

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        self.sent.append(request)
        self.options.append(options)
        reply = self.left.pop(0)
        if reply.error:
            raise reply.error
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        answer = requests.Response()
        answer.status_code, answer.url, answer.request = reply.status, request.url or "", request
        answer.headers, answer.raw = CaseInsensitiveDict(reply.headers), io.BytesIO(body)
        answer.connection = self  # type: ignore[attr-defined]
        return answer

    def close(self) -> None:
        self.left.clear()

    def query(self, number: int) -> dict[str, str]:
        """The query of the request of that number (from 0); of a repeated parameter, the last."""
        return dict(parse_qsl(urlsplit(self.sent[number].url).query))


def session_of(replies: Replies) -> requests.Session:
    """A session whose whole network is `replies`."""
    session = requests.Session()
    session.mount("https://", replies)
    session.mount("http://", replies)
    return session


class FakeClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class MemoryTokens:
    """A `TokenStore` in memory, for threads; `busy` is how often somebody else still holds the lease."""

    def __init__(self, busy: int = 0) -> None:
        self.kept: dict[str, Token] = {}
        self.busy, self.released = busy, 0
        self.leases: list[Lease] = []
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def read(self, name: str) -> Token | None:
        with self._lock:
            return self.kept.get(name)

    def lease(self, name: str, owner: str, version: int, seconds: float) -> Lease | None:
        with self._lock:
            if self.busy:
                self.busy -= 1
                return None
            current = self.kept[name].version if name in self.kept else 0
            if current != version or name in self._held:
                return None
            self._held.add(name)
            self.leases.append(Lease(name, owner, version, seconds))
            return self.leases[-1]

    def save(self, lease: Lease, token: Token) -> bool:
        with self._lock:
            self._held.discard(lease.name)
            self.kept[lease.name] = replace(token, version=lease.version + 1)
            return True

    def release(self, lease: Lease, *, connect_again: bool = False) -> None:
        with self._lock:
            self._held.discard(lease.name)
            self.released += 1


COLUMNS = {"customer_columns": {"code": "c.code", "name": "c.name"}}
FIELDS = field_list("c.code", "c.name")
PLAIN = QadSettings(**COLUMNS)


def client_of(replies: Replies, settings: QadSettings = PLAIN, clock: FakeClock | None = None) -> QadClient:
    """A client without authentication whose whole network is `replies`."""
    return QadClient(BASE, session_of(replies), settings, clock or FakeClock(), WHERE)


def row(code: str) -> dict[str, str]:
    """A customer row with two columns."""
    return {"c.code": code, "c.name": f"Name {code}"}
