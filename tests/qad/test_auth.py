"""Signing in: one login for many workers, one repetition after a 401, and no secret where it could be read."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from airflow_provider_qadzd.errors import FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.qad.auth import Login, QadAuth
from airflow_provider_qadzd.qad.http import normalised_base_url, verification
from airflow_provider_qadzd.records import Token
from tests.qad.replies import BASE, FakeClock, MemoryTokens, Replies, Reply, session_of

LOGIN = Login(BASE, "svc", "s3cret-pass", client_id="app", where="connection qad_default")
GRANTED = {"access_token": "token-1", "refresh_token": "refresh-1", "expires_in": 3600}
AGAIN = {"access_token": "token-2", "refresh_token": "refresh-2", "expires_in": "3600"}


def get(
    replies: Replies, tokens: MemoryTokens | None = None, login: Login = LOGIN, clock: FakeClock | None = None
) -> requests.Response:  # fmt: skip
    """One GET through a session that signs in."""
    session = session_of(replies)
    session.auth = QadAuth(login, session, tokens or MemoryTokens(), clock or FakeClock())
    return session.get(f"{BASE}/api/x", timeout=5, allow_redirects=False)


def kept(token: Token) -> MemoryTokens:
    """A store that already holds `token` for LOGIN."""
    tokens = MemoryTokens()
    tokens.kept[LOGIN.credential] = token
    return tokens


def form(request: requests.PreparedRequest) -> dict[str, str]:
    """The form in the request's body."""
    return {name: values[0] for name, values in parse_qs(str(request.body)).items()}


def test_a_login_goes_in_the_body_and_its_token_in_the_header() -> None:
    """The password grant travels as a form, unsigned, and the token it brings signs the request."""
    replies, tokens = Replies(Reply(body=GRANTED), Reply(body=b"ok")), MemoryTokens()
    assert get(replies, tokens).status_code == 200
    login, call = replies.sent
    assert (login.method, login.url) == ("POST", f"{BASE}/oauth/token")
    assert form(login) == {
        "client_id": "app", "grant_type": "password", "username": "svc", "password": "s3cret-pass",
    }  # fmt: skip
    assert "Authorization" not in login.headers
    assert call.headers["Authorization"] == "Bearer token-1"
    assert tokens.kept[LOGIN.credential].expires_at == FakeClock().now + 3600


def test_a_kept_token_is_used_without_a_login() -> None:
    """A worker that finds a live token in the store does not log in."""
    replies = Replies(Reply())
    get(replies, kept(Token("token-0", expires_at=FakeClock().now + 31)))
    assert replies.sent[0].headers["Authorization"] == "Bearer token-0"


def test_a_worker_waits_while_another_one_logs_in() -> None:
    """Who does not get the lease waits and looks again; it does not log in as well."""
    tokens, clock = MemoryTokens(busy=2), FakeClock()
    replies = Replies(Reply(body=GRANTED), Reply())
    get(replies, tokens, clock=clock)
    assert clock.slept == [0.5, 0.5]
    assert len(tokens.leases) == 1


def test_a_worker_does_not_wait_for_ever() -> None:
    """A lease that never ends becomes "try later"."""
    with pytest.raises(TryLater, match="Another worker is signing in"):
        get(Replies(), MemoryTokens(busy=10_000))


@pytest.mark.parametrize(
    ("left", "grant"),
    [
        pytest.param(29, "refresh_token", id="just under the margin: refreshed"),
        pytest.param(30, "refresh_token", id="at the margin: refreshed"),
        pytest.param(31, None, id="just over the margin: used"),
    ],
)
def test_a_token_near_its_end_is_refreshed(left: float, grant: str | None) -> None:
    """A token with less than half a minute to live is refreshed before it is used."""
    tokens = kept(Token("token-0", "refresh-0", FakeClock().now + left, version=3))
    replies = Replies(Reply(body=AGAIN), Reply()) if grant else Replies(Reply())
    get(replies, tokens)
    assert form(replies.sent[0]).get("grant_type") == grant
    assert tokens.kept[LOGIN.credential].version == (4 if grant else 3)


