"""Sends webhooks: signed, from a pool of threads, repeated as Zendesk repeats them, and logged.

https://developer.zendesk.com/documentation/webhooks/verifying/
https://developer.zendesk.com/documentation/webhooks/creating-and-monitoring-webhooks/
12 seconds for each attempt; a timeout is tried 5 times more, 409 3 times more, 429 and 503 only when their
Retry-After is under 60 seconds. Anything else is final. `breaker` says when nothing is sent at all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from ..clock import iso
from . import events

if TYPE_CHECKING:
    from ..state import State
    from .models import Ticket

TIMEOUT = 12
BROKEN = "circuit broken"
LONGEST_WAIT = 2.0
BODILESS = ("GET", "DELETE")


@dataclass(slots=True)
class Parcel:
    """One invocation: what is sent, and where."""

    webhook: dict[str, Any]
    secret: str
    body: bytes
    event: str
    event_id: str
    invocation_id: str
    timestamp: str
    kind: str = "application/json; charset=utf-8"

    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": self.kind,
            "User-Agent": "Zendesk Webhook",
            "X-Zendesk-Account-Id": str(events.ACCOUNT_ID),
            "X-Zendesk-Webhook-Id": str(self.webhook["id"]),
            "X-Zendesk-Webhook-Invocation-Id": self.invocation_id,
            "X-Zendesk-Webhook-Signature": sign(self.secret, self.timestamp, self.body),
            "X-Zendesk-Webhook-Signature-Timestamp": self.timestamp,
            **authentication(self.webhook),
            **{str(k): str(v) for k, v in (self.webhook.get("custom_headers") or {}).items()},
        }


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """base64(HMAC-SHA256(secret, timestamp + body)); the secret is used as it is written, not decoded."""
    return base64.b64encode(hmac.new(secret.encode(), timestamp.encode() + body, hashlib.sha256).digest()).decode()


def authentication(webhook: dict[str, Any]) -> dict[str, str]:
    """The header of a webhook that authenticates itself to its endpoint."""
    given = webhook.get("authentication") or {}
    data = given.get("data") or {}
    if given.get("type") == "bearer_token":
        return {"Authorization": f"Bearer {data.get('token', '')}"}
    if given.get("type") == "basic_auth":
        pair = f"{data.get('username', '')}:{data.get('password', '')}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    if given.get("type") == "api_key":
        return {str(data.get("name", "X-Api-Key")): str(data.get("value", ""))}
    return {}


class Courier:
    """Carries parcels to their endpoints. It outlives a reset of the state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="sandbox-webhook")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=16))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    def ticket_changed(self, row: Ticket, before: dict[str, Any], names: list[str]) -> list[Future[dict[str, Any]]]:
        """Tell every webhook that listens to these events of a ticket, by subscription or through a trigger."""
        state = self._state
        sent = []
        for webhook in state.zendesk.webhooks.values():
            for name in names:
                if webhook["status"] == "active" and listens(webhook, name):
                    event_id, body = events.payload(state, row, name, before)
                    sent.append(self.send(self.parcel(webhook, body, f"ticket.{name}", event_id)))
        for webhook, body in events.triggered(state, row, before, names):
            sent.append(self.send(self.parcel(webhook, body, "conditional_ticket_events", "")))
        return sent

    def parcel(self, webhook: dict[str, Any], body: bytes, event: str, event_id: str) -> Parcel:
        now = self._state.now
        secret = self._state.zendesk.secrets.get(webhook["id"], events.TEST_SECRET)
        return Parcel(webhook, secret, body, event, event_id, events.ulid(now), iso(now))

    def send(self, parcel: Parcel) -> Future[dict[str, Any]]:
        return self._pool.submit(self.carry, parcel)

    def carry(self, parcel: Parcel) -> dict[str, Any]:
        """Deliver in this thread; what the receiver answered to each attempt."""
        attempts: list[dict[str, Any]] = []
        while True:
            attempts.append(self._tried(parcel))
            wait = wait_before_repeat(attempts)
            if wait is None:
                break
            time.sleep(min(wait, LONGEST_WAIT))
        result = {
            "webhook_id": parcel.webhook["id"],
            "invocation_id": parcel.invocation_id,
            "event": parcel.event,
            "event_id": parcel.event_id,
            "status": attempts[-1]["status"],
            "statuses": [attempt["status"] for attempt in attempts],
        }
        self._log(parcel, attempts, result)
        return result

    def _tried(self, parcel: Parcel) -> dict[str, Any]:
        """An attempt, unless the webhook's circuit is broken."""
        state, webhook_id = self._state, str(parcel.webhook["id"])
        if state.settings.circuit_breaker and state.breakers.is_open(webhook_id, state.now):
            nothing = {"request": {"headers": {}, "payload": ""}, "at": time.time(), "retry_after": None, "headers": {}}
            return {**nothing, "status": 0, "text": BROKEN}
        attempt = self.attempt(parcel)
        state.breakers.count(webhook_id, not 200 <= attempt["status"] < 300, state.now)
        return attempt

    def attempt(self, parcel: Parcel) -> dict[str, Any]:
        """Send once and tell what came back; what the test of a webhook does."""
        method = parcel.webhook.get("http_method", "POST")
        body = b"" if method in BODILESS else parcel.body
        headers = parcel.headers()
        seen = {"request": {"headers": headers, "payload": parcel.body.decode(errors="replace")}, "at": time.time()}
        try:
            answer = self._session.request(
                method, parcel.webhook["endpoint"], data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.Timeout:
            return {**seen, "status": 504, "retry_after": None, "text": "timeout", "headers": {}}
        except requests.RequestException as error:
            return {**seen, "status": 0, "retry_after": None, "text": type(error).__name__, "headers": {}}
        text, retry_after = answer.text[:2000], answer.headers.get("retry-after")
        found = dict(answer.headers)
        return {**seen, "status": answer.status_code, "retry_after": retry_after, "text": text, "headers": found}

    def _log(self, parcel: Parcel, attempts: list[dict[str, Any]], result: dict[str, Any]) -> None:
        state = self._state
        last = attempts[-1]
        said = BROKEN if last["text"] == BROKEN else "failed"
        with state.lock:
            state.zendesk.invocations[parcel.webhook["id"]].append(
                {
                    "id": parcel.invocation_id,
                    "webhook_id": parcel.webhook["id"],
                    "latest_completed_at": iso(state.now),
                    "status": "success" if 200 <= last["status"] < 300 else said,
                    "status_code": last["status"],
                    "attempts": attempts,
                }
            )
        with state.stats.lock:
            state.stats.deliveries.append(result)


def listens(webhook: dict[str, Any], name: str) -> bool:
    """Whether a webhook is subscribed to an event of tickets."""
    return f"zen:event-type:ticket.{name}" in webhook["subscriptions"]


def wait_before_repeat(attempts: list[dict[str, Any]]) -> float | None:
    """Seconds until the next attempt, None when there is none."""
    last, count = attempts[-1], len(attempts)
    if last["status"] == 504 and last["text"] == "timeout":
        return 0.2 if count <= 5 else None
    if last["status"] == 409:
        return 0.1 * count if count <= 3 else None
    text = str(last["retry_after"] or "")
    if last["status"] in (429, 503) and text.isdigit() and int(text) < 60 and count <= 3:
        return float(text)
    return None
