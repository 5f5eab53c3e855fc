"""Stand-ins that hold everything in memory: a clock, a token store, budgets, and a list of answers to give."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import requests
from requests.adapters import BaseAdapter

from airflow_provider_qadzd.records import Lease, Token
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.pace import Pace

BASE_URL = "https://acme.zendesk.com"


class FakeClock:
    """Time that passes only by sleeping. `while_asleep` is called after each sleep."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now, self.slept = now, list[float]()
        self.while_asleep: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.while_asleep()


class MemoryTokens:
    """A TokenStore. Leases lapse by the clock."""

    def __init__(self, clock: FakeClock, token: Token | None = None) -> None:
        self.clock, self.token = clock, token
        self.held: Lease | None = None
        self._one_at_a_time = threading.Lock()
        self.saved: list[Token] = []

    def read(self, name: str) -> Token | None:
        return self.token

    def lease(self, name: str, owner: str, version: int, seconds: float) -> Lease | None:
        with self._one_at_a_time:
            taken = self.held is not None and self.held.until > self.clock.time() and self.held.owner != owner
            if taken or version != self._version():
                return None
            self.held = Lease(name, owner, version, self.clock.time() + seconds)
            return self.held

    def save(self, lease: Lease, token: Token) -> bool:
        with self._one_at_a_time:
            self._end(lease)
            if lease.version != self._version():
                return False
            self.token = replace(token, version=lease.version + 1)
            self.saved.append(self.token)
            return True

    def release(self, lease: Lease, *, connect_again: bool = False) -> None:
        with self._one_at_a_time:
            self._end(lease)
        if connect_again and self.token is not None and lease.version == self.token.version:
            self.token = replace(self.token, state="connect_again")

    def _version(self) -> int:
        return self.token.version if self.token else 0

    def _end(self, lease: Lease) -> None:
        if self.held == lease:
            self.held = None


class MemoryBudget:
    """A Budget of calls in any sixty seconds; what it was told is in `blocked` and `learnt`."""

    def __init__(self, clock: FakeClock, **limits: int) -> None:
        self.clock, self.limits = clock, limits
        self.taken: list[tuple[str, float]] = []
        self.blocked: dict[str, float] = {}
        self.learnt: list[tuple[str, int]] = []

    def take(self, name: str, count: int = 1) -> float:
        now = self.clock.time()
        if self.blocked.get(name, 0.0) > now:
            return self.blocked[name] - now
        recent = [at for taken, at in self.taken if taken == name and at > now - 60]
        if len(recent) + count > self.limits.get(name, 1_000_000):
            return recent[0] + 60 - now
        self.taken += [(name, now)] * count
        return 0.0

    def block(self, name: str, seconds: float) -> None:
        self.blocked[name] = self.clock.time() + seconds

    def learn(self, name: str, limit_per_minute: int) -> None:
        self.learnt.append((name, limit_per_minute))


def answer(status: int = 200, body: Any = None, headers: Mapping[str, str] | None = None) -> requests.Response:
    """What a server says: `body` as JSON, or as it is when it is text."""
    said = requests.Response()
    said.status_code = status
    said.raw = io.BytesIO(
        body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
    )
    said.headers.update(headers or {})
    return said


class Answers(BaseAdapter):
    """Gives the answers of a list, in order; an exception in it is raised. `asked` is what came in."""

    def __init__(self, *answers: requests.Response | Exception) -> None:
        super().__init__()
        self.left = list(answers)
        self.asked: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.asked.append(request)
        said = self.left.pop(0)
        if isinstance(said, Exception):
            raise said
        said.request, said.url = request, str(request.url)
        said.connection = self  # type: ignore[assignment]
        return said

    def close(self) -> None:
        pass

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.body) for request in self.asked if request.body]


def session_of(answers: Answers) -> requests.Session:
    """A session that reaches nothing but `answers`."""
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", answers)
    session.mount("http://", answers)
    return session


def client_of(answers: Answers, clock: FakeClock | None = None, **options: Any) -> ZendeskClient:
    """A client that reaches nothing but `answers`, on a clock that does not wait."""
    clock = clock or FakeClock()
    return ZendeskClient(BASE_URL, session_of(answers), Pace(MemoryBudget(clock), clock), clock, **options)
