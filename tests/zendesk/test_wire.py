"""What Zendesk sends is read in every shape in which it has been seen."""

from __future__ import annotations

import json

import pytest

from airflow_provider_qadzd.errors import FixFirst, QadzdError, SetAside, TryLater
from airflow_provider_qadzd.zendesk import wire
from airflow_provider_qadzd.zendesk.wire import JobRow, Limit, NotFound

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


def test_dotted_fields_become_nested_and_back() -> None:
    """`flatten` gives back what `nest` was given, and None for a name that is not there."""
    flat = {"name": "Acme", "organization_fields.qad_status": "active", "organization_fields.qad_code": "C1"}
    body = wire.nest(flat)
    assert body == {"name": "Acme", "organization_fields": {"qad_status": "active", "qad_code": "C1"}}
    assert wire.flatten({**body, "id": 7, "tags": []}, flat) == flat
    assert wire.flatten({"user_fields": None}, ["email", "user_fields.x"]) == {"email": None, "user_fields.x": None}


def test_nesting_leaves_its_input_alone() -> None:
    """A nested body passes through `nest` unchanged, and is not written into."""
    inner = {"a": 1}
    assert wire.nest({"user_fields": inner, "user_fields.b": 2}) == {"user_fields": {"a": 1, "b": 2}}
    assert inner == {"a": 1}


@pytest.mark.parametrize(
    ("keys", "parameter"),
    [
        pytest.param(["C1", "C2"], "C1,C2", id="plain"),
        pytest.param(["A,B"], "A%2CB", id="comma in a key"),
        pytest.param(["50%"], "50%25", id="percent in a key"),
        pytest.param(["A%2CB", "50%25"], "A%2CB,50%25", id="already encoded"),
        pytest.param(["a%2cb"], "a%2cb", id="encoded in lower case"),
    ],
)
def test_external_ids_are_separated_by_commas(keys: list[str], parameter: str) -> None:
    """Only a separator is a bare comma."""
    assert wire.external_ids_parameter(keys) == parameter


@pytest.mark.parametrize(
    ("body", "asked", "cursor", "end"),
    [
        pytest.param({"after_cursor": "b", "end_of_stream": False}, "a", "b", False, id="goes on"),
        pytest.param({"after_cursor": "b", "end_of_stream": True}, "a", "b", True, id="ends with a newer cursor"),
        pytest.param({"after_cursor": "a", "end_of_stream": True}, "a", "a", True, id="ends where it began"),
        pytest.param({"after_cursor": None, "end_of_stream": True}, "a", "a", True, id="ends without a cursor"),
        pytest.param({"after_cursor": None, "end_of_stream": True}, None, "", True, id="nothing yet"),
    ],
)
def test_a_cursor_page_says_where_to_go_on(body: dict[str, object], asked: str | None, cursor: str, end: bool) -> None:
    """The cursor to keep is the new one, else the one that was asked with."""
    page = wire.cursor_page({"tickets": [{"id": 1}], **body}, "tickets", asked)
    assert (page.rows, page.cursor, page.end_of_stream) == (({"id": 1},), cursor, end)


@pytest.mark.parametrize("after", [pytest.param("a", id="the same"), pytest.param(None, id="none")])
def test_a_cursor_that_does_not_move_is_an_error(after: str | None) -> None:
    """A stream that goes on with the same cursor would go on for ever."""
    with pytest.raises(TryLater) as error:
        wire.cursor_page({"tickets": [], "after_cursor": after, "end_of_stream": False}, "tickets", "a")
    assert error.value.facts.code == "CursorRepeated"


@pytest.mark.parametrize(
    ("body", "cursor", "end"),
    [
        pytest.param({"end_time": 150, "end_of_stream": False}, "150", False, id="goes on"),
        pytest.param({"end_time": 100, "end_of_stream": True}, "100", True, id="ends in its first second"),
        pytest.param({"end_time": None, "end_of_stream": True}, "100", True, id="nothing yet"),
        pytest.param({"end_time": 150, "next_page": None}, "150", True, id="an older shape, at its end"),
        pytest.param({"end_time": 150, "next_page": "https://x"}, "150", False, id="an older shape, going on"),
    ],
)
def test_a_time_page_says_when_to_go_on(body: dict[str, object], cursor: str, end: bool) -> None:
    """The cursor of a time-based export is its end time as text."""
    page = wire.time_page({"organizations": [], **body}, "organizations", 100)
    assert (page.cursor, page.end_of_stream) == (cursor, end)


