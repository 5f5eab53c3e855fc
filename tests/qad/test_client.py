"""The QAD client over a list of replies: what is read, when a read is complete and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst, QadzdError
from airflow_provider_qadzd.qad import browse
from airflow_provider_qadzd.qad.client import QadSettings, connect
from airflow_provider_qadzd.qad.http import received
from airflow_provider_qadzd.settings import settings_from
from tests.qad.replies import (
    BASE,
    COLUMNS,
    FIELDS,
    PLAIN,
    WHERE,
    FakeClock,
    MemoryTokens,
    Replies,
    Reply,
    client_of,
    field_list,
    page,
    row,
    session_of,
)


def codes(replies: Replies, settings: QadSettings = PLAIN) -> tuple[list[list[str]], bool, str]:
    """The codes of each page that a read hands out, and how the read ended."""
    read = client_of(replies, settings).customers()
    pages = [[customer.code for customer in page] for page in read]
    return pages, read.complete, read.reason


def test_a_read_is_complete_when_qad_says_there_is_no_more() -> None:
    """Pages come one by one under one callId, and the last one's word ends the read."""
    replies = Replies(FIELDS, page(row("A"), row("B"), more=True), page(row("C")))
    assert codes(replies) == ([["A", "B"], ["C"]], True, "")
    first, second = replies.query(1), replies.query(2)
    assert (first["page"], first["pageAction"], second["page"], second["pageAction"]) == ("1", "first", "2", "next")
    assert first["callId"] == second["callId"] != replies.query(0)["callId"]


@pytest.mark.parametrize(
    ("change", "actions"),
    [
        pytest.param({}, ["first", "next"], id="by action"),
        pytest.param({"page_action_next": "forward"}, ["first", "forward"], id="by a site's own action"),
        pytest.param({"paging": "number"}, ["first", "first"], id="by page number"),
    ],
)
def test_later_pages_are_asked_for_as_the_site_pages(change: dict[str, Any], actions: list[str]) -> None:
    """How later pages are asked for is a setting, because nobody has documented it."""
    replies = Replies(FIELDS, page(row("A"), more=True), page(row("B")))
    assert codes(replies, replace(PLAIN, **change)) == ([["A"], ["B"]], True, "")
    assert [replies.query(number)["pageAction"] for number in (1, 2)] == actions


@pytest.mark.parametrize(
    ("only", "reason"),
    [
        pytest.param(page(row("A"), more=False), "", id="QAD says that it is all"),
        pytest.param(page(row("A"), more=None), "", id="QAD says nothing, and there was room for more"),
        pytest.param(page(more=None), "", id="nothing at all"),
        pytest.param(page(row("A"), row("B"), more=None), "more than one page of 2 rows", id="as many as fit"),
        pytest.param(page(row("A"), more=True), "more than one page of 2 rows", id="QAD says that there is more"),
    ],
)
def test_everything_can_be_read_in_one_page(only: Reply, reason: str) -> None:
    """Where no paging works one large page is asked for; it is complete if it was not full."""
    replies = Replies(FIELDS, only)
    _, complete, told = codes(replies, replace(PLAIN, paging="one_page", page_size=2))
    assert (complete, reason in told, replies.left) == (not reason, True, [])


def test_the_call_id_can_be_left_out() -> None:
    """A site that does not understand `callId` is not sent one."""
    replies = Replies(FIELDS, page(row("A")))
    codes(replies, replace(PLAIN, call_id=False))
    assert "callId" not in replies.query(1)


def test_pages_are_handed_on_as_they_come() -> None:
    """The first page can be stored before the second is asked for."""
    replies = Replies(FIELDS, page(row("A"), more=True), page(row("B")))
    read = client_of(replies).customers()
    assert [customer.code for customer in next(read)] == ["A"]
    assert (len(replies.left), read.complete, read.reason) == (1, False, "not read to its end")


def test_filters_go_with_every_page() -> None:
    """Configured filters are part of each page's request."""
    replies = Replies(FIELDS, page(row("A"), more=True), page(row("B")))
    codes(replies, replace(PLAIN, customer_filters=("c.code,sw,A,literal",)))
    assert [replies.query(number)["filter"] for number in (1, 2)] == ["c.code,sw,A,literal"] * 2


def test_each_workspace_is_read_in_turn() -> None:
    """Several workspaces are one read, each with its header."""
    replies = Replies(FIELDS, page(row("A")), page(row("B")))
    settings = replace(PLAIN, workspaces=("D1_D1CO", "D2_D2CO"))
    assert codes(replies, settings) == ([["A"], ["B"]], True, "")
    assert [sent.headers["x-qad-workspace-id"] for sent in replies.sent[1:]] == ["D1_D1CO", "D2_D2CO"]


