"""Bulk jobs: queued, then working, then completed, at which moment their work takes effect and not before.

https://developer.zendesk.com/api-reference/ticketing/ticket-management/job_statuses/
The results of an item have a different shape for each kind of job, as the real ones have.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..clock import iso
from ..web import Call, Reply, refuse, reply_json
from .errors import Invalid, not_found, too_many_values
from .paging import number

if TYPE_CHECKING:
    from ..state import State

KEPT = 86400
Work = Callable[["State", int, dict[str, Any]], dict[str, Any]]
Failure = Callable[[int, dict[str, Any], Invalid], dict[str, Any]]


@dataclass(slots=True)
class Job:
    """One bulk job. `item` does the work of one input row, `failed` words the result of one that was refused."""

    id: str
    kind: str
    message: str
    rows: list[dict[str, Any]]
    item: Work
    failed: Failure
    created: float
    due: float
    done: float | None = None
    status: str = "queued"
    results: list[dict[str, Any]] = field(default_factory=list)

    def run(self, state: State, now: float) -> None:
        bad = 0
        for index, row in enumerate(self.rows):
            try:
                self.results.append(self.item(state, index, row))
            except Invalid as invalid:
                bad += 1
                self.results.append(self.failed(index, row, invalid))
        self.done = now
        all_failed = bad == len(self.rows) > 0 and "index" in self.results[0]
        self.status = "failed" if all_failed else "completed"

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
            "progress": len(self.rows) if finished else (None if status == "queued" else 0),
            "status": status,
            "message": f"Completed at {iso(self.done)}" if self.done is not None else self.message,
            "results": self.results if finished else None,
        }


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
        job = self.all.get(job_id)
        if job is None or (job.done is not None and state.now > job.done + KEPT):
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


def start(state: State, kind: str, message: str, rows: list[Any], item: Work, failed: Failure) -> Reply:
    """Queue a job over at most 100 rows; the answer is its status."""
    if len(rows) > 100:
        raise too_many_values()
    now = state.now
    wanted = [row if isinstance(row, dict) else {} for row in rows]
    job = Job(f"V3-{uuid.uuid4().hex}", kind, message, wanted, item, failed, now, now + state.settings.job_delay)
    return state.jobs.start(state, job)


def failed_item(action: str) -> Failure:
    """The documented form of a failed item: `{id, action, success, error, details}`."""

    def word(_index: int, row: dict[str, Any], invalid: Invalid) -> dict[str, Any]:
        return {
            "id": row.get("id"),
            "action": action,
            "success": False,
            "error": invalid.job_error,
            "details": invalid.text,
        }

    return word


def failed_index(error: str) -> Failure:
    """The other form that is seen: `{index, error, details}`, without an id."""

    def word(index: int, _row: dict[str, Any], invalid: Invalid) -> dict[str, Any]:
        return {"index": index, "error": error, "details": invalid.text}

    return word


def _show(state: State, call: Call) -> Reply:
    job = state.jobs.find(state, call.params["id"])
    if job is None:
        raise not_found()
    return reply_json({"job_status": job.shown(state)})


def _show_many(state: State, call: Call) -> Reply:
    ids = [part for part in call.query.get("ids", "").split(",") if part]
    if len(ids) > 100:
        raise too_many_values()
    found = [job for job in (state.jobs.find(state, key) for key in ids) if job is not None]
    return reply_json({"job_statuses": [job.shown(state) for job in found], "count": len(found), "next_page": None})


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