def test_a_second_that_does_not_fit_into_a_page_is_an_error() -> None:
    """A full page that ends where it began would be given again for ever."""
    with pytest.raises(FixFirst):
        wire.time_page({"organizations": [], "end_time": 100, "end_of_stream": False}, "organizations", 100)


def test_a_second_that_went_past_the_pages_size_is_whole() -> None:
    """A page that was drawn out to the end of its second is not asked for again: the next second is."""
    rows = [{"id": number} for number in range(1001)]
    page = wire.time_page({"organizations": rows, "end_time": 100, "end_of_stream": False}, "organizations", 100)
    assert (len(page.rows), page.cursor, page.end_of_stream) == (1001, "101", False)


def test_a_page_without_its_rows_is_not_an_empty_page() -> None:
    """Silence is not an empty export."""
    with pytest.raises(TryLater):
        wire.time_page({"end_time": 150, "end_of_stream": True}, "organizations", 100)


@pytest.mark.parametrize(
    ("item", "row"),
    [
        pytest.param({"id": 5, "status": "Created"}, JobRow(5, None, True), id="organizations created"),
        pytest.param(
            {"id": 5, "status": "Created", "email": "a@b.co", "external_id": "K"},
            JobRow(5, None, True, external_id="K", email="a@b.co"),
            id="users created",
        ),
        pytest.param(
            {"action": "update", "id": 5, "status": "Updated", "success": True}, JobRow(5, None, True), id="updated"
        ),
        pytest.param({"id": 5, "index": 0}, JobRow(5, 0, True), id="memberships created"),
        pytest.param({"account_id": 1, "id": "5", "index": 2}, JobRow(5, 2, True), id="id as text"),
        pytest.param(
            {"index": 0, "error": "TicketCreateFailed", "details": "Description: cannot be blank"},
            JobRow(None, 0, False, "TicketCreateFailed"),
            id="failure as seen",
        ),
        pytest.param(
            {"id": 5, "action": "update", "success": False, "error": "RecordNotFound", "details": "gone"},
            JobRow(5, None, False, "RecordNotFound"),
            id="failure as documented",
        ),
        pytest.param({"status": "Created"}, JobRow(None, None, False, "Failed"), id="success without an id"),
        pytest.param({"id": 1, "success": False}, JobRow(1, None, False, "Failed"), id="failure without a code"),
        pytest.param({"id": 1, "error": "ya está en uso"}, JobRow(1, None, False, "Failed"), id="a text for a code"),
        pytest.param(
            {"error": "RecordInvalid", "details": {"email": [{"description": "taken", "error": "DuplicateValue"}]}},
            JobRow(None, None, False, "RecordInvalid", (("email", "DuplicateValue"),)),
            id="failure with fields",
        ),
    ],
)
def test_a_job_row_is_read_in_every_seen_shape(item: dict[str, object], row: JobRow) -> None:
    """A row is a failure if anything in it says so; its texts are left behind."""
    job = {"job_status": {"id": "V3-1", "status": "completed", "job_type": "x", "total": 1, "results": [item]}}
    read = wire.job_results(job)
    assert read.results == (row,)
    assert (read.id, read.status, read.total, read.done) == ("V3-1", "completed", 1, True)


@pytest.mark.parametrize(
    ("status", "read", "done"),
    [
        ("queued", "queued", False),
        ("working", "working", False),
        ("failed", "failed", True),
        ("killed", "killed", True),
        ("pondering", "working", False),
        (None, "working", False),
    ],
)
def test_a_job_is_done_only_when_it_says_so(status: str | None, read: str, done: bool) -> None:
    """An unknown status is not an end."""
    job = wire.job_results({"id": "1", "status": status, "results": None})
    assert (job.status, job.done, job.results) == (read, done, ())


