"""The one door to the internet: Zendesk's webhook deliveries, verified, committed, answered 202.

It fails closed. Nothing is parsed before its signature is known to be good; an unknown account, a missing secret, a bad
or stale signature are all the same 401 after the same work, and cost no query. A 2xx is sent only after the delivery is
committed. Whatever keeps a genuine one from that is answered 503 with a short wait, which Zendesk repeats. It needs the
ledger and the key that opens signing secrets, and knows no Airflow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from airflow_provider_qadzd.errors import QadzdError
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.vault import Vault
from airflow_provider_qadzd.plugin.group_commit import GroupCommit
from airflow_provider_qadzd.plugin.held_secrets import AGAIN_AFTER, Held, HeldSecrets
from airflow_provider_qadzd.plugin.receiver_counts import NOBODY, REFUSED, Counts, Tell
from airflow_provider_qadzd.sync.receive import inbox_row
from airflow_provider_qadzd.zendesk.webhook import Delivery, Refused, verify

log = logging.getLogger(__name__)

LARGEST_BODY = 1_048_576
# https://developer.zendesk.com/documentation/webhooks/creating-and-monitoring-webhooks/
# Zendesk waits 12 seconds. A 503 is repeated only if it says to wait less than a minute.
_BODY_WITHIN, _COMMIT_WITHIN = 5.0, 9.0
_BUSY = {"Retry-After": "30"}


def receiver_app(
    open_ledger: Callable[[], Ledger], open_vault: Callable[[], Vault], tolerance: float = 300.0,
    tell: Tell | None = None, *, metrics: bool = False,
) -> Starlette:  # fmt: skip
    """The ASGI app. Deliveries older or newer than `tolerance` seconds are refused.

    `tell` hears every outcome with its seconds; `metrics` adds a page of counters, for a receiver that runs alone.
    """
    door = _Door(open_ledger, open_vault, tolerance, tell)
    routes = [
        Route("/webhooks/zendesk/{slug}", door.deliver, methods=["POST"]),
        Route("/health/ready", door.ready), Route("/health/live", door.live),
    ]  # fmt: skip
    if metrics:
        routes.append(Route("/metrics", door.metrics))
    return Starlette(routes=routes)


class _Door:
    """What the routes of one app share."""

    def __init__(
        self, open_ledger: Callable[[], Ledger], open_vault: Callable[[], Vault], tolerance: float, tell: Tell | None
    ) -> None:
        # Threads of its own, so that nothing else in the same server can use them up: one reads, one writes.
        self._secrets = HeldSecrets(open_ledger, open_vault, ThreadPoolExecutor(1, "qadzd-secrets"))
        self._inbox = GroupCommit(ThreadPoolExecutor(1, "qadzd-inbox"))
        self._counts, self._tolerance = Counts(tell), tolerance

    async def deliver(self, request: Request) -> Response:
        """One delivery, from its first byte to its answer."""
        began = time.monotonic()
        body = await _body(request)
        if isinstance(body, _Unread):
            self._counts.refused(NOBODY, body.outcome, began)
            return Response(status_code=body.status)
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            self._counts.refused(NOBODY, "not_called_json", began)
            return Response(status_code=415)
        account = NOBODY
        try:
            held = await self._secrets.of(request.path_params["slug"])
            account = held.slug if held else NOBODY
            held, delivery = await self._believed(request, body, held)
            account = held.slug
            row = inbox_row(held.account_id, delivery, body)
            new = await self._inbox.commit(held.ledger, row, _COMMIT_WITHIN)
        except Refused as refused:
            self._counts.refused(account, REFUSED[refused.reason], began)
            return Response(status_code=415 if refused.reason == "not_json" else 401)
        except QadzdError as error:
            self._counts.refused(account, "busy", began, str(error))
            return Response(status_code=503, headers=_BUSY)
        facts = f"ticket={delivery.ticket_id} kind={delivery.kind} id={delivery.payload_id}"
        self._counts.taken(account, "taken" if new else "repeated", began, facts)
        return Response(status_code=202)

    async def _believed(self, request: Request, body: bytes, held: Held | None) -> tuple[Held, Delivery]:
        """The delivery, and whose it is. Raises Refused.

        Before one is refused for want of a fitting secret they are read again, if that was not just done: the account
        may have been onboarded, or its secret changed, a moment ago.
        """
        try:
            return self._verified(request, body, held)
        except Refused as refused:
            if refused.reason not in ("bad_signature", "no_secret"):
                raise
            if not await self._secrets.read_again(AGAIN_AFTER):
                raise
        return self._verified(request, body, await self._secrets.of(request.path_params["slug"]))

    def _verified(self, request: Request, body: bytes, held: Held | None) -> tuple[Held, Delivery]:
        delivery = verify(request.headers, body, held.secrets if held else (), time.time(), self._tolerance)
        if held is None:
            raise Refused("no_secret")
        return held, delivery

    async def ready(self, _request: Request) -> Response:
        """Whether a genuine delivery could be taken now: the ledger answers, and the key opens what it holds.

        The ledger is asked at most once in two seconds. Why not stands in the log, not in the answer.
        """
        try:
            await self._secrets.read_again(AGAIN_AFTER)
        except QadzdError as error:
            log.warning("not ready: %s", error)
            return JSONResponse({"ready": False}, 503)
        return JSONResponse({"ready": True})

    async def live(self, _request: Request) -> Response:
        """Whether this process answers at all. A restart cures no ledger that is away, so it is not asked."""
        return JSONResponse({"alive": True})

    async def metrics(self, _request: Request) -> Response:
        """Counters, for whoever scrapes them inside; not for the internet."""
        return PlainTextResponse(self._counts.as_text(self._inbox.waiting), media_type="text/plain; version=0.0.4")


@dataclass(frozen=True, slots=True)
class _Unread:
    """Why a body was not read to its end, and what is answered."""

    status: int
    outcome: str


async def _body(request: Request) -> bytes | _Unread:
    """The raw body; not all of it once it is too large or too slow."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > LARGEST_BODY:
        return _Unread(413, "too_large")
    try:
        return await asyncio.wait_for(_read(request), _BODY_WITHIN)
    except asyncio.TimeoutError:
        return _Unread(408, "too_slow")
    except ClientDisconnect:
        return _Unread(400, "broken_off")


async def _read(request: Request) -> bytes | _Unread:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            return _Unread(413, "too_large")
        parts.append(part)
    return b"".join(parts)
