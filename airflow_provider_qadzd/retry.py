"""How Airflow retries our tasks: as long as the error says to wait, and not at all where a person must look."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import RetryDecision, RetryPolicy

from airflow_provider_qadzd.errors import FixFirst, SetAside, TryLater, UnsafePlan

LONGEST_DELAY = 1800.0


class QadzdRetryPolicy(RetryPolicy):
    """TryLater is retried after its own wait; FixFirst, SetAside and UnsafePlan fail at once; the rest as usual."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Any = None
    ) -> RetryDecision:  # fmt: skip
        """What to do after this failure."""
        if isinstance(exception, TryLater):
            delay = min(max(exception.wait, 1.0), LONGEST_DELAY)
            return RetryDecision.retry(timedelta(seconds=delay), reason=str(exception))
        if isinstance(exception, (FixFirst, SetAside, UnsafePlan)):
            return RetryDecision.fail(reason=str(exception))
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """It has no settings."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> QadzdRetryPolicy:
        """It has no settings."""
        return cls()
