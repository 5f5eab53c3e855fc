"""What a plan will cost: Zendesk calls, and minutes within the account's limit, reckoned from its counts.

It follows what `apply` does: a hundred changes in a job, with a look before an update, a poll and a look after; a
handful singly. What Zendesk refuses, or answers late, comes on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_qadzd.sync.pairs import CHUNK, FEW


@dataclass(frozen=True, slots=True)
class Estimate:
    """`minutes` is how long so many calls take at least. `bulk` is None where it is not known: reckoned as off."""

    calls: int
    minutes: int
    calls_a_minute: int
    bulk: bool | None

    def summary(self) -> str:
        """In one sentence, for people."""
        if not self.calls:
            return "no Zendesk calls"
        minutes = "less than a minute" if self.minutes <= 1 else f"{self.minutes} minutes"
        bulk = {True: "on", False: "off", None: "not known, reckoned as off"}[self.bulk]
        return (
            f"about {self.calls:,} Zendesk calls, {minutes} at {self.calls_a_minute:,} calls a minute "
            f"(bulk user import {bulk})"
        )


def estimate(
    tally: Mapping[tuple[str, str], int], with_their_user: int, bulk: bool | None, calls_a_minute: int
) -> Estimate:  # fmt: skip
    """For so many changes by kind and operation, of whose memberships some come with their new user."""
    calls = 0
    for (kind, operation), count in tally.items():
        if kind == "user" and operation == "create" and not bulk:
            calls += count
        elif kind in ("organization", "user"):
            calls += _in_jobs(count, before=0 if operation == "create" else 1, after=1)
        elif kind == "membership" and operation == "add":
            calls += _in_jobs(max(0, count - with_their_user), before=1, after=0)
        else:
            # One by one: a look at the user's own list, and the write.
            calls += 2 * count + -(-count // CHUNK)
    return Estimate(calls, -(-calls // calls_a_minute), calls_a_minute, bulk)


def _in_jobs(count: int, before: int, after: int) -> int:
    """Each job is started and polled, between calls `before` and `after`; a few go singly."""
    jobs, rest = divmod(count, CHUNK)
    if rest > FEW:
        jobs, rest = jobs + 1, 0
    return jobs * (before + 2 + after) + (before + rest if rest else 0)
