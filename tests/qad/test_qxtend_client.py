"""The QXtend client: profiles over a real socket, paging and its guards, warnings, sign-in, and what reaches no log."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import pytest
import requests

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.qad.qxtend_client import QxtendClient, connect
from airflow_provider_qadzd.qad.qxtend_settings import normalised_service_url, qxtend_settings
from airflow_provider_qadzd.qad.reader import Read
from airflow_provider_qadzd.sandbox import Sandbox
from tests.qad.conftest import Sessions
from tests.qad.replies import FakeClock, Replies, Reply, session_of
from tests.qad.test_qxtend_answer import answer

WHERE = "connection qad_qxtend"
QXI, WSA = "/qxi/services/QdocWebService", "/wsa/wsa1"
CALLS = f"POST {QXI}"
SITE = {"profile": "openedge", "namespace": "urn:services-site-example:customers"}
URL = "https://qad.example.invalid/qxi/services/QdocWebService"
Opener = Callable[..., QxtendClient]


@pytest.fixture
def opened(sandbox: Sandbox, new_session: Sessions) -> Opener:
    """Makes clients of the sandbox by their extra."""

    def make(path: str = QXI, password: str = "sandbox", **extra: Any) -> QxtendClient:
        settings = qxtend_settings({"receiver": "QADERP", "page_size": 7, **extra}, f"{WHERE}, extra")
        return connect(
            sandbox.url + path, "svc_zendesk", password, settings, session=new_session(), clock=FakeClock(), where=WHERE
        )  # fmt: skip

    return make


def client_of(*replies: Reply, clock: FakeClock | None = None, **extra: Any) -> tuple[QxtendClient, Replies]:
    """A client whose whole network is these replies."""
    transport = Replies(*replies)
    settings = qxtend_settings({"receiver": "R", "auth": "none", "page_size": 2, **extra}, WHERE)
    session = session_of(transport)
    return connect(URL, "", "", settings, session=session, clock=clock or FakeClock(), where=WHERE), transport


def rows(*codes: str, **options: Any) -> Reply:
    """An answer with these customers."""
    told = "".join(f"<n:customer><n:cmAddr>{code}</n:cmAddr><n:adName>N</n:adName></n:customer>" for code in codes)
    return Reply(body=answer(told, **options))


def everything(read: Read[Any]) -> list[Any]:
    """All records of a read."""
    return [record for page in read for record in page]


def codes(sandbox: Sandbox) -> set[str]:
    """What QAD holds."""
    return {row["code"] for row in sandbox.get_control("state")["qad"]["customers"]}


# --- Profiles ---


@pytest.mark.parametrize(
    ("path", "extra", "without"),
    [
        pytest.param(QXI, {"profile": "query_qdoc"}, set(), id="query QDoc"),
        pytest.param(WSA, SITE, set(), id="OpenEdge service"),
        pytest.param(QXI, {"profile": "query_service"}, {"email", "business_relation"}, id="query service"),
    ],
)
def test_each_profile_reads_every_customer(
    sandbox: Sandbox, opened: Opener, path: str, extra: dict[str, Any], without: set[str]
) -> None:
    """All of them, complete, with what that way of reading knows of them."""
    read = opened(path, **extra).customers()
    found = {one.code: one for one in everything(read)}
    assert (set(found), read.complete, read.reason) == (codes(sandbox), True, "")
    for row in sandbox.get_control("state")["qad"]["customers"]:
        one = found[row["code"]]
        expected = {"name": row["name"], "city": row["city"], "phone": row["phone"] or "", "email": row["email"],
                    "business_relation": row["business_relation"]}  # fmt: skip
        assert {name: getattr(one, name) for name in expected} == expected | dict.fromkeys(without, "")


def test_an_openedge_service_yields_the_same_contacts(opened: Opener) -> None:
    """Two requests there, one here, and nothing downstream can tell."""
    there, here = opened(WSA, **SITE).contacts(), opened().contacts()
    assert {str(one) for one in everything(there)} == {str(one) for one in everything(here)}
    assert (there.complete, here.complete) == (True, True)


def test_the_query_service_yields_attention_slots(opened: Opener) -> None:
    """Without Financials a contact is a name at a customer; a customer without one is counted, not invented."""
    read = opened(profile="query_service").contacts()
    found = everything(read)
    assert found
    assert read.rows == 40 == len(found) + read.refused["no_name"]
    assert all(one.contact_id == "" and one.email == "" and one.key.startswith("d") for one in found)


@pytest.mark.parametrize("prefix", ["numbered", "default", "other"])
@pytest.mark.parametrize("mtom", [False, True], ids=["plain", "MTOM"])
def test_neither_prefixes_nor_packing_matter(sandbox: Sandbox, opened: Opener, prefix: str, mtom: bool) -> None:
    """The same records, however QXtend spells its namespaces and packs its answers."""
    sandbox.post_control("settings", {"qxtend_prefix": prefix, "qxtend_mtom": mtom})
    read = opened().contacts()
    assert (len({one.key for one in everything(read)}), read.complete) == (120, True)


# --- Paging ---


def test_pages_by_number_end_with_an_empty_one(sandbox: Sandbox, opened: Opener) -> None:
    """A template that names the page is paged by it."""
    body = (
        "<dsQuery><ttQuery><tt_page>{{ page }}</tt_page><tt_max_rows>{{ page_size }}</tt_max_rows></ttQuery></dsQuery>"
    )
    read = opened(paging="page", body=body).customers()
    assert ({one.code for one in everything(read)}, read.complete) == (codes(sandbox), True)
    assert sandbox.get_control("stats")["calls"][CALLS] == 7


def test_a_service_that_ignores_the_page_is_noticed(sandbox: Sandbox, opened: Opener) -> None:
    """The first page again: handed on once, two calls, and not complete."""
    body = "<dsQuery><ttQuery><tt_max_rows>{{ page_size }}</tt_max_rows></ttQuery></dsQuery>"
    for paging in ("page", "last_key"):
        sandbox.post_control("reset-stats")
        read = opened(paging=paging, body=body).customers()
        assert len(everything(read)) == 7
        assert (read.complete, read.reason) == (False, "customers: page 2 repeats an earlier page")
        assert sandbox.get_control("stats")["calls"][CALLS] == 2


def test_a_key_that_is_taken_again_ends_the_read() -> None:
    """A service that answers from the key on, not after it, would go on for ever."""
    client, transport = client_of(rows("A", "B"), rows("B", "C"), rows("C"), rows("C"))
    read = client.customers()
    assert [one.code for one in everything(read)] == ["A", "B", "B", "C", "C"]
    assert read.reason == "customers: page 3: it does not go past the key that was asked for"
    assert (read.complete, len(transport.left)) == (False, 1)


def test_a_last_row_without_a_key_ends_the_read() -> None:
    """There is nothing to ask further with."""
    read = client_of(rows("A", " "))[0].customers()
    assert [one.code for one in everything(read)] == ["A"]
    assert read.reason == "customers: page 1: its last row has no key"
    assert read.refused == {"no_customer_code": 1}


def test_the_key_goes_back_as_it_came() -> None:
    """Padding and case are QAD's own, and are part of the key that it compares."""
    client, transport = client_of(rows("a ", "B "), rows())
    assert [one.code for one in everything(client.customers())] == ["a", "B"]
    assert b"<tt_after_key>B </tt_after_key>" in bytes(transport.sent[1].body or b"")