@pytest.mark.parametrize(
    ("headers", "body", "wait"),
    [
        pytest.param({"Retry-After": "27"}, b"", 27.0, id="whole"),
        pytest.param({"retry-after": "27.5"}, b"", 27.5, id="decimal, lower-case name"),
        pytest.param({"Retry-After": "Fri, 15 Jan 2027 08:00:40 GMT"}, b"", 40.0, id="date"),
        pytest.param({"Retry-After": "Fri, 15 Jan 2027 07:00:00 GMT"}, b"", 1.0, id="date gone by"),
        pytest.param({"Retry-After": "0"}, b"", 1.0, id="zero"),
        pytest.param({"Retry-After": "-5"}, b"", 10.0, id="negative"),
        pytest.param({"Retry-After": "nan"}, b"", 10.0, id="not a number"),
        pytest.param({"Retry-After": "soon"}, b"", 10.0, id="a word"),
        pytest.param({"Retry-After": "99999999"}, b"", 3600.0, id="absurd"),
        pytest.param({}, b"You have exceeded the rate limit", 10.0, id="missing, text/plain"),
        pytest.param({}, b'{"error":"APIRateLimitExceeded"}', 60.0, id="missing, an export"),
        pytest.param({}, b'{"errors":[{"code":"TooManyRequests"}]}', 60.0, id="missing, one record"),
        pytest.param({}, b'{"error":"TooManyJobs"}', 15.0, id="missing, jobs"),
        pytest.param(
            {"zendesk-ratelimit-incremental-exports": "total=10; remaining=0; resets=33"}, b"", 33.0, id="a spent limit"
        ),
        pytest.param({"x-rate-limit": "9", "x-rate-limit-remaining": "3"}, b"", 10.0, id="not spent"),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], body: bytes, wait: float) -> None:
    """A usable wait comes out whatever comes in, between a second and an hour unless the server asks for less."""
    assert wire.retry_after(headers, body, NOW) == wait


def test_a_date_is_read_by_the_servers_own_clock_when_there_is_no_other() -> None:
    """Without our time, Retry-After as a date counts from the answer's Date."""
    headers = {"Retry-After": "Fri, 15 Jan 2027 08:00:40 GMT", "Date": "Fri, 15 Jan 2027 08:00:10 GMT"}
    assert wire.retry_after(headers, b"", None) == 30.0


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        pytest.param(
            {"X-Rate-Limit": "700", "X-Rate-Limit-Remaining": "699", "ratelimit-reset": "41"},
            {"requests": Limit(700, 699, 41.0)},
            id="account",
        ),
        pytest.param(
            {"ratelimit-limit": "400", "ratelimit-remaining": "1", "ratelimit-reset": "2"},
            {"requests": Limit(400, 1, 2.0)},
            id="ticketing",
        ),
        pytest.param(
            {"rate-limit": "400", "rate-limit-remaining": "1", "rate-limit-reset": "2"},
            {"requests": Limit(400, 1, 2.0)},
            id="as recorded in 2023",
        ),
        pytest.param(
            {"Zendesk-RateLimit-incremental-exports": "total=10; remaining=9; resets=2"},
            {"incremental-exports": Limit(10, 9, 2.0)},
            id="exports",
        ),
        pytest.param({"Content-Type": "text/html"}, {}, id="none"),
    ],
)
def test_limits_are_read_from_headers(headers: dict[str, str], limits: dict[str, Limit]) -> None:
    """Every spelling of a limit that has been seen is understood."""
    assert wire.rate_limits(headers) == limits


DUPLICATE = {
    "error": "RecordInvalid",
    "description": "Record validation errors",
    "details": {"email": [{"description": "Email: a@b.co ya está en uso", "error": "DuplicateValue"}]},
}
DEEP, case = "InvalidPaginationDepth", pytest.param
SCOPES = {"error": "Forbidden", "description": "You are missing the following required scopes: write"}


