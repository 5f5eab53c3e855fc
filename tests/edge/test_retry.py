"""What Airflow is told to do after each kind of error."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction

from airflow_provider_qadzd.errors import FixFirst, SetAside, TryLater, UnsafePlan
from airflow_provider_qadzd.retry import QadzdRetryPolicy


@pytest.mark.parametrize(
    ("wait", "delay"),
    [(37.5, 37.5), (0.0, 1.0), (86_400.0, 1800.0)],
    ids=["as told", "at least a second", "at most half an hour"],
)
def test_try_later_is_retried_after_its_wait(wait: float, delay: float) -> None:
    """TryLater decides the delay itself, within bounds."""
    decision = QadzdRetryPolicy().evaluate(TryLater("busy", wait=wait), 1, 5)
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(seconds=delay))


@pytest.mark.parametrize(
    "error", [FixFirst("wrong"), SetAside("why", "what"), UnsafePlan("too much")], ids=["fix", "aside", "unsafe"]
)
def test_what_a_person_must_look_at_fails_at_once(error: Exception) -> None:
    """No retry where one cannot help; the reason is the error's own sentence."""
    decision = QadzdRetryPolicy().evaluate(error, 1, 5)
    assert (decision.action, decision.reason) == (RetryAction.FAIL, str(error))


def test_anything_else_is_left_to_airflow() -> None:
    """An error that is not ours takes the task's own retries."""
    assert QadzdRetryPolicy().evaluate(ValueError("odd"), 1, 5).action == RetryAction.DEFAULT