def test_the_cap_ends_a_read() -> None:
    """A service that never ends is left."""
    client, _ = client_of(rows("A"), rows("B"), page_cap=2)
    read = client.customers()
    assert (len(everything(read)), read.reason) == (2, "customers: stopped at the cap of 2 pages")


def test_more_ends_a_read_where_the_service_says_so() -> None:
    """No call is spent on an empty page."""
    told = "<n:customer><n:cmAddr>A</n:cmAddr><n:adName>N</n:adName></n:customer><n:more>{}</n:more>"
    client, transport = client_of(Reply(body=answer(told.format("false"))), rows(), more_element="more")
    read = client.customers()
    assert (len(everything(read)), read.complete, len(transport.left)) == (1, True, 1)


def test_every_domain_is_read(sandbox: Sandbox, opened: Opener) -> None:
    """Domains come one after the other, and one without rows leaves the read incomplete."""
    sandbox.post_control("customers", {"code": "C0000201", "domain": "DEMO2"})
    both = opened(domains="DEMO1, DEMO2").customers()
    assert ({one.code for one in everything(both)}, both.complete) == (codes(sandbox), True)
    sandbox.post_control("customers", {"code": "C0000201", "domain": "DEMO1"})
    read = opened(domains="DEMO1, DEMO2").customers()
    assert len(everything(read)) == 40
    assert read.reason == "customers of DEMO2: no rows: is the domain known?"


def test_an_unknown_domain_is_named(opened: Opener) -> None:
    """QXtend says so, by number and field."""
    with pytest.raises(FixFirst, match="code=6135 details=tt_domain:6135"):
        everything(opened(domains="NONE").customers())


# --- Warnings ---


@pytest.mark.parametrize(("warnings", "complete"), [("incomplete", False), ("accept", True)])
def test_rows_with_a_warning_are_taken(sandbox: Sandbox, opened: Opener, warnings: str, complete: bool) -> None:
    """Whether such a read counts as whole is the site's to say; by default it does not."""
    sandbox.post_control("settings", {"qxtend_result": "warning"})
    read = opened(warnings=warnings).customers()
    assert ({one.code for one in everything(read)}, read.complete) == (codes(sandbox), complete)
    assert read.reason == ("" if complete else "customers: QXtend warned (6027)")