def test_a_workspace_without_rows_makes_the_read_incomplete() -> None:
    """QAD answers an unknown workspace with no rows, so an empty one proves no disappearance."""
    replies = Replies(FIELDS, page(row("A")), page())
    pages, complete, reason = codes(replies, replace(PLAIN, workspaces=("D1", "D2")))
    assert (pages, complete, reason) == ([["A"]], False, "customers of D2: no rows: is the workspace known?")


def test_one_incomplete_workspace_makes_the_read_incomplete() -> None:
    """The other workspaces are still read, and the reason names the one that is not whole."""
    replies = Replies(FIELDS, page(row("A"), more=True), page(row("A"), more=True), page(row("B")))
    pages, complete, reason = codes(replies, replace(PLAIN, workspaces=("D1", "D2")))
    assert (pages, complete) == ([["A"], ["B"]], False)
    assert reason == "customers of D1: page 2 repeats an earlier page"


@pytest.mark.parametrize(
    ("replies", "pages", "reason"),
    [
        pytest.param([page(row("A"), more=True), page(row("A"), more=True)], [["A"]],
                     "page 2 repeats an earlier page", id="page 1 again"),
        pytest.param([page(row("A"), more=True), page(row("B"), more=True), page(row("A"))], [["A"], ["B"]],
                     "page 3 repeats an earlier page", id="a circle"),
        pytest.param([page(row("A"), more=True), page(more=True)], [["A"]],
                     "page 2 is empty, and QAD did not say that it is the last", id="empty, with more promised"),
        pytest.param([page(row("A"), more=None), page(more=None)], [["A"]],
                     "page 2 is empty, and QAD did not say that it is the last", id="empty, with nothing told"),
        pytest.param([page(row(code), more=True) for code in "ABC"], [["A"], ["B"], ["C"]],
                     "stopped at the cap of 3 pages", id="the cap"),
    ],
)  # fmt: skip
def test_a_read_that_qad_did_not_end_is_incomplete(replies: list[Reply], pages: list[list[str]], reason: str) -> None:
    """A repeat is not handed on, nothing loops for ever, and the read says why it is not whole."""
    assert codes(Replies(FIELDS, *replies), replace(PLAIN, page_cap=3)) == (pages, False, f"customers: {reason}")


def test_a_read_that_ends_on_the_last_allowed_page_is_complete() -> None:
    """The cap only counts where there was more to read."""
    replies = Replies(FIELDS, page(row("A"), more=True), page(row("B"), more=True), page(row("C")))
    assert codes(replies, replace(PLAIN, page_cap=3))[1]


def test_a_site_that_never_tells_can_end_by_an_empty_page() -> None:
    """Where the setting says so, the first empty page is the end."""
    replies = Replies(FIELDS, page(), page(row("A"), more=None), page(more=None))
    assert codes(replies, replace(PLAIN, more_at="empty_page")) == ([["A"]], True, "")


def test_a_fault_in_the_middle_raises_after_the_pages_before_it() -> None:
    """What was read was handed on, the fault is raised, and the read stays incomplete."""
    replies = Replies(FIELDS, page(row("A"), more=True), Reply(200, {"submitResult": {"success": False}}))
    read, seen = client_of(replies).customers(), []
    with pytest.raises(FixFirst, match="success = false"):
        seen.extend(customer.code for page in read for customer in page)
    assert (seen, read.complete, read.pages) == (["A"], False, 1)
    assert "success = false" in read.reason


def test_an_unknown_browse_is_not_an_empty_one() -> None:
    """No rows and no fields mean that QAD does not know the browse; the error names it and its setting."""
    with pytest.raises(FixFirst, match=r"urn:browse:mfg:zz999.*Check customers_browse") as caught:
        codes(Replies(page(), page()), replace(PLAIN, customers_browse="urn:browse:mfg:zz999"))
    assert WHERE in str(caught.value)


def test_a_known_browse_without_rows_is_empty_and_complete() -> None:
    """A browse that lists fields and has no rows is really empty."""
    assert codes(Replies(FIELDS, page())) == ([], True, "")


def test_a_site_that_lists_no_fields_can_be_read_by_its_rows() -> None:
    """Rows prove a browse as well as its field list does."""
    assert codes(Replies(page(), page(row("A")))) == ([["A"]], True, "")


