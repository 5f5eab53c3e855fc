"""What the QAD client repeats, how long it waits, and what it never repeats."""

from __future__ import annotations

from dataclasses import replace

import pytest
import requests

from airflow_provider_qadzd.errors import FixFirst, QadzdError, TryLater
from tests.qad.replies import BASE, FIELDS, PLAIN, FakeClock, Replies, Reply, client_of, page, row


@pytest.mark.parametrize(
    "away",
    [
        pytest.param(Reply(429), id="429"),
        pytest.param(Reply(502), id="502"),
        pytest.param(Reply(503), id="503"),
        pytest.param(Reply(504), id="504"),
        pytest.param(Reply(error=requests.ConnectionError("refused")), id="refused"),
        pytest.param(Reply(error=requests.ReadTimeout("slow")), id="timeout"),
        pytest.param(Reply(error=requests.exceptions.ChunkedEncodingError("cut")), id="cut off"),
    ],
)
def test_a_get_is_repeated_while_qad_is_away(away: Reply) -> None:
    """A busy or unreachable QAD is asked again after a pause, and the read goes on."""
    replies, clock = Replies(FIELDS, away, away, page(row("A"))), FakeClock()
    read = client_of(replies, clock=clock).customers()
    assert [len(page) for page in read] == [1]
    assert (replies.left, len(clock.slept)) == ([], 2)


def test_retry_after_is_waited_for() -> None:
    """The pause is what the server asks for, in seconds or as a date."""
    clock = FakeClock()
    date = "Tue, 14 Nov 2023 22:13:50 GMT"  # 30 seconds after the clock's start, 23 after the first pause
    away = [Reply(503, headers={"Retry-After": "7"}), Reply(429, headers={"Retry-After": date})]
    next(client_of(Replies(FIELDS, *away, page(row("A"))), clock=clock).customers())
    assert clock.slept == [7.0, 23.0]


def test_repeating_is_bounded_by_number() -> None:
    """Five attempts are made; then the caller is told to try later."""
    replies, clock = Replies(*[Reply(503)] * 6), FakeClock()
    with pytest.raises(TryLater, match="QAD is away or busy") as caught:
        client_of(replies, clock=clock).browse_fields("b")
    assert (len(replies.left), len(clock.slept), caught.value.wait) == (1, 4, 60.0)


@pytest.mark.parametrize(
    ("told", "left"),
    [pytest.param("90", 0, id="at the bound: waited"), pytest.param("91", 1, id="just over: handed on")],
)
def test_repeating_is_bounded_by_time(told: str, left: int) -> None:
    """A pause that is too long to wait in place is handed to the caller, with its length."""
    replies, clock = Replies(Reply(503, headers={"Retry-After": told}), FIELDS), FakeClock()
    client = client_of(replies, clock=clock)
    if not left:
        assert client.browse_fields("b") == ["c.code", "c.name"]
        return
    with pytest.raises(TryLater, match=r"Wait 91 s") as caught:
        client.browse_fields("b")
    assert (caught.value.wait, clock.slept, len(replies.left)) == (91.0, [], 1)


@pytest.mark.parametrize(
    ("reply", "error", "match"),
    [
        pytest.param(Reply(500), TryLater, "HTTP 500", id="platform fault"),
        pytest.param(Reply(200, b"<html>down</html>"), TryLater, "platform fault", id="a page"),
        pytest.param(Reply(401), FixFirst, "login of connection qad_default", id="401 names the connection"),
        pytest.param(Reply(403), FixFirst, "permission", id="403"),
        pytest.param(Reply(404), FixFirst, "base URL of connection qad_default", id="404"),
        pytest.param(Reply(302, headers={"Location": f"{BASE}/login"}), FixFirst, "login page", id="to the login"),
        pytest.param(Reply(error=requests.exceptions.SSLError("x")), FixFirst, "certificate", id="certificate"),
        pytest.param(Reply(error=requests.exceptions.InvalidHeader("x")), FixFirst, "InvalidHeader", id="a bad header"),
    ],
)
def test_what_a_repetition_cannot_cure_is_not_repeated(reply: Reply, error: type[QadzdError], match: str) -> None:
    """One attempt, one named error."""
    replies = Replies(reply, FIELDS)
    with pytest.raises(error, match=match):
        client_of(replies).browse_fields("b")
    assert len(replies.left) == 1


def test_every_request_has_a_timeout_and_a_verified_certificate() -> None:
    """Nothing waits for ever, and the configured CA is the one that counts."""
    replies = Replies(FIELDS)
    client_of(replies, replace(PLAIN, timeout=9.0, verify="/etc/ca.pem")).browse_fields("b")
    assert (replies.options[0]["timeout"], replies.options[0]["verify"]) == ((10.0, 9.0), "/etc/ca.pem")
