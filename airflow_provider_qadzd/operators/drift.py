"""The nightly look's operators: what Zendesk has that we neither wrote nor want, and making way to put it right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_qadzd.ledger.drift import standing
from airflow_provider_qadzd.operators.flow import FlowOperator, run_name
from airflow_provider_qadzd.sync.drift import as_table, look, make_way

_SHOWN = 1000


class ZendeskLookOperator(FlowOperator):
    """Look for differences from what we wrote or want, and say which stand. Nothing is written in Zendesk.

    Returns how many of each sort stand, how many are news, and how many are over.
    """

    def execute(self, context: Mapping[str, Any], event: Any = None, so_far: Any = None) -> dict[str, Any]:
        flow = self.opened()
        with self.deferring():
            looked = look(flow.ledger, flow.flow, flow.zendesk.client, run_name(context), flow.rules)
        self.log.info("%s", looked.summary())
        rows = standing(flow.ledger, flow.flow, limit=_SHOWN)
        if rows:
            self.log.info("What stands, at most %s:\n%s", _SHOWN, as_table(rows))
        return {
            "standing": looked.standing,
            "news": looked.news,
            "over": looked.over,
            "memberships_asked": looked.asked,
        }


class DriftRepairOperator(FlowOperator):
    """Let the next plan see what its links hide. Skipped, with all that follows, unless `repair` is true.

    Returns how many memberships will be added again, and how many merged records are linked anew.
    """

    template_fields: Sequence[str] = ("flow", "repair")

    def __init__(self, *, repair: str | bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.repair = repair

    def execute(self, context: Mapping[str, Any]) -> dict[str, int]:
        if str(self.repair).lower() != "true":
            raise AirflowSkipException("Differences are only told, because the parameter repair is not true.")
        flow = self.opened()
        memberships, merged = make_way(flow.ledger, flow.flow, run_name(context))
        self.log.info("%s memberships are missing again, %s merged records are linked anew.", memberships, merged)
        return {"memberships": memberships, "merged": merged}
