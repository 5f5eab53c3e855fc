"""Only what is well signed and fresh is believed, and then reduced to the ticket that it is about."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import cast

import pytest

from airflow_provider_qadzd.zendesk.webhook import (
    SIGNATURE,
    TEST_SECRET,
    TIMESTAMP,
    Delivery,
    Kind,
    Refused,
    sign,
    verify,
)

SECRET, STAMP = "s3cret", "2027-01-15T08:00:00Z"
NOW = datetime(2027, 1, 15, 8, tzinfo=timezone.utc).timestamp()


def delivered(body: object, secret: str = SECRET, stamp: str = STAMP) -> tuple[dict[str, str], bytes]:
    """Headers and raw body, as Zendesk sends them: pretty-printed, with a newline at the end."""
    raw = body if isinstance(body, bytes) else (json.dumps(body, indent=2) + "\n").encode()
    return {SIGNATURE: sign(secret, stamp, raw), TIMESTAMP: stamp}, raw


def event(name: str, **more: object) -> dict[str, object]:
    """An event-subscribed body."""
    return {
        "account_id": 1,
        "id": "evt-1",
        "type": f"zen:event-type:{name}",
        "subject": "zen:ticket:5158",
        "time": "2027-01-15T07:59:59.123456789Z",
        "zendesk_event_version": "2022-11-06",
        "detail": {"id": "5158", "status": "OPEN"},
        "event": {},
        **more,
    }


def test_the_signature_is_over_timestamp_and_raw_body() -> None:
    """Computed by other means: `printf TIMESTAMP+BODY | openssl dgst -sha256 -hmac s3cret -binary | base64`."""
    assert sign(SECRET, STAMP, b'{"a": 1}\n') == "NWdq7A+qqbZNjgZN3bmAzr7WmXM7QXKwJbYyklGqym8="


@pytest.mark.parametrize(
    ("name", "more", "kind"),
    [
        pytest.param("ticket.created", {}, "created", id="created"),
        pytest.param("ticket.comment_added", {}, "updated", id="comment"),
        pytest.param("ticket.something_new", {}, "updated", id="a name not known yet"),
        pytest.param("ticket.status_changed", {"event": {"current": "SOLVED"}}, "solved", id="solved"),
        pytest.param("ticket.status_changed", {"event": {"current": "OPEN"}}, "updated", id="reopened"),
        pytest.param("ticket.status_changed", {"event": None}, "updated", id="status, no more said"),
        pytest.param("ticket.custom_status_changed", {"event": {"current": "SOLVED"}}, "updated", id="custom status"),
        pytest.param("ticket.merged", {}, "merged", id="merged"),
        pytest.param("ticket.soft_deleted", {}, "deleted", id="deleted"),
        pytest.param("ticket.permanently_deleted", {}, "deleted", id="deleted for good"),
        pytest.param("ticket.undeleted", {}, "restored", id="restored"),
    ],
)  # fmt: skip
def test_a_ticket_event_has_a_kind(name: str, more: dict[str, object], kind: str) -> None:
    """Every ticket event is one of seven kinds; what is not special is an update."""
    headers, raw = delivered(event(name, **more))
    got = verify(headers, raw, [SECRET], NOW)
    at = "2027-01-15T07:59:59.123456789Z"
    assert got == Delivery("evt-1", cast(Kind, kind), 5158, at, f"zen:event-type:{name}", headers[SIGNATURE])


@pytest.mark.parametrize(
    ("body", "kind", "ticket"),
    [
        pytest.param({"kind": "solved", "ticket_id": "123"}, "solved", 123, id="solved"),
        pytest.param({"kind": "created", "ticket_id": 123}, "created", 123, id="id as a number"),
        pytest.param({"kind": "reopened", "ticket_id": "123"}, "updated", 123, id="another word"),
        pytest.param({"kind": "solved", "ticket_id": "{{ticket.id}}"}, "unknown", None, id="placeholder left in"),
        pytest.param({"kind": ["solved"], "ticket_id": True}, "unknown", None, id="nonsense"),
        pytest.param({"message": "test"}, "unknown", None, id="the sample of a test"),
    ],
)
def test_a_trigger_body_has_a_kind(body: dict[str, object], kind: str, ticket: int | None) -> None:
    """A trigger's body has no id of its own and happened when it was signed."""
    headers, raw = delivered(body)
    got = verify(headers, raw, [SECRET], NOW)
    assert (got.kind, got.ticket_id, got.payload_id, got.occurred_at) == (kind, ticket, None, STAMP)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(event("user.created", subject="zen:user:5158"), id="another resource"),
        pytest.param(event("ticket.created", detail={"id": "abc"}, subject="zen:ticket:"), id="no number"),
        pytest.param(event("ticket.created", detail=[], subject=7), id="another shape"),
        pytest.param(event("ticket.created", detail={"id": "9" * 40}, subject=""), id="a number too large"),
        pytest.param(event("ticket.created", detail={"id": "٣"}, subject=""), id="a digit of another script"),
    ],
)
def test_what_names_no_ticket_is_delivered_without_one(body: dict[str, object]) -> None:
    """A well signed body that is not about a ticket is not refused: it is stored and set aside."""
    headers, raw = delivered(body)
    assert verify(headers, raw, [SECRET], NOW).ticket_id is None