def test_a_refused_refresh_token_falls_back_to_the_password() -> None:
    """QAD's word that a refresh token is spent leads to a login, not to an error."""
    tokens = kept(Token("token-0", "refresh-0", FakeClock().now - 1))
    replies = Replies(Reply(400, {"error": "invalid_grant"}), Reply(body=AGAIN), Reply())
    get(replies, tokens)
    assert [form(sent).get("grant_type") for sent in replies.sent[:2]] == ["refresh_token", "password"]


@pytest.mark.parametrize("told", [None, "", "soon", 0, "inf"], ids=["missing", "blank", "nonsense", "zero", "endless"])
def test_a_token_whose_life_is_not_told_gets_the_configured_one(told: object) -> None:
    """Without a usable `expires_in` the setting counts."""
    tokens = MemoryTokens()
    get(Replies(Reply(body={**GRANTED, "expires_in": told}), Reply()), tokens, replace(LOGIN, token_ttl=77.0))
    assert tokens.kept[LOGIN.credential].expires_at == FakeClock().now + 77


def test_a_401_costs_one_login_and_one_repetition() -> None:
    """A token that QAD no longer knows is replaced by a login, and the request goes out once more."""
    tokens = kept(Token("token-0", "refresh-0", FakeClock().now + 900, version=1))
    replies = Replies(Reply(401), Reply(body=AGAIN), Reply(body=b"ok"))
    assert get(replies, tokens).content == b"ok"
    assert form(replies.sent[1])["grant_type"] == "password"
    assert [sent.headers.get("Authorization") for sent in replies.sent] == ["Bearer token-0", None, "Bearer token-2"]
    assert replies.left == []


def test_a_401_takes_the_token_that_another_worker_has_fetched_meanwhile() -> None:
    """If the store already holds a newer token, nobody logs in again."""
    tokens, clock = kept(Token("token-0", None, FakeClock().now + 900, version=1)), FakeClock()
    replies = Replies(Reply(), Reply(401), Reply(body=b"ok"))
    session = session_of(replies)
    session.auth = QadAuth(LOGIN, session, tokens, clock)
    session.get(f"{BASE}/api/x", timeout=5)
    tokens.kept[LOGIN.credential] = Token("token-9", None, clock.now + 900, version=2)
    assert session.get(f"{BASE}/api/x", timeout=5).content == b"ok"
    assert replies.sent[-1].headers["Authorization"] == "Bearer token-9"


def test_a_second_401_is_handed_on() -> None:
    """After one repetition the refusal stands; there is no loop."""
    replies = Replies(Reply(body=GRANTED), Reply(401), Reply(body=AGAIN), Reply(401))
    assert get(replies).status_code == 401
    assert replies.left == []


@pytest.mark.parametrize(
    ("reply", "error", "match"),
    [
        pytest.param(Reply(401, {"error": "invalid_grant"}), FixFirst, "client_id of connection qad_default", id="401"),
        pytest.param(Reply(400, {"error": "invalid_client"}), FixFirst, "code=invalid_client", id="400"),
        pytest.param(Reply(403), FixFirst, "forbids", id="403"),
        pytest.param(Reply(404), FixFirst, "context root", id="404"),
        pytest.param(Reply(302, headers={"Location": "/login.jsp"}), FixFirst, "login page", id="redirect"),
        pytest.param(Reply(200, {"token": "x"}), FixFirst, "no access_token", id="no token in the answer"),
        pytest.param(Reply(200, b"<html>"), TryLater, "platform fault", id="a page"),
        pytest.param(Reply(503, headers={"Retry-After": "9"}), TryLater, "Wait 9 s", id="away"),
        pytest.param(Reply(error=requests.ConnectionError("refused")), TryLater, "does not answer", id="refused"),
        pytest.param(Reply(error=requests.exceptions.SSLError("x")), FixFirst, "certificate", id="certificate"),
    ],
)
def test_a_failed_login_is_named_and_ends_its_lease(reply: Reply, error: type[QadzdError], match: str) -> None:
    """A login that fails says what to do, frees the lease at once, and repeats no secret."""
    tokens = MemoryTokens()
    with pytest.raises(error, match=match) as caught:
        get(Replies(reply), tokens)
    assert tokens.released == len(tokens.leases) == 1
    assert "s3cret" not in f"{caught.value!r}{caught.value}"


