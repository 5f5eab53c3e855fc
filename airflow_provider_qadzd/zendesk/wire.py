"""What Zendesk sends and wants to be sent, as values.

Nothing here touches the network or reads a clock. A reader takes status, headers and body, and returns a value or an
error to raise. Decisions are taken on Zendesk's codes, never on its texts, which are localised. No error made here
carries a body, a query string or a secret.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast

import msgspec

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, SetAside, TryLater
from airflow_provider_qadzd.records import Flat

MISSING_SCOPE = "MissingScope"
"""`Facts.code` of a 403 because the token lacks a scope."""

BULK_IMPORT_OFF = "BulkImportOff"
"""`Facts.code` of a 403 on bulk creation of users, which Zendesk switches on per account and only on request."""

CONNECT = "Open Connect in Airflow's menu, or run `airflow qadzd connect CONN_ID`, and consent again."
LOGIN = "Check the connection's login and password."
ADDRESS = "Check the connection's host: it is https://SUBDOMAIN.zendesk.com, not a host-mapped or help centre address."
LONGEST_WAIT = 3600.0
DEFAULT_WAIT = 10.0
PAGE = 100
EXPORT_PAGE = 1000

Row = dict[str, Any]
"""A record as Zendesk sends it: custom fields make its shape the account's own, so it is read by `flatten`."""

Reader = Callable[[bytes], Any]
"""Makes values of an answer's body. Raises MsgspecError for what is not such JSON."""

read_any: Reader = msgspec.json.decode

JobState = Literal["queued", "working", "failed", "completed", "killed"]


class NotFound(SetAside):
    """Zendesk says that this record does not exist. The one failure to read that callers may take as nothing."""


def nest(flat: Flat) -> dict[str, Any]:
    """Mapped fields as a body: `organization_fields.x` goes into the object `organization_fields`."""
    body: dict[str, Any] = {}
    for name, value in flat.items():
        group, dot, inner = name.partition(".")
        if dot:
            body[group] = {**body.get(group, {}), inner: value}
        else:
            body[name] = value
    return body


