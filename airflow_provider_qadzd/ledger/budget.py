"""A Zendesk account's call budgets, spent by all processes together.

Each budget is a log of what was taken lately, so that no window, wherever it starts, holds more calls than the limit.
Who calls in quick succession takes ordinary requests in blocks, to cost one transaction in ten calls.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from airflow_provider_qadzd.ledger.schema import rate_budget
from airflow_provider_qadzd.ledger.store import Ledger, insert_into

_WINDOWS = {"requests": 60.0, "exports": 61.0, "user_updates": 1.1}
"""Seconds. Where we use the whole limit the window is a little longer than Zendesk's: calls arrive unevenly late."""
_LIMITS = {"requests": 140, "exports": 10, "user_updates": 1}
"""Calls in a window until the server tells: `requests` is 70 % of the 200 that all plans but the smallest have."""
_BLOCK = {"requests": 10}
_BLOCK_LASTS = 5.0
_QUICK = 1.0
"""Seconds since the last lease within which the next one is a block: the rest of a block that lapses is lost to all."""


class LedgerBudget:
    """Implements records.Budget for one account. `share` is the part of the told limit that we allow ourselves.

    `leave` is, by budget, the part of that which this one leaves to others: it takes nothing while no more is free.
    Safe to share between threads. A process that holds the rest of a block may use it up after another one has heard
    that everybody must wait: for five seconds at most.
    """

    def __init__(
        self, ledger: Ledger, account_id: int, share: float = 0.7, leave: Mapping[str, float] | None = None
    ) -> None:  # fmt: skip
        self._ledger, self._account_id, self._share, self._leave = ledger, account_id, share, leave or {}
        self._held: dict[str, tuple[int, float]] = {}  # calls left, and when they were leased
        self._guard = threading.Lock()

    def take(self, name: str, count: int = 1) -> float:
        """0.0 and the calls are ours, else the seconds to wait before asking again."""
        with self._guard:
            held, leased = self._held.get(name, (0, 0.0))
            now = self._ledger.clock.time()
            if held >= count and now < leased + _BLOCK_LASTS:
                self._held[name] = (held - count, leased)
                return 0.0
            block = max(count, _BLOCK.get(name, 1) if now < leased + _QUICK else 1)
            for size in dict.fromkeys((block, count)):
                wait = self._lease(name, size, now)
                if wait == 0:
                    self._held[name] = (size - count, now)
                    break
            return wait

    def block(self, name: str, seconds: float) -> None:
        """Nobody takes from `name` for that long."""
        with self._guard, self._ledger.writing() as tx:
            self._held.pop(name, None)
            until = max(self._locked(tx, name).blocked_until, self._ledger.clock.time() + seconds)
            tx.execute(update(rate_budget).where(self._is(name)).values(blocked_until=until))

    def learn(self, name: str, limit_per_minute: int) -> None:
        """Keep our share of the limit that the server told, written only when it changed."""
        ours = max(1, int(limit_per_minute * (self._share if name == "requests" else 1.0)))
        with self._ledger.reading() as tx:
            known = tx.execute(select(rate_budget.c.limit_calls).where(self._is(name))).scalar_one_or_none()
        if (_LIMITS[name] if known is None else known) != ours:
            with self._ledger.writing() as tx:
                self._locked(tx, name)
                tx.execute(update(rate_budget).where(self._is(name)).values(limit_calls=ours))

    def _lease(self, name: str, count: int, now: float) -> float:
        with self._ledger.writing() as tx:
            row = self._locked(tx, name)
            window = _WINDOWS[name]
            limit = max(1, int(row.limit_calls * (1 - self._leave.get(name, 0.0))))
            if count > limit:
                return window
            spent = sorted((at, n) for at, n in row.spent if at > now - window)
            wait = max(row.blocked_until - now, _until_free(spent, count, limit, now - window))
            if wait > 0:
                return float(wait)
            # The calls of a block may be made until it lapses, and count as made then.
            made = now + (_BLOCK_LASTS if count == _BLOCK.get(name) else 0.0)
            tx.execute(update(rate_budget).where(self._is(name)).values(spent=[*spent, (made, count)]))
            return 0.0

    def _locked(self, tx: Connection, name: str) -> Any:
        """The budget's row, made on first sight, which nobody else changes until this transaction ends."""
        row = {
            "account_id": self._account_id, "budget_name": name, "limit_calls": _LIMITS[name], "spent": [],
            "blocked_until": 0.0,
        }  # fmt: skip
        asked = select(rate_budget).where(self._is(name)).with_for_update()
        found = tx.execute(asked).one_or_none()
        if found is None:
            tx.execute(insert_into(tx, rate_budget).values(row).on_conflict_do_nothing())
            found = tx.execute(asked).one()
        return found

    def _is(self, name: str) -> ColumnElement[bool]:
        return and_(rate_budget.c.account_id == self._account_id, rate_budget.c.budget_name == name)


def limit_of(ledger: Ledger, account_id: int, name: str = "requests") -> int:
    """How many calls of that budget we may make in its window, as far as the server has told."""
    asked = select(rate_budget.c.limit_calls).where(
        rate_budget.c.account_id == account_id, rate_budget.c.budget_name == name
    )
    with ledger.reading() as tx:
        return int(tx.execute(asked).scalar_one_or_none() or _LIMITS[name])


def _until_free(spent: list[tuple[float, int]], count: int, limit: int, since: float) -> float:
    """Seconds until `count` more calls fit under `limit`; 0.0 if they do now. `spent`, oldest first, is what was
    taken `since` the window's start.
    """
    over = sum(n for _, n in spent) + count - limit
    wait = 0.0
    for at, n in spent:
        if over <= 0:
            break
        over -= n
        wait = max(at - since, 0.001)
    return wait
