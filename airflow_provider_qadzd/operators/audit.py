"""Operators on the ledger's own memory: replay what came to nothing, let go of what is old. No system is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from airflow.sdk import BaseOperator

from airflow_provider_qadzd import config
from airflow_provider_qadzd.ledger.replays import Chosen, replay
from airflow_provider_qadzd.ledger.retention import Keep, tidy
from airflow_provider_qadzd.operators.flow import FlowOperator, run_name
from airflow_provider_qadzd.retry import QadzdRetryPolicy


class ReplayOperator(FlowOperator):
    """Lift what holds the chosen records back, so that the next plan decides them. Returns how many, and some keys."""

    template_fields: Sequence[str] = ("flow", "key", "reason", "run", "since", "until")

    def __init__(
        self, *, key: str = "", reason: str = "", run: str = "", since: str = "", until: str = "", **kwargs: Any
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.key, self.reason, self.run, self.since, self.until = key, reason, run, since, until

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        flow = self.opened()
        # A parameter that was left empty in the form is rendered as None.
        given = {name: getattr(self, name) for name in Chosen.__slots__}
        chosen = Chosen(**{name: "" if value in (None, "None") else str(value) for name, value in given.items()})
        done = replay(flow.ledger, flow.flow, chosen, run_name(context))
        self.log.info("%s", done.summary())
        return {**asdict(done), "examples": list(done.examples)}


class LedgerMaintainOperator(BaseOperator):
    """Delete what the ledger need not keep any longer. Returns how many rows went, by table."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("retry_policy", QadzdRetryPolicy())
        super().__init__(**kwargs)

    def execute(self, context: Mapping[str, Any]) -> dict[str, int]:
        days = {name: config.number(f"keep_{name}_days") for name in Keep.__slots__}
        gone = tidy(config.open_ledger(), Keep(**days))
        self.log.info("Deleted: %s.", ", ".join(f"{count} {name}" for name, count in gone.items()))
        return gone
