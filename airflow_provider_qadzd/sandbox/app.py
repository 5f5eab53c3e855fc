"""Puts both systems and the control interface together as one ASGI application."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from . import control, qad, qxtend
from .state import State
from .web import Call, Reply, routes
from .zendesk import (
    definitions,
    exports,
    fields,
    gate,
    identities,
    jobs,
    memberships,
    merges,
    oauth,
    organizations,
    search,
    tickets,
    triggers,
    users,
    webhooks,
)
from .zendesk.errors import no_endpoint

RESOURCES = (
    oauth,
    exports,
    tickets,
    users,
    organizations,
    memberships,
    identities,
    fields,
    jobs,
    webhooks,
    definitions,
    triggers,
    search,
    merges,
)


def _no_endpoint(_state: State, _call: Call) -> Reply:
    raise no_endpoint()


class WithoutSuffix:
    """Zendesk takes every path with and without `.json`, once."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith("/api/v2/") and path.endswith(".json"):
            scope = {**scope, "path": path.removesuffix(".json")}
        await self.app(scope, receive, send)


def create_app(state: State) -> WithoutSuffix:
    """The application over a state. Only the sandbox's own server can drop connections for it."""
    table = routes(state, control.ROUTES) + routes(state, oauth.OPEN_ROUTES)
    for base in ("/clouderp", "/qad-central"):
        opened, guarded = qad.routes_under(base)
        table += routes(state, opened) + routes(state, guarded, qad.guard)
    table += routes(state, qxtend.ROUTES)
    for resource in RESOURCES:
        table += routes(state, resource.ROUTES, gate.guard)
    table += routes(state, [("*", "/api/v2/{rest:path}", _no_endpoint)])
    return WithoutSuffix(Starlette(routes=table))
