"""The inward journey's operators: drain what webhooks announced, export what they may have missed, export the past."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pendulum
from airflow.sdk import ObjectStoragePath

from airflow_provider_qadzd import config
from airflow_provider_qadzd.ledger import ticket_organizations
from airflow_provider_qadzd.operators.flow import FlowOperator, run_name
from airflow_provider_qadzd.sync.apply import Done
from airflow_provider_qadzd.sync.export import Exported, Run, export_live, export_window
from airflow_provider_qadzd.sync.receive import Drained, drain
from airflow_provider_qadzd.sync.ticket_files import checked_format, file_name, write_window
from airflow_provider_qadzd.sync.ticket_organizations import TicketOrganizations, that_would_fire
from airflow_provider_qadzd.triggers.zendesk_jobs import JobsEnd


class ZendeskDrainOperator(FlowOperator):
    """Fetch every ticket that a delivery announced. Returns what was drained, set aside, moved and gone."""

    def execute(
        self, context: Mapping[str, Any], event: Any = None, so_far: Mapping[str, int] | None = None
    ) -> dict[str, Any]:
        flow, done = self.opened(), Drained(**(so_far or {}))
        with self.deferring(done):
            drain(flow.ledger, flow.zendesk.account.account_id, flow.zendesk.client, done)
        self.log.info(
            "%s deliveries drained, %s set aside; %s tickets moved, %s gone.",
            done.drained, done.aside, done.moved, done.gone,
        )  # fmt: skip
        return asdict(done)


class ZendeskExportTicketsOperator(FlowOperator):
    """Read the live exports on from their cursors. Returns pages, tickets, and how many no webhook had told of."""

    def execute(
        self, context: Mapping[str, Any], event: Any = None, so_far: Mapping[str, int] | None = None
    ) -> dict[str, Any]:
        flow, done = self.opened(), Exported(**(so_far or {}))
        run, settle = Run(context["dag"].dag_id, context["run_id"]), config.number("settle_seconds")
        with self.deferring(done):
            export_live(flow.ledger, flow.zendesk.account.account_id, flow.zendesk.client, run, settle, done)
        self.log.info(
            "%s tickets and %s history entries in %s pages; %s tickets had moved without a webhook.",
            done.tickets, done.history, done.pages, done.repaired,
        )  # fmt: skip
        return asdict(done)


class ZendeskTicketOrganizationsOperator(FlowOperator):
    """Give open tickets without an organization that of their customer, where it was allowed at onboarding.

    Returns outcomes, the jobs that Zendesk took, and the account's triggers that they may have fired; these are in the
    log before the first job is sent. Waits for a job in place for a while, then defers.
    """

    def execute(
        self, context: Mapping[str, Any], event: Any = None, so_far: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        flow = self.opened()
        account_id, client = flow.zendesk.account.account_id, flow.zendesk.client
        if not flow.zendesk.account.set_ticket_organization:
            self.log.info("Organizations are not set on tickets of this account; qadzd_onboard asks whether to.")
            return {}
        done: dict[str, Any] = {"organizations": {}, "zendesk_writes": 0, "triggers": [], **(so_far or {})}
        acting = TicketOrganizations(
            flow.ledger, account_id, client, run_name(context), done["zendesk_writes"], Counter(done["organizations"])
        )
        patience = time.monotonic() + config.number("wait_in_place_seconds")
        with self.deferring(done):
            if so_far is None and ticket_organizations.missing(flow.ledger, account_id, -1, 1):
                done["triggers"] = that_would_fire(client.triggers.list())
                told = ", ".join(done["triggers"]) or "none"
                self.log.warning("Setting organizations may fire these triggers: %s.", told)
            while not isinstance(state := acting.step(), Done):
                done.update(acting.report())
                wait = max(0.0, state.until - time.time())
                if time.monotonic() + wait > patience:
                    if not state.jobs:
                        self.defer_until(state.until, so_far=done)
                    self.log.info("%s jobs run in Zendesk; this task gives its slot back.", len(state.jobs))
                    jobs_end = JobsEnd(flow.settings.zendesk, state.jobs)
                    self.defer(trigger=jobs_end, method_name="execute", kwargs={"so_far": done})
                time.sleep(wait)
        self.log.info("Missing organizations of tickets: %s.", state.report["organizations"] or "none")
        return {**done, **state.report}


class ZendeskTicketHistoryOperator(FlowOperator):
    """Export the tickets whose latest change lies in the run's data interval. Returns the window, its tickets and file.

    A run without a data interval (triggered by hand without a logical date) says so and takes the day (UTC) before it
    was triggered. With `files`, a folder that `ObjectStoragePath` understands, the window's rows are written there too,
    in `file_format`: `jsonl` or `parquet`. Both are taken from `[qadzd]` where they are not given.
    """

    template_fields: Sequence[str] = ("flow", "files", "file_format")

    def __init__(self, *, files: str | None = None, file_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.files, self.file_format = files, file_format

    def execute(self, context: Mapping[str, Any], event: Any = None, so_far: None = None) -> dict[str, Any]:
        folder = config.option("history_files") if self.files is None else self.files
        form = checked_format(self.file_format or config.option("history_format"))
        flow, (starts, ends) = self.opened(), self._interval(context)
        account, bounds = flow.zendesk.account, (starts.timestamp(), ends.timestamp())
        with self.deferring():  # the window itself remembers how far it is
            window = export_window(flow.ledger, account.account_id, flow.zendesk.history_client, *bounds)
        self.log.info("%s tickets changed last between %s and %s.", window.ticket_count, starts, ends)
        told = {"starts_at": window.starts_at, "ends_at": window.ends_at, "tickets": window.ticket_count}
        if not folder:
            return told
        target = ObjectStoragePath(folder) / account.slug / file_name(*bounds, form)
        with TemporaryDirectory() as here:
            local = Path(here) / target.name
            rows = write_window(flow.ledger, account.account_id, *bounds, local, form)
            _publish(local, target)
        self.log.info("%s rows written to %s.", rows, target)
        return {**told, "file": str(target)}

    def _interval(self, context: Mapping[str, Any]) -> tuple[pendulum.DateTime, pendulum.DateTime]:
        starts, ends = context.get("data_interval_start"), context.get("data_interval_end")
        if starts is not None and ends is not None and starts < ends:
            return pendulum.instance(starts), pendulum.instance(ends)
        triggered = pendulum.instance(context["dag_run"].run_after).in_timezone("UTC").start_of("day")
        self.log.info("This run has no data interval; it takes the day before it was triggered.")
        return triggered.subtract(days=1), triggered


def _publish(local: Path, target: ObjectStoragePath) -> None:
    """Put the file where it belongs: whoever looks there finds the file before or this one, never a part of it.

    It is moved into place, since a copy to a local disk, or a stream to a store that breaks off, may be read half done.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.fs.put_file(str(local), part.path)
    target.fs.mv(part.path, target.path)
