"""A server in a process of its own, for the bench to knock at: `python -m tests.bench.door KIND [LEDGER KEY]`.

`receiver` is ours, as `airflow qadzd receiver` serves it; `nothing` is an app that answers 202 and does nothing, behind
the same server; `bare` answers 202 without any HTTP library, and shows how fast whoever knocks can be. It prints its
port; its log is written as usual, and thrown away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from typing import Any

import uvicorn
from sqlalchemy import event
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.vault import Vault
from airflow_provider_qadzd.plugin.receiver import receiver_app

_ANSWER = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


def main(kind: str, ledger_url: str = "", key: str = "") -> None:
    """Serve until killed."""
    bound = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(bound.getsockname()[1], flush=True)
    # Nobody reads on, and a log that nobody reads stops its writer once the pipe is full (seen).
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if kind == "bare":
        asyncio.run(_bare(bound))
        return
    app = _receiver(ledger_url, key) if kind == "receiver" else _nothing
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")  # type: ignore[arg-type]
    uvicorn.Server(config).run(sockets=[bound])


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, as it must, and answers."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def _receiver(ledger_url: str, key: str) -> Starlette:
    """Ours, with a count of what it asks the database, and of the processor's seconds that it took."""
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    ledger, statements = Ledger(ledger_url).opened(), {"deliveries": 0, "other": 0}

    def count(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if not statement.startswith("BEGIN"):
            statements["deliveries" if "qadzd_inbox" in statement else "other"] += 1

    event.listen(ledger.engine, "before_cursor_execute", count)

    async def asked(_request: Request) -> JSONResponse:
        return JSONResponse({**statements, "seconds": time.process_time()})

    app = receiver_app(lambda: ledger, lambda: Vault([key]), metrics=True)
    return Starlette(routes=[Mount("/qadzd", app), Route("/statements", asked)])


class _Bare(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER * data.count(b"POST /"))


async def _bare(bound: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(_Bare, sock=bound)
    await server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
