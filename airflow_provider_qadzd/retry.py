"""How Airflow retries our tasks: as long as the error says to wait, and not at all where a person must look."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import RetryDecision, RetryPolicy
