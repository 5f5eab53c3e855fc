"""The browse dialect, without a network: requests, pages, silent failures, columns and rows."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_qadzd.errors import Facts, FixFirst, SetAside, TryLater
from airflow_provider_qadzd.qad import browse
from airflow_provider_qadzd.qad.http import Answer, retry_after
from airflow_provider_qadzd.records import Contact, Customer

FACTS = Facts(system="qad", method="GET", path=browse.PATH)
WHERE = "connection qad_default"
NOW = 1_700_000_000.0


def read(status: int = 200, body: bytes = b"{}", **headers: str) -> dict[str, Any]:
    """The answer as `json_answer` sees it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return browse.json_answer(Answer(status, named, body), FACTS, WHERE, NOW)


def page_of(body: dict[str, Any]) -> browse.BrowsePage:
    """`body` read with the paths that QAD uses."""
    return browse.page_from(body, FACTS, WHERE, rows_at="data", more_at="auxillaryData.HasMoreParams")


def test_the_first_page_is_asked_with_page_and_action() -> None:
    """Both `page` and `pageAction` always go along, because some browses answer no rows without them."""
    params = browse.page_params("urn:browse:mfg:cm803", 1, page_size=200)
    assert params == [
        ("browseId", "urn:browse:mfg:cm803"), ("page", "1"), ("pageSize", "200"), ("pageAction", "first"),
    ]  # fmt: skip


def test_later_pages_keep_the_call_and_repeat_every_filter() -> None:
    """Later pages carry the configured action, the same callId, and each filter as a parameter of its own."""
    params = browse.page_params("b", 2, page_size=5, filters=["a,eq,1,x", "b,eq,2,x"], call_id="c", following="go")
    assert params[3:] == [("pageAction", "go"), ("callId", "c"), ("filter", "a,eq,1,x"), ("filter", "b,eq,2,x")]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        pytest.param("customerV2.isActive,eq,true,literal", True, id="equals"),
        pytest.param("a,rg,2024-01-01,literal,2024-02-01,literal", True, id="a range"),
        pytest.param("a,eq,true,", True, id="an empty type, as one site sends it"),
        pytest.param("customerV2.isActive", False, id="a piece of a filter that was split at its commas"),
        pytest.param("a,is,true,literal", False, id="an unknown operator"),
        pytest.param("a,eq,one,two,literal", False, id="a comma in the value"),
        pytest.param("a,rg,1,literal", False, id="a range with one end"),
    ],
)
def test_a_filter_that_qad_would_ignore_is_refused(text: str, good: bool) -> None:
    """QAD answers a malformed filter with no rows, so it is refused before it is sent."""
    if good:
        assert browse.checked_filters([text], WHERE) == (text,)
        return
    with pytest.raises(FixFirst, match="is not a browse filter"):
        browse.checked_filters([text], WHERE)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param("true", True, id="the text true"),
        pytest.param("false", False, id="the text false"),
        pytest.param("False", False, id="in another case"),
        pytest.param(True, True, id="a boolean"),
        pytest.param("", None, id="blank"),
        pytest.param(None, None, id="null"),
    ],
)
def test_more_pages_are_told_as_text(told: object, expected: bool | None) -> None:
    """`HasMoreParams` is text; what is blank is "not told", which is neither yes nor no."""
    assert page_of({"data": [], "auxillaryData": {"HasMoreParams": told}}).has_more is expected


def test_a_page_without_auxiliary_data_does_not_say_whether_it_is_the_last() -> None:
    """A page that tells nothing is not taken for the last one."""
    assert page_of({"data": [{"a": 1}]}) == browse.BrowsePage([{"a": 1}], None)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        pytest.param({}, "without rows at 'data'", id="no data"),
        pytest.param({"data": None}, "without rows at 'data'", id="data is null"),
        pytest.param({"data": {"rows": []}}, "without rows at 'data'", id="data is an object"),
        pytest.param({"data": ["row"]}, "without rows at 'data'", id="rows are no objects"),
        pytest.param({"data": [], "auxillaryData": {"HasMoreParams": "maybe"}}, "neither true nor", id="unclear more"),
    ],
)
def test_a_page_without_rows_is_not_an_empty_page(body: dict[str, Any], match: str) -> None:
    """Only an empty list is "no rows"; anything else in its place is an error."""
    with pytest.raises(FixFirst, match=match):
        page_of(body)


