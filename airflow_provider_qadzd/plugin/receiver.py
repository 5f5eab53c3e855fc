"""The one door to the internet: Zendesk's webhook deliveries, verified, committed, answered 202.

It fails closed. Nothing is parsed before its signature is known to be good; an unknown account, a missing secret, a bad
or stale signature are all the same 401 after the same work, and cost no query: secrets are held in memory and read anew
only now and then. A 2xx is sent only after the delivery is committed. What it needs is the ledger and the key that
opens signing secrets; it knows no Airflow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_qadzd.errors import QadzdError
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets, Vault
from airflow_provider_qadzd.sync.receive import accept
from airflow_provider_qadzd.zendesk.webhook import Refused, verify

log = logging.getLogger(__name__)

LARGEST_BODY = 1_048_576
_FRESH_FOR = 30.0
_AGAIN_AFTER = 2.0
"""Seconds before secrets are read again because a signature fitted none: one query, however many forgeries."""


@dataclass(frozen=True, slots=True)
class _Known:
    account_id: int
    secrets: tuple[str, ...]


class _Directory:
    """Every account's signing secrets by slug, held in memory."""

    def __init__(self, open_ledger: Callable[[], Ledger], open_vault: Callable[[], Vault]) -> None:
        self._open_ledger, self._open_vault = open_ledger, open_vault
        self._known: Mapping[str, _Known] = {}
        self._read_at: float | None = None
        self._guard = threading.Lock()
        self.ledger: Ledger | None = None

    def age(self) -> float:
        """Seconds since the secrets were read."""
        return float("inf") if self._read_at is None else time.monotonic() - self._read_at

    def of(self, slug: str) -> _Known | None:
        """The account of that slug, None if there is none."""
        return self._known.get(slug)

    def read_if_older(self, seconds: float) -> bool:
        """Read them anew if the last reading is that old; whether it was."""
        with self._guard:
            if self.age() <= seconds:
                return False
            self.ledger = self.ledger or self._open_ledger()
            vault = self._open_vault()
            self._known = {
                account.slug: _Known(account.account_id, _secrets(self.ledger, vault, account.holder))
                for account in identity.onboarded_accounts(self.ledger)
            }
            self._read_at = time.monotonic()
            return True


def receiver_app(
    open_ledger: Callable[[], Ledger], open_vault: Callable[[], Vault], tolerance: float = 300.0
) -> Starlette:  # fmt: skip
    """The ASGI app. Deliveries older or newer than `tolerance` seconds are refused."""
    directory = _Directory(open_ledger, open_vault)

    async def deliver(request: Request) -> Response:
        try:
            return await _deliver(request, directory, tolerance)
        except ClientDisconnect:
            return Response(status_code=400)
        except QadzdError as error:
            log.error("A delivery could not be taken: %s", error)
            return _busy()

    async def ready(_request: Request) -> Response:
        try:
            await run_in_threadpool(directory.read_if_older, _FRESH_FOR)
        except QadzdError as error:
            return JSONResponse({"ready": False, "reason": str(error)}, 503)
        return JSONResponse({"ready": True})

    async def alive(_request: Request) -> Response:
        return JSONResponse({"alive": True})

    return Starlette(
        routes=[
            Route("/webhooks/zendesk/{slug}", deliver, methods=["POST"]),
            Route("/health/ready", ready), Route("/health/live", alive),
        ]
    )  # fmt: skip


async def _deliver(request: Request, directory: _Directory, tolerance: float) -> Response:
    body = await _body(request)
    if body is None:
        return Response(status_code=413)
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return Response(status_code=415)
    slug = request.path_params["slug"]
    await run_in_threadpool(directory.read_if_older, _FRESH_FOR)
    while True:
        known = directory.of(slug)
        try:
            delivery = verify(request.headers, body, known.secrets if known else (), time.time(), tolerance)
        except Refused as refused:
            unfit = refused.reason in ("bad_signature", "no_secret")
            if unfit and await run_in_threadpool(directory.read_if_older, _AGAIN_AFTER):
                continue  # the account may have been onboarded, or its secret rotated, a moment ago
            log.warning("Refused a delivery for %s: %s.", slug if known else "an unknown account", refused.reason)
            return Response(status_code=415 if refused.reason == "not_json" else 401)
        break
    if known is None or directory.ledger is None:
        return Response(status_code=401)
    new = await run_in_threadpool(accept, directory.ledger, known.account_id, delivery, body)
    log.info(
        "Took a delivery for %s: ticket %s %s%s.", slug, delivery.ticket_id, delivery.kind, "" if new else " (again)"
    )
    return Response(status_code=202)


async def _body(request: Request) -> bytes | None:
    """The raw body, None as soon as it is too large."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > LARGEST_BODY:
        return None
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _busy() -> Response:
    # https://developer.zendesk.com/documentation/webhooks/creating-and-monitoring-webhooks/
    # A 503 is repeated only if it says to wait less than a minute.
    return Response(status_code=503, headers={"Retry-After": "30"})


def _secrets(ledger: Ledger, vault: Vault, holder: str) -> tuple[str, ...]:
    return tuple(Secrets(ledger, vault, holder).with_prefix(SIGNING).values())
