"""What is asked of Zendesk's OAuth, where the header goes, and what a 401 means."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.records import Token
from airflow_provider_qadzd.settings import settings_from
from airflow_provider_qadzd.zendesk import oauth
from airflow_provider_qadzd.zendesk.connection import ZendeskSettings, base_url_of
from airflow_provider_qadzd.zendesk.oauth import ApiToken, OAuthClient, ZendeskAuth
from tests.zendesk.fakes import BASE_URL, Answers, answer, session_of
from tests.zendesk.test_tokens import GIVEN, MACHINE, PERSON, held, source

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


@pytest.mark.parametrize(
    ("client", "advice"),
    [
        pytest.param(PERSON, "Open Connect in Airflow's menu, or run `airflow qadzd connect CONN_ID`", id="consent"),
        pytest.param(MACHINE, "login and password, which are the OAuth client's id and secret", id="client"),
    ],
)
def test_a_second_401_says_what_to_do(client: OAuthClient, advice: str) -> None:
    """There is no third try: a person has to look, and is told where, by connection and by kind of credentials."""
    tokens, _, renewals, _ = source(client, held(), answer(200, GIVEN))
    api = Answers(answer(401), answer(401, {"error": "invalid_token"}))
    with pytest.raises(FixFirst, match="connection zendesk_default") as error:
        asking(tokens, api)(f"{BASE_URL}/api/v2/x?token=query-secret")
    assert advice in error.value.advice
    assert (error.value.facts.status, error.value.facts.code) == (401, "invalid_token")
    assert (error.value.facts.method, error.value.facts.path) == ("GET", "/api/v2/x")
    assert (api.left, renewals.left) == ([], [])
    for secret in ("acc-", "ref-", "client-secret", "query-secret"):
        assert secret not in f"{error.value!r} {error.value}"


def test_a_refusal_for_another_reason_than_a_401_goes_to_the_caller() -> None:
    """Only a 401 is about the token; a repetition that meets another refusal is not repeated."""
    tokens, _, renewals, _ = source(MACHINE, held(), answer(200, GIVEN))
    api = Answers(answer(403), answer(401), answer(503))
    get = asking(tokens, api)
    assert [get(f"{BASE_URL}/x").status_code for _ in range(2)] == [403, 503]
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
    """Basic credentials of `email/token` and the token; a 401 says what to check; the warning names the end."""
    api = Answers(answer(401))
    with pytest.raises(FixFirst, match=r"connection zendesk_default: .* login .* password") as error:
        asking(ApiToken("a@b.co", "t", "connection zendesk_default"), api)(f"{BASE_URL}/x")
    assert "Connect" not in error.value.advice
    assert api.left == []
    assert api.asked[0].headers["Authorization"] == "Basic YUBiLmNvL3Rva2VuOnQ="
    assert "2027-04-30" in oauth.api_token_warning("connection zendesk_default")


def test_nothing_printed_holds_a_secret() -> None:
    """A repr may end up in a log."""
    tokens, _, _, _ = source(PERSON, held())
    shown = f"{PERSON!r} {tokens!r} {held()!r} {ApiToken('a@b.co', 'api-secret')!r} {oauth.api_token_warning('x')}"
    for secret in ("client-secret", "acc-1", "ref-1", "api-secret"):
        assert secret not in shown