def flatten(entity: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The named fields of what Zendesk sent, by dotted name; one that is absent reads as None, as null does."""
    flat: dict[str, Any] = {}
    for name in names:
        group, dot, inner = name.partition(".")
        flat[name] = (entity.get(group) or {}).get(inner) if dot else entity.get(name)
    return flat


def one_of(**given: Any) -> dict[str, Any]:
    """The one parameter that is given; ValueError for none or several."""
    found = {name: value for name, value in given.items() if value is not None}
    if len(found) != 1:
        raise ValueError(f"give one of {', '.join(given)}")
    return found


def at_most_100(things: Iterable[Any]) -> list[Any]:
    """`things` as a list that fits into one call."""
    listed = list(things)
    if not 0 < len(listed) <= PAGE:
        raise ValueError(f"Zendesk takes 1 to {PAGE} records a call, not {len(listed)}")
    return listed


def show_many(**given: Iterable[Any] | None) -> dict[str, str]:
    """`ids` or `external_ids`, up to 100, as the one parameter of a show_many."""
    [(name, values)] = one_of(**given).items()
    listed = at_most_100(values)
    return {name: external_ids_parameter(listed) if name == "external_ids" else ",".join(map(str, listed))}


def external_ids_parameter(keys: Iterable[str]) -> str:
    """Keys for `?external_ids=`: separated by commas, `,` and `%` inside a key percent-encoded.

    A key that is already encoded, as the external ids that we write are, stays as it is.
    """
    return ",".join(re.sub(r",|%(?!2C|25)", lambda found: f"%{ord(found[0]):02X}", key, flags=re.I) for key in keys)


@dataclass(frozen=True, slots=True)
class ExportPage:
    """One page of an incremental export; `cursor` is what to ask with next, also after the end of the stream.

    For a time-based export the cursor is the next start time as text. It is empty only when a stream that was begun
    with a start time had nothing yet: begin again with that start time. Rows repeat at page borders. `solved_at` says,
    by ticket id, what a page of tickets brings beside them.
    """

    rows: tuple[Row, ...]
    cursor: str
    end_of_stream: bool
    solved_at: Mapping[int, str] = field(default_factory=dict)


# https://developer.zendesk.com/documentation/ticketing/managing-tickets/using-the-incremental-export-api/
def cursor_page(body: Mapping[str, Any], rows: str, asked: str | None) -> ExportPage:
    """A page of a cursor export asked with the cursor `asked` (None: with a start time).

    Raises TryLater when the stream goes on but the cursor does not move, before the page is consumed.
    """
    end = bool(body.get("end_of_stream"))
    cursor = body.get("after_cursor") or (asked if end else None)
    if not end and (not cursor or cursor == asked):
        raise TryLater(
            f"The export of {rows} gave the same cursor again although its stream goes on.",
            advice="Nothing of the page was stored; the export resumes from the stored cursor.",
            facts=Facts(system="zendesk", code="CursorRepeated"),
        )
    return ExportPage(_rows(body, rows), cursor or "", end)


# https://developer.zendesk.com/documentation/ticketing/managing-tickets/using-the-incremental-export-api/
def time_page(body: Mapping[str, Any], rows: str, asked: int, size: int = EXPORT_PAGE) -> ExportPage:
    """A page of a time-based export asked with the start time `asked`, and for `size` rows.

    A page goes on past its size to the end of its last second (recorded: seven rows for `per_page=1`). So one that is
    larger than a page, and ends in the second at which it began, holds all of that second: the next one begins after
    it. Raises FixFirst for a page that is just full, or that ends before it began: asking again would give the same.
    """
    end, end_time, found = _time_end(body), _end_time(body, asked), _rows(body, rows)
    if not end and end_time == asked == int(body.get("end_time") or 0) and len(found) > size:
        end_time += 1
    elif not end and end_time == asked:
        raise FixFirst(
            f"The export of {rows} does not get past the second {asked}: more changes share it than fit into a page.",
            advice="Nothing of the page was stored. Tell Zendesk's support of this second of its export.",
            facts=Facts(system="zendesk", code="EndTimeRepeated"),
        )
    return ExportPage(found, str(end_time), end)


def is_just_full(body: Mapping[str, Any], rows: str, asked: int) -> bool:
    """Whether a time-based page holds as many rows as were asked for, all of the second at which it began.

    Whether that second has more of them only a smaller page tells: it is larger than it was asked to be, if pages go on
    to the end of their last second.
    """
    stuck = not _time_end(body) and _end_time(body, asked) == asked
    return stuck and len(_rows(body, rows)) == EXPORT_PAGE


def _time_end(body: Mapping[str, Any]) -> bool:
    end = body.get("end_of_stream")
    return end if isinstance(end, bool) else body.get("next_page") is None


def _end_time(body: Mapping[str, Any], asked: int) -> int:
    return max(int(body.get("end_time") or 0), asked)


def _rows(body: Mapping[str, Any], name: str) -> tuple[Row, ...]:
    rows = body.get(name)
    if not isinstance(rows, list):
        raise TryLater(f"Zendesk answered without {name!r}.", facts=Facts(system="zendesk", code="RowsMissing"))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class JobRow:
    """What a job says of one input. What Zendesk left out is None or empty.

    Never match rows to inputs by their position: most kinds of job give neither index nor external id. `error` is a
    code; `details` maps a field to its code. The `id` of a row that is not `ok` may name nothing.
    """

    id: int | None
    index: int | None
    ok: bool
    error: str = ""
    details: tuple[tuple[str, str], ...] = ()
    external_id: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A background job; `results` is complete once `done`. A completed job may still hold rows that failed."""

    id: str
    status: JobState
    job_type: str = ""
    total: int | None = None
    results: tuple[JobRow, ...] = ()

    @property
    def done(self) -> bool:
        """Whether the job has ended, well or not."""
        return self.status in ("completed", "failed", "killed")


# https://developer.zendesk.com/api-reference/ticketing/ticket-management/job_statuses/
def job_results(job: Mapping[str, Any]) -> JobStatus:
    """A job, wrapped in `job_status` or bare. An unknown status reads as working: it has not said that it ended."""
    job = job.get("job_status", job)
    status = job.get("status")
    known = status in ("queued", "working", "failed", "completed", "killed")
    results = job.get("results")
    return JobStatus(
        id=str(job.get("id", "")),
        status=cast(JobState, status) if known else "working",
        job_type=str(job.get("job_type") or ""),
        total=_whole(job.get("total")),
        results=tuple(_job_row(row) for row in results if isinstance(row, dict)) if isinstance(results, list) else (),
    )


def _job_row(row: Mapping[str, Any]) -> JobRow:
    said = row.get("error") or row.get("errors") or row.get("success") is False or row.get("status") == "Failed"
    failed = bool(said) or row.get("id") is None
    return JobRow(
        id=_whole(row.get("id")),
        index=_whole(row.get("index")),
        ok=not failed,
        error=(_code(row.get("error")) or "Failed") if failed else "",
        details=_details(row.get("details")),
        external_id=str(row["external_id"]) if row.get("external_id") is not None else None,
        email=row.get("email"),
    )


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return int(value) if str(value).isdecimal() else None


@dataclass(frozen=True, slots=True)
class Limit:
    """What a header says of one limit: calls a minute, calls left, seconds until it is whole again."""

    total: int | None = None
    remaining: int | None = None
    resets: float | None = None


# https://developer.zendesk.com/api-reference/introduction/rate-limits/
def rate_limits(headers: Mapping[str, str]) -> dict[str, Limit]:
    """Every limit in the headers: `requests` for the account's own, else the name after `zendesk-ratelimit-`."""
    low = {name.lower(): value for name, value in headers.items()}
    found: dict[str, Limit] = {}
    for stem in ("x-rate-limit", "ratelimit", "rate-limit"):
        total = low.get(stem) or low.get(f"{stem}-limit")
        if total and "requests" not in found:
            left, resets = low.get(f"{stem}-remaining"), low.get(f"{stem}-reset") or low.get("ratelimit-reset")
            found["requests"] = Limit(_whole(total), _whole(left), _seconds(resets))
    for name, value in low.items():
        if name.startswith("zendesk-ratelimit-"):
            parts = dict(re.findall(r"(\w+)\s*=\s*([\d.]+)", value))
            limit = Limit(_whole(parts.get("total")), _whole(parts.get("remaining")), _seconds(parts.get("resets")))
            found[name.removeprefix("zendesk-ratelimit-")] = limit
    return found


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


# A 429 without Retry-After: exports count by the minute, a job takes a few seconds, a record's limit is by the minute.
_WAITS = {"APIRateLimitExceeded": 60.0, "TooManyJobs": 15.0, "TooManyRequests": 60.0}


def retry_after(headers: Mapping[str, str], body: bytes, now: float | None) -> float:
    """Seconds to wait before asking again: Retry-After as a whole or decimal number or as an HTTP date.

    Without a usable one: the reset of a limit that is used up, else what fits the error's code. At least a second
    where the server says zero or a time gone by, at most an hour. `now` is Unix time, to read a date by; without it
    the answer's own Date header is used.
    """
    low = {name.lower(): value.strip() for name, value in headers.items()}
    given = _seconds(low.get("retry-after"))
    if given is None:
        until, since = _date(low.get("retry-after")), now if now is not None else _date(low.get("date"))
        given = max(until - since, 0.0) if until is not None and since is not None else None
    if given is None:
        spent = [limit.resets for limit in rate_limits(low).values() if limit.remaining == 0 and limit.resets]
        given = max(spent) if spent else _WAITS.get(_envelope(body).code, DEFAULT_WAIT)
    return min(given or 1.0, LONGEST_WAIT)


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class _Envelope:
    code: str = ""
    details: tuple[tuple[str, str], ...] = ()
    is_json: bool = False
    names_scopes: bool = False


def _envelope(body: bytes) -> _Envelope:
    # Said by Zendesk's OAuth layer, in English in every language; it only refines the code of a 403.
    names_scopes = b"required scopes" in body
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return _Envelope(names_scopes=names_scopes)
    if not isinstance(parsed, dict):
        return _Envelope(is_json=True, names_scopes=names_scopes)
    error, errors = parsed.get("error"), parsed.get("errors")
    if isinstance(error, dict):
        error = error.get("code") or error.get("title")
    if not error and isinstance(errors, Sequence) and errors and isinstance(errors[0], dict):
        error = errors[0].get("code") or errors[0].get("title")
    return _Envelope(_code(error), _details(parsed.get("details")), True, names_scopes)


def _code(value: object) -> str:
    """`value` if it is a code (one word), else empty: texts are localised and may hold personal data."""
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]{0,63}", value) else ""


