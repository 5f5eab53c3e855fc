"""The whole sandbox in one object: clock, settings, both systems, and what has been counted.

One lock guards it all. Handlers run under it; tests that look inside from another thread take it too.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any

from . import qad_oddities
from .clock import Clock
from .faults import Faults
from .qad import QadAccess
from .qad_store import QadStore
from .qxtend import QxtendRows
from .seed import plant
from .web import Call
from .zendesk import oddities
from .zendesk.breaker import Breakers
from .zendesk.deliveries import Courier
from .zendesk.jobs import Jobs
from .zendesk.limits import Limits
from .zendesk.merges import Merges
from .zendesk.store import Store
from .zendesk.tokens import Tokens
from .zendesk.words import LANGUAGES


@dataclass(slots=True)
class Size:
    """How much there is, and the seed that everything is drawn from."""

    customers: int = 40
    contacts: int = 120
    tickets: int = 200
    seed: int = 1


CHOICES: dict[str, tuple[str | None, ...]] = {
    **{f"job_{name}": words for name, words in oddities.CHOICES.items()},
    **qad_oddities.CHOICES,
    "language": LANGUAGES,
    "token_expiry": ("told", "null", "absent"),
    "qxtend_prefix": ("numbered", "default", "other"),
    "qxtend_result": ("success", "warning"),
}


@dataclass(slots=True)
class Settings:
    """What can be set while the sandbox runs. Times are in seconds of the sandbox's clock."""

    job_delay: float = 0.0
    job_failed_items: str = "usual"
    job_fails_after: int | None = None
    job_results: str = "rows"
    job_message: str = "usual"
    job_vanishes: str | None = None
    job_ends: str | None = None
    bulk_import: bool = True
    language: str = "en"
    detail_codes: bool = True
    token_ttl: int = 1800
    token_expiry: str = "told"
    refresh_token_ttl: int = 2592000
    redirect_uris: list[str] | None = None
    qad_token_ttl: int = 3600
    qad_basic: bool = True
    qad_answers: str | None = None
    qad_browses: dict[str, str] = field(default_factory=dict)
    qad_hidden_browses: list[str] = field(default_factory=list)
    qad_spelling: str = "usual"
    qad_without: list[str] = field(default_factory=list)
    qad_paging: str = "action"
    qad_has_more: str = "text"
    qad_filters: bool = True
    qad_missing: list[str] = field(default_factory=list)
    qxtend_prefix: str = "numbered"
    qxtend_result: str = "success"
    qxtend_mtom: bool = False
    qxtend_row_limit: int | None = None
    deny_authorization: bool = False
    search_lag: float = 0.0
    export_host: str = "https://support.sandbox.invalid"
    api_token: str | None = None
    circuit_breaker: bool = True

    def change(self, values: dict[str, Any]) -> list[str]:
        """Take the known values; answer with what is unknown, in which case nothing changes."""
        unknown = sorted(set(values) - set(asdict(self)))
        unknown += [f"{name}={value}" for name, value in values.items() if value not in CHOICES.get(name, (value,))]
        if not unknown:
            for name, value in values.items():
                setattr(self, name, value)
        return unknown


@dataclass(slots=True)
class Stats:
    """Counts since the start or the last reset."""

    calls: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    zendesk_writes: int = 0
    verification_mails: int = 0
    deliveries: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=10000))
    refusals: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=1000))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, call: Call, status: int, now: float) -> None:
        """Count one answered call; status 0 is an answer that was lost. `now` is the sandbox's time."""
        if call.path.startswith("/_sandbox"):
            return
        with self.lock:
            self.calls[call.pattern] += 1
            self.statuses[str(status) if status else "lost"] += 1
            if status == 429:
                self.refusals.append((now, call.pattern))
            if call.method != "GET" and call.path.startswith("/api/v2/") and "oauth" not in call.path:
                self.zendesk_writes += 1

    def clear(self) -> None:
        """Begin to count again."""
        with self.lock:
            self.calls.clear()
            self.statuses.clear()
            self.zendesk_writes = self.verification_mails = 0
            self.deliveries.clear()
            self.refusals.clear()

    def as_dict(self) -> dict[str, Any]:
        with self.lock:
            classes: Counter[str] = Counter()
            for status, count in self.statuses.items():
                classes[f"{status[0]}xx" if status.isdigit() else status] += count
            return {
                "calls": dict(sorted(self.calls.items())),
                "total": sum(self.calls.values()),
                "status_classes": dict(classes),
                "statuses": dict(self.statuses),
                "rate_limited": self.statuses["429"],
                "refusals": list(self.refusals),
                "zendesk_writes": self.zendesk_writes,
                "verification_mails": self.verification_mails,
                "deliveries": list(self.deliveries),
            }


class State:
    """The sandbox between two resets."""

    def __init__(
        self,
        size: Size | None = None,
        now: float | None = None,
        base_url: str = "http://127.0.0.1",
        settings: Settings | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.size = size or Size()
        self.base_url = base_url
        self.transports: dict[tuple[Any, ...], asyncio.Transport] = {}
        self.courier = Courier(self)
        self._start = now
        self._settings = asdict(settings or Settings())
        self.reset()

    def reset(self) -> None:
        """Begin again, as at the start: same seed, same settings, no tokens, no webhooks."""
        with self.lock:
            self.clock = Clock(self._start)
            self.settings = Settings(**self._settings)
            self.faults = Faults()
            self.limits = Limits(self.clock)
            self.stats = Stats()
            self.tokens = Tokens()
            self.jobs = Jobs()
            self.breakers = Breakers()
            self.merges = Merges()
            self.zendesk = Store(self.base_url)
            self.qad = QadStore()
            self.qad_access = QadAccess()
            self.qxtend = QxtendRows()
            plant(self)

    @property
    def now(self) -> float:
        return self.clock.now()

    def settle(self) -> None:
        """Let the bulk jobs and merges that are due take effect."""
        self.jobs.settle(self)
        self.merges.settle(self)