def test_basic_sends_name_and_password_in_utf_8() -> None:
    """Basic needs no store, and a 401 is not repeated."""
    replies = Replies(Reply(401))
    session = session_of(replies)
    session.auth = QadAuth(replace(LOGIN, mode="basic", username="å"), session)
    assert session.get(f"{BASE}/api/x", timeout=5).status_code == 401
    assert replies.sent[0].headers["Authorization"] == "Basic " + b64encode("å:s3cret-pass".encode()).decode()


def test_bearer_sends_the_token_as_it_is() -> None:
    """A static token is the connection's password."""
    replies = Replies(Reply())
    get(replies, login=Login(BASE, password="static", mode="bearer"))
    assert replies.sent[0].headers["Authorization"] == "Bearer static"


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("https://else.example.invalid/clouderp/api", id="another host"),
        pytest.param("https://qad.example.invalid/clouderp-test/api", id="another context root"),
        pytest.param("http://qad.example.invalid/clouderp/api", id="in the clear"),
    ],
)
def test_credentials_never_leave_the_base_url(address: str) -> None:
    """A request to any other address is refused before it is signed."""
    replies = Replies()
    session = session_of(replies)
    session.auth = QadAuth(LOGIN, session, MemoryTokens(), FakeClock())
    with pytest.raises(FixFirst, match="not sent outside"):
        session.get(address, timeout=5)
    assert replies.sent == []


COOKIE = replace(LOGIN, mode="cookie", client_id="")
SESSION = {"sessionId": "s-1"}


def test_a_cookie_session_is_begun_with_json_and_kept() -> None:
    """The session id of QAD's own login goes along as a cookie, beside those that a load balancer set."""
    balancer = {"Set-Cookie": "route=n1; Path=/"}
    replies, tokens = Replies(Reply(body=SESSION, headers=balancer), Reply(body=b"ok")), MemoryTokens()
    session = session_of(replies)
    session.cookies.set("route", "n1", domain="qad.example.invalid")
    session.cookies.set("JSESSIONID", "of-the-load-balancer", domain="qad.example.invalid")
    session.auth = QadAuth(COOKIE, session, tokens, FakeClock())
    session.get(f"{BASE}/api/x", timeout=5)
    login, call = replies.sent
    assert (login.url, login.headers["Content-Type"]) == (f"{BASE}/api/login", "application/json")
    assert json.loads(login.body or b"") == {"username": "svc", "password": "s3cret-pass"}
    assert sorted(call.headers["Cookie"].split("; ")) == ["JSESSIONID=s-1", "route=n1"]
    assert "Authorization" not in call.headers
    assert tokens.kept[COOKIE.credential].access == "s-1"


@pytest.mark.parametrize(
    "lapsed",
    [
        pytest.param(Reply(401), id="401"),
        pytest.param(Reply(302, headers={"Location": "/clouderp/login.jsp?error=1"}), id="302 to the login page"),
        pytest.param(Reply(200, b"<html>", headers={"Content-Type": "text/html;charset=UTF-8"}), id="a page with 200"),
    ],
)
def test_a_lapsed_cookie_session_costs_one_login(lapsed: Reply) -> None:
    """To a cookie that it does not know QAD answers as to a browser; one login and one repetition follow."""
    replies = Replies(Reply(body=SESSION), lapsed, Reply(body={"sessionId": "s-2"}), lapsed)
    answer = get(replies, login=COOKIE)
    assert (answer.status_code, replies.left) == (lapsed.status, [])
    assert replies.sent[-1].headers["Cookie"] == "JSESSIONID=s-2"


def test_a_refresh_that_is_answered_with_a_page_falls_back_to_the_password() -> None:
    """However QAD says that a refresh token is spent, a login follows, and the next task does not stumble again."""
    tokens = kept(Token("token-0", "refresh-0", FakeClock().now - 1))
    replies = Replies(Reply(200, b"<html>down</html>"), Reply(body=AGAIN), Reply())
    get(replies, tokens)
    assert [form(sent).get("grant_type") for sent in replies.sent[:2]] == ["refresh_token", "password"]


