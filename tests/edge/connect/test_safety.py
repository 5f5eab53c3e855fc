"""What must not work on the Connect page, and what must not leak from it."""

from __future__ import annotations

import logging
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog

from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.conftest import zendesk_connection
from tests.edge.connect.conftest import OWN, PAGE, Browser, state_in, text_of

pytestmark = pytest.mark.usefixtures("airflow_database")


@pytest.mark.parametrize("action", ["start", "disconnect"])
@pytest.mark.parametrize("slip", ["", "garbage", "deadbeef.garbage", "bert's", "a result"])
def test_a_form_that_we_did_not_write_is_refused(slip: str, action: str, anna: Browser, app: object) -> None:
    """Without the sealed slip of the page that this user was shown, nothing happens."""
    anna.connect()
    if slip == "bert's":
        slip = Browser(app, "bert").slip()
    if slip == "a result":
        anna.press("disconnect")
        slip = anna.client.cookies["qadzd_connect"]
        anna.client.cookies.delete("qadzd_connect")
        anna.connect()
    answer = anna.client.post(f"{PAGE}/zendesk_default/{action}", data={"slip": slip})
    assert answer.status_code == 400
    assert "not sent by the Connect page" in text_of(answer.text)
    assert state_in(anna.page()) == "connected"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 400),
        ({"Origin": "https://["}, 400),
        ({"Sec-Fetch-Site": "cross-site"}, 400),
        ({"Sec-Fetch-Site": "same-site"}, 400),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 400),
        ({"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 303),
        ({}, 303),
    ],
    ids=["origin", "no origin at all", "cross-site", "same-site", "hidden", "ours", "ours, hidden", "an old browser"],
)
def test_a_form_from_another_site_is_refused(headers: dict[str, str], status: int, anna: Browser) -> None:
    """Even with a genuine slip, what the browser says of the sender counts."""
    assert anna.press("start", **headers).status_code == status


def test_an_old_form_is_refused(anna: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that was open for too long must be opened anew."""
    monkeypatch.setattr("airflow_provider_qadzd.plugin.connect_page.FORM_LIFE", -1.0)
    assert anna.press("start").status_code == 400


def test_a_connection_of_no_flow_is_not_touched(
    anna: Browser, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the page lists can be connected."""
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", zendesk_connection(sandbox.url, auth="authorization_code"))
    answer = anna.client.post(f"{PAGE}/other/start", data={"slip": anna.slip()})
    assert answer.status_code == 400
    assert "No flow" in text_of(answer.text)


@pytest.mark.parametrize("path", ["zendesk_default/start", "zendesk_default/disconnect"])
def test_a_link_does_nothing(path: str, anna: Browser) -> None:
    """What changes something is no GET."""
    assert anna.client.get(f"{PAGE}/{path}").status_code in (404, 405)


def test_headers_keep_it_here(anna: Browser) -> None:
    """No answer is cached, framed, or told to another site, and no page runs a script."""
    for answer in (anna.client.get(PAGE), anna.press("start"), anna.client.get(f"{PAGE}/callback?state=x")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
    policy = anna.client.get(PAGE).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_the_result_is_for_this_browser_only(anna: Browser) -> None:
    """What came of it travels sealed, in a cookie that no script and no other path sees."""
    answer = anna.client.get(anna.consent())
    cookie = answer.headers["set-cookie"]
    assert "Connected" not in cookie
    for part in ("HttpOnly", "SameSite=lax", f"Path={PAGE}"):
        assert part in cookie


def test_nothing_secret_is_shown_or_logged(
    anna: Browser, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """With everything logged, neither code, state, token nor client secret is in a log, a page or an address.

    Airflow's own access log writes the query of every request: of ours there is nothing left to write.
    """
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as access:
        back = anna.consent()
        Browser(anna.client.app).client.get(back)  # not signed in: refused before anything is looked at
        page = anna.client.get(back)
        pages = [page.headers["location"], anna.page()]
        anna.client.get("/api/v2/version?seen=yes")
    given = parse_qs(urlsplit(back).query)
    hook = ZendeskHook()
    token = hook.secrets.read(hook.token_name)
    assert token is not None
    assert token.refresh is not None
    finished = [entry for entry in access if entry["event"] == "request finished"]
    assert [entry["query"] for entry in finished if entry["path"].endswith("/callback")] == ["", ""]
    assert [entry["query"] for entry in finished if entry["path"] == "/api/v2/version"] == ["seen=yes"]
    said = caplog.text + "".join(capfd.readouterr()) + repr(access) + "".join(pages)
    for secret in (given["code"][0], given["state"][0], token.access, token.refresh):
        assert secret not in said
