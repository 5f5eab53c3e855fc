"""Waiting for ticket changes of QAD customers, each seen exactly once by each sensor, and again when cleared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator

from airflow_provider_qadzd import config
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.ledger.sensing import EventRow, Stretch, Wanted, claim_stretch
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
        wanted = Wanted(tuple(self.kinds), tuple(self.customers), tuple(self.statuses))
        stretch, rows = claim_stretch(
            ledger, account_id, context["dag"].dag_id, self._place(context), context["run_id"], wanted
        )  # fmt: skip
        if not rows and stretch.from_seq == stretch.to_seq:
            self.defer(
                trigger=TicketEventsAppear(
                    account_id, stretch.from_seq, self.kinds, self.customers, self.statuses
                ),
                method_name="execute", timeout=timedelta(seconds=self.timeout),
            )  # fmt: skip
        return self._returned(account_id, stretch, rows)

    def _place(self, context: Mapping[str, Any]) -> str:
        """The task, and its place in a mapped one: each of those has its own position."""
        index = getattr(context.get("ti"), "map_index", -1)
        return self.task_id if index < 0 else f"{self.task_id}[{index}]"

    def _returned(self, account_id: int, stretch: Stretch, rows: Sequence[EventRow]) -> dict[str, Any]:
        pairs = [[int(row.seq), int(row.ticket_id)] for row in rows[:AT_MOST]]
        if len(rows) > AT_MOST:
            self.log.info("%s events; the first %s are returned, the ledger has them all.", len(rows), AT_MOST)
        return {
            "account_id": account_id, "from_seq": stretch.from_seq, "to_seq": stretch.to_seq, "count": len(rows),
            "events": pairs,
        }  # fmt: skip
