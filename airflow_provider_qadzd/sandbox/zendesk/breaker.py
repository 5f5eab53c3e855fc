"""The circuit breaker of a webhook: when its endpoint fails too often, nothing is sent to it for a moment.

https://developer.zendesk.com/documentation/webhooks/creating-and-monitoring-webhooks/
At least 70 percent of at least 100 requests in five minutes, or more than 1,000 of any number, open it for 5 seconds.
What comes meanwhile is not sent, then or later.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque

WINDOW = 300
FEWEST = 100
SHARE = 0.7
MOST_ERRORS = 1000
PAUSE = 5


class Breakers:
    """One for each webhook. Times are those of the sandbox's clock."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, bool]]] = defaultdict(deque)
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def is_open(self, webhook_id: str, now: float) -> bool:
        with self._lock:
            return now < self._until.get(webhook_id, 0.0)

    def count(self, webhook_id: str, failed: bool, now: float) -> None:
        """Take in one request, and open if that was one failure too many."""
        with self._lock:
            seen = self._seen[webhook_id]
            seen.append((now, failed))
            while seen[0][0] <= now - WINDOW:
                seen.popleft()
            errors = sum(one for _, one in seen)
            if failed and (errors > MOST_ERRORS or (len(seen) >= FEWEST and errors >= SHARE * len(seen))):
                self._until[webhook_id] = now + PAUSE