def test_no_secret_shows_in_a_repr() -> None:
    """What is printed by accident holds no secret."""
    auth = QadAuth(LOGIN, requests.Session(), MemoryTokens())
    assert "s3cret" not in f"{LOGIN!r}{auth!r}"


def test_a_token_is_kept_by_instance_and_user() -> None:
    """A connection that points to another instance, or another user, never finds the old token."""
    others = [replace(LOGIN, base_url=BASE + "2"), replace(LOGIN, username="b"), replace(LOGIN, client_id="b")]
    assert len({login.credential for login in [LOGIN, COOKIE, *others, replace(LOGIN, where="connection b")]}) == 5


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param({"mode": "saml"}, "auth 'saml' is not known", id="unknown mode"),
        pytest.param({"client_id": ""}, "client_id is missing", id="no client id"),
        pytest.param({"username": ""}, "login is missing", id="no login"),
        pytest.param({"password": ""}, "password is missing", id="no password"),
        pytest.param({"token_path": "oauth/token"}, "token_path", id="relative token path"),
    ],
)
def test_an_incomplete_login_is_refused_at_once(change: dict[str, Any], match: str) -> None:
    """What is missing is named before anything is sent."""
    with pytest.raises(FixFirst, match=match):
        replace(LOGIN, **change)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("https://Demo.QAD.example/clouderp/", "https://demo.qad.example/clouderp", id="case and slash"),
        pytest.param(" https://h:33005/clouderp ", "https://h:33005/clouderp", id="a port"),
        pytest.param("https://h:443/clouderp/devl//", "https://h/clouderp/devl", id="the usual port is left out"),
        pytest.param("http://127.0.0.1:8700/clouderp", "http://127.0.0.1:8700/clouderp", id="this machine"),
        pytest.param("http://localhost/x", "http://localhost/x", id="this machine by name"),
        pytest.param("http://[::1]:80/x", "http://[::1]/x", id="this machine, IPv6"),
    ],
)
def test_one_instance_has_one_spelling(text: str, expected: str) -> None:
    """However it is written, one QAD instance has one base URL."""
    assert normalised_base_url(text, allow_http=False) == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        pytest.param("demo.qad.example/clouderp", "scheme and a host", id="no scheme"),
        pytest.param("ftp://h/x", "scheme and a host", id="another scheme"),
        pytest.param("https://svc:s3cret@h/x", "holds credentials", id="credentials"),
        pytest.param("https://h/x?password=s3cret", "query or a fragment", id="a query"),
        pytest.param("https://h/x#s3cret", "query or a fragment", id="a fragment"),
        pytest.param("http://h/x", "not https", id="plain http"),
        pytest.param("http://127.0.0.1.example/x", "not https", id="a host that looks local"),
        pytest.param("https://h:port/x", "cannot be read", id="a port that is no number"),
    ],
)
def test_a_doubtful_base_url_is_refused_without_repeating_it(text: str, match: str) -> None:
    """An address that is not plainly one instance over https is refused, and never shown."""
    with pytest.raises(FixFirst, match=match) as caught:
        normalised_base_url(text, allow_http=False)
    assert "s3cret" not in str(caught.value)


def test_plain_http_can_be_allowed() -> None:
    """Some sites run in the clear inside a network, and say so."""
    assert normalised_base_url("http://h:22000/qad-central/", allow_http=True) == "http://h:22000/qad-central"


@pytest.mark.parametrize(
    ("verify", "allow_http", "expected"),
    [
        pytest.param("true", False, True, id="on"),
        pytest.param("True", False, True, id="on, from a JSON boolean"),
        pytest.param("/etc/qad-ca.pem", False, "/etc/qad-ca.pem", id="a CA file"),
        pytest.param("false", True, False, id="off, where http is allowed too"),
    ],
)
def test_certificates_are_verified(verify: str, allow_http: bool, expected: bool | str) -> None:
    """Verification is on, or by a CA file; off only where plain http is accepted as well."""
    assert verification(verify, allow_http, "connection x") == expected


def test_unverified_certificates_are_refused() -> None:
    """Turning verification off alone is refused."""
    with pytest.raises(FixFirst, match="verify is off"):
        verification("false", False, "connection x")
