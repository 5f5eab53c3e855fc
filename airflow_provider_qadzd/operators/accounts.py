"""The outward journey's operators: collect from QAD, mirror Zendesk, plan, apply."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from airflow.sdk import Asset

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger import accounts, changes, plans
from airflow_provider_qadzd.ledger.applying import BUSY
from airflow_provider_qadzd.operators.flow import FlowOperator, OpenFlow, run_name
from airflow_provider_qadzd.operators.links import About, agent_page, plan_page
from airflow_provider_qadzd.sync.apply import Applier, Done, Waiting
from airflow_provider_qadzd.sync.collect import collect
from airflow_provider_qadzd.sync.draft import Mode, draft_plan
from airflow_provider_qadzd.sync.mirror import refresh_mirror
from airflow_provider_qadzd.sync.receive import match_again
from airflow_provider_qadzd.sync.review import release_reviewed
from airflow_provider_qadzd.triggers.zendesk_jobs import JobsEnd


def accounts_asset(flow: str) -> Asset:
    """The asset that stands for a flow's organizations and users in Zendesk."""
    return Asset(name=f"qadzd_accounts_{flow}", uri=f"qadzd://accounts/{flow}")


class QadCollectOperator(FlowOperator):
    """Read QAD's customers and contacts into the ledger. Returns mode, rows and completeness by kind.

    With `full` all of them, else what was changed lately, where QAD can tell. With `release_brake` a read that has
    shrunk is believed. A connection that does not fit its QAD is FixFirst before anything is read, with the nearest
    match of what is wrong.
    """

    template_fields: Sequence[str] = ("flow", "full", "release_brake")

    def __init__(self, *, full: str | bool = False, release_brake: str | bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.full, self.release_brake = full, release_brake

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        flow = self.opened()
        self.about = About(qad=flow.qad.qad_url)
        flow.qad.refuse_unfit()
        reads = collect(
            flow.ledger, flow.flow.source_id, flow.qad.client, run_name(context), flow.rules.mapping,
            full=_yes(self.full), brake=config.brake(_yes(self.release_brake)), patience=config.patience(),
        )  # fmt: skip
        for read in reads:
            self.log.info("QAD: %s.", read.summary())
        return {
            read.kind: {"rows": read.rows, "mode": read.mode, "complete": read.complete, "reason": read.reason}
            for read in reads
        }


class ZendeskMirrorOperator(FlowOperator):
    """Read what changed in Zendesk's organizations and users into the mirror. Returns rows by kind."""

    def execute(
        self, context: Mapping[str, Any], event: Any = None, so_far: dict[str, int] | None = None
    ) -> dict[str, int]:
        flow, rows = self.opened(), so_far or {}
        with self.deferring(rows):
            refresh_mirror(flow.ledger, flow.flow.account_id, flow.zendesk.client, rows, flow.rules.mapping)
        self.log.info("Zendesk: %s organizations and %s users seen.", rows["organization"], rows["user"])
        return rows


class AccountsPlanOperator(FlowOperator):
    """Decide what to change in Zendesk, without calling it. Returns the plan's id, hash and counts.

    `mode` is `apply`, `dry_run` (nothing is left to apply), `approve` (the plan waits for a review), `configured` (what
    `[qadzd] mode` says) or `apply_reviewed`: the plan `plan_id` is applied as somebody reviewed it, unless a change has
    moved since; `skip_moved` leaves those out. UnsafePlan if a new plan is more than the brake allows, unless
    `release_brake` is true, and if a reviewed one has moved.
    """

    template_fields: Sequence[str] = ("flow", "mode", "release_brake", "plan_id", "skip_moved")

    def __init__(
        self, *, mode: str = "configured", release_brake: str | bool = False, plan_id: Any = None,
        skip_moved: str | bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.mode, self.release_brake, self.plan_id, self.skip_moved = mode, release_brake, plan_id, skip_moved

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        run = run_name(context)
        if self.mode == "apply_reviewed":
            return self._reviewed(run)
        mode, flow = plan_mode(self.mode), self.opened()
        coming = plans.approved(flow.ledger, flow.flow) if mode == "approve" else None
        if coming is not None:
            self.log.info("Plan %s is approved and about to be applied; no new plan is made.", coming.plan_id)
            return _told(coming.plan_id, coming.plan_hash, coming.counts, coming.change_count)
        brake = config.brake(_yes(self.release_brake))
        plan = draft_plan(
            flow.ledger, flow.flow, flow.rules, run, brake, mode, flow.zendesk.bulk_import, config.patience()
        )  # fmt: skip
        self.about = about_plan(flow, plan.plan_id)
        self.log.info("%s%s", plan.summary(), _NEXT[mode].format(plan.plan_id) if plan.changes else "")
        return _told(plan.plan_id, plan.plan_hash, plan.counts, plan.changes)

    def _reviewed(self, run: str) -> dict[str, Any]:
        if not str(self.plan_id).isdigit():
            raise FixFirst("No plan is named.", advice="Give plan_id, the number of the plan that was reviewed.")
        flow = self.opened()
        released = release_reviewed(
            flow.ledger, flow.flow, flow.rules, int(self.plan_id), run, config.patience(),
            skip_moved=_yes(self.skip_moved),
        )  # fmt: skip
        self.about = about_plan(flow, released.plan_id)
        self.log.info("%s", released.summary())
        row = plans.plan_at(flow.ledger, released.plan_id)
        return _told(row.plan_id, row.plan_hash, row.counts, row.change_count - len(released.moved))


_NEXT: dict[Mode, str] = {
    "apply": "",
    "dry_run": " Dry run: nothing will be sent. `airflow qadzd plan show {}` shows every change.",
    "approve": " Plan {0} waits for a review: /qadzd/plans/{0} in Airflow, or `airflow qadzd plan show {0}`.",
}


def about_plan(flow: OpenFlow, plan_id: int) -> About:
    """The plan; and the record that it is about, on both sides, if that is one."""
    account, plan = flow.zendesk.account.base_url, plan_page(plan_id)
    record = plans.only_record(flow.ledger, plan_id)
    if record is None:
        return About(agent_page(account), flow.qad.qad_url, plan)
    kind, key = record
    found = changes.linked_id(flow.ledger, flow.flow, kind, key)
    page = accounts.wanted_body(flow.ledger, flow.flow, kind, key).get("organization_fields.qad_link")
    return About(agent_page(account, kind, found), str(page or flow.qad.qad_url), plan)


def plan_mode(text: str) -> Mode:
    """The mode that is meant. FixFirst for an unknown one, naming where it stands."""
    where, mode = "The mode", text
    if text == "configured":
        where, mode = "[qadzd] mode", config.option("mode")
    if mode not in get_args(Mode):
        raise FixFirst(f"{where} is {mode!r}.", advice=f"It must be one of {', '.join(get_args(Mode))}.")
    return cast("Mode", mode)


def _yes(value: object) -> bool:
    return str(value).lower() == "true"


def _told(plan_id: int, plan_hash: str, counts: Mapping[str, Any], count: int) -> dict[str, Any]:
    return {"plan_id": plan_id, "hash": plan_hash, "counts": dict(counts), "changes": count}


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
            bulk=flow.zendesk.bulk_import, rules=flow.rules, writes=writes,
        )  # fmt: skip
        patience = time.monotonic() + config.number("wait_in_place_seconds")
        while not isinstance(state := self._step(applier), Done):
            wait = max(0.0, state.until - time.time())
            if time.monotonic() + wait > patience:
                if not state.jobs:
                    self.log.info("The limit of calls is reached.")
                    self.defer_until(state.until, writes=applier.writes)
                self.log.info("%s jobs run in Zendesk; this task gives its slot back.", len(state.jobs))
                jobs_end = JobsEnd(flow.settings.zendesk, state.jobs)
                self.defer(trigger=jobs_end, method_name="execute", kwargs={"writes": applier.writes})
            time.sleep(wait)
        self.about = about_plan(flow, int(self.plan_id))
        moved = match_again(flow.ledger, flow.flow.account_id)
        report = {**state.report, "tickets_matched_again": moved}
        if not report["zendesk_writes"]:
            self.log.info("Nothing was written in Zendesk.")
        else:
            self.log.info("Zendesk took %s writes: %s.", report["zendesk_writes"], report["outcomes"])
        context["outlet_events"][accounts_asset(self.flow)].extra = report
        return report

    def _step(self, applier: Applier) -> Waiting | Done:
        """One step; while another run applies to the account, a deferral: its first load may take hours."""
        try:
            return applier.step()
        except TryLater as busy:
            if busy.facts.code != BUSY:
                raise
            self.log.info("%s", busy)
            self.defer_until(time.time() + busy.wait, writes=applier.writes)
            raise
