"""The simulated QXtend: what it refuses, its oddities, and that a client which is not this project's can read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
import requests
import zeep
from lxml import etree
from requests.auth import HTTPBasicAuth
from zeep.transports import Transport

from airflow_provider_qadzd.sandbox import Sandbox
from tests.sandbox.conftest import Client

QXI, WSA = "/qxi/services/QdocWebService", "/wsa/wsa1"
SOAP, SERVICES = "http://schemas.xmlsoap.org/soap/envelope/", "urn:schemas-qad-com:xml-services"
COMMON, ADDRESSING = f"{SERVICES}:common", "http://www.w3.org/2005/08/addressing"
ROWS = f".//{{{SERVICES}}}customer"


def entry(name: str, value: str) -> str:
    """One property of the session context."""
    told = f"<c:propertyName>{name}</c:propertyName><c:propertyValue>{value}</c:propertyValue>"
    return f"<c:ttContext><c:propertyQualifier>QAD</c:propertyQualifier>{told}</c:ttContext>"


def envelope(inner: str = "", to: str = "urn:services-qad-com:QADERP", **session: str) -> str:
    """A query of customers, written by hand."""
    told = "".join(entry(name, value) for name, value in {"version": "ERP3_1", **session}.items())
    return (
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" xmlns:c="{COMMON}"><s:Header><a:To>{to}</a:To></s:Header>'
        f'<s:Body><queryCustomerContact xmlns="{SERVICES}"><c:dsSessionContext>{told}</c:dsSessionContext>'
        f"<dsQuery><ttQuery>{inner}</ttQuery></dsQuery></queryCustomerContact></s:Body></s:Envelope>"
    )


@pytest.fixture
def qxtend(sandbox: Sandbox) -> Iterator[Client]:
    """A client that signs in over HTTP and sends what SOAP 1.1 wants."""
    client = Client(sandbox.url, {"SOAPAction": '""', "Content-Type": "text/xml; charset=utf-8"})
    client.session.auth = ("svc_zendesk", "sandbox")
    yield client
    client.session.close()


def asked(qxtend: Client, inner: str = "", **options: Any) -> requests.Response:
    """The answer to a query."""
    return qxtend("POST", QXI, data=envelope(inner, **options).encode())


def codes(answer: requests.Response) -> list[str]:
    """The customers in an answer."""
    root = ElementTree.fromstring(answer.content)
    return [row.findtext(f"{{{SERVICES}}}cmAddr", "") for row in root.findall(ROWS)]


def fault(answer: requests.Response) -> tuple[int, str, str]:
    """Status, code and text of a fault."""
    found = ElementTree.fromstring(answer.content).find(f".//{{{SOAP}}}Fault")
    assert found is not None
    return answer.status_code, found.findtext("faultcode", ""), found.findtext("faultstring", "")


def test_rows_follow_the_key_that_was_sent(qxtend: Client) -> None:
    """Keyset pages in the order of keys, as many rows as were asked for."""
    first = codes(asked(qxtend, "<tt_max_rows>3</tt_max_rows>"))
    assert first == ["C0000201", "C0000202", "C0000203"]
    for key in ("C0000203", "c0000203"):
        after = f"<tt_after_key>{key}</tt_after_key><tt_max_rows>2</tt_max_rows>"
        assert codes(asked(qxtend, after)) == ["C0000204", "C0000205"]
    assert codes(asked(qxtend, "<tt_after_key>ZZ</tt_after_key>")) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"to": "urn:services-qad-com:OTHER"}, "Receiver urn:services-qad-com:OTHER is not defined"),
        ({"version": "ERP9"}, "API queryCustomerContact-ERP9 is not known"),
        ({"username": "svc_zendesk", "password": "wrong"}, "User name or password is not valid"),
    ],
    ids=["receiver", "version", "session login"],
)
def test_what_comes_before_processing_is_a_client_fault(qxtend: Client, options: dict[str, str], told: str) -> None:
    """With HTTP 500, as SOAP 1.1 wants it."""
    qxtend.session.auth = None if "username" in options else qxtend.session.auth
    assert fault(asked(qxtend, **options)) == (500, "soapenv:Client", told)


def test_soapaction_must_be_there_and_empty(qxtend: Client) -> None:
    """A missing action and a filled one are both refused."""
    for action in (None, '"processQdocMessage"'):
        qxtend.session.headers["SOAPAction"] = action  # type: ignore[assignment]
        assert fault(asked(qxtend))[2] == "SOAPAction is missing or not empty"


@pytest.mark.parametrize("body", [b"", b"<", b"<a/>", b"\0", b"{}"])
def test_what_is_no_envelope_is_refused(qxtend: Client, body: bytes) -> None:
    """Never an error of the sandbox itself."""
    assert fault(qxtend("POST", QXI, data=body))[0] == 500
    assert fault(qxtend("POST", WSA, data=body))[0] == 500


def test_nobody_is_let_in_without_a_login(qxtend: Client) -> None:
    """401 asks for Basic."""
    qxtend.session.auth = None
    answer = asked(qxtend)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="QXI"')


def test_the_session_is_echoed_with_a_blank_password(qxtend: Client) -> None:
    """As in QAD's own sample."""
    qxtend.session.auth = None
    answer = asked(qxtend, username="svc_zendesk", password="sandbox")
    entries = ElementTree.fromstring(answer.content).findall(f".//{{{COMMON}}}ttContext")
    told = {one.findtext(f"{{{COMMON}}}propertyName"): one.findtext(f"{{{COMMON}}}propertyValue") for one in entries}
    assert told == {"version": "ERP3_1", "username": "svc_zendesk", "password": ""}