@pytest.mark.parametrize(
    ("status", "body", "headers", "error", "match"),
    [
        pytest.param(200, b"<html>Sign in<input type=password>", {}, FixFirst, "login page", id="login page with 200"),
        pytest.param(200, b"<html>Maintenance</html>", {}, TryLater, "platform fault", id="another page with 200"),
        pytest.param(200, b"", {}, TryLater, "platform fault", id="an empty body"),
        pytest.param(200, b'{"data": [', {}, TryLater, "broke off", id="half an answer"),
        pytest.param(200, b"[]", {}, FixFirst, "not an object", id="a bare list"),
        pytest.param(302, b"", {"Location": "/login.jsp?error=1"}, FixFirst, "login page", id="redirect to the login"),
        pytest.param(302, b"", {"Location": "https://b.invalid/x;s=1"}, FixFirst, "to b.invalid;", id="elsewhere"),
        pytest.param(400, b"{}", {}, FixFirst, "HTTP 400", id="bad request"),
        pytest.param(401, b"", {}, FixFirst, "refused the credentials", id="401"),
        pytest.param(403, b"", {}, FixFirst, "forbids", id="403"),
        pytest.param(404, b"", {}, FixFirst, "context root, such as /clouderp", id="404 names the context root"),
        pytest.param(429, b"", {}, TryLater, "HTTP 429", id="429"),
        pytest.param(500, b"<html>", {}, TryLater, "HTTP 500", id="platform fault"),
        pytest.param(503, b"", {}, TryLater, "HTTP 503", id="503"),
    ],
)
def test_each_bad_answer_is_named(status: int, body: bytes, headers: dict[str, str], error: Any, match: str) -> None:
    """Every bad answer says whether to try later or what to fix, and names the status."""
    with pytest.raises(error, match=match) as caught:
        read(status, body, **headers)
    assert caught.value.facts.status == status


@pytest.mark.parametrize(
    ("body", "content_type", "name"),
    [
        pytest.param(b'{"n": "A\tB"}', "", "A\tB", id="a raw tab"),
        pytest.param(b'{"n": "A\\u0000B\x00"}', "", "AB", id="NUL, which PostgreSQL does not take"),
        pytest.param(b'{"n": "A\\ud800B"}', "", "A\ufffdB", id="half a surrogate pair"),
        pytest.param(b'{"n": "\\ud83d\\ude00"}', "", "\U0001f600", id="a whole one"),
        pytest.param(b'\xef\xbb\xbf{"n": "\xc3\x85"}', "", "Å", id="a byte order mark"),
        pytest.param(b'{"n": "\xc5"}', "application/json; charset=ISO-8859-1", "Å", id="a declared charset"),
        pytest.param(b'{"n": "\xc3\x85"}', "application/json; charset=ISO-8859-1", "Å", id="UTF-8, whatever is said"),
    ],
)
def test_texts_come_as_a_database_takes_them(body: bytes, content_type: str, name: str) -> None:
    """Old data and odd servers spoil no page: what is stored is text that every database takes."""
    assert read(200, body, Content_Type=content_type) == {"n": name}


def test_business_errors_with_http_200_carry_codes_and_no_text() -> None:
    """`success: false` is an error; field and code are kept, the localised message is not."""
    body = (
        b'{"data": [], "submitResult": {"success": false, "errors":'
        b' [{"fieldName": "customerCode", "code": "47", "message": "geheim"}]}}'
    )
    with pytest.raises(FixFirst, match=r"success = false") as caught:
        read(200, body)
    assert (caught.value.facts.code, caught.value.facts.details) == ("47", (("customerCode", "47"),))
    assert "geheim" not in str(caught.value)


def test_bare_errors_with_http_200_are_errors() -> None:
    """A body of nothing but `errors` is refused, whatever its status says."""
    with pytest.raises(FixFirst, match="bare list of errors") as caught:
        read(200, b'{"errors": [{"severity": 1, "code": "403", "message": "x", "fieldName": ""}]}')
    assert caught.value.facts.code == "403"