def test_warnings_can_be_refused(sandbox: Sandbox, opened: Opener) -> None:
    """The number of the warning is in the error."""
    sandbox.post_control("settings", {"qxtend_result": "warning"})
    with pytest.raises(FixFirst, match=r"result = warning.*code=6027"):
        everything(opened(warnings="refuse").customers())


def test_an_answer_that_was_cut_off_is_not_complete(sandbox: Sandbox, opened: Opener) -> None:
    """A server's own row limit shows only as a warning."""
    sandbox.post_control("settings", {"qxtend_row_limit": 5})
    read = opened(paging="none").customers()
    assert (len(everything(read)), read.complete, read.reason) == (5, False, "customers: QXtend warned (QXO0042)")


# --- Sign-in ---


@pytest.mark.parametrize("auth", ["basic", "session", "both"])
def test_each_way_of_signing_in_works(opened: Opener, auth: str) -> None:
    """Over HTTP, within the message, or both."""
    assert next(opened(auth=auth).customers())


@pytest.mark.parametrize(
    ("auth", "told"), [("basic", "refused the credentials"), ("session", "code=Client"), ("none", "credentials")]
)
def test_a_wrong_sign_in_is_named(sandbox: Sandbox, opened: Opener, auth: str, told: str) -> None:
    """One call, the connection's name, and nothing of the password."""
    with pytest.raises(FixFirst, match=told) as caught:
        next(opened(auth=auth, password="wrong-pass-7Hk").customers())
    assert WHERE in str(caught.value)
    assert "7Hk" not in f"{caught.value!r}"
    assert sandbox.get_control("stats")["calls"][CALLS] == 1


def test_a_missing_login_is_told_before_anything_is_sent() -> None:
    """What signs in needs both."""
    with pytest.raises(FixFirst, match="password is missing"):
        connect(URL, "svc", "", qxtend_settings({"receiver": "R"}, WHERE), where=WHERE)


@pytest.mark.parametrize("auth", ["basic", "session"])
@pytest.mark.parametrize("spoiled", ["", "client-fault", "error"], ids=["well", "a fault", "an error"])
def test_no_secret_and_no_envelope_is_logged(
    sandbox: Sandbox, opened: Opener, caplog: pytest.LogCaptureFixture, auth: str, spoiled: str
) -> None:
    """With everything logged at its finest, neither what is sent nor what is answered is in any line or error."""
    if spoiled:
        sandbox.post_control("faults", {"match": CALLS, "action": "soap", "soap": spoiled, "skip": 1})
    told = ""
    with caplog.at_level(logging.DEBUG):
        try:
            everything(opened(auth=auth).contacts())
        except FixFirst as error:
            told = f"{error!r}"
    assert bool(told) is bool(spoiled)
    for secret in ("sandbox", "Envelope", "Basic ", "propertyValue", "cmAddr", "No licence", "Domain is not"):
        assert secret not in caplog.text.replace(f"{WHERE}", "") + told, secret


# --- Streams ---