@pytest.mark.parametrize(
    ("status", "method", "path", "body", "kind", "code"),
    [
        case(401, "GET", "/x", {"error": "invalid_token"}, FixFirst, "invalid_token", id="expired token"),
        case(401, "GET", "/x", {"error": "Couldn't authenticate you"}, FixFirst, "", id="bad API token"),
        case(403, "GET", "/x", SCOPES, FixFirst, "MissingScope", id="missing scope"),
        case(403, "GET", "/x", SCOPES["description"], FixFirst, "MissingScope", id="missing scope, as text"),
        case(403, "POST", "/users/create_many", {"error": "Forbidden"}, FixFirst, "BulkImportOff", id="bulk import"),
        case(403, "POST", "/users/create_many", SCOPES, FixFirst, "MissingScope", id="bulk import without scope"),
        case(403, "GET", "/x", {"error": {"title": "Forbidden"}}, FixFirst, "Forbidden", id="not permitted"),
        case(404, "GET", "/x", {"error": "RecordNotFound"}, NotFound, "RecordNotFound", id="no such record"),
        case(404, "GET", "/x", {"errors": [{"code": "NotHere"}]}, NotFound, "NotHere", id="no such webhook"),
        case(404, "GET", "/x", {"error": "InvalidEndpoint"}, FixFirst, "InvalidEndpoint", id="not on this plan"),
        case(404, "GET", "/x", "<html>No help desk</html>", FixFirst, "", id="wrong address, a page"),
        case(404, "GET", "/x", {"error": {"title": "No help desk at x"}}, FixFirst, "", id="wrong address, JSON"),
        case(422, "POST", "/x", DUPLICATE, SetAside, "RecordInvalid", id="duplicate"),
        case(422, "GET", "/incremental/users", {"error": "InvalidValue"}, TryLater, "InvalidValue", id="too recent"),
        case(422, "GET", "/x", {"error": "unknown"}, FixFirst, "unknown", id="a query refused"),
        case(400, "POST", "/x", {"error": "TooManyValues"}, FixFirst, "TooManyValues", id="too many"),
        case(400, "GET", "/x", {"errors": [{"code": DEEP}]}, FixFirst, DEEP, id="too deep"),
        case(302, "GET", "/x", "", FixFirst, "", id="a redirect"),
        case(409, "PUT", "/x", {"error": "Conflict"}, TryLater, "Conflict", id="conflict"),
        case(429, "PUT", "/x", "You have exceeded the rate limit", TryLater, "", id="limit, as text"),
        case(429, "POST", "/x", {"error": "TooManyJobs"}, TryLater, "TooManyJobs", id="too many jobs"),
        case(500, "GET", "/x", "<html>", TryLater, "", id="a crash"),
        case(503, "GET", "/x", "[]", TryLater, "", id="maintenance"),
    ],
)  # fmt: skip
def test_each_envelope_becomes_the_error_that_says_what_to_do(
    status: int, method: str, path: str, body: object, kind: type[QadzdError], code: str
) -> None:
    """The class follows from status and code; the texts of an answer never reach the error."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
    error = wire.error_from(status, {"X-Request-Id": "r1"}, raw, method, path + "?external_ids=K")
    assert type(error) is kind
    assert (error.facts.code, error.facts.status, error.facts.path, error.facts.request_id) == (
        code,
        status,
        path,
        "r1",
    )
    assert "a@b.co" not in repr(error)
    assert "external_ids" not in repr(error)


def test_a_refused_field_is_named_with_its_code() -> None:
    """`details` maps a field to a code; a problem without one is Invalid."""
    error = wire.error_from(422, {}, json.dumps(DUPLICATE).encode(), "POST", "/api/v2/users")
    assert isinstance(error, SetAside)
    assert (error.reason, error.facts.details) == ("duplicate", (("email", "DuplicateValue"),))
    other = json.dumps({"error": "RecordInvalid", "details": {"name": [{"description": "zu kurz"}]}}).encode()
    error = wire.error_from(422, {}, other, "POST", "/api/v2/users")
    assert isinstance(error, SetAside)
    assert (error.reason, error.facts.details) == ("invalid", (("name", "Invalid"),))


@pytest.mark.parametrize(
    ("status", "method", "unanswered"),
    [(429, "POST", False), (503, "POST", False), (500, "POST", True), (504, "PUT", True), (502, "GET", False)],
)
def test_a_write_behind_a_broken_gateway_may_have_been_done(status: int, method: str, unanswered: bool) -> None:
    """A refusal for speed did nothing; a gateway's error says nothing of what happened behind it."""
    error = wire.error_from(status, {}, b"", method, "/x")
    assert isinstance(error, TryLater)
    assert error.unanswered is unanswered


def test_a_wrong_address_is_named() -> None:
    """Whoever reads the error sees which address is wrong."""
    error = wire.error_from(404, {}, b"<html></html>", "GET", "/x", base_url="https://amce.zendesk.com")
    assert "https://amce.zendesk.com" in str(error)