def test_a_successful_submit_result_is_no_error() -> None:
    """Some reads carry a `submitResult` of success."""
    assert "data" in read(200, b'{"data": [], "submitResult": {"success": true, "errors": []}, "errors": []}')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("1.5", 1.5, id="a decimal"),
        pytest.param("-3", 0.0, id="negative"),
        pytest.param("inf", None, id="for ever"),
        pytest.param("Tue, 14 Nov 2023 22:13:50 +99999999999999", None, id="an impossible time zone"),
        pytest.param("Tue, 14 Nov 2023 22:13:50 GMT", 30.0, id="a date ahead"),
        pytest.param("Tue, 14 Nov 2023 22:13:10 GMT", 0.0, id="a date gone by"),
        pytest.param("", None, id="nothing"),
        pytest.param("soon", None, id="nonsense"),
    ],
)
def test_retry_after_is_obeyed_in_all_its_forms(text: str, expected: float | None) -> None:
    """Retry-After is seconds or an HTTP date; what cannot be read does not count."""
    assert retry_after({"retry-after": text}, NOW) == expected


ROWS = ["contact.ContactName", "contact.ContactEmail", "ad_mstr.ad_addr"]


@pytest.mark.parametrize(
    ("wanted", "available", "listed", "expected"),
    [
        pytest.param("contact.ContactName", ROWS, [], "contact.ContactName", id="as written"),
        pytest.param("Contact.contactname", ROWS, [], "contact.ContactName", id="in another case"),
        pytest.param("t_contact.ContactName", ROWS, [], "contact.ContactName", id="under another prefix"),
        pytest.param("ContactName", ROWS, [], "contact.ContactName", id="without a prefix"),
        pytest.param("contact.pt_part", ["pt_part"], [], "pt_part", id="where rows have no prefix"),
        pytest.param("a.x", ["b.x", "a.x"], [], "a.x", id="the exact name before a namesake"),
        pytest.param("a.x", ["b.y"], ["a.x"], "a.x", id="listed, and blank in these rows"),
        pytest.param("a.x", ["b.x"], ["a.x", "b.x"], "a.x", id="listed, beside a namesake of another table"),
        pytest.param("a.x", ["t_a.x"], ["a.x"], "t_a.x", id="listed, and spelled differently in the rows"),
        pytest.param("a.x", ["A.X"], ["a.x"], "A.X", id="rows and list differ in case"),
    ],
)
def test_a_column_is_found_however_the_site_spells_it(
    wanted: str, available: list[str], listed: list[str], expected: str
) -> None:
    """A column is taken as the rows spell it: exact, then in any case, then under any prefix."""
    assert browse.resolve_columns({"name": wanted}, available, listed=listed) == {"name": expected}


def test_a_missing_column_names_the_nearest_ones() -> None:
    """The error says which column is missing and which ones come near."""
    with pytest.raises(FixFirst, match=r"no column 'contact\.ContactMail' \(email\).*Nearest: contact\.ContactEmail"):
        browse.resolve_columns({"email": "contact.ContactMail"}, ROWS, where=WHERE)


def test_a_column_that_fits_twice_is_never_guessed() -> None:
    """Two namesakes under different prefixes are an error that names both."""
    with pytest.raises(FixFirst, match=r"could be any of a\.x, b\.x"):
        browse.resolve_columns({"name": "c.x"}, ["a.x", "b.x"], optional=["name"])


def test_an_optional_column_may_be_missing() -> None:
    """A default column that nobody asked for is left out where the browse lacks it."""
    assert browse.resolve_columns({"phone": "contact.Phone"}, ROWS, optional=["phone"]) == {}


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        pytest.param(["businessRelation.isActive"], {}, id="of another table: left out"),
        pytest.param(["isActive"], {"active": "isActive"}, id="without a prefix: taken"),
        pytest.param(["CustomerV2.IsActive"], {"active": "CustomerV2.IsActive"}, id="in another case: taken"),
    ],
)
def test_a_default_flag_is_never_taken_from_another_table(available: list[str], expected: dict[str, str]) -> None:
    """Whether a customer is active is not guessed from the flag of its business relation."""
    assert browse.resolve_columns({"active": "customerV2.isActive"}, available, optional=["active"]) == expected


