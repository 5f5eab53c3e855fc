"""Deliveries that come together are committed together: the disk is waited for once, not once for each.

Whoever hands one over goes on only when the transaction that holds it is committed. While one group is being written
the next one gathers, so a lone delivery waits for nobody, and a burst makes larger groups instead of a longer queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.tickets import store_deliveries

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
_LARGEST_GROUP = 200
_MOST_WAITING = 32 * 1_048_576
"""Bytes of bodies; beyond them a sender is asked to come again."""


class GroupCommit:
    """Stores the inbox's rows of one process. To be used in one event loop."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._waiting: list[tuple[Row, asyncio.Future[bool]]] = []
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Deliveries that are not committed yet."""
        return len(self._waiting)

    async def commit(self, ledger: Ledger, row: Row, patience: float) -> bool:
        """Whether the row was news; it is committed. TryLater if it cannot be, or not within `patience` seconds.

        One that took too long may still be committed later: who sends it again sends a repeat.
        """
        if self._bytes > _MOST_WAITING:
            raise TryLater("Too many deliveries wait for the ledger.")
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        self._bytes += len(row["body"])
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(ledger))
        await asyncio.wait({done}, timeout=patience)
        if not done.done():
            raise TryLater("The ledger does not answer in time.")
        return done.result()

    async def _write(self, ledger: Ledger) -> None:
        """Group after group, until nothing waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:_LARGEST_GROUP], self._waiting[_LARGEST_GROUP:]
                rows = [row for row, _ in group]
                outcomes = await loop.run_in_executor(self._executor, stored, ledger, rows)
                self._bytes -= sum(len(row["body"]) for row in rows)
                for (_, done), outcome in zip(group, outcomes, strict=True):
                    if isinstance(outcome, Exception):
                        done.set_exception(outcome)
                        done.exception()  # its sender may have left
                    else:
                        done.set_result(outcome)
        finally:
            self._writer = None


Store = Callable[[Ledger, Sequence[Row]], Sequence[bool]]


def stored(ledger: Ledger, rows: Sequence[Row], store: Store = store_deliveries) -> Sequence[bool | Exception]:
    """What became of each row. One that the database does not take spoils its group, so each is then tried alone."""
    try:
        return store(ledger, rows)
    except TryLater as away:
        return [away] * len(rows)
    except Exception as error:
        if len(rows) == 1:
            log.error("A delivery could not be stored: %s.", type(error).__name__)
            return [TryLater("The ledger does not take this delivery.")]
        return [stored(ledger, [row], store)[0] for row in rows]