def test_a_sparse_row_is_read_by_the_field_list() -> None:
    """A column that a page leaves out is blank there, as long as the browse lists it."""
    settings = QadSettings(customer_columns={"code": "c.code", "name": "c.name", "city": "c.city"})
    listed, full = field_list("c.code", "c.name", "c.city"), {**row("B"), "c.city": "Ghent"}
    replies = Replies(listed, page(row("A"), more=True), page(full))
    read = client_of(replies, settings).customers()
    assert [customer.city for page in read for customer in page] == ["", "Ghent"]


def test_a_row_that_is_no_record_is_counted() -> None:
    """One bad row stops nothing; it is counted by reason, and the read is complete."""
    read = client_of(Replies(FIELDS, page(row("A"), row(" ")))).customers()
    assert [len(page) for page in read] == [1]
    assert (read.complete, read.rows, dict(read.refused)) == (True, 2, {"no_customer_code": 1})


def test_a_read_without_one_readable_row_is_incomplete() -> None:
    """If every row is refused, the columns are wrong, and nobody has disappeared."""
    _, complete, reason = codes(Replies(FIELDS, page(row(""), row(" "))))
    assert (complete, reason) == (False, "customers: not one row could be read (no_customer_code)")


def test_contacts_are_read_with_their_own_columns() -> None:
    """The contacts browse has its own id, filters and columns, and QAD's default names."""
    named = {"ad_mstr.ad_addr": "A", "contact.ContactName": "Ann"}
    person = {**named, "contact.Contact_ID": 7, "CONTACT.contactemail": "a@x"}
    replies = Replies(field_list(*person), page(person))
    (contact,) = next(client_of(replies).contacts())
    assert (contact.key, contact.customer, contact.email) == ("7", "A", "a@x")
    assert replies.query(1)["browseId"] == browse.CONTACTS_BROWSE


def test_an_answer_without_end_is_not_read_on() -> None:
    """A page beyond all sense is refused by its size, with what to ask for instead."""
    answer = session_of(Replies(Reply(body=b"[" * 2**21))).get(f"{BASE}/api/x?secret=1", stream=True, timeout=5)
    with pytest.raises(FixFirst, match=r"larger than 1 MiB\. \[system=qad.*path=/clouderp/api/x .*smaller pages"):
        received(answer, largest=2**20)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        pytest.param({"customer_columns": {"kode": "x"}}, "Did you mean 'code'", id="an unknown field"),
        pytest.param({"customer_columns": {"code": ""}}, "code cannot be left out", id="no code"),
        pytest.param({"contact_filters": ("contact.x",)}, "contact_filters.*not a browse filter", id="a bad filter"),
        pytest.param({"page_size": 0}, "at least 1", id="pages of nothing"),
        pytest.param({"paging": "cursor"}, "Use one of action, number, one_page", id="an unknown way of paging"),
        pytest.param({"customer_scope": "company"}, "none, shared_set, domain", id="an unknown scope"),
    ],
)
def test_settings_are_checked_before_anything_is_sent(changes: dict[str, Any], match: str) -> None:
    """A setting that cannot work is refused when the client is made."""
    with pytest.raises(FixFirst, match=match):
        client_of(Replies(), QadSettings(**changes))


def test_a_configured_column_must_exist_and_a_default_one_need_not() -> None:
    """Who names a column wants it; the defaults that a browse lacks are left out."""
    asked = QadSettings(customer_columns={**COLUMNS["customer_columns"], "email": "c.mail"})
    with pytest.raises(FixFirst, match=r"no column 'c\.mail' \(email\)"):
        codes(Replies(FIELDS, page(row("A"))), asked)
    assert codes(Replies(FIELDS, page(row("A"))))[1]


def test_settings_come_from_a_connection_extra() -> None:
    """Every setting can stand in a connection's extra, and a misspelled one is refused."""
    extra = {"workspaces": "D1_D1CO, D2_D2CO", "verify": True, "page_size": "500", "allow_http": "no"}
    settings = settings_from(QadSettings, extra, WHERE)
    assert (settings.workspaces, settings.verify, settings.page_size) == (("D1_D1CO", "D2_D2CO"), "True", 500)
    with pytest.raises(FixFirst, match="Did you mean 'workspaces'"):
        settings_from(QadSettings, {"workspace": "D1"}, WHERE)


# --- Signing in, fields, look-ups, the check ---


