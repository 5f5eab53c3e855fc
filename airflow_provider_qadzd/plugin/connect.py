"""The authorization code flow for a terminal: an address to open, and a listener on this machine for the answer."""

from __future__ import annotations

import contextlib
import hmac
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.zendesk.connection import LOOPBACK, ZendeskSettings
from airflow_provider_qadzd.zendesk.oauth import OAuthClient, authorization_url, new_state, new_verifier  # fmt: skip

PATIENCE = 600.0
"""Seconds to wait for the person at the browser."""


@dataclass(frozen=True, slots=True)
class Consent:
    """One request for consent. `verifier` stays here; `state` ties the answer to it."""

    url: str
    redirect_uri: str
    state: str
    verifier: str


def consent(client: OAuthClient, settings: ZendeskSettings) -> Consent:
    """A new request. FixFirst if the connection is not set up for it."""
    where = urlsplit(settings.redirect_uri)
    if settings.auth != "authorization_code" or where.hostname not in LOOPBACK or not where.port:
        raise FixFirst(
            f"{client.where} is not set up for authorization in a terminal.",
            advice="Set auth to authorization_code, and redirect_uri to http://127.0.0.1:PORT/callback.",
        )
    state, verifier = new_state(), new_verifier()
    return Consent(authorization_url(client, state, verifier), settings.redirect_uri, state, verifier)


@contextlib.contextmanager
def listening(asked: Consent) -> Iterator[Callable[[], str]]:
    """A listener on the redirect address, open before anybody is sent there; call what it yields for the code.

    The call raises FixFirst if consent is denied or nobody answers in time.
    """
    where = urlsplit(asked.redirect_uri)
    answers: list[dict[str, str]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the standard library's name
            path = urlsplit(self.path)
            given = {name: values[0] for name, values in parse_qs(path.query).items()}
            ours = path.path == where.path and hmac.compare_digest(
                given.get("state", "").encode(), asked.state.encode()
            )
            if ours:
                answers.append(given)
            self.send_response(200 if ours else 400)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            self.wfile.write(b"You can close this window." if ours else b"This is not the answer that was asked for.")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the address holds the code."""

    with HTTPServer((where.hostname or "127.0.0.1", where.port or 0), Answer) as server:

        def code() -> str:
            until = time.monotonic() + PATIENCE
            while not answers and (left := until - time.monotonic()) > 0:
                server.timeout = left
                server.handle_request()
            if answers and "code" in answers[0]:
                return answers[0]["code"]
            told = answers[0].get("error", "no code") if answers else "nobody answered"
            raise FixFirst(
                f"Zendesk did not give consent: {told}.", advice="Run the command again and allow the access."
            )

        yield code
