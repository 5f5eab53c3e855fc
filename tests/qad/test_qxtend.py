"""What is sent to QXtend: the envelope, and the settings and templates that it is made from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lxml import etree

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.qad.qxtend import ADDRESSING, SOAP, Ask, Envelopes, envelopes_of, progress_string
from airflow_provider_qadzd.qad.qxtend_settings import COMMON, PROFILES, SERVICES, qxtend_settings

WHERE = "connection qad_qxtend, extra"
SPACES = {"s": SOAP, "a": ADDRESSING, "c": COMMON, "q": SERVICES}
EXTRA: dict[str, Any] = {"receiver": "QADERP", "domains": "DEMO1"}


def envelopes(*, contacts: bool = False, password: str = "pass-4Tz", **extra: Any) -> Envelopes:
    """The requests of a connection with this extra."""
    settings = qxtend_settings({**EXTRA, **extra}, WHERE)
    return envelopes_of(settings, contacts=contacts, username="svc", password=password, where="connection qad_qxtend")


def sent(ask: Ask = Ask("DEMO1"), **extra: Any) -> etree._Element:  # noqa: B008 - frozen
    """An envelope, read back."""
    return etree.fromstring(envelopes(**extra).envelope(ask))


def texts(root: etree._Element, path: str) -> list[str]:
    """The texts at a path."""
    return [str(one.text or "") for one in root.findall(path, SPACES)]


def session(root: etree._Element) -> dict[str, str]:
    """The session context by name."""
    names, values = (texts(root, f".//c:ttContext/c:property{part}") for part in ("Name", "Value"))
    return dict(zip(names, values, strict=True))


def test_the_envelope_has_what_qxtend_wants() -> None:
    """Receiver in To, a message id of its own each time, the QDoc's root in the services namespace."""
    first, second = sent(), sent()
    assert texts(first, "s:Header/a:To") == ["urn:services-qad-com:QADERP"]
    assert texts(first, "s:Header/a:Action") == [""]
    ids = texts(first, "s:Header/a:MessageID") + texts(second, "s:Header/a:MessageID")
    assert len(set(ids)) == 2
    assert all(one.startswith("urn:services-qad-com::QADERP:") for one in ids)
    assert texts(first, "s:Header/a:ReferenceParameters/c:suppressResponseDetail") == ["false"]
    assert [one.tag for one in first.findall("s:Body/*", SPACES)] == [f"{{{SERVICES}}}queryCustomerContact"]
    assert set(texts(first, ".//c:propertyQualifier")) == {"QAD"}
    assert session(first) == {"domain": "DEMO1", "version": "ERP3_1", "scopeTransaction": "false",
                              "mnemonicsRaw": "true"}  # fmt: skip


def test_headers_are_those_of_soap_1_1() -> None:
    """The action is there and empty, and no compression is asked for."""
    headers = envelopes().headers()
    assert (headers["SOAPAction"], headers["Content-Type"]) == ('""', "text/xml; charset=utf-8")
    assert headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(("auth", "there"), [("basic", False), ("session", True), ("both", True), ("none", False)])
def test_the_password_is_in_the_session_only_where_it_is_told(auth: str, there: bool) -> None:
    """`session` and `both` sign in within the message."""
    assert (session(sent(auth=auth)).get("password") == "pass-4Tz") is there


def test_a_session_id_goes_instead_of_a_user() -> None:
    """The connection's password is that of a session which is open."""
    told = session(sent(auth="session_id"))
    assert told["sessionID"] == "pass-4Tz"
    assert "username" not in told


def test_a_repr_holds_no_password() -> None:
    """What may end up in a log shows no password."""
    assert "4Tz" not in repr(envelopes(auth="session"))


def test_the_template_is_filled_and_escaped() -> None:
    """Values stand as text: one that looks like XML adds no element."""
    root = sent(Ask("DEMO1", last_key="<x>&\"'", page_size=7, changed_since="2025-01-31"))
    assert texts(root, ".//q:ttQuery/q:tt_after_key") == ["<x>&\"'"]
    assert texts(root, ".//q:ttQuery/q:tt_max_rows") == ["7"]
    assert texts(root, ".//q:ttQuery/q:tt_changed_since") == ["2025-01-31"]


def test_the_query_service_gets_a_progress_filter() -> None:
    """The last key is a quoted Progress string in the filter, and parameters come from the extra."""
    root = sent(Ask("DEMO1", last_key='A"~B'), profile="query_service", parameters={"profile": "Mine"})
    assert texts(root, ".//q:filter") == ['cm_addr > "A""~~B"']
    assert texts(root, ".//q:profile") == ["Mine"]
    assert texts(root, ".//q:sourceApplication") == ["QADERP"]


def test_an_openedge_service_gets_no_header() -> None:
    """A plain SOAP service sees neither addressing nor a session, and its own namespace."""
    root = sent(Ask("DEMO1"), profile="openedge", namespace="urn:site")
    assert root.find("s:Header", SPACES) is None
    assert [one.tag for one in root.find("s:Body", SPACES).iter()][1:] == [  # type: ignore[union-attr]
        "{urn:site}getCustomers", "{urn:site}inpdomain",
    ]  # fmt: skip


