"""Waiting for ticket changes of QAD customers, each seen exactly once by each sensor, and again when cleared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator

from airflow_provider_qadzd import config
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.ledger import Ledger, tickets
from airflow_provider_qadzd.ledger.tickets import Stretch
from airflow_provider_qadzd.retry import QadzdRetryPolicy
from airflow_provider_qadzd.triggers.zendesk import TicketEventsAppear

AT_MOST = 100
"""Pairs in the XCom; the ledger has the rest, by position."""


class ZendeskEventSensor(BaseSensorOperator):
    """Succeeds when tickets of QAD customers changed since this sensor last succeeded; deferrable.

    `kinds` (created, updated, solved, merged, deleted, restored, matched), `customers` (QAD codes) and `statuses` each
    let everything pass while empty. A sensor that never ran before starts with what comes from now on. Returns
    `{"account_id", "from_seq", "to_seq", "count", "events": [[seq, ticket id], ...]}` with at most 100 events; all of
    them are the ledger's `ticket_event` rows in between. A cleared run returns the same again.
    """

    template_fields: Sequence[str] = ("flow", "kinds", "customers", "statuses")

    def __init__(
        self, *, flow: str = "default", kinds: Sequence[str] = (), customers: Sequence[str] = (),
        statuses: Sequence[str] = (), **kwargs: Any,
    ) -> None:  # fmt: skip
        kwargs.setdefault("retry_policy", QadzdRetryPolicy())
        super().__init__(**kwargs)
        self.flow, self.kinds, self.customers, self.statuses = flow, kinds, customers, statuses

    def execute(self, context: Mapping[str, Any], event: Any = None) -> dict[str, Any]:
        ledger = config.open_ledger()
        account_id = ZendeskHook(config.flow_settings(self.flow).zendesk, ledger).account.account_id
        where = (account_id, context["dag"].dag_id, self.task_id)
        stretch = tickets.stretch_of(ledger, *where, context["run_id"])
        if stretch is None:
            # Written before waiting: a try that dies must not make the next one start with "from now on" again.
            start = tickets.last_seen(ledger, *where)
            stretch = Stretch(start, start)
            tickets.save_stretch(ledger, *where, context["run_id"], stretch)
        waiting = stretch.to_seq == stretch.from_seq
        rows = tickets.events_after(
            ledger, account_id, stretch.from_seq, upto=None if waiting else stretch.to_seq, kinds=self.kinds,
            customers=self.customers, statuses=self.statuses,
        )  # fmt: skip
        if not rows and waiting:
            self.defer(
                trigger=TicketEventsAppear(
                    account_id, stretch.from_seq, self.kinds, self.customers, self.statuses
                ),
                method_name="execute", timeout=timedelta(seconds=self.timeout),
            )  # fmt: skip
        if waiting:
            stretch = Stretch(stretch.from_seq, int(rows[-1].seq))
            tickets.save_stretch(ledger, *where, context["run_id"], stretch)
        return self._returned(ledger, account_id, stretch, rows)

    def _returned(
        self, ledger: Ledger, account_id: int, stretch: Stretch, rows: Sequence[tickets.EventRow]
    ) -> dict[str, Any]:
        pairs = [[int(row.seq), int(row.ticket_id)] for row in rows[:AT_MOST]]
        if len(rows) > AT_MOST:
            self.log.info("%s events; the first %s are returned, the ledger has them all.", len(rows), AT_MOST)
        return {
            "account_id": account_id, "from_seq": stretch.from_seq, "to_seq": stretch.to_seq, "count": len(rows),
            "events": pairs,
        }  # fmt: skip
