"""Whatever QAD, or what stands before it, may send: records or one of our errors, never a traceback, never no end."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_qadzd.errors import Facts, QadzdError
from airflow_provider_qadzd.qad import browse
from airflow_provider_qadzd.qad.http import Answer, normalised_base_url, retry_after
from airflow_provider_qadzd.records import Contact, Customer, canonical_json
from tests.qad.replies import PLAIN, FakeClock, Replies, Reply, client_of, field_list

EXAMPLES = settings(max_examples=70, deadline=None, derandomize=True)
WHERE = "connection qad_default"

TEXTS = st.text(max_size=20) | st.text("\0\ud800\udfff\t\n ,:%", max_size=5)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
COLUMNS = st.sampled_from(["c.code", "c.name", "C.CODE", "x.code", "c.active", "local_variables.uniqueId", "", "."])
ROWS = st.lists(st.dictionaries(COLUMNS, VALUES, max_size=5), max_size=4)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "data": ROWS | VALUES,
        "auxillaryData": st.fixed_dictionaries({}, optional={"HasMoreParams": VALUES}) | VALUES,
        "submitResult": st.fixed_dictionaries({}, optional={"success": VALUES, "errors": VALUES}) | VALUES,
        "errors": VALUES,
    },
)
ENCODED = st.one_of(
    st.binary(max_size=60),
    VALUES.map(lambda value: json.dumps(value).encode()),
    BODIES.map(lambda body: json.dumps(body).encode()),
    BODIES.flatmap(lambda body: st.integers(0, 200).map(lambda end: json.dumps(body).encode()[:end])),
)
STATUSES = st.sampled_from([200, 200, 200, 204, 301, 302, 400, 401, 403, 404, 418, 429, 500, 503, 599, 999])
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "Retry-After", "Location", "content-type"]),
    st.text(max_size=30)
    | st.sampled_from(["text/html", "application/json; charset=nonsense", "http://[", "//login", "1e999", "-1"]),
)


def refused_or(act: Any) -> Any:
    """What `act` returns, None if it refused; any error but ours fails the test."""
    try:
        return act()
    except QadzdError:
        return None


@EXAMPLES
@given(STATUSES, HEADERS, ENCODED)
def test_any_answer_is_understood_or_refused(status: int, headers: dict[str, str], body: bytes) -> None:
    """Status, headers and body in any combination give a page or an error of ours."""
    answer = Answer(status, headers, body)
    found = refused_or(lambda: browse.json_answer(answer, Facts("qad"), WHERE, 0.0))
    if found is not None:
        refused_or(lambda: browse.page_from(found, Facts("qad"), WHERE, rows_at="data", more_at="auxillaryData.x"))
        browse.found_by_key(found, "data", "C1")
    assert isinstance(browse.vendor_code(body), str)


@EXAMPLES
@given(st.text(max_size=40))
def test_any_retry_after_is_seconds_or_nothing(text: str) -> None:
    """The wait is a finite number of seconds, whatever the header holds."""
    told = retry_after({"Retry-After": text}, 0.0)
    assert told is None or 0.0 <= told < float("inf")


@EXAMPLES
@given(st.lists(ENCODED, min_size=1, max_size=5), st.booleans())
def test_a_read_of_anything_ends(bodies: list[bytes], contacts: bool) -> None:
    """Pages of anything give records that can be stored, an end that is told, or an error; and never more calls."""
    replies = Replies(field_list("c.code", "c.name"), *(Reply(body=body) for body in bodies), Reply(404))
    columns = {"customer": "c.code", "name": "c.name"}
    client = client_of(replies, replace(PLAIN, page_cap=len(bodies), contact_columns=columns), FakeClock())
    read = client.contacts() if contacts else client.customers()
    for page in iter(lambda: refused_or(lambda: next(read, None)), None):
        for record in page:
            assert isinstance(record, (Customer, Contact))
            assert record.key
            canonical_json(record.name).encode()
            assert "\0" not in record.name
    assert read.complete or read.reason


@EXAMPLES
@given(st.dictionaries(COLUMNS, SCALARS, max_size=5), st.lists(st.text(max_size=8), max_size=4))
def test_any_row_is_a_record_or_set_aside(sent: dict[str, Any], listed: list[str]) -> None:
    """No row ends a read, whatever is in its columns and however they are listed."""
    body = browse.json_answer(Answer(200, {}, json.dumps({"data": [sent]}).encode()), Facts("qad"), WHERE, 0.0)
    (row,) = body["data"]
    wanted = {"code": "c.code", "name": "c.name", "active": "c.active"}
    columns = refused_or(lambda: browse.resolve_columns(wanted, row, listed=listed, optional=["active"], where=WHERE))
    customer = refused_or(lambda: browse.customer_from(row, columns or wanted))
    contact = refused_or(lambda: browse.contact_from(row, {"customer": "c.code", "name": "c.name"}))
    assert all(one is None or one.key for one in (customer, contact))


PREFIXED = st.tuples(st.sampled_from(["https://", "http://[", "https://a@"]), st.text()).map("".join)


@EXAMPLES
@given(st.text(max_size=30) | PREFIXED)
def test_any_base_url_is_normalised_once_or_refused(text: str) -> None:
    """A base URL that is taken is its own normal form."""
    found = refused_or(lambda: normalised_base_url(text, allow_http=False))
    assert found is None or normalised_base_url(found, allow_http=False) == found
