"""The sandbox's own clock: real time plus an offset, or frozen.

Everything the sandbox times (token life, rate windows, job delays, the withheld minute of the exports) reads
this clock, so a test can let an hour pass in no time. Instants are seconds since the epoch, UTC.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone


class Clock:
    """Tells the sandbox's time; `start` sets what it shows now, None means real time."""

    def __init__(self, start: float | None = None) -> None:
        self._offset = 0.0 if start is None else start - time.time()
        self._frozen: float | None = None

    def now(self) -> float:
        if self._frozen is not None:
            return self._frozen
        return time.time() + self._offset

    @property
    def frozen(self) -> bool:
        return self._frozen is not None

    def advance(self, seconds: float) -> None:
        if self._frozen is not None:
            self._frozen += seconds
        else:
            self._offset += seconds

    def set(self, instant: float) -> None:
        self.advance(instant - self.now())

    def freeze(self) -> None:
        if self._frozen is None:
            self._frozen = self.now()

    def run(self) -> None:
        if self._frozen is not None:
            self._offset = self._frozen - time.time()
            self._frozen = None


def iso(instant: float) -> str:
    """2026-01-31T08:15:30Z, the form that Zendesk uses everywhere."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instant))


def iso_millis(instant: float) -> str:
    """2026-01-31T08:15:30.250Z, the form that QAD uses for dates with a time."""
    return f"{iso(instant)[:-1]}.{int(instant % 1 * 1000):03d}Z"


def parse_instant(text: str) -> float:
    """Read an ISO 8601 text (UTC unless it names an offset) or a count of seconds."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()
