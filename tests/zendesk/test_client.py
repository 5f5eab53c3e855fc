"""What is repeated and what is not, how lists are read, and that nothing leaves for another address."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
import requests

from airflow_provider_qadzd.errors import FixFirst, QadzdError, SetAside, TryLater
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.pace import Pace
from airflow_provider_qadzd.zendesk.wire import NotFound
from tests.zendesk.fakes import BASE_URL, Answers, FakeClock, MemoryBudget, answer, client_of, session_of

Call = Callable[[ZendeskClient], object]
SHOWN = answer(200, {"user": {"id": 5}})


def read(zendesk: ZendeskClient) -> object:
    """A call that changes nothing."""
    return zendesk.users.show(5)


def put(zendesk: ZendeskClient) -> object:
    """A call that may be repeated."""
    return zendesk.users.update(5, {"name": "x"})


def post(zendesk: ZendeskClient) -> object:
    """A call that must not be repeated blindly."""
    return zendesk.users.create({"name": "x"})


def refused_connection() -> requests.ConnectionError:
    """What `requests` raises when nobody listens, as far as its cause tells."""
    error = requests.ConnectionError("Max retries exceeded with url: /api/v2/users/search?query=a@b.co")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return error


@pytest.mark.parametrize("call", [read, put, post])
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(lambda: answer(429, "slow", {"Retry-After": "3"}), id="429, text/plain"),
        pytest.param(lambda: answer(503, "", {"Retry-After": "3"}), id="503"),
        pytest.param(lambda: answer(409, {"error": "Conflict"}), id="409"),
        pytest.param(refused_connection, id="connection refused"),
        pytest.param(requests.ConnectTimeout, id="connection timed out"),
    ],
)
def test_what_zendesk_did_not_begin_is_repeated(call: Call, said: Callable[[], requests.Response | Exception]) -> None:
    """A refusal for a moment is repeated whatever the verb, after a wait."""
    clock, answers = FakeClock(), Answers(said(), said(), answer(200, {"user": {"id": 5}}))
    assert call(client_of(answers, clock)) == {"id": 5}
    assert (answers.left, len(clock.slept) >= 2) == ([], True)


@pytest.mark.parametrize("call", [read, put])
@pytest.mark.parametrize(
    "said", [requests.ReadTimeout, requests.ConnectionError, requests.exceptions.ChunkedEncodingError]
)
def test_a_lost_answer_is_asked_for_again_where_that_does_no_harm(call: Call, said: type[Exception]) -> None:
    """A read or a replacement may be repeated although the first one may have been done."""
    answers = Answers(said(), answer(200, {"user": {"id": 5}}))
    assert call(client_of(answers)) == {"id": 5}
    assert answers.left == []


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(requests.ReadTimeout("query=a@b.co"), id="no answer in time"),
        pytest.param(requests.ConnectionError("query=a@b.co"), id="connection lost"),
        pytest.param(requests.exceptions.ChunkedEncodingError("query=a@b.co"), id="answer cut off"),
        pytest.param(answer(504, "<html>"), id="gateway timed out"),
        pytest.param(answer(500, "<html>"), id="crash"),
    ],
)
def test_a_post_without_an_answer_is_never_repeated(said: requests.Response | Exception) -> None:
    """It may have created something: the caller looks first."""
    answers = Answers(said)
    with pytest.raises(TryLater) as error:
        post(client_of(answers))
    assert error.value.unanswered
    assert len(answers.asked) == 1
    assert "a@b.co" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(("call", "unanswered"), [(read, False), (put, True)])
def test_a_write_that_stays_without_an_answer_is_known_to_be_open(call: Call, unanswered: bool) -> None:
    """Four attempts, and then the error tells whether something may have been done."""
    answers = Answers(*[requests.ReadTimeout("query=a@b.co") for _ in range(5)])
    with pytest.raises(TryLater) as error:
        call(client_of(answers))
    assert (error.value.unanswered, len(answers.left)) == (unanswered, 1)
    assert "a@b.co" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(("after", "asked"), [("20", 2), ("61", 1), ("86400", 1)])
def test_a_long_wait_is_told_and_not_spent(after: str, asked: int) -> None:
    """Retry-After within the bound is obeyed in place; beyond it TryLater carries it."""
    clock, answers = FakeClock(), Answers(answer(503, "", {"Retry-After": after}), SHOWN)
    zendesk = client_of(answers, clock)
    if asked == 2:
        assert read(zendesk) == {"id": 5}
        assert 20 <= clock.slept[0] <= 21.5
    else:
        with pytest.raises(TryLater) as error:
            read(zendesk)
        assert (error.value.wait, clock.slept) == (min(float(after), 3600.0), [])
    assert len(answers.asked) == asked


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        pytest.param(answer(401, {"error": "invalid_token"}), FixFirst, id="credentials"),
        pytest.param(answer(403, {"error": "Forbidden"}), FixFirst, id="permission"),
        pytest.param(answer(404, {"error": "RecordNotFound"}), NotFound, id="no record"),
        pytest.param(answer(422, {"error": "RecordInvalid"}), SetAside, id="record refused"),
        pytest.param(answer(200, "<html>Sign in</html>"), FixFirst, id="a page"),
        pytest.param(answer(200, {"something": "else"}), FixFirst, id="another object"),
        pytest.param(answer(500, ""), TryLater, id="a crash"),
    ],
)
def test_what_repeating_does_not_help_is_not_repeated(said: requests.Response, kind: type[QadzdError]) -> None:
    """One call, one error, and no waiting."""
    clock, answers = FakeClock(), Answers(said)
    with pytest.raises(kind):
        put(client_of(answers, clock))
    assert (len(answers.asked), clock.slept) == (1, [])


def test_a_redirect_is_not_followed() -> None:
    """The Authorization header never goes to where a redirect points."""
    answers = Answers(answer(302, "", {"Location": "https://evil.example.com/"}))
    with pytest.raises(FixFirst, match=BASE_URL):
        read(client_of(answers))
    assert [request.url for request in answers.asked] == [f"{BASE_URL}/api/v2/users/5"]


def test_an_unusable_address_is_named() -> None:
    """What `requests` cannot even parse is a matter of the connection."""
    with pytest.raises(FixFirst) as error:
        read(client_of(Answers(requests.exceptions.InvalidURL("https://:hunter2@"))))
    assert "hunter2" not in repr(error.value)


def test_our_own_budget_is_asked_before_zendesk() -> None:
    """A budget that is used up for long stops the call before it is made, and no attempt is spent on it."""
    clock, answers = FakeClock(), Answers()
    budget = MemoryBudget(clock, requests=0)
    budget.block("requests", 40)
    with pytest.raises(TryLater) as error:
        read(ZendeskClient(BASE_URL, session_of(answers), Pace(budget, clock), clock))
    assert (error.value.wait, answers.asked) == (40, [])


def page(after: str | None, *ids: int) -> requests.Response:
    """A page of triggers; its links lead elsewhere, as host mapping makes them."""
    links = {"next": "https://support.example.com/api/v2/triggers?page[after]=zzz"}
    meta = {"has_more": after is not None, "after_cursor": after}
    return answer(200, {"triggers": [{"id": one} for one in ids], "meta": meta, "links": links})


def test_a_list_is_read_to_its_end_by_cursors() -> None:
    """Every page is asked for at our own address, with the cursor and never with the link."""
    answers = Answers(page("a", 1, 2), page("b", 3), page(None, 4))
    assert [row["id"] for row in client_of(answers).triggers.list()] == [1, 2, 3, 4]
    assert [request.url for request in answers.asked] == [
        f"{BASE_URL}/api/v2/triggers?page%5Bsize%5D=100",
        f"{BASE_URL}/api/v2/triggers?page%5Bsize%5D=100&page%5Bafter%5D=a",
        f"{BASE_URL}/api/v2/triggers?page%5Bsize%5D=100&page%5Bafter%5D=b",
    ]


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([page("a", 1), page("a", 2)], id="the same cursor"),
        pytest.param([page("a", 1), page("b", 2), page("a", 3)], id="a circle"),
        pytest.param([page("", 1)], id="more, but no cursor"),
        pytest.param([answer(200, {"triggers": [], "next_page": "https://x"})], id="pages by number"),
    ],
)
def test_a_list_cannot_go_on_for_ever(pages: list[requests.Response]) -> None:
    """A cursor that comes back, or none where more is promised, is an error and not a short list."""
    answers = Answers(*pages)
    with pytest.raises(TryLater):
        client_of(answers).triggers.list()
    assert answers.left == []


def test_a_search_stops_at_ten_thousand() -> None:
    """Zendesk shows a hundred pages of a search by number; the hundred-and-first is not asked for."""
    answers = Answers(*[answer(200, {"users": [{"id": 1}], "next_page": "https://x"}) for _ in range(101)])
    with pytest.raises(FixFirst, match="10,000"):
        client_of(answers).users.search(query="a")
    assert len(answers.left) == 1


def test_the_anonymous_user_is_nobody() -> None:
    """Zendesk answers 200 to bad credentials."""
    with pytest.raises(FixFirst) as error:
        client_of(Answers(answer(200, {"user": {"id": None, "name": "Anonymous user"}}))).users.me()
    assert error.value.facts.code == "Anonymous"


@pytest.mark.parametrize(("asked", "sent"), [({}, True), ({"skip_verify_email": False}, False)])
def test_nobody_gets_mail_unless_asked_for(asked: dict[str, bool], sent: bool) -> None:
    """Every way to create a user or an email says so in the body, also over a mapped field of that name."""
    job = {"job_status": {"id": "V3-1", "status": "queued"}}
    answers = Answers(answer(201, {"user": {"id": 1}}), answer(200, job), answer(201, {"identity": {"id": 1}}))
    zendesk = client_of(answers)
    zendesk.users.create({"name": "x", "skip_verify_email": not sent}, **asked)
    zendesk.users.create_many([{"name": "x"}], **asked)
    zendesk.identities.create(1, "a@b.co", **asked)
    first, second, third = answers.bodies
    assert [first["user"], second["users"][0], third["identity"]] == [
        {"name": "x", "skip_verify_email": sent},
        {"name": "x", "skip_verify_email": sent},
        {"type": "email", "value": "a@b.co", "skip_verify_email": sent},
    ]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda z: z.organizations.create_many([{}] * 101), id="101 to create"),
        pytest.param(lambda z: z.users.update_many([{"id": 1}] * 101), id="101 to update"),
        pytest.param(lambda z: z.users.show_many(external_ids=map(str, range(101))), id="101 to show"),
        pytest.param(lambda z: z.memberships.create_many([]), id="none"),
        pytest.param(lambda z: z.users.show_many(), id="neither ids nor external ids"),
        pytest.param(lambda z: z.users.show_many(ids=[1], external_ids=["K"]), id="both"),
        pytest.param(lambda z: z.organizations.search(name="x", external_id="K"), id="two searches"),
        pytest.param(lambda z: z.exports.tickets(), id="an export from nowhere"),
    ],
)
def test_a_call_that_cannot_be_meant_is_not_made(call: Call) -> None:
    """The caller's mistake is a ValueError before anything is sent."""
    answers = Answers()
    with pytest.raises(ValueError, match=r"give one of|Zendesk takes"):
        call(client_of(answers))
    assert answers.asked == []


