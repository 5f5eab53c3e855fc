"""Calls, replies and the endpoint that ties them together.

A handler is a plain function `(state, call) -> Reply` that runs under the state's lock and never waits. The
endpoint around it reads the body, applies the fault rules, counts the call, and sends the reply or loses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

if TYPE_CHECKING:
    from .faults import Fault
    from .state import State

JSON = "application/json; charset=utf-8"
encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Reply:
    """What is sent back. `later` is run in a thread, outside the lock, and its reply is sent instead."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    later: Callable[[], Reply] | None = None


class Refusal(Exception):
    """A request that is answered with an error. Handlers raise it; the endpoint sends its reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status} {reply.body[:200]!r}")
        self.reply = reply


@dataclass(slots=True)
class Call:
    """One request, read completely."""

    method: str
    path: str
    params: Mapping[str, Any]
    query: QueryParams
    headers: Headers
    raw: bytes
    base: str
    pattern: str = ""
    user_id: int | None = None
    scopes: frozenset[str] = frozenset()
    token: str = ""
    job: dict[str, Any] = field(default_factory=dict)
    soap: str = ""

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; anything else is refused with 400."""
        try:
            value = msgspec.json.decode(self.raw) if self.raw else {}
        except msgspec.DecodeError:
            value = None
        if not isinstance(value, dict):
            raise Refusal(reply_json({"error": "Unprocessable JSON", "description": "Expected a JSON object"}, 400))
        return value


Handler = Callable[["State", Call], Reply]
Guard = Callable[["State", Call, Handler], Reply]


def reply_json(value: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; underscores in header names stand for hyphens."""
    return Reply(status, encode(value), JSON, {name.replace("_", "-"): text for name, text in headers.items()})


def refuse(status: int, value: Any, **headers: str) -> Refusal:
    """A JSON error, to be raised."""
    return Refusal(reply_json(value, status, **headers))


def joined(name: str, rows: list[bytes], rest: Mapping[str, Any] | None = None) -> Reply:
    """A list answer put together from rows that are already encoded."""
    tail = encode(rest)[1:-1] if rest else b""
    middle = b"]," + tail + b"}" if tail else b"]}"
    return Reply(200, b'{"' + name.encode() + b'":[' + b",".join(rows) + middle)


class Endpoint:
    """One route with one method, as an ASGI application."""

    def __init__(self, state: State, pattern: str, handler: Handler, guard: Guard | None) -> None:
        self.state = state
        self.pattern = pattern
        self.handler = handler
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = await read_call(scope, receive, self.pattern)
        fault = self.state.faults.claim(call)
        if fault is not None and fault.action == "delay":
            await asyncio.sleep(fault.seconds)
        if fault is not None:
            call.job, call.soap = fault.job, fault.soap
        if fault is None or fault.lets_through:
            reply = self.answer(call)
            if reply.later is not None:
                reply = await asyncio.to_thread(reply.later)
        if fault is not None and fault.spoils:
            await self.spoil(fault, reply if fault.lets_through else Reply(), call, scope, receive, send)
            return
        self.state.stats.count(call, reply.status, self.state.now)
        await send_reply(reply, send)

    def answer(self, call: Call) -> Reply:
        with self.state.lock:
            self.state.settle()
            try:
                if self.guard is not None:
                    return self.guard(self.state, call, self.handler)
                return self.handler(self.state, call)
            except Refusal as refusal:
                return refusal.reply

    async def spoil(self, fault: Fault, reply: Reply, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.action in ("drop", "reset-after"):
            self.state.stats.count(call, 0, self.state.now)
            if fault.action == "reset-after":
                await send_start(reply, send)
                cut = fault.after_bytes if fault.after_bytes is not None else len(reply.body) // 2
                await send({"type": "http.response.body", "body": reply.body[:cut], "more_body": True})
                await asyncio.sleep(0.02)
            await self.hang_up(scope, receive)
            return
        spoiled = fault.reply(self.state.now)
        self.state.stats.count(call, spoiled.status, self.state.now)
        await send_reply(spoiled, send)

    async def hang_up(self, scope: Scope, receive: Receive) -> None:
        """Close the connection without another byte, and wait until the server has noticed."""
        transport = self.state.transports.get(tuple(scope.get("client") or ()))
        if transport is None:
            raise RuntimeError("only the sandbox's own server can drop a connection")
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


async def read_call(scope: Scope, receive: Receive, pattern: str) -> Call:
    """Read a request to its end."""
    chunks = []
    while True:
        message = await receive()
        chunks.append(cast("bytes", message.get("body", b"")))
        if not message.get("more_body"):
            break
    headers = Headers(scope=scope)
    return Call(
        method=scope["method"],
        path=scope["path"],
        params=scope.get("path_params", {}),
        query=QueryParams(scope["query_string"]),
        headers=headers,
        raw=b"".join(chunks),
        base=f"{scope['scheme']}://{headers.get('host', 'localhost')}",
        pattern=f"{scope['method']} {pattern}",
    )


async def send_start(reply: Reply, send: Send) -> None:
    """Send the status line and the headers."""
    headers = [(name.lower().encode(), text.encode("latin-1")) for name, text in reply.headers.items()]
    if reply.status != 204:
        headers.append((b"content-type", reply.content_type.encode()))
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def send_reply(reply: Reply, send: Send) -> None:
    """Send the whole answer; 204 has no body."""
    await send_start(reply, send)
    await send({"type": "http.response.body", "body": b"" if reply.status == 204 else reply.body})


def routes(state: State, table: Sequence[tuple[str, str, Handler]], guard: Guard | None = None) -> list[Route]:
    """Starlette routes for rows of (methods separated by spaces, path pattern, handler)."""
    return [
        Route(pattern, Endpoint(state, pattern, handler, guard), methods=methods.split() if methods != "*" else None)
        for methods, pattern, handler in table
    ]
