"""A token is renewed once however many need it, and no secret shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from airflow_provider_qadzd.errors import FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.records import Lease, Token
from airflow_provider_qadzd.settings import settings_from
from airflow_provider_qadzd.zendesk import oauth
from airflow_provider_qadzd.zendesk.connection import ZendeskSettings, base_url_of
from airflow_provider_qadzd.zendesk.oauth import ApiToken, OAuthClient, TokenSource, ZendeskAuth
from tests.zendesk.fakes import BASE_URL, Answers, FakeClock, MemoryTokens, answer, session_of

MACHINE = OAuthClient(BASE_URL, "qadzd", "client-secret", where="connection zendesk_default")
PERSON = replace(MACHINE, grant="authorization_code", redirect_uri="https://airflow.example.com/qadzd/connect")
GIVEN = {"access_token": "acc-2", "refresh_token": "ref-2", "expires_in": 1800, "scope": "read write"}


def source(
    client: OAuthClient, token: Token | None, *answers: requests.Response | Exception
) -> tuple[TokenSource, MemoryTokens, Answers, FakeClock]:
    """A TokenSource over a store that holds `token`, and a list of answers."""
    clock = FakeClock()
    store, said = MemoryTokens(clock, token), Answers(*answers)
    return TokenSource("zendesk", client, store, session_of(said), clock), store, said, clock


def held(lives: float | None = 1800.0, version: int = 1) -> Token:
    """A stored token that lives that long yet."""
    at = None if lives is None else FakeClock().time() + lives
    return Token("acc-1", "ref-1", at, "read write", version)


# -- addresses, settings, requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("acme", "https://acme.zendesk.com"),
        (" acme.zendesk.com ", "https://acme.zendesk.com"),
        ("https://ACME.zendesk.com/", "https://acme.zendesk.com"),
        ("https://acme.zendesk.com/api/v2/", "https://acme.zendesk.com"),
        ("acme.zendesk.com:443", "https://acme.zendesk.com"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://localhost:8443", "https://localhost:8443"),
        ("localhost", "http://localhost"),
    ],
)
def test_a_host_is_given_in_any_usual_form(host: str, url: str) -> None:
    """A subdomain, a host and an address mean the same."""
    assert base_url_of(host) == url


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("", id="nothing"),
        pytest.param("http://acme.zendesk.com", id="without encryption"),
        pytest.param("https://user:hunter2@acme.zendesk.com", id="with credentials"),
        pytest.param("https://acme.zendesk.com?token=hunter2", id="with a query"),
        pytest.param("https://acme.zendesk.com#hunter2", id="with a fragment"),
        pytest.param("https://acme.zendesk.com/agent/hunter2", id="a page"),
        pytest.param("ftp://acme.zendesk.com", id="another scheme"),
        pytest.param("https://acme.zendesk.com:port", id="a port that is none"),
        pytest.param("acme zendesk", id="two words"),
        pytest.param("http://localhost.evil.com", id="only almost this machine"),
    ],
)
def test_an_unusable_host_is_refused_without_repeating_it(host: str) -> None:
    """What stands there may hold a password, so the error does not show it."""
    with pytest.raises(FixFirst) as error:
        base_url_of(host)
    assert "hunter2" not in repr(error.value)


def test_plain_http_elsewhere_must_be_asked_for() -> None:
    """A sandbox in another container is reached over http only on request."""
    assert base_url_of("http://sandbox:8080", allow_http=True) == "http://sandbox:8080"


def test_settings_have_safe_defaults() -> None:
    """An empty extra means unattended OAuth with a share of the limits."""
    settings = settings_from(ZendeskSettings, {}, "extra")
    assert settings == ZendeskSettings("client_credentials", "read write", "", 60.0, 0.7, "auto")


@pytest.mark.parametrize(
    "extra",
    [
        {"auth": "password"},
        {"bulk_import": "maybe"},
        {"rate_share": 0},
        {"rate_share": 1.01},
        {"timeout": 0},
        {"redirect_uri": "http://airflow.example.com/"},
        {"redirect_uri": "/qadzd/connect"},
        {"rateshare": 0.5},
    ],
    ids=str,
)
def test_a_wrong_setting_names_what_is_allowed(extra: dict[str, object]) -> None:
    """A setting is refused where it is read, with what to write instead."""
    with pytest.raises(FixFirst) as error:
        settings_from(ZendeskSettings, extra, "extra")
    assert error.value.advice


def test_the_consent_address_carries_the_challenge_and_no_secret() -> None:
    """PKCE S256 and state go into the address; the verifier and the client secret do not."""
    url = urlsplit(oauth.authorization_url(PERSON, "st", "v" * 43))
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{BASE_URL}/oauth/authorizations/new"
    assert query == {
        "response_type": "code",
        "client_id": "qadzd",
        "redirect_uri": PERSON.redirect_uri,
        "scope": "read write",
        "state": "st",
        "code_challenge": oauth.challenge_of("v" * 43),
        "code_challenge_method": "S256",
    }


def test_the_challenge_is_the_one_of_the_standard() -> None:
    """The example of RFC 7636, appendix B."""
    verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert oauth.challenge_of(verifier) == challenge


def test_verifier_and_state_are_fresh_and_long_enough() -> None:
    """A verifier has 43 to 128 characters, and no two are alike."""
    assert 43 <= len(oauth.new_verifier()) <= 128
    assert oauth.new_verifier() != oauth.new_verifier()
    assert oauth.new_state() != oauth.new_state()


def test_scopes_not_granted_are_named() -> None:
    """Whatever was asked for and is not in the answer."""
    assert oauth.missing_scopes("read write", "read") == ("write",)
    assert oauth.missing_scopes("read write", "write read") == ()


# -- keeping a token ---------------------------------------------------------------------------------------------------


def test_a_valid_token_costs_no_call() -> None:
    """What is stored and still good is used."""
    tokens, _, said, _ = source(MACHINE, held())
    assert tokens.header() == "Bearer acc-1"
    assert said.asked == []


@pytest.mark.parametrize(
    ("token", "calls"),
    [
        pytest.param(None, 1, id="none yet"),
        pytest.param(held(61), 0, id="just long enough"),
        pytest.param(held(60), 1, id="about to lapse"),
        pytest.param(held(-1), 1, id="lapsed"),
        pytest.param(held(None), 0, id="no end told"),
    ],
)
def test_a_token_is_renewed_a_minute_before_it_lapses(token: Token | None, calls: int) -> None:
    """A token that might lapse on the way is not sent."""
    tokens, _, said, _ = source(MACHINE, token, answer(200, GIVEN))
    tokens.access_token()
    assert len(said.asked) == calls


def test_client_credentials_ask_for_a_new_token_and_store_it_before_use() -> None:
    """The body names client, secret and scope; the answer is stored with its end and the next version."""
    tokens, store, said, clock = source(MACHINE, held(0), answer(201, {**GIVEN, "refresh_token": None}))
    assert tokens.access_token() == "acc-2"
    assert store.saved == [Token("acc-2", None, clock.time() + 1800, "read write", 2)]
    assert store.held is None
    named = {"client_id": "qadzd", "client_secret": "client-secret", "scope": "read write"}
    assert said.bodies == [{"grant_type": "client_credentials", **named}]
    assert said.asked[0].url == f"{BASE_URL}/oauth/tokens"


def test_a_refresh_token_is_spent_once_and_rotated() -> None:
    """The next refresh uses the token that the last one gave."""
    later = answer(200, {**GIVEN, "access_token": "acc-3", "refresh_token": "ref-3"})
    tokens, store, said, clock = source(PERSON, held(0), answer(200, GIVEN), later)
    assert tokens.access_token() == "acc-2"
    clock.now += 1800
    assert tokens.access_token() == "acc-3"
    assert [body["refresh_token"] for body in said.bodies] == ["ref-1", "ref-2"]
    assert store.token is not None
    assert (store.token.refresh, store.token.version) == ("ref-3", 3)


def test_an_end_that_is_not_told_is_not_invented() -> None:
    """`expires_in` may be null; the refresh token may be left out and is then kept."""
    tokens, store, _, _ = source(PERSON, held(0), answer(200, {"access_token": "acc-2", "expires_in": None}))
    tokens.access_token()
    assert store.token is not None
    assert (store.token.expires_at, store.token.refresh) == (None, "ref-1")


def test_who_finds_another_at_it_waits_and_takes_its_token() -> None:
    """While somebody holds the lease, the store is read again, and no call is made."""
    tokens, store, said, clock = source(PERSON, held(0))
    other = store.lease("zendesk", "other", 1, 90)
    assert other is not None

    def finish() -> None:
        if len(clock.slept) == 3:
            store.save(other, Token("acc-2", "ref-2", clock.time() + 1800))

    clock.while_asleep = finish
    assert tokens.access_token() == "acc-2"
    assert (said.asked, len(clock.slept)) == ([], 3)


def test_waiting_for_another_is_bounded() -> None:
    """After `patience` seconds the wait is told instead of spent."""
    tokens, store, said, clock = source(PERSON, held(0))
    store.lease("zendesk", "other", 1, 1000)
    with pytest.raises(TryLater):
        tokens.access_token()
    assert sum(clock.slept) <= 20
    assert said.asked == []


def test_a_lapsed_lease_lets_the_same_refresh_token_be_tried_once() -> None:
    """Whoever held it may have died before asking."""
    tokens, store, said, clock = source(PERSON, held(0), answer(200, GIVEN))
    store.held = Lease("zendesk", "dead", 1, clock.time() + 5)
    assert tokens.access_token() == "acc-2"
    assert [body["refresh_token"] for body in said.bodies] == ["ref-1"]


def test_a_dead_refresh_token_means_connect_again() -> None:
    """`invalid_grant` with nothing newer stored: a person must consent, and nobody asks Zendesk meanwhile."""
    tokens, store, said, _ = source(PERSON, held(0), answer(400, {"error": "invalid_grant", "error_description": "x"}))
    for _ in range(2):
        with pytest.raises(FixFirst, match="airflow qadzd connect"):
            tokens.access_token()
    assert store.token is not None
    assert store.token.state == "connect_again"
    assert store.held is None
    assert len(said.asked) == 1


def test_a_late_answer_of_an_earlier_holder_is_used() -> None:
    """`invalid_grant` because another had spent the token and has stored the next one meanwhile."""
    tokens, store, said, clock = source(PERSON, held(0))

    class Late(Answers):
        def send(self, request: requests.PreparedRequest, *args: object, **options: object) -> requests.Response:
            store.token = Token("acc-9", "ref-9", clock.time() + 1800, version=2)
            return super().send(request, *args, **options)

    said = Late(answer(400, {"error": "invalid_grant"}))
    tokens = TokenSource("zendesk", PERSON, store, session_of(said), clock)
    assert tokens.access_token() == "acc-9"
    assert store.token is not None
    assert store.token.state == "ok"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        pytest.param(
            answer(401, {"error": "invalid_client"}), FixFirst, "connection zendesk_default", id="client, 401"
        ),
        pytest.param(
            answer(400, {"error": "invalid_client"}), FixFirst, "connection zendesk_default", id="client, 400"
        ),
        pytest.param(answer(400, {"error": "invalid_scope"}), FixFirst, "scope", id="scope"),
        pytest.param(answer(400, {"error": "unauthorized_client"}), FixFirst, "confidential", id="public client"),
        pytest.param(answer(404, "<html>"), FixFirst, BASE_URL, id="wrong address"),
        pytest.param(answer(302, "", {"Location": "https://elsewhere"}), FixFirst, BASE_URL, id="redirect"),
        pytest.param(answer(200, "<html>"), FixFirst, "without a token", id="a page"),
        pytest.param(answer(200, {"access_token": ""}), FixFirst, "without a token", id="an empty token"),
        pytest.param(answer(429, "slow", {"Retry-After": "7"}), TryLater, "rate limit", id="rate limit"),
        pytest.param(answer(503, ""), TryLater, "not available", id="maintenance"),
        pytest.param(requests.ReadTimeout("client-secret"), TryLater, "got lost", id="no answer"),
        pytest.param(requests.ConnectTimeout("client-secret"), TryLater, "cannot be reached", id="no connection"),
    ],
)
def test_a_refused_renewal_frees_the_lease_and_says_what_to_do(
    said: requests.Response | Exception, kind: type[QadzdError], words: str
) -> None:
    """Only `invalid_grant` ends the token; anything else leaves it for the next try, and no error holds a secret."""
    tokens, store, _, _ = source(PERSON, held(0), said)
    with pytest.raises(kind, match=words) as error:
        tokens.access_token()
    assert store.held is None
    assert store.token is not None
    assert store.token.state == "ok"
    for secret in ("client-secret", "ref-1", "acc-1"):
        assert secret not in f"{error.value!r} {error.value}"


@pytest.mark.parametrize("token", [None, Token("a", None, 1.0), Token("a", "r", 1.0, state="connect_again")])
def test_without_consent_zendesk_is_not_asked(token: Token | None) -> None:
    """No token, no refresh token or a refused one: only a person can help."""
    tokens, store, said, _ = source(PERSON, token)
    with pytest.raises(FixFirst, match="airflow qadzd connect"):
        tokens.access_token()
    assert (said.asked, store.held) == ([], None)


def test_a_code_becomes_the_first_token() -> None:
    """The code goes with its verifier and redirect address; the token is stored even where one was refused before."""
    refused = Token("acc-1", "ref-1", 0.0, version=4, state="connect_again")
    tokens, store, said, _ = source(PERSON, refused, answer(200, GIVEN))
    tokens.exchange_code("code-1", "verifier-1")
    assert said.bodies[0] == {
        "grant_type": "authorization_code",
        "client_id": "qadzd",
        "client_secret": "client-secret",
        "code": "code-1",
        "code_verifier": "verifier-1",
        "redirect_uri": PERSON.redirect_uri,
        "scope": "read write",
    }
    assert store.token is not None
    assert (store.token.access, store.token.state, store.token.version) == ("acc-2", "ok", 5)
    assert tokens.access_token() == "acc-2"


def test_a_spent_code_leaves_the_store_as_it_was() -> None:
    """A code that is refused says nothing about the token that is stored."""
    tokens, store, _, _ = source(PERSON, held(), answer(400, {"error": "invalid_grant"}))
    with pytest.raises(FixFirst):
        tokens.exchange_code("code-1", "verifier-1")
    assert (store.token, store.held) == (held(), None)


def test_nothing_printed_holds_a_secret() -> None:
    """A repr may end up in a log."""
    tokens, _, _, _ = source(PERSON, held())
    shown = f"{PERSON!r} {tokens!r} {held()!r} {ApiToken('a@b.co', 'api-secret')!r} {oauth.api_token_warning('x')}"
    for secret in ("client-secret", "acc-1", "ref-1", "api-secret"):
        assert secret not in shown


# -- the header --------------------------------------------------------------------------------------------------------


def asking(tokens: oauth.Credentials, answers: Answers) -> Callable[[str], requests.Response]:
    """A GET through a session with `ZendeskAuth`."""
    session = session_of(answers)
    session.auth = ZendeskAuth(BASE_URL, tokens)
    return lambda url: session.get(url, timeout=1)


def test_a_401_costs_one_renewal_and_one_retry() -> None:
    """The refused token is replaced, the same request goes out again, and its answer is the answer."""
    tokens, _, renewals, _ = source(MACHINE, held(), answer(200, GIVEN))
    api = Answers(answer(401, {"error": "invalid_token"}), answer(200, {"ok": True}))
    assert asking(tokens, api)(f"{BASE_URL}/api/v2/x?y=1").status_code == 200
    assert [request.headers["Authorization"] for request in api.asked] == ["Bearer acc-1", "Bearer acc-2"]
    assert len({request.url for request in api.asked}) == 1
    assert len(renewals.asked) == 1


def test_a_second_401_is_the_answer() -> None:
    """There is no third try."""
    tokens, _, renewals, _ = source(MACHINE, held(), answer(200, GIVEN))
    api = Answers(answer(401), answer(401))
    assert asking(tokens, api)(f"{BASE_URL}/api/v2/x").status_code == 401
    assert (api.left, renewals.left) == ([], [])


def test_a_401_takes_the_token_that_another_has_stored_meanwhile() -> None:
    """No renewal is needed where the store already has a newer token."""
    tokens, store, renewals, clock = source(PERSON, held())
    tokens.access_token()
    store.token = Token("acc-7", "ref-7", clock.time() + 1800, version=2)
    api = Answers(answer(401), answer(200, {}))
    assert asking(tokens, api)(f"{BASE_URL}/api/v2/x").status_code == 200
    assert (api.asked[1].headers["Authorization"], renewals.asked) == ("Bearer acc-7", [])


@pytest.mark.parametrize(
    "url",
    ["https://evil.example.com/x", "http://acme.zendesk.com/x", "https://acme.zendesk.com:8443/x", "https://acme.zendesk.com.evil.com/"],
)  # fmt: skip
def test_the_header_goes_to_no_other_address(url: str) -> None:
    """Another host, scheme or port is refused before anything is sent."""
    tokens, _, _, _ = source(MACHINE, held())
    api = Answers()
    with pytest.raises(FixFirst):
        asking(tokens, api)(url)
    assert api.asked == []


def test_an_api_token_is_sent_as_zendesk_wants_it_and_is_never_renewed() -> None:
    """Basic credentials of `email/token` and the token; a 401 is final; the warning names the end."""
    api = Answers(answer(401))
    assert asking(ApiToken("a@b.co", "t"), api)(f"{BASE_URL}/x").status_code == 401
    assert api.asked[0].headers["Authorization"] == "Basic YUBiLmNvL3Rva2VuOnQ="
    assert "2027-04-30" in oauth.api_token_warning("connection zendesk_default")