class Counting(io.BytesIO):
    """A body that tells how much of it was read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self.taken += len(found)
        return found


def test_a_large_answer_is_handed_on_before_it_has_come() -> None:
    """A batch at a time: after the first one most of the answer is still to come."""
    reply = rows(*(f"C{number:07d}" for number in range(20_000)))
    client, transport = client_of(reply, paging="none")
    body = Counting(reply.body)
    send = transport.send

    def sending(*args: Any, **options: Any) -> requests.Response:
        found = send(*args, **options)
        found.raw = body
        return found

    transport.send = sending  # type: ignore[method-assign]
    read = client.customers()
    assert len(next(read)) == 1000
    assert body.taken < len(reply.body) / 3
    assert (len(everything(read)), read.rows, read.pages, read.complete) == (19_000, 20_000, 20, True)


def test_a_page_is_judged_before_any_of_it_is_handed_on() -> None:
    """Also one that is as large as a batch: its end is read first, and it is asked for again if it broke off."""
    whole = rows(*(f"C{number:07d}" for number in range(1_000)))
    client, transport = client_of(Reply(body=whole.body[:-500]), whole, rows(), page_size=1000)
    read = client.customers()
    assert (len(everything(read)), read.complete, read.pages, len(transport.left)) == (1000, True, 1, 0)


def test_rows_that_make_up_elements_are_refused() -> None:
    """What is remembered of elements is bounded."""
    told = "".join(
        f"<n:customer><n:cmAddr>{n}</n:cmAddr><n:adName>N</n:adName><n:x{n}/></n:customer>" for n in range(11_000)
    )
    with pytest.raises(FixFirst, match="more than 10000 different elements"):
        everything(client_of(Reply(body=answer(told)), paging="none")[0].customers())


def test_an_answer_that_breaks_off_late_is_not_asked_for_again() -> None:
    """What was handed on cannot be taken back: the read ends, incomplete."""
    whole = rows(*(f"C{number:07d}" for number in range(7_000)))
    client, transport = client_of(Reply(body=whole.body[:-500]), whole, paging="none")
    read, found = client.customers(), list[Any]()
    with pytest.raises(TryLater, match="broke off"):
        found.extend(read)
    assert ([len(page) for page in found], read.complete, len(transport.left)) == ([1000] * 6, False, 1)


def test_an_answer_that_never_ends_is_left() -> None:
    """Each byte may come in time, and the whole never."""

    class Hurrying(FakeClock):
        def time(self) -> float:
            self.now += 1000
            return self.now

    body = rows(*(f"C{number:07d}" for number in range(10_000))).body
    client, _ = client_of(*[Reply(body=body)] * 5, clock=Hurrying(), paging="none")
    with pytest.raises(TryLater, match="longer than an hour"):
        everything(client.customers())


# --- Columns, check, address ---


def test_a_column_that_rows_leave_out_when_blank_is_known_from_earlier_ones() -> None:
    """A site may omit blank elements: a later page without them is no error."""
    full = "<n:customer><n:cmAddr>A</n:cmAddr><n:adName>N</n:adName><n:x>1</n:x></n:customer>"
    client, _ = client_of(Reply(body=answer(full)), rows("B"), rows(), page_size=1)
    found = everything(client.customers({"customer.x": "a file"}))
    assert [one.columns for one in found] == [{"customer.x": "1"}, {"customer.x": None}]


def test_a_mistyped_row_element_is_named_with_its_nearest(opened: Opener) -> None:
    """An answer without such rows says which elements it has."""
    with pytest.raises(FixFirst, match=r"holds no 'custmer'.*row_element.*Nearest: customer"):
        opened(row_element="custmer").columns()


def test_a_mistyped_column_is_named_with_its_nearest(opened: Opener) -> None:
    """As for every column of QAD."""
    with pytest.raises(FixFirst, match=r"no column 'adNmae' \(name\).*adName"):
        next(opened(customer_columns={"name": "adNmae"}).customers())


def test_a_delta_reads_what_was_changed(sandbox: Sandbox, opened: Opener) -> None:
    """The day goes into the request; a customer counts as changed if one of its contacts was."""
    sandbox.post_control("clock", {"advance": 3 * 86400})
    sandbox.post_control("customers", {"code": "C0000203", "name": "Renamed"})
    contact = next(one for one in everything(opened().contacts()) if one.customer == "C0000205")
    sandbox.post_control("contacts", {"id": int(contact.contact_id), "title": "Dr"})
    since = sandbox.get_control("clock")["iso"][:10]
    read = opened().changed_customers(since)
    assert read
    assert [one.code for one in everything(read)] == ["C0000203", "C0000205"]
    assert (read.complete, read.reason) == (True, "")
    assert opened().changed_contacts(since) is None


def test_a_delta_may_be_empty(opened: Opener) -> None:
    """No row is no reason then: nothing was changed."""
    read = opened(domains="DEMO1").changed_customers("2999-01-01")
    assert read
    assert (everything(read), read.complete) == ([], True)


def test_without_a_day_in_the_request_there_are_no_deltas(opened: Opener) -> None:
    """A service that is not told since when cannot leave anything out."""
    assert opened(profile="query_service").changed_customers("2026-01-01") is None
    assert opened(customer_columns={"modified": ""}).changed_customers("2026-01-01") is None
    assert opened(WSA, **SITE).changed_contacts("2026-01-01") is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("https://QAD.example:443/qxi/services/QdocWebService/", "https://qad.example/qxi/services/QdocWebService",
                     id="case, port, slash"),
        pytest.param("https://qad.example/qxi?wsdl", "https://qad.example/qxi", id="the WSDL's address"),
        pytest.param("http://127.0.0.1:8080/qxi", "http://127.0.0.1:8080/qxi", id="this machine"),
    ],
)  # fmt: skip
def test_an_address_has_one_spelling(text: str, address: str) -> None:
    """However it is written, it is one source."""
    assert normalised_service_url(text, False, WHERE) == address


@pytest.mark.parametrize("text", ["http://qad.example/qxi", "https://u:p@qad.example/qxi", "https://qad.example/q?x=1"])
def test_a_doubtful_address_is_refused(text: str) -> None:
    """Plain http to another machine, credentials and queries in an address."""
    with pytest.raises(FixFirst):
        normalised_service_url(text, False, WHERE)
