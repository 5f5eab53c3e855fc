"""A sandbox for each test, a client for each of its two systems, and a receiver for its webhooks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from airflow_provider_qadzd.sandbox import Sandbox, running


class Client:
    """A session with a base address and a header or two."""

    def __init__(self, base: str, headers: dict[str, str] | None = None) -> None:
        self.base = base
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(headers or {})

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.base + path, timeout=30, allow_redirects=False, **options)

    def get(self, path: str, **params: Any) -> requests.Response:
        return self("GET", path, params=params)

    def post(self, path: str, json: Any = None, **params: Any) -> requests.Response:
        return self("POST", path, json=json, params=params)

    def put(self, path: str, json: Any = None, **params: Any) -> requests.Response:
        return self("PUT", path, json=json, params=params)

    def delete(self, path: str, **params: Any) -> requests.Response:
        return self("DELETE", path, params=params)

    def job(self, reply: requests.Response) -> dict[str, Any]:
        """The finished job that a bulk call has started."""
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = self.get(f"/api/v2/job_statuses/{reply.json()['job_status']['id']}.json").json()
        return dict(found["job_status"])


def token_for(url: str, scope: str = "read write") -> str:
    """An access token by client credentials."""
    body = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox", "scope": scope}
    return str(requests.post(f"{url}/oauth/tokens", json=body, timeout=30).json()["access_token"])


@pytest.fixture(scope="session")
def served() -> Iterator[Sandbox]:
    """One server for all tests."""
    with running() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(served: Sandbox) -> Sandbox:
    """The default seed as at the start, without request limits."""
    served.post_control("reset")
    served.post_control("limits", {"enabled": False})
    return served


@pytest.fixture
def zendesk(sandbox: Sandbox) -> Iterator[Client]:
    """A client that may read and write."""
    client = Client(sandbox.url, {"Authorization": f"Bearer {token_for(sandbox.url)}"})
    yield client
    client.session.close()


@pytest.fixture
def nobody(sandbox: Sandbox) -> Iterator[Client]:
    """A client without credentials."""
    client = Client(sandbox.url)
    yield client
    client.session.close()


@pytest.fixture
def qad(sandbox: Sandbox) -> Iterator[Client]:
    """A client that is logged in to QAD."""
    form = {"grant_type": "password", "client_id": "sandbox", "username": "svc_zendesk", "password": "sandbox"}
    token = requests.post(f"{sandbox.url}/clouderp/oauth/token", data=form, timeout=30).json()["access_token"]
    client = Client(f"{sandbox.url}/clouderp", {"Authorization": f"Bearer {token}"})
    yield client
    client.session.close()


class Receiver:
    """Takes deliveries and answers with the statuses in `answers`, then with 200."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                receiver.seen.append(({key.lower(): value for key, value in self.headers.items()}, body))
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def wait_for(self, count: int) -> None:
        """Wait until this many deliveries have come."""
        until = time.monotonic() + 5
        while len(self.seen) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.seen) >= count

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An endpoint for webhooks."""
    server = Receiver()
    yield server
    server.close()
