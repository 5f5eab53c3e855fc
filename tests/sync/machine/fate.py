"""What may be chosen from: values that collide, calls that fail in every known way, jobs that go wrong."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.sync.machine.hands import MAILS, NAMES

OWNERS = st.sampled_from(["a", "b"])
PICK = st.integers(0, 30)
POINT = st.integers(1, 45)
FEW_OR_MANY = st.sampled_from([1, 1, 5])
NAME, MAIL = st.sampled_from(NAMES), st.sampled_from(MAILS)
CITY = st.sampled_from(["Leeds", "Lund", ""])
STATUSES: list[dict[str, Any]] = [
    *({"status": 429, "retry_after": text} for text in ("2", "1.5", "-1", "soon", "99999999")),
    {"status": 429, "retry_after_date": 20}, {"status": 429, "content_type": "text/plain", "body": "slow down"},
    {"status": 429, "body": {"error": "TooManyJobs"}}, {"status": 409}, {"status": 500}, {"status": 503},
    {"status": 502, "after_effect": True}, {"status": 500, "after_effect": True}, {"status": 504}, {"action": "drop"},
    {"action": "drop", "after_effect": True}, {"action": "reset-after"}, {"action": "html"},
    {"action": "html", "after_effect": True}, {"action": "html", "status": 502},
]  # fmt: skip
CALLS = [
    "* /api/v2/*", "POST /api/v2/*", "PUT /api/v2/*", "GET /api/v2/*", "POST */create_many", "PUT */update_many",
    "POST /api/v2/users", "POST /api/v2/organizations", "POST /api/v2/organization_memberships*", "PUT /api/v2/*/*",
    "POST */identities", "GET */show_many", "GET /api/v2/job_statuses*", "GET /api/v2/incremental/*", "GET *search*",
    "* /clouderp/*",
]  # fmt: skip
JOBS: list[dict[str, Any]] = [
    *({"failed_items": form} for form in ("usual", "documented", "index", "id")),
    *({"fails_after": rows} for rows in (0, 1, 2)), {"results": "null"}, {"message": "null"},
    {"vanishes": "everywhere"}, {"vanishes": "alone"}, {"ends": "failed"}, {"ends": "killed"}, {"delay": 2000},
    {"ends": "completed", "fails_after": 1}, {"ends": "killed", "results": "null", "fails_after": 2},
]  # fmt: skip
ORGANIZATION_EDITS = [
    "name", "name", "tags", "notes", "domains", "region", "city", "city", "unkey", "unkey", "key", "delete", "delete",
]  # fmt: skip
USER_EDITS = [
    "name", "name", "tags", "notes", "function", "function", "phone", "channel", "agent", "end-user", "suspend",
    "unkey", "unkey", "key", "delete",
]  # fmt: skip
MEANWHILE = ["run", "run", "collect and plan", "organization", "user", "merge", "qad"]
RACY = ("agent", "end-user", "key", "unkey")
"""Zendesk has no condition on a write: what changes between our look and our write is overwritten."""
