"""Serves the sandbox: in this thread for the command, in a background thread for tests."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from .app import create_app
from .clock import parse_instant
from .state import Settings, Size, State


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to the port, or to a free one for port 0."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host, port))
    return found


def protocol_for(state: State) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, which also tells the state of its connections so that faults can drop them."""
    base: Any = AutoHTTPProtocol

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        base.connection_made(self, transport)
        state.transports[tuple(transport.get_extra_info("peername") or ())[:2]] = transport

    def connection_lost(self: Any, error: Exception | None) -> None:
        state.transports.pop(tuple(self.client or ()), None)
        base.connection_lost(self, error)

    return type("Protocol", (base,), {"connection_made": connection_made, "connection_lost": connection_lost})


def server_for(state: State) -> uvicorn.Server:
    """A quiet server over the state."""
    config = uvicorn.Config(
        create_app(state),
        http=protocol_for(state),
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        backlog=512,
        timeout_keep_alive=75,
    )
    return uvicorn.Server(config)


class Sandbox:
    """A sandbox that is being served: its address, its state, and its control interface."""

    def __init__(self, url: str, state: State) -> None:
        self.url = url
        self.state = state
        self._session = requests.Session()
        self._session.trust_env = False

    def get_control(self, path: str) -> Any:
        """GET below `/_sandbox/`."""
        return self._control("GET", path, None)

    def post_control(self, path: str, json: dict[str, Any] | None = None) -> Any:
        """POST below `/_sandbox/`; an answer that is no success raises."""
        return self._control("POST", path, json or {})

    def delete_control(self, path: str) -> Any:
        """DELETE below `/_sandbox/`."""
        return self._control("DELETE", path, None)

    def close(self) -> None:
        self._session.close()

    def _control(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        url = f"{self.url}/_sandbox/{path.removeprefix('/_sandbox').strip('/')}"
        answer = self._session.request(method, url, json=body, timeout=60)
        if not answer.ok:
            raise ValueError(f"{method} {url} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()


@contextmanager
def running(
    customers: int = 40,
    contacts: int = 120,
    tickets: int = 200,
    seed: int = 1,
    now: float | str | None = None,
    job_delay: float = 0.0,
    bulk_import: bool = True,
    port: int = 0,
    host: str = "127.0.0.1",
) -> Iterator[Sandbox]:
    """Serve a sandbox from a background thread for as long as the block runs."""
    bound = listening(host, port)
    url = f"http://{host}:{bound.getsockname()[1]}"
    start = None if now is None else parse_instant(str(now))
    settings = Settings(job_delay=job_delay, bulk_import=bulk_import)
    state = State(Size(customers, contacts, tickets, seed), start, url, settings)
    server = server_for(state)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="sandbox", daemon=True)
    thread.start()
    sandbox = Sandbox(url, state)
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        yield sandbox
    finally:
        sandbox.close()
        server.should_exit = True
        server.force_exit = True
        thread.join(10)
        state.courier.close()
        bound.close()