def test_an_unknown_domain_is_an_error_with_http_200(qxtend: Client) -> None:
    """Errors of processing are no faults."""
    answer = asked(qxtend, domain="NONE")
    root = ElementTree.fromstring(answer.content)
    assert (answer.status_code, root.findtext(f".//{{{SERVICES}}}result")) == (200, "error")
    assert root.findtext(f".//{{{COMMON}}}tt_msg_nbr") == "6135"


@pytest.mark.parametrize(
    ("word", "status", "inside"),
    [
        ("client-fault", 500, "soapenv:Client"),
        ("server-fault", 500, "soapenv:Server"),
        ("error", 200, "6135"),
        ("oe-error", 200, "OE-1422"),
        ("process-001", 200, "ProcessException001"),
        ("process-009", 500, "ProcessException009"),
        ("warning", 200, "<ns1:result>warning"),
        ("mtom", 200, "application/xop+xml"),
    ],
)
def test_a_fault_of_the_action_soap_spoils_one_answer(
    sandbox: Sandbox, qxtend: Client, word: str, status: int, inside: str
) -> None:
    """Each word once, and the next answer is as usual."""
    sandbox.post_control("faults", {"match": f"POST {QXI}", "action": "soap", "soap": word})
    answer = asked(qxtend)
    assert (answer.status_code, inside in answer.text) == (status, True)
    assert len(codes(asked(qxtend))) == 40


def test_an_unknown_word_is_refused(sandbox: Sandbox) -> None:
    """A mistyped fault does not pass for one that never fires."""
    with pytest.raises(ValueError, match="soap=servr"):
        sandbox.post_control("faults", {"match": "*", "action": "soap", "soap": "servr"})


@pytest.mark.parametrize("prefix", ["numbered", "default", "other"])
def test_prefixes_vary(sandbox: Sandbox, qxtend: Client, prefix: str) -> None:
    """The text differs, the meaning does not."""
    usual = asked(qxtend).text
    sandbox.post_control("settings", {"qxtend_prefix": prefix})
    answer = asked(qxtend)
    assert len(codes(answer)) == 40
    assert (answer.text == usual) is (prefix == "numbered")


def test_a_change_is_seen_at_once(sandbox: Sandbox, qxtend: Client) -> None:
    """Rows are kept as bytes, and made again when the store changes."""
    before = asked(qxtend).text
    sandbox.post_control("customers", {"code": "C0000203", "name": "Renamed & Sons"})
    sandbox.post_control("contacts", {"customers": ["C0000203"], "name": "New Person"})
    after = asked(qxtend).text
    assert "Renamed &amp; Sons" not in before
    assert "Renamed &amp; Sons" in after
    assert "New Person" in after


def test_what_xml_cannot_hold_does_not_break_it(sandbox: Sandbox, qxtend: Client) -> None:
    """A control character in a name is replaced."""
    sandbox.post_control("customers", {"code": "C0000203", "name": "A\u0001B\uffff"})
    assert "A?B?" in asked(qxtend).text


# --- A client that this project did not write ---


def zeep_client(sandbox: Sandbox, path: str) -> Any:
    """zeep, made from the WSDL that is served."""
    session = requests.Session()
    session.auth = HTTPBasicAuth("svc_zendesk", "sandbox")
    return zeep.Client(f"{sandbox.url}{path}?wsdl", transport=Transport(session=session, timeout=30))


def test_zeep_reads_customers_and_contacts(sandbox: Sandbox) -> None:
    """From the WSDL alone, with the addressing header: rows, nested contacts, nils and the echoed session."""
    client = zeep_client(sandbox, QXI)
    to = etree.Element(f"{{{ADDRESSING}}}To")
    to.text = "urn:services-qad-com:QADERP"
    context = {"ttContext": [{"propertyQualifier": "QAD", "propertyName": "version", "propertyValue": "ERP3_1"}]}
    found = client.service.processQdocMessage(
        dsSessionContext=context, dsQuery={"ttQuery": {"tt_max_rows": "40"}}, _soapheaders=[to]
    )
    held = sandbox.get_control("state")["qad"]
    assert found.result == "success"
    assert found.dsSessionContext.ttContext[0].propertyValue == "ERP3_1"
    rows = {row.cmAddr: row for row in found.dsCustomer.customer}
    assert {code: (row.adName, row.adPhone) for code, row in rows.items()} == {
        row["code"]: (row["name"], row["phone"]) for row in held["customers"]
    }
    people = {(row.cmAddr, one.ContactID) for row in rows.values() for one in row.contact}
    assert people == {(code, str(one["id"])) for one in held["contacts"] for code in one["customers"]}


def test_zeep_sees_a_fault_as_a_fault(sandbox: Sandbox) -> None:
    """Its own error, with our code."""
    client = zeep_client(sandbox, QXI)
    with pytest.raises(zeep.exceptions.Fault, match="Receiver  is not defined"):
        client.service.processQdocMessage(dsQuery={})


def test_zeep_reads_the_sites_own_service(sandbox: Sandbox) -> None:
    """A plain document/literal service."""
    client = zeep_client(sandbox, WSA)
    customers = client.service.getCustomers(inpdomain="DEMO1")
    assert (customers.outOK, len(customers.tempRow)) == ("true", 40)
    assert len(client.service.getContacts(inpdomain="DEMO1").tempContact) == 121
    assert client.service.getCustomers(inpdomain="NONE").outOK == "false"
