"""The real Airflow app with real users, a browser that is signed in, and Zendesk behind a real socket."""

from __future__ import annotations

import html
import http.client
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import requests
from starlette.testclient import TestClient

from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.conftest import zendesk_connection

OWN = "http://localhost:8080"
PAGE = "/qadzd/connect"


@pytest.fixture(scope="package")
def app(airflow_database: None) -> Iterator[object]:
    """Airflow's own app with this plugin, and its users."""
    from airflow.api_fastapi.app import create_app, purge_cached_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "anna:admin,bert:admin,olga:op,vera:viewer")
        patch.setenv("AIRFLOW__API__BASE_URL", OWN)
        yield create_app(apps="core")
        purge_cached_app()


class Browser:
    """A browser that is signed in to Airflow, and follows no redirect by itself."""

    def __init__(self, app: object, user: str = "") -> None:
        self.client = TestClient(app, base_url=OWN, follow_redirects=False)  # type: ignore[arg-type]
        if user:
            self.client.cookies.set("_token", signed_in(user))

    def page(self) -> str:
        """The Connect page as text, with its tags."""
        answer = self.client.get(PAGE)
        assert answer.status_code == 200, answer.text
        return answer.text

    def slip(self) -> str:
        """What the page's forms carry."""
        return re.findall(r'name="slip" value="([^"]+)"', self.page())[0]

    def press(self, action: str, **headers: str) -> requests.Response:
        """Press one of the page's buttons."""
        return self.client.post(f"{PAGE}/zendesk_default/{action}", data={"slip": self.slip()}, headers=headers)

    def consent(self) -> str:
        """Press Connect, allow it in Zendesk, and say where Zendesk sends the browser."""
        there = self.press("start")
        assert there.status_code == 303, there.text
        asked = urlsplit(there.headers["location"])
        zendesk = http.client.HTTPConnection(asked.netloc, timeout=10)  # which logs nothing itself
        zendesk.request("GET", f"{asked.path}?{asked.query}")
        back = str(zendesk.getresponse().getheader("Location"))
        zendesk.close()
        return back.removeprefix(OWN)

    def connect(self) -> str:
        """All of it: what the page says in the end."""
        answer = self.client.get(self.consent())
        assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
        return self.page()


def signed_in(user: str) -> str:
    """Airflow's token for one of the users."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    role = {"anna": "admin", "bert": "admin", "olga": "op", "vera": "viewer"}[user]
    return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=user, role=role))


@pytest.fixture
def asking(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the connection ask a person for consent, with more in its extra."""

    def set_up(**extra: object) -> None:
        connection = zendesk_connection(sandbox.url, **{"auth": "authorization_code", **extra})
        monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", connection)

    set_up()
    return set_up


@pytest.fixture
def anna(app: object, asking: object) -> Browser:
    """An admin at the browser."""
    return Browser(app, "anna")


def text_of(page: str) -> str:
    """What a person reads of a page."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)))


def state_in(page: str) -> str:
    """The state of the first connection, in words."""
    return re.findall(r'<span class="state \w+">([^<]+)', page)[0]
