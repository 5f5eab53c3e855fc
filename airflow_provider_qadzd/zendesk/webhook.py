"""A webhook request becomes a Delivery, or is refused.

Nothing here touches the network, and nothing of the body is parsed before its signature is found good. Only what is
signed is believed: the body and its timestamp, never an address, an account or an invocation id from other headers.
The same work is done whether a request is well signed, badly signed or stale.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

SIGNATURE = "X-Zendesk-Webhook-Signature"
TIMESTAMP = "X-Zendesk-Webhook-Signature-Timestamp"

# https://developer.zendesk.com/documentation/webhooks/verifying/#signing-secrets-on-new-webhooks
TEST_SECRET = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="
"""Zendesk signs with it while a webhook is tried before it is created. It is public, so it is never accepted here."""

Kind = Literal["created", "updated", "solved", "merged", "deleted", "restored", "unknown"]
"""What became of a ticket; `unknown` is said of a delivery that is not about one."""

Reason = Literal["missing_signature", "no_secret", "bad_timestamp", "stale", "bad_signature", "not_json"]


class Refused(Exception):
    """A request that is not to be believed. A sender is not told the reason, beyond 415 for `not_json`."""

    def __init__(self, reason: Reason) -> None:
        self.reason: Reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A believed request, reduced to what says which ticket to fetch, and why.

    `payload_id` is the signed id by which repeats are dropped; a trigger's body has none (`signature` serves instead).
    `ticket_id` is None for what is not about a ticket or cannot be read: to be stored and set aside. `occurred_at` is
    ISO 8601 as sent: the event's own time, else that of the signature.
    """

    payload_id: str | None
    kind: Kind
    ticket_id: int | None
    occurred_at: str
    event_type: str
    signature: str


# https://developer.zendesk.com/documentation/webhooks/verifying/
def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature of a body: base64 of HMAC-SHA256, keyed by the secret as text, over timestamp and raw body."""
    mac = hmac.new(secret.encode(), timestamp.encode() + body, hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def verify(
    headers: Mapping[str, str], body: bytes, secrets: Iterable[str], now: float, tolerance: float = 300.0
) -> Delivery:
    """The delivery, if any of `secrets` signed it within `tolerance` seconds of `now` (Unix time), either way.

    Raises Refused otherwise, and with `not_json` for a signed body that is not a JSON object.
    """
    low = {name.lower(): value for name, value in headers.items()}
    signature, timestamp = low.get(SIGNATURE.lower(), ""), low.get(TIMESTAMP.lower(), "")
    active = [secret for secret in secrets if secret and not hmac.compare_digest(secret.encode(), TEST_SECRET.encode())]
    good = _signed(signature, timestamp, body, active)
    sent = _unix(timestamp)
    if not signature or not timestamp:
        raise Refused("missing_signature")
    if not active:
        raise Refused("no_secret")
    if sent is None:
        raise Refused("bad_timestamp")
    if abs(now - sent) > tolerance:
        raise Refused("stale")
    if not good:
        raise Refused("bad_signature")
    return _delivery(_parsed(body), timestamp, signature)


def read_again(body: bytes) -> Delivery | None:
    """A delivery that was believed before, as it is read today; None for what is no JSON object."""
    try:
        return _delivery(_parsed(body), "", "")
    except Refused:
        return None


def _signed(signature: str, timestamp: str, body: bytes, secrets: list[str]) -> bool:
    """Whether one of `secrets` gives `signature`; all are tried, and one that fits nothing if there is none."""
    given = signature.encode(errors="replace")
    # A lone surrogate in a header cannot have been signed.
    stamp = timestamp.encode(errors="replace").decode()
    found = [hmac.compare_digest(sign(secret, stamp, body).encode(), given) for secret in secrets or [""]]
    return bool(secrets) and any(found)


def _unix(timestamp: str) -> float | None:
    """Unix time of an ISO 8601 text with a zone; fractions of a second, of any length, are left out."""
    text = re.sub(r"\.\d+", "", timestamp.strip(), count=1).replace("Z", "+00:00")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("not_json") from None
    if not isinstance(parsed, dict):
        raise Refused("not_json")
    return parsed


def _delivery(payload: Mapping[str, Any], timestamp: str, signature: str) -> Delivery:
    event_type = payload.get("type")
    if isinstance(event_type, str):
        return _from_event(payload, event_type, timestamp, signature)
    return _from_trigger(payload, timestamp, signature)


_IDENTIFIER = re.compile(r"[!-~]{1,200}")
"""An id as it can be stored and told; one that cannot is none, and its delivery is known by its signature."""

_TICKET, _TICKET_EVENT = "zen:ticket:", "zen:event-type:ticket."
_KINDS: dict[str, Kind] = {
    "created": "created",
    "merged": "merged",
    "soft_deleted": "deleted",
    "permanently_deleted": "deleted",
    "undeleted": "restored",
}


# https://developer.zendesk.com/api-reference/webhooks/event-types/ticket-events/
def _from_event(payload: Mapping[str, Any], event_type: str, timestamp: str, signature: str) -> Delivery:
    """An event-subscribed body. Ids in it are strings and statuses are in capitals."""
    detail, event, occurred = payload.get("detail"), payload.get("event"), payload.get("time")
    about_ticket = event_type.startswith(_TICKET_EVENT)
    name = event_type.removeprefix(_TICKET_EVENT)
    now_solved = isinstance(event, dict) and str(event.get("current")).upper() == "SOLVED"
    kind: Kind = "solved" if name == "status_changed" and now_solved else _KINDS.get(name, "updated")
    shown = detail.get("id") if isinstance(detail, dict) else None
    subject = str(payload.get("subject"))
    named = subject.removeprefix(_TICKET) if subject.startswith(_TICKET) else None
    ticket = _ticket_id(shown) or _ticket_id(named)
    payload_id = payload.get("id")
    return Delivery(
        payload_id=payload_id if isinstance(payload_id, str) and _IDENTIFIER.fullmatch(payload_id) else None,
        kind=kind if about_ticket else "unknown",
        ticket_id=ticket if about_ticket else None,
        occurred_at=occurred if isinstance(occurred, str) and _unix(occurred) is not None else timestamp,
        event_type=event_type,
        signature=signature,
    )


# https://developer.zendesk.com/documentation/webhooks/creating-and-monitoring-webhooks/
def _from_trigger(payload: Mapping[str, Any], timestamp: str, signature: str) -> Delivery:
    """The body that our triggers send: `{"kind": "solved", "ticket_id": "123"}`. Any other kind reads as updated."""
    ticket, word = _ticket_id(payload.get("ticket_id")), payload.get("kind")
    kinds: dict[object, Kind] = {"created": "created", "solved": "solved"}
    kind = kinds.get(word, "updated") if isinstance(word, str) and ticket else "unknown"
    return Delivery(None, kind, ticket, timestamp, "conditional_ticket_events", signature)


def _ticket_id(value: object) -> int | None:
    """A positive whole number that a database's big integer holds, sent as a number or as text."""
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not re.fullmatch(r"[0-9]{1,18}", str(value)):
        return None
    return int(value) or None