def test_contacts_have_a_request_of_their_own_only_where_one_is_set() -> None:
    """Without `contacts_operation` contacts come from the customers' answers."""
    assert envelopes(contacts=True).operation == "queryCustomerContact"
    own = envelopes(contacts=True, contacts_operation="queryContact", contacts_body="<a/>")
    assert (own.operation, own.where) == ("queryContact", "connection qad_qxtend: contacts_body")


def test_progress_strings() -> None:
    """Quotes are doubled, and Progress's escape character is escaped."""
    assert progress_string('C "1" ~n') == '"C ""1"" ~~n"'


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param("<a>{{ domian }}</a>", "'domian' is undefined", id="an unknown value"),
        pytest.param("<a>{{ domain </a>", "wrong at line 1", id="a broken expression"),
        pytest.param("<a>", "well-formed XML, at line 1", id="an open element"),
        pytest.param("</body><x/>", "well-formed XML", id="closing what it does not own"),
        pytest.param("<!DOCTYPE a><a/>", "well-formed XML", id="a document type"),
        pytest.param("<a>&evil;</a>", "well-formed XML", id="an entity"),
        pytest.param("<a>{{ domain.__class__.__mro__ }}</a>", "cannot be rendered", id="reaching for Python"),
        pytest.param("{% for i in range(10**9) %}{% endfor %}", "cannot be rendered", id="a range beyond all sense"),
        pytest.param("{% set x = parameters.update({'a': 1}) %}", "cannot be rendered", id="changing a value"),
        pytest.param("<a>{% include '/etc/passwd' %}</a>", "cannot be rendered", id="reading a file"),
        pytest.param("<a>\x01</a>", "well-formed XML", id="a control character"),
    ],
)
def test_a_bad_template_is_named(body: str, told: str) -> None:
    """The error says which template, where, and what is wrong; nothing is sent."""
    with pytest.raises(FixFirst, match="connection qad_qxtend: body") as caught:
        envelopes(body=body).envelope(Ask("DEMO1"))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"password": "pass\x01-4Tz", "auth": "session"}, id="the password"),
        pytest.param({"session": {"version": "E\x02"}}, id="the session"),
        pytest.param({"namespace": "urn:\x03"}, id="the namespace"),
    ],
)
def test_a_setting_that_cannot_stand_in_xml_is_ours_to_tell(extra: dict[str, Any]) -> None:
    """lxml's error quotes the value; ours does not."""
    with pytest.raises(FixFirst, match="cannot stand in XML") as caught:
        envelopes(**extra).envelope(Ask("DEMO1"))
    assert "4Tz" not in f"{caught.value!r}"


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_is_complete(profile: str) -> None:
    """With a receiver and a namespace, each profile makes a request for customers and one for contacts."""
    for contacts in (False, True):
        root = etree.fromstring(
            envelopes(contacts=contacts, profile=profile, namespace="urn:site").envelope(Ask("DEMO1"))
        )
        assert len(root.find("s:Body", SPACES)) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        pytest.param({"recever": "X"}, "Did you mean 'receiver'", id="an unknown name"),
        pytest.param({"profile": "qdoc"}, "profile 'qdoc' is not known", id="an unknown profile"),
        pytest.param({"paging": "offset"}, "paging 'offset' is not known", id="an unknown paging"),
        pytest.param({"warnings": "ignore"}, "Use incomplete, accept, refuse", id="an unknown way with warnings"),
        pytest.param({"receiver": ""}, "receiver is missing", id="no receiver"),
        pytest.param({"session": {"version": ""}}, "no version", id="no version"),
        pytest.param({"session": {"password": "x"}}, "holds username, password", id="a password in the session"),
        pytest.param({"session": {"sessionID": "x"}}, "holds username, password", id="a session id in the session"),
        pytest.param({"profile": "openedge"}, "namespace is missing", id="no namespace of a site's service"),
        pytest.param(
            {"profile": "openedge", "namespace": "urn:x", "auth": "session"}, "needs the session", id="no session"
        ),
        pytest.param({"page_size": 0}, "page_size must be at least 1", id="no page size"),
        pytest.param({"customer_columns": {"cod": "x"}}, "Did you mean 'code'", id="an unknown field"),
        pytest.param({"operation": "a b"}, "cannot be an operation", id="an operation that is no name"),
    ],
)
def test_a_wrong_extra_is_told(extra: dict[str, Any], told: str) -> None:
    """Each says what to write instead."""
    with pytest.raises(FixFirst) as caught:
        envelopes(**extra)
    assert told in str(caught.value)


def test_an_extra_replaces_its_profile_field_by_field() -> None:
    """What is not named stays the profile's; of session and parameters, each entry by itself."""
    settings = qxtend_settings(json.loads('{"receiver": "R", "session": {"version": "X1"}, "page_size": 9}'), WHERE)
    assert (settings.operation, settings.page_size) == ("queryCustomerContact", 9)
    assert settings.session == {"version": "X1", "scopeTransaction": "false", "mnemonicsRaw": "true"}


def test_the_source_is_receiver_and_domains() -> None:
    """Another receiver or domain at the same address is another source."""
    assert qxtend_settings({"receiver": "R", "domains": "A, B"}, WHERE).source_parts == ("R/A", "R/B")
    assert qxtend_settings({"receiver": "R"}, WHERE).source_parts == ("R/",)
