"""One token for many: renewed once however many need it, stored before use, and given up only when Zendesk says so."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import requests

from airflow_provider_qadzd.errors import FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.records import Lease, Token
from airflow_provider_qadzd.zendesk.oauth import OAuthClient
from airflow_provider_qadzd.zendesk.tokens import TokenSource
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


class AwayFor(MemoryTokens):
    """A store that is away for the next `away` tries to save."""

    away = 0

    def save(self, lease: Lease, token: Token) -> bool:
        if self.away:
            self.away -= 1
            raise TryLater("the ledger is away")
        return super().save(lease, token)


def test_a_new_token_is_kept_although_the_store_is_away_for_a_while() -> None:
    """The old refresh token is dead by then, so storing is tried for as long as the lease lasts."""
    clock = FakeClock()
    store = AwayFor(clock, held(0))
    store.away = 30
    tokens = TokenSource("zendesk", PERSON, store, session_of(Answers(answer(200, GIVEN))), clock)
    assert tokens.access_token() == "acc-2"
    assert store.token is not None
    assert store.token.refresh == "ref-2"


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


@pytest.mark.parametrize(
    ("granted", "told"),
    [
        pytest.param("read", ["zendesk_default", "did not grant write", "only: read"], id="less than asked"),
        pytest.param("read write", [], id="as asked"),
        pytest.param("write tickets:read read", [], id="more than asked"),
        pytest.param(None, [], id="not told"),
    ],
)
@pytest.mark.parametrize("client", [MACHINE, PERSON], ids=["client credentials", "authorization code"])
def test_a_scope_that_was_not_granted_is_warned_of_once(
    client: OAuthClient, granted: str | None, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The token is used all the same; one warning says what is lacking, names the connection, and holds no secret."""
    tokens, _, _, _ = source(client, held(0), answer(200, {**GIVEN, "scope": granted}))
    with caplog.at_level(logging.WARNING):
        assert [tokens.access_token() for _ in range(2)] == ["acc-2", "acc-2"]
    assert len(caplog.messages) == bool(told)
    for words in told:
        assert words in caplog.text
    for secret in ("client-secret", "acc-", "ref-"):
        assert secret not in caplog.text
