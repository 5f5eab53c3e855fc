"""What the receiver did, counted by account and outcome, and told: as metrics, and in a log that no flood can fill."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable

from airflow_provider_qadzd.zendesk.webhook import Reason

log = logging.getLogger("airflow_provider_qadzd.receiver")

NOBODY = "unknown"
"""In place of an account that there is not: what a stranger puts into the path is neither counted nor logged."""

REFUSED: dict[Reason, str] = {
    "missing_signature": "unsigned", "no_secret": "no_secret", "bad_timestamp": "bad_timestamp", "stale": "stale",
    "bad_signature": "forged", "not_json": "not_json",
}  # fmt: skip
_QUIET_FOR = 10.0

Tell = Callable[[str, float], None]
"""Is told each outcome, and the seconds it took."""


class Counts:
    """Counters of one process, since it started."""

    def __init__(self, tell: Tell | None = None) -> None:
        self._tell = tell
        self._requests: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._told_at: dict[tuple[str, str], tuple[float, int]] = {}

    def taken(self, account: str, outcome: str, began: float, facts: str) -> None:
        """A genuine delivery: a line for each. `began` is by the monotonic clock."""
        seconds = self._count(account, outcome, began)
        log.info("delivery account=%s outcome=%s %s ms=%.1f", account, outcome, facts, seconds * 1000)

    def refused(self, account: str, outcome: str, began: float, why: str = "") -> None:
        """A line for the first of its kind, then one in ten seconds that says how many there were."""
        self._count(account, outcome, began)
        kind, now = (account, outcome), time.monotonic()
        told_at, told = self._told_at.get(kind, (float("-inf"), 0))
        if now - told_at >= _QUIET_FOR:
            count = self._requests[kind]
            self._told_at[kind] = (now, count)
            log.warning("delivery account=%s outcome=%s times=%s %s", account, outcome, count - told, why)

    def _count(self, account: str, outcome: str, began: float) -> float:
        seconds = time.monotonic() - began
        self._requests[account, outcome] += 1
        self._seconds[outcome] += seconds
        if self._tell is not None:
            self._tell(outcome, seconds)
        return seconds

    # https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
    def as_text(self, waiting: int) -> str:
        """In Prometheus' text format."""
        by_outcome: Counter[str] = Counter()
        for (_, outcome), count in self._requests.items():
            by_outcome[outcome] += count
        return "\n".join(
            [
                "# HELP qadzd_receiver_requests_total Webhook requests, by account and what became of them.",
                "# TYPE qadzd_receiver_requests_total counter",
                *(
                    f'qadzd_receiver_requests_total{{account="{account}",outcome="{outcome}"}} {count}'
                    for (account, outcome), count in sorted(self._requests.items())
                ),
                "# HELP qadzd_receiver_seconds How long answers took, by what became of the request.",
                "# TYPE qadzd_receiver_seconds summary",
                *(
                    f'qadzd_receiver_seconds_{name}{{outcome="{outcome}"}} {value:g}'
                    for outcome, count in sorted(by_outcome.items())
                    for name, value in (("sum", self._seconds[outcome]), ("count", count))
                ),
                "# HELP qadzd_receiver_waiting Deliveries that wait to be committed.",
                "# TYPE qadzd_receiver_waiting gauge",
                f"qadzd_receiver_waiting {waiting}",
                "",
            ]
        )
