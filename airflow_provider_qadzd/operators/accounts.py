"""The outward journey's operators: collect from QAD, mirror Zendesk, plan, apply."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import Asset

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.operators.flow import FlowOperator, run_name
from airflow_provider_qadzd.sync.apply import Applier, Done
from airflow_provider_qadzd.sync.collect import collect
from airflow_provider_qadzd.sync.draft import Mode, draft_plan
from airflow_provider_qadzd.sync.mirror import refresh_mirror
from airflow_provider_qadzd.sync.receive import match_again
from airflow_provider_qadzd.triggers.zendesk_jobs import JobsEnd


def accounts_asset(flow: str) -> Asset:
    """The asset that stands for a flow's organizations and users in Zendesk."""
    return Asset(name=f"qadzd_accounts_{flow}", uri=f"qadzd://accounts/{flow}")


class QadCollectOperator(FlowOperator):
    """Read QAD's customers and contacts into the ledger. Returns mode, rows and completeness by kind.

    With `full` all of them, else what was changed lately, where QAD can tell. With `release_brake` a read that has
    shrunk is believed.
    """

    template_fields: Sequence[str] = ("flow", "full", "release_brake")

    def __init__(self, *, full: str | bool = False, release_brake: str | bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.full, self.release_brake = full, release_brake

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        flow = self.opened()
        reads = collect(
            flow.ledger, flow.flow.source_id, flow.qad.client, run_name(context), full=_is_true(self.full),
            brake=config.brake(_is_true(self.release_brake)), patience=config.patience(),
        )  # fmt: skip
        for read in reads:
            self.log.info("QAD: %s.", read.summary())
        return {
            read.kind: {"rows": read.rows, "mode": read.mode, "complete": read.complete, "reason": read.reason}
            for read in reads
        }


def _is_true(given: str | bool) -> bool:
    return str(given).lower() == "true"


class ZendeskMirrorOperator(FlowOperator):
    """Read what changed in Zendesk's organizations and users into the mirror. Returns rows by kind."""

    def execute(
        self, context: Mapping[str, Any], event: Any = None, so_far: dict[str, int] | None = None
    ) -> dict[str, int]:
        flow, rows = self.opened(), so_far or {}
        with self.deferring(rows):
            refresh_mirror(flow.ledger, flow.flow.account_id, flow.zendesk.client, rows)
        self.log.info("Zendesk: %s organizations and %s users seen.", rows["organization"], rows["user"])
        return rows


class AccountsPlanOperator(FlowOperator):
    """Decide what to change in Zendesk, without calling it. Returns the plan's id, hash and counts.

    `mode` is `apply` or `dry_run` (nothing is left to apply). UnsafePlan if it is more than the brake allows, unless
    `release_brake` is true.
    """

    template_fields: Sequence[str] = ("flow", "mode", "release_brake")

    def __init__(self, *, mode: str = "apply", release_brake: str | bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mode, self.release_brake = mode, release_brake

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        if self.mode not in ("apply", "dry_run"):
            raise FixFirst(f"The mode is {self.mode!r}.", advice="It must be apply or dry_run.")
        brake = config.brake(_is_true(self.release_brake))
        flow = self.opened()
        mode: Mode = "dry_run" if self.mode == "dry_run" else "apply"
        plan = draft_plan(flow.ledger, flow.flow, flow.rules, run_name(context), brake, mode, config.patience())
        self.log.info("%s%s", plan.summary(), " Dry run: nothing will be sent." if mode == "dry_run" else "")
        return {"plan_id": plan.plan_id, "hash": plan.plan_hash, "counts": plan.counts, "changes": plan.changes}


class AccountsApplyOperator(FlowOperator):
    """Send the planned changes and read every job to its end. Returns outcomes by kind, and the writes Zendesk took.

    Waits for jobs in place for a while, then defers. Whatever an earlier try left open is resolved first.
    """

    template_fields: Sequence[str] = ("flow", "plan_id")

    def __init__(self, *, plan_id: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_id = plan_id

    def execute(self, context: Mapping[str, Any], event: Any = None, writes: int = 0) -> dict[str, Any]:
        flow = self.opened()
        applier = Applier(
            flow.ledger, flow.flow, flow.zendesk.client, run_name(context), int(self.plan_id),
            bulk=flow.zendesk.bulk_import, writes=writes, policies=config.policies(),
        )  # fmt: skip
        patience = time.monotonic() + config.number("wait_in_place_seconds")
        while not isinstance(state := applier.step(), Done):
            wait = max(0.0, state.until - time.time())
            if time.monotonic() + wait > patience:
                if not state.jobs:
                    self.log.info("The limit of calls is reached.")
                    self.defer_until(state.until, writes=applier.writes)
                self.log.info("%s jobs run in Zendesk; this task gives its slot back.", len(state.jobs))
                jobs_end = JobsEnd(flow.settings.zendesk, state.jobs)
                self.defer(trigger=jobs_end, method_name="execute", kwargs={"writes": applier.writes})
            time.sleep(wait)
        moved = match_again(flow.ledger, flow.flow.account_id)
        report = {**state.report, "tickets_matched_again": moved}
        if not report["zendesk_writes"]:
            self.log.info("Nothing was written in Zendesk.")
        else:
            self.log.info("Zendesk took %s writes: %s.", report["zendesk_writes"], report["outcomes"])
        context["outlet_events"][accounts_asset(self.flow)].extra = report
        return report
