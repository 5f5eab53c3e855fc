"""Bulk jobs: queued, then working, then completed, at which moment their work takes effect and not before.

https://developer.zendesk.com/api-reference/ticketing/ticket-management/job_statuses/
The results of an item have a different shape for each kind of job, as the real ones have. `oddities` says how a job
may go wrong.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..clock import iso
from ..web import Call, Reply, refuse, reply_json
from . import words
from .errors import Invalid, not_found, too_many_values
from .oddities import Oddities, Wording, failed_form
from .paging import number

if TYPE_CHECKING:
    from ..state import State

KEPT = 86400
Work = Callable[["State", int, dict[str, Any]], dict[str, Any]]


@dataclass(slots=True)
class Job:
    """One bulk job. `item` does the work of one input row, `failed` words the result of one that was refused."""

    id: str
    kind: str
    message: str
    rows: list[dict[str, Any]]
    item: Work
    failed: Wording
    created: float
    due: float
    done: float | None = None
    status: str = "queued"
    results: list[dict[str, Any]] = field(default_factory=list)
    odd: Oddities = field(default_factory=Oddities)

    def run(self, state: State, now: float) -> None:
        bad = 0
        word = failed_form(self.odd.failed_items, self.kind) or self.failed
        for index, row in enumerate(self.rows[: self.odd.fails_after]):
            try:
                self.results.append(self.item(state, index, row))
            except Invalid as invalid:
                bad += 1
                invalid.text = words.spoken(invalid.text, state.settings.language)
                self.results.append(word(index, row, invalid))
        self.done = now
        all_failed = bad == len(self.rows) > 0 and "index" in self.results[0]
        broke_off = len(self.results) < len(self.rows)
        self.status = self.odd.ends or ("failed" if all_failed or broke_off else "completed")

    def shown(self, state: State) -> dict[str, Any]:
        finished = self.done is not None
        status = self.status
        if not finished and self.created < self.due and state.now >= self.created + (self.due - self.created) / 3:
            status = "working"
        return {
            "id": self.id,
            "job_type": self.kind,
            "url": state.zendesk.url("job_statuses", self.id),
            "total": len(self.rows),
            "progress": len(self.results) if finished else (None if status == "queued" else 0),
            "status": status,
            "message": self._said(),
            "results": self.results if finished and self.odd.results == "rows" else None,
        }

    def _said(self) -> str | None:
        if self.done is None:
            return self.message
        usual = f"Completed at {iso(self.done)}" if self.status == "completed" else f"Failed at {iso(self.done)}"
        return usual if self.odd.message == "usual" else None


class Jobs:
    """The jobs of the last day."""

    def __init__(self) -> None:
        self.all: dict[str, Job] = {}
        self._open: list[Job] = []

    def settle(self, state: State) -> None:
        if not self._open:
            return
        now = state.now
        for job in [job for job in self._open if job.due <= now]:
            self._open.remove(job)
            job.run(state, max(job.due, job.created))

    def find(self, state: State, job_id: str) -> Job | None:
        """The job, if it is still known: for a day after its end, unless it is one that vanishes."""
        job = self.all.get(job_id)
        if job is None or (job.done is not None and (state.now > job.done + KEPT or job.odd.vanishes == "everywhere")):
            return None
        return job

    def start(self, state: State, job: Job) -> Reply:
        rates = state.limits.rates
        if rates.enabled and len(self._open) >= rates.jobs_in_flight:
            body = {
                "error": "TooManyJobs",
                "description": f"Too many {job.kind} jobs are currently queued or running. Try again later.",
                "current_job_ids": [other.id for other in self._open],
            }
            raise refuse(429, body, Retry_After="10")
        self.all[job.id] = job
        self._open.append(job)
        left = rates.jobs_in_flight - len(self._open)
        standing = f"total={rates.jobs_in_flight}; remaining={left}; resets=60"
        return reply_json({"job_status": job.shown(state)}, zendesk_ratelimit_inflight_jobs=standing)


def start(state: State, call: Call, kind: str, message: str, rows: list[Any], item: Work, failed: Wording) -> Reply:
    """Queue a job over at most 100 rows; the answer is its status."""
    if len(rows) > 100:
        raise too_many_values()
    now = state.now
    wanted = [row if isinstance(row, dict) else {} for row in rows]
    odd = Oddities.of(state.settings, call.job)
    job = Job(f"V3-{uuid.uuid4().hex}", kind, message, wanted, item, failed, now, now + odd.delay, odd=odd)
    return state.jobs.start(state, job)


def _show(state: State, call: Call) -> Reply:
    job = state.jobs.find(state, call.params["id"])
    if job is None or (job.done is not None and job.odd.vanishes == "alone"):
        raise not_found()
    return reply_json({"job_status": job.shown(state)})


def _show_many(state: State, call: Call) -> Reply:
    ids = [part for part in call.query.get("ids", "").split(",") if part]
    if len(ids) > 100:
        raise too_many_values()
    found = [job for job in (state.jobs.find(state, key) for key in ids) if job is not None]
    return reply_json({"job_statuses": [job.shown(state) for job in found]})


def _list(state: State, call: Call) -> Reply:
    jobs = [job for job in state.jobs.all.values() if state.jobs.find(state, job.id) is not None]
    start_at = number(call, "page[after]", 0)
    size = min(number(call, "page[size]", 100), 100)
    more = start_at + size < len(jobs)
    page = [job.shown(state) for job in jobs[::-1][start_at : start_at + size]]
    meta = {"has_more": more, "after_cursor": str(start_at + size) if more else None, "before_cursor": None}
    return reply_json({"job_statuses": page, "meta": meta, "links": {"prev": None, "next": None}})


ROUTES = [
    ("GET", "/api/v2/job_statuses/show_many", _show_many),
    ("GET", "/api/v2/job_statuses/{id}", _show),
    ("GET", "/api/v2/job_statuses", _list),
]
