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
    user_updates_per_second: int = 1
    user_updates_per_user_per_minute: int = 5
    organization_updates_per_minute: int = 5
    jobs_in_flight: int = 30


class Limits:
    """Counts calls against the rates and refuses with 429, each limit in its own form."""

    def __init__(self, clock: Clock) -> None:
        self.rates = Rates()
        self._clock = clock
        self._account = Window()
        self._exports = Window()
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
        limit = self.rates.incremental_per_minute
        left, wait = self._exports.take(self._clock.now(), limit, 60)
        resets = wait or 60 - int(self._clock.now() % 60)
        headers = {"zendesk-ratelimit-incremental-exports": f"total={limit}; remaining={left}; resets={resets}"}
        if wait:
            raise too_many("Number of allowed incremental export API requests per minute exceeded", wait, headers)
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
