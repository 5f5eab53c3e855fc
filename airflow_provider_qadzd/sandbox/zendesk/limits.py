"""The request limits of the simulated Zendesk, counted over sliding windows of the sandbox's clock.

https://developer.zendesk.com/api-reference/introduction/rate-limits/
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

from ..clock import Clock
from ..web import Refusal, Reply, refuse


class Window:
    """At most `limit` events in any `seconds`."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def take(self, now: float, limit: int, seconds: float) -> tuple[int, int]:
        """Count one event: (what remains, 0), or (0, seconds until the next one is allowed)."""
        while self._times and self._times[0] <= now - seconds:
            self._times.popleft()
        if len(self._times) >= limit:
            oldest = self._times[0] if self._times else now
            return 0, max(1, math.ceil(oldest + seconds - now))
        self._times.append(now)
        return limit - len(self._times), 0


@dataclass(slots=True)
class Rates:
    """The limits in force."""

    enabled: bool = True
    requests_per_minute: int = 700
    incremental_per_minute: int = 10
    samples_per_20_minutes: int = 10
    search_exports_per_minute: int = 100
    user_updates_per_second: int = 1
    user_updates_per_user_per_minute: int = 5
    organization_updates_per_minute: int = 5
    ticket_updates_per_minute: int = 100
    updates_per_ticket_per_10_minutes: int = 30
    jobs_in_flight: int = 30


class Limits:
    """Counts calls against the rates and refuses with 429, each limit in its own form."""

    def __init__(self, clock: Clock) -> None:
        self.rates = Rates()
        self._clock = clock
        self._account = Window()
        self._exports = Window()
        self._samples = Window()
        self._searches = Window()
        self._ticket_updates = Window()
        self._tickets: dict[int, Window] = defaultdict(Window)
        self._user_updates = Window()
        self._users: dict[Any, Window] = defaultdict(Window)
        self._organizations: dict[int, Window] = defaultdict(Window)

    def request(self) -> dict[str, str]:
        """Count any call to the API; the headers that tell where the account stands."""
        if not self.rates.enabled:
            return {}
        limit = self.rates.requests_per_minute
        left, wait = self._account.take(self._clock.now(), limit, 60)
        headers = {
            "X-Rate-Limit": str(limit),
            "X-Rate-Limit-Remaining": str(left),
            "ratelimit-limit": str(limit),
            "ratelimit-remaining": str(left),
            "ratelimit-reset": str(wait or 60 - int(self._clock.now() % 60)),
        }
        if wait:
            raise too_many("Number of allowed API requests per minute exceeded", wait, headers)
        return headers

    def export(self) -> dict[str, str]:
        """Count one call to an incremental export; ten a minute are shared by all of them."""
        if not self.rates.enabled:
            return {}
        text = "Number of allowed incremental export API requests per minute exceeded"
        return self._named("incremental-exports", self._exports, self.rates.incremental_per_minute, 60, text)

    def sample(self) -> dict[str, str]:
        """Count one sample of an export; ten in twenty minutes are shared by all of them."""
        if not self.rates.enabled:
            return {}
        text = "Number of allowed incremental sample export API requests exceeded"
        rate = self.rates.samples_per_20_minutes
        return self._named("incremental-sample-exports", self._samples, rate, 1200, text)

    def search_export(self) -> dict[str, str]:
        """Count one page of a search export."""
        if not self.rates.enabled:
            return {}
        text = "Number of allowed search export API requests per minute exceeded"
        return self._named("search-export", self._searches, self.rates.search_exports_per_minute, 60, text)

    def ticket_update(self, ticket_id: int) -> None:
        """One PUT of a ticket: 100 a minute for the account, 30 in ten minutes for the ticket."""
        if not self.rates.enabled:
            return
        text, rates = "Number of allowed ticket update API requests exceeded", self.rates
        self._named("tickets-update", self._ticket_updates, rates.ticket_updates_per_minute, 60, text)
        self._named("ticket-update", self._tickets[ticket_id], rates.updates_per_ticket_per_10_minutes, 600, text)

    def _named(self, name: str, window: Window, limit: int, seconds: int, text: str) -> dict[str, str]:
        """Count one call against a limit that has a header of its own."""
        now = self._clock.now()
        left, wait = window.take(now, limit, seconds)
        resets = wait or seconds - int(now % seconds)
        headers = {f"zendesk-ratelimit-{name}": f"total={limit}; remaining={left}; resets={resets}"}
        if wait:
            raise too_many(text, wait, headers)
        return headers

    def user_update(self, key: Any) -> None:
        """One write to a user outside a job: 1 a second for the account, 5 a minute for the user."""
        if not self.rates.enabled:
            return
        now = self._clock.now()
        _, wait = self._user_updates.take(now, self.rates.user_updates_per_second, 1)
        if wait:
            raise Refusal(plain("You have exceeded the rate limit for updating users.", wait))
        _, wait = self._users[key].take(now, self.rates.user_updates_per_user_per_minute, 60)
        if wait:
            text = "You have exceeded the rate limit for updating a single unique user. user email:  id:  external_id: "
            raise Refusal(plain(text, wait))

    def organization_update(self, organization_id: int) -> None:
        if not self.rates.enabled:
            return
        window = self._organizations[organization_id]
        _, wait = window.take(self._clock.now(), self.rates.organization_updates_per_minute, 60)
        if wait:
            body = {"errors": [{"code": "TooManyRequests", "title": "Too many requests to update"}]}
            raise refuse(429, body, Retry_After=str(wait))


def too_many(text: str, wait: int, headers: dict[str, str]) -> Refusal:
    """The JSON form of 429."""
    refusal = refuse(429, {"error": "APIRateLimitExceeded", "description": text}, Retry_After=str(wait))
    refusal.reply.headers.update(headers)
    return refusal


def plain(text: str, wait: int) -> Reply:
    """The text/plain form of 429 that user updates get."""
    return Reply(429, text.encode(), "text/plain; charset=utf-8", {"Retry-After": str(wait)})