def test_a_customer_row_becomes_a_customer() -> None:
    """Texts are trimmed, null is empty, and the date stays as QAD sends it."""
    row = {
        "customerV2.customerCode": " C0000201 ", "customerV2.businessRelationName": "Northwind",
        "customerV2.city": None, "customerV2.isActive": False,
        "customerV2.lastModifiedDate": "2025-01-31T00:00:00.000Z",
    }  # fmt: skip
    customer = browse.customer_from(row, browse.CUSTOMER_COLUMNS)
    assert customer == Customer("C0000201", "Northwind", active=False, modified="2025-01-31T00:00:00.000Z")


def test_a_contact_row_becomes_a_contact() -> None:
    """The internal number is the contact's key, as text."""
    row = {
        "ad_mstr.ad_addr": "C1", "contact.ContactName": "Priya Nair ", "contact.Contact_ID": 12.0,
        "contact.ContactIsPrimary": "yes", "contact.AddressTypeCode": "HEADOFFICE",
    }  # fmt: skip
    contact = browse.contact_from(row, browse.CONTACT_COLUMNS)
    assert contact == Contact("C1", "Priya Nair", contact_id="12", primary=True, address_type="HEADOFFICE")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(True, True, id="a boolean"),
        pytest.param(False, False, id="the other boolean"),
        pytest.param("true", True, id="true as text"),
        pytest.param(" YES ", True, id="yes"),
        pytest.param(1, True, id="one"),
        pytest.param("0", False, id="zero as text"),
        pytest.param("no", False, id="no"),
        pytest.param("", True, id="blank keeps the customer active"),
        pytest.param(None, True, id="null keeps the customer active"),
    ],
)
def test_a_flag_is_read_in_the_forms_that_sites_use(value: object, expected: bool) -> None:
    """A flag is a boolean or a word, and silence never deactivates."""
    columns = {"code": "c", "name": "n", "active": "a"}
    assert browse.customer_from({"c": "1", "n": "x", "a": value}, columns).active is expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param({"c": "  ", "n": "Ann"}, "no_customer_code", id="no customer"),
        pytest.param({"c": "C1", "n": " "}, "no_name", id="neither id nor name"),
        pytest.param({"c": "C1", "n": "", "i": 0}, "no_name", id="a zero is no id"),
        pytest.param({"c": "C1", "n": ["Ann"]}, "unreadable_name", id="a list for a name"),
        pytest.param({"c": "C1", "n": "Ann", "p": "ja"}, "unreadable_primary", id="a flag in another language"),
    ],
)
def test_a_row_that_is_no_contact_is_set_aside(row: dict[str, Any], reason: str) -> None:
    """A row that cannot be read is set aside by reason, and no value is guessed."""
    with pytest.raises(SetAside) as caught:
        browse.contact_from(row, {"customer": "c", "name": "n", "contact_id": "i", "primary": "p"})
    assert caught.value.reason == reason


def test_contacts_with_the_id_zero_are_not_one_person() -> None:
    """Zero is what an integer column holds where there is no id, so the key is made from who it is."""
    columns = {"customer": "c", "name": "n", "contact_id": "i"}
    ann, bob = (browse.contact_from({"c": "C1", "n": name, "i": 0}, columns) for name in ("Ann", "Bob"))
    assert ann.key != bob.key


def test_pages_differ_by_their_rows_and_not_by_technical_columns() -> None:
    """A repeated page is recognised although QAD numbers its rows anew."""
    one = [{"code": "1", "local_variables.uniqueId": "a"}, {"code": "2"}]
    same = [{"code": "1", "local_variables.uniqueId": "b"}, {"code": "2"}]
    assert browse.page_mark(one) == browse.page_mark(same)
    assert browse.page_mark(one) != browse.page_mark([{"code": "3"}, {"code": "4"}])
    assert browse.page_mark(one) != browse.page_mark([{"code": "1"}, {"code": "9"}, {"code": "2"}])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"data": {"customerV2s": [{"customerCode": "c1"}]}}, True, id="found, in another case"),
        pytest.param({"data": {"customerV2s": []}}, False, id="an empty list"),
        pytest.param({}, False, id="no data"),
        pytest.param({"data": {"customerV2s": [{"customerCode": "C9"}]}}, None, id="another customer"),
    ],
)
def test_a_keyed_look_up_answers_yes_no_or_nothing(body: dict[str, Any], expected: bool | None) -> None:
    """A look-up that answers about somebody else proves nothing."""
    assert browse.found_by_key(body, "customerV2s", "C1") is expected