def test_a_client_signs_in_by_itself() -> None:
    """`connect` joins session, authentication and client; a session that QAD forgot costs one login."""
    tokens = [Reply(body={"access_token": name}) for name in ("one", "two")]
    replies = Replies(tokens[0], Reply(401), tokens[1], FIELDS)
    settings = replace(PLAIN, client_id="app")
    client = connect(BASE + "/", "svc", "secret", settings, tokens=MemoryTokens(), session=session_of(replies),
                     clock=FakeClock(), where=WHERE)  # fmt: skip
    assert client.browse_fields("b") == ["c.code", "c.name"]
    assert replies.sent[-1].headers["Authorization"] == "Bearer two"


def test_a_login_that_does_not_help_is_named() -> None:
    """A second 401 is the connection's credentials, and no third request is made."""
    replies = Replies(Reply(body={"access_token": "a"}), Reply(401), Reply(body={"access_token": "b"}), Reply(401))
    client = connect(BASE, "svc", "secret", replace(PLAIN, client_id="app"), tokens=MemoryTokens(),
                     session=session_of(replies), clock=FakeClock(), where=WHERE)  # fmt: skip
    with pytest.raises(FixFirst, match="Check the login of connection qad_default"):
        client.browse_fields("b")
    assert replies.left == []


def test_the_field_list_is_only_that_browse_s() -> None:
    """A site that ignores the filter lists the fields of every browse; the others are left out."""
    rows = [{"x.field": "a.b", "x.browseURI": "URN:b"}, {"x.field": "c.d", "x.browseURI": "urn:other"}]
    replies = Replies(page(*rows))
    assert client_of(replies).browse_fields("urn:b") == ["a.b"]
    assert replies.query(0)["filter"] == "browseURI,eq,urn:b,literal"


def test_a_long_field_list_is_read_to_its_end() -> None:
    """The field list has pages too."""
    first = Reply(body={**FIELDS.body, "auxillaryData": {"HasMoreParams": "true"}})
    replies = Replies(first, field_list("c.city"))
    assert client_of(replies).browse_fields("urn:b") == ["c.code", "c.name", "c.city"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(Reply(body={"data": {"customerV2s": [{"customerCode": "A"}]}}), True, id="found"),
        pytest.param(Reply(body={"data": {"customerV2s": []}}), False, id="not found"),
        pytest.param(Reply(404), None, id="no such endpoint here"),
        pytest.param(Reply(403), None, id="not permitted"),
        pytest.param(Reply(200, {"submitResult": {"success": False}}), None, id="an error is not an answer"),
    ],
)
def test_a_customer_can_be_asked_for_by_key(reply: Reply, expected: bool | None) -> None:
    """Only a clear "not found" is False; where the instance cannot be asked, the answer is None."""
    replies = Replies(reply)
    assert client_of(replies).customer_exists("All", "A") is expected
    assert replies.query(0) == {"sharedSetCode": "All", "customerCode": "A", "viewUri": QadSettings().customer_view}


def test_the_entity_that_is_asked_by_key_is_a_setting() -> None:
    """Another site's entity has another path and view; without one, nothing is asked."""
    replies = Replies(Reply(body={"customers": [{"customerCode": "a"}]}))
    settings = replace(PLAIN, customer_path="/api/erp/customers", customer_view="urn:be:x.ICustomer")
    assert client_of(replies, settings).customer_exists("All", "A") is True
    assert replies.sent[0].path_url.startswith("/clouderp/api/erp/customers?")
    assert replies.query(0)["viewUri"] == "urn:be:x.ICustomer"
    assert client_of(Replies(), replace(PLAIN, customer_path="")).customer_exists("All", "A") is None


@pytest.mark.parametrize("reply", [Reply(401), Reply(500)], ids=["401", "500"])
def test_a_look_up_that_fails_raises(reply: Reply) -> None:
    """Failing to ask is not an answer about the customer."""
    with pytest.raises(QadzdError):
        client_of(Replies(reply)).customer_exists("All", "A")


def test_a_login_that_fails_during_a_look_up_raises() -> None:
    """A token path that is not there says nothing about the customer."""
    client = connect(BASE, "svc", "secret", replace(PLAIN, client_id="app"), tokens=MemoryTokens(),
                     session=session_of(Replies(Reply(404))), clock=FakeClock(), where=WHERE)  # fmt: skip
    with pytest.raises(FixFirst, match="context root"):
        client.customer_exists("All", "A")


def test_a_customer_without_a_shared_set_cannot_be_asked_for() -> None:
    """Without its whole key nothing is sent."""
    assert client_of(Replies()).customer_exists("", "A") is None