def test_a_hundred_fit_and_keys_are_encoded() -> None:
    """Exactly 100 are sent; a comma inside a key cannot be taken for a separator."""
    answers = Answers(answer(200, {"organizations": []}))
    client_of(answers).organizations.show_many(external_ids=["A,B", *map(str, range(99))])
    assert str(answers.asked[0].url).startswith(
        f"{BASE_URL}/api/v2/organizations/show_many?external_ids=A%252CB%2C0%2C1"
    )


def test_an_export_resumes_from_a_cursor_or_a_start_time() -> None:
    """A cursor wins over a start time; the address is always ours."""
    body = {"tickets": [], "after_cursor": "c2", "end_of_stream": True, "after_url": "https://support.example.com/"}
    answers = Answers(answer(200, body), answer(200, body))
    zendesk = client_of(answers)
    zendesk.exports.tickets(start_time=1700000000.9)
    zendesk.exports.tickets(cursor="c1", start_time=1700000000)
    assert [str(request.url).partition("?")[2] for request in answers.asked] == [
        "start_time=1700000000&include=metric_sets",
        "cursor=c1&include=metric_sets",
    ]


def test_there_is_no_way_to_overwrite_an_agent() -> None:
    """`create_or_update` for users matches by email, so it is not here."""
    zendesk = client_of(Answers())
    assert not [name for name in dir(zendesk.users) if "create_or_update" in name]