def _details(details: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(details, dict):
        return ()
    every = (
        (str(name)[:64], problem)
        for name, problems in details.items()
        for problem in (problems if isinstance(problems, list) else [problems])
    )
    return tuple((name, (isinstance(it, dict) and _code(it.get("error"))) or "Invalid") for name, it in every)


# https://developer.zendesk.com/api-reference/introduction/requests/
def error_from(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    method: str,
    path: str,
    *,
    base_url: str = "",
    now: float | None = None,
) -> QadzdError:
    """The error to raise for an answer that is not 2xx. `now` is as for `retry_after`."""
    envelope = _envelope(body)
    low = {name.lower(): value for name, value in headers.items()}
    path = path.partition("?")[0]
    facts = Facts(
        system="zendesk",
        method=method,
        path=path,
        status=status,
        code=envelope.code,
        request_id=low.get("x-request-id") or low.get("x-zendesk-request-id") or "",
        details=envelope.details,
    )
    # `start_time` must be a minute old: that passes by itself.
    too_recent = status == 422 and "/incremental/" in path and envelope.code == "InvalidValue"
    if status in (408, 409, 425, 429) or (status >= 500 and status != 501) or too_recent:
        wait = 60.0 if too_recent else retry_after(headers, body, now)
        return TryLater(_busy(status), wait=wait, unanswered=_may_have_acted(status, method), facts=facts)
    if 300 <= status < 400:
        return FixFirst(f"Zendesk redirects away from {base_url or 'this address'}.", advice=ADDRESS, facts=facts)
    if status == 401:
        return FixFirst("Zendesk does not accept the credentials.", advice=CONNECT, facts=facts)
    if status == 403:
        return _forbidden(facts, envelope.names_scopes)
    if status == 404:
        return _missing(facts, base_url)
    if status == 422 and method != "GET":
        duplicate = any(code == "DuplicateValue" for _, code in facts.details)
        return SetAside("duplicate" if duplicate else "invalid", "Zendesk does not accept this record.", facts=facts)
    return FixFirst("Zendesk does not accept this call.", facts=facts)


def _busy(status: int) -> str:
    words = {429: "Zendesk's rate limit is used up", 409: "Another write to the same record is under way in Zendesk"}
    return words.get(status, "Zendesk is not available at the moment") + "."


def _may_have_acted(status: int, method: str) -> bool:
    """Behind a gateway's error, or a crash, a write may have been done."""
    return method not in ("GET", "HEAD") and (status == 408 or (status >= 500 and status != 503))


def _forbidden(facts: Facts, names_scopes: bool) -> QadzdError:
    if names_scopes:
        advice = f"Ask for a wider scope in the connection. {CONNECT}"
        return FixFirst(
            "The token lacks a scope for this call.", advice=advice, facts=replace(facts, code=MISSING_SCOPE)
        )
    # https://developer.zendesk.com/api-reference/ticketing/users/users/#create-many-users
    if facts.path.endswith(("/users/create_many", "/users/create_or_update_many")):
        advice = "Ask Zendesk to enable bulk user import, or create users one by one (bulk_import = off)."
        facts = replace(facts, code=BULK_IMPORT_OFF)
        return FixFirst("Bulk user import is off for this account.", advice=advice, facts=facts)
    advice = "The token acts as a user: that user must be an admin for exports, webhooks, triggers and bulk writes."
    return FixFirst("Zendesk does not permit this call.", advice=advice, facts=facts)


def _missing(facts: Facts, base_url: str) -> QadzdError:
    if facts.code == "InvalidEndpoint":
        advice = "The account's plan may lack this feature, or the host is not a Zendesk Support account."
        return FixFirst("Zendesk does not know this endpoint.", advice=advice, facts=facts)
    if not facts.code:
        # Zendesk names every missing record with a code; a page, or a bare text, comes from somewhere else.
        return FixFirst(f"There is no Zendesk account at {base_url or 'this address'}.", advice=ADDRESS, facts=facts)
    return NotFound("not_found", "Zendesk has no such record.", facts=facts)
