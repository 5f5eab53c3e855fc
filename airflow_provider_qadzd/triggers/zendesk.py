"""What waits for ticket changes in the triggerer.

An Airflow asset event may strand when events come in bursts (seen in 3.3.2), so the wake trigger is level-triggered: it
signals for as long as anything is pending, less and less often while nothing moves. A trigger that raises is restarted
every two seconds for ever while Airflow reports it healthy (seen too), so errors are caught, told and waited out here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.sdk import BaseHook
from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from airflow_provider_qadzd import config
from airflow_provider_qadzd.hooks.zendesk import base_url_in
from airflow_provider_qadzd.ledger import Ledger, identity, sensing, tickets
from airflow_provider_qadzd.ledger.sensing import Wanted

log = logging.getLogger(__name__)

_FIRST_GAP, _LONGEST = 10.0, 60.0


class DeliveriesPending(BaseEventTrigger):
    """Signals while deliveries of the account behind `zendesk_conn_id` wait to be drained.

    Looks every `poll_seconds`. A delivery that is the oldest for the first time is signalled at once; while it stays
    the oldest, again after 10, 20, 40, and then every 60 seconds.
    """

    def __init__(self, zendesk_conn_id: str = "zendesk_default", poll_seconds: float = 2.0) -> None:
        super().__init__()
        self.zendesk_conn_id, self.poll_seconds = zendesk_conn_id, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {"zendesk_conn_id": self.zendesk_conn_id, "poll_seconds": self.poll_seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event for each signal; never ends, never raises."""
        inbox: tuple[Ledger, int] | None = None
        signalled, again_at, gap, pause = None, 0.0, _FIRST_GAP, self.poll_seconds
        while True:
            try:
                inbox = inbox or await self._inbox()
                oldest = await asyncio.to_thread(tickets.oldest_pending, *inbox)
                pause = self.poll_seconds
            except asyncio.CancelledError:
                raise
            except Exception as error:
                inbox, oldest, pause = None, None, min(_LONGEST, max(pause, 5.0) * 2)
                log.warning("Cannot look for deliveries, trying again in %.0f s: %s", pause, error)
            if oldest is not None and (oldest != signalled or time.monotonic() >= again_at):
                gap = _FIRST_GAP if oldest != signalled else min(_LONGEST, gap * 2)
                signalled, again_at = oldest, time.monotonic() + gap
                yield TriggerEvent({"oldest_delivery": oldest})
            await asyncio.sleep(pause)

    async def _inbox(self) -> tuple[Ledger, int]:
        ledger = await config.open_ledger_async()
        found = await BaseHook.aget_connection(self.zendesk_conn_id)
        account = await asyncio.to_thread(identity.account_at, ledger, base_url_in(found))
        return ledger, account.account_id


class TicketEventsAppear(BaseTrigger):
    """Fires once, when the account has a ticket event above `after` that passes the filters."""

    def __init__(
        self, account_id: int, after: int, kinds: Sequence[str] = (), customers: Sequence[str] = (),
        statuses: Sequence[str] = (), poll_seconds: float = 5.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.account_id, self.after, self.poll_seconds = account_id, after, poll_seconds
        self.kinds, self.customers, self.statuses = list(kinds), list(customers), list(statuses)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        names = ("account_id", "after", "kinds", "customers", "statuses", "poll_seconds")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, then the end; what goes wrong is told and waited out."""
        ledger: Ledger | None = None
        pause = self.poll_seconds
        while True:
            try:
                ledger = ledger or await config.open_ledger_async()
                if await asyncio.to_thread(self._any, ledger):
                    break
                pause = self.poll_seconds
            except asyncio.CancelledError:
                raise
            except Exception as error:
                ledger, pause = None, min(_LONGEST, pause * 2)
                log.warning("Cannot look for ticket events, trying again in %.0f s: %s", pause, error)
            await asyncio.sleep(pause)
        yield TriggerEvent({"after": self.after})

    def _any(self, ledger: Ledger) -> bool:
        wanted = Wanted(tuple(self.kinds), tuple(self.customers), tuple(self.statuses))
        return sensing.any_event(ledger, self.account_id, self.after, wanted)