def test_the_subject_names_the_ticket_where_the_detail_does_not() -> None:
    """Either place will do."""
    headers, raw = delivered(event("ticket.created", detail={}))
    assert verify(headers, raw, [SECRET], NOW).ticket_id == 5158


@pytest.mark.parametrize("names", [str.lower, str.upper, str.title])
def test_header_names_are_read_in_any_case(names: Callable[[str], str]) -> None:
    """Servers hand over header names in lower case."""
    headers, raw = delivered(event("ticket.created"))
    renamed = {names(name): value for name, value in headers.items()}
    assert verify(renamed, raw, [SECRET], NOW).ticket_id == 5158


def test_any_active_secret_will_do() -> None:
    """While a secret is exchanged, both are good."""
    headers, raw = delivered(event("ticket.created"), secret="old")
    assert verify(headers, raw, ["new", "old"], NOW).payload_id == "evt-1"


@pytest.mark.parametrize(("late", "believed"), [(-300.0, True), (-300.1, False), (300.0, True), (300.1, False)])
def test_freshness_holds_both_ways(late: float, believed: bool) -> None:
    """Neither an old request nor one from the future is believed, to the tenth of a second."""
    headers, raw = delivered(event("ticket.created"))
    if believed:
        assert verify(headers, raw, [SECRET], NOW + late).ticket_id == 5158
    else:
        with pytest.raises(Refused) as refusal:
            verify(headers, raw, [SECRET], NOW + late)
        assert refusal.value.reason == "stale"


GOOD, RAW = delivered(event("ticket.created"))
UNKEYED, _ = delivered(event("ticket.created"), secret="")
TEST_HEADERS, _ = delivered(event("ticket.created"), secret=TEST_SECRET)


@pytest.mark.parametrize(
    ("headers", "body", "secrets", "reason"),
    [
        pytest.param({}, RAW, [SECRET], "missing_signature", id="no headers"),
        pytest.param({TIMESTAMP: STAMP}, RAW, [SECRET], "missing_signature", id="no signature"),
        pytest.param({SIGNATURE: GOOD[SIGNATURE]}, RAW, [SECRET], "missing_signature", id="no timestamp"),
        pytest.param(GOOD, RAW, [], "no_secret", id="no secret"),
        pytest.param(GOOD, RAW, [""], "no_secret", id="an empty secret"),
        pytest.param(UNKEYED, RAW, [""], "no_secret", id="signed with nothing"),
        pytest.param(TEST_HEADERS, RAW, [TEST_SECRET], "no_secret", id="the public secret alone"),
        pytest.param(TEST_HEADERS, RAW, [SECRET, TEST_SECRET], "bad_signature", id="the public secret among others"),
        pytest.param(GOOD, RAW, ["other"], "bad_signature", id="another secret"),
        pytest.param(GOOD, RAW + b" ", [SECRET], "bad_signature", id="another body"),
        pytest.param({**GOOD, TIMESTAMP: STAMP + " "}, RAW, [SECRET], "bad_signature", id="another timestamp"),
        pytest.param({**GOOD, SIGNATURE: "é\udce9"}, RAW, [SECRET], "bad_signature", id="not ASCII"),
        pytest.param({**GOOD, TIMESTAMP: "yesterday"}, RAW, [SECRET], "bad_timestamp", id="not a time"),
        pytest.param({**GOOD, TIMESTAMP: "2027-01-15T08:00:00"}, RAW, [SECRET], "bad_timestamp", id="without a zone"),
        pytest.param({**GOOD, TIMESTAMP: "\udce9"}, RAW, [SECRET], "bad_timestamp", id="a timestamp not ASCII"),
    ],
)  # fmt: skip
def test_what_is_not_well_signed_is_refused(
    headers: dict[str, str], body: bytes, secrets: list[str], reason: str
) -> None:
    """A refusal has a reason, for our log and not for the sender."""
    with pytest.raises(Refused) as refusal:
        verify(headers, body, secrets, NOW)
    assert refusal.value.reason == reason


@pytest.mark.parametrize("body", [b"", b"<xml/>", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_a_signed_body_that_is_no_object_is_refused(body: bytes) -> None:
    """Only after the signature is found good is anything parsed, and it must be an object."""
    headers, raw = delivered(body)
    with pytest.raises(Refused, match="not_json"):
        verify(headers, raw, [SECRET], NOW)
    with pytest.raises(Refused, match="bad_signature"):
        verify(headers, raw, ["other"], NOW)
