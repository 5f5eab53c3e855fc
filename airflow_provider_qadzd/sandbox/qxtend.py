"""The simulated QXtend, over the same customers and contacts as the REST edition.

`/qxi/services/QdocWebService` takes QDoc 1.1 messages for two invented APIs: a site's own query of customers with their
contacts, and the query service on the operational tables. `/wsa/wsa1` is a site's OpenEdge web service, which knows no
envelope but SOAP's. Each serves its WSDL at `?wsdl`.

It takes what the original takes (SOAP 1.1, an empty SOAPAction, a known receiver and version, a login over HTTP or in
the session context), compares keys without regard to case, and answers in prefixes that no client may rely on.
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from .qad import PASSWORD, USER
from .qad_store import day_of
from .qxtend_rows import COMMON, ROWS, SERVICES, SITE, SOAP, element, text_of
from .qxtend_wsdl import QXTEND_WSDL, SITE_WSDL
from .web import Call, Handler, Refusal, Reply

if TYPE_CHECKING:
    from .qad_store import QadStore
    from .state import State

RECEIVER = "QADERP"
VERSIONS = {"queryCustomerContact": "ERP3_1", "querySourceApplication": "QXO1_8"}
XML = "text/xml; charset=utf-8"
BOUNDARY = "MIMEBoundary_4f1c2d"
WSA = "http://www.w3.org/2005/08/addressing"


# number, severity, and what it is about; invented texts.
_MESSAGES = {
    "error": ("6135", "error", "Domain is not valid"),
    "oe-error": ("OE-1422", "error", "Index is already in use"),
    "process-001": ("ProcessException001", "error", "Session failed to initialize"),
    "warning": ("6027", "warning", "Field was unused"),
    "cut": ("QXO0042", "warning", "Result was truncated"),
}


@dataclass
class QxtendRows:
    """Rows as bytes, made once for each state of the store, and customers in the order of their keys."""

    version: int = -1
    made: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    contacts: dict[str, list[int]] = field(default_factory=dict)
    keys: list[tuple[str, str]] = field(default_factory=list)

    def fresh(self, store: QadStore) -> QxtendRows:
        """As the store is now."""
        if self.version != store.version:
            self.version = store.version
            self.made.clear()
            self.contacts = {code: [] for code in store.customers}
            for row in store.contacts.values():
                for code in row.customers:
                    self.contacts.setdefault(code, []).append(row.id)
            self.keys = sorted((code.casefold(), code) for code in store.customers)
        return self

    def bytes_of(self, store: QadStore, name: str, prefix: str, code: str) -> bytes:
        """One customer in the shape `name`, with its contacts where that shape has any."""
        key = (name, prefix, code)
        found = self.made.get(key)
        if found is None:
            people = [store.contacts[number] for number in self.contacts.get(code, ())]
            found = self.made[key] = ROWS[name](store.customers[code], people, prefix)
        return found


@dataclass(frozen=True)
class Asked:
    """A request, understood."""

    operation: str
    message: ElementTree.Element
    session: dict[str, str]

    def value(self, name: str) -> str:
        """The text of the first element of that local name in the message."""
        return next((text_of(one) for one in self.message.iter() if _local(one.tag) == name), "")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


# --- QDoc 1.1 --------------------------------------------------------------------------------------------------------


def _qdoc(state: State, call: Call) -> Reply:
    asked = _understood(state, call)
    spoiled = call.soap
    if spoiled in ("client-fault", "server-fault", "process-009"):
        raise _spoiled_fault(spoiled)
    if asked.operation not in VERSIONS or asked.session.get("version") != VERSIONS[asked.operation]:
        raise _fault("Client", f"API {asked.operation}-{asked.session.get('version', '')} is not known")
    prefix = {"numbered": "ns1:", "default": "", "other": "q:"}[state.settings.qxtend_prefix]
    domain = asked.session.get("domain") or state.qad.domains[0]
    if spoiled in ("error", "oe-error", "process-001") or domain not in state.qad.domains:
        rows, messages, result = b"", [spoiled or "error"], "error"
    else:
        rows, cut = _customers(state, asked, domain, prefix)
        messages = ["warning"] if spoiled == "warning" or state.settings.qxtend_result == "warning" else []
        messages += ["cut"] if cut else []
        result = "warning" if messages else "success"
    body = _response(asked, prefix, result, messages, rows)
    return _packed(body) if spoiled == "mtom" or state.settings.qxtend_mtom else Reply(200, body, XML)


def _customers(state: State, asked: Asked, domain: str, prefix: str) -> tuple[bytes, bool]:
    """The rows after the key that was sent, as many as were asked for; whether the server's own limit cut them off."""
    if asked.operation == "queryCustomerContact":
        name, after, size = "qdoc", asked.value("tt_after_key"), asked.value("tt_max_rows")
        page = asked.value("tt_page")
    else:
        name, size, page = "service", asked.value("maxRows"), ""
        filtered = re.fullmatch(r'\s*cm_addr\s*>\s*"(.*)"\s*', asked.value("filter"), re.DOTALL)
        if filtered is None or asked.value("sourceApplication") != RECEIVER or asked.value("profile") != "Customer":
            raise _fault("Client", "Source application, profile or filter is not valid")
        after = filtered[1].replace('""', '"').replace("~~", "~")
    rows = state.qxtend.fresh(state.qad)
    wanted = int(size) if size.isdigit() and int(size) else len(rows.keys)
    limit = state.settings.qxtend_row_limit
    start = bisect_right(rows.keys, (after.casefold(), after)) if after else 0
    if page.isdigit():
        start = (max(int(page), 1) - 1) * wanted
    cut = limit is not None and limit < wanted
    since, keys = asked.value("tt_changed_since"), rows.keys
    if len(state.qad.domains) > 1 or since:
        # A page number counts what is left; a key is a place among all.
        keys = [key for key in keys[0 if page.isdigit() else start :] if _is_asked_for(state, key[1], domain, since)]
        start = start if page.isdigit() else 0
    keys = keys[start : start + (limit if limit is not None and cut else wanted)]
    return b"".join(rows.bytes_of(state.qad, name, prefix, code) for _, code in keys), cut


def _is_asked_for(state: State, code: str, domain: str, since: str) -> bool:
    """Whether a customer is of this domain, and it or one of its contacts was changed on that day or later."""
    row, people = state.qad.customers[code], state.qxtend.contacts.get(code, ())
    modified = max([row.modified, *(state.qad.contacts[number].modified for number in people)])
    return row.domain == domain and day_of(modified)[:10] >= since


def _understood(state: State, call: Call) -> Asked:
    """The message in a call; a fault for everything that QXtend refuses before processing."""
    envelope, message = _message(call)
    if call.headers.get("soapaction", "-").strip('"') != "":
        raise _fault("Client", "SOAPAction is missing or not empty")
    to = text_of(envelope.find(f"{{{SOAP}}}Header/{{{WSA}}}To"))
    if to.removeprefix("urn:services-qad-com:") != RECEIVER:
        raise _fault("Client", f"Receiver {to} is not defined")
    if not message.tag.startswith(f"{{{SERVICES}}}"):
        raise _fault("Client", "The message is no QDoc 1.1")
    entries = message.findall(f"{{{COMMON}}}dsSessionContext/{{{COMMON}}}ttContext")
    told = {
        text_of(one.find(f"{{{COMMON}}}propertyName")): text_of(one.find(f"{{{COMMON}}}propertyValue"))
        for one in entries
    }
    if "username" in told and (told["username"], told.get("password")) != (USER, PASSWORD):
        raise _fault("Client", "User name or password is not valid")
    if "username" not in told or "authorization" in call.headers:
        _sign_in(call)
    return Asked(_local(message.tag), message, told)


def _message(call: Call) -> tuple[ElementTree.Element, ElementTree.Element]:
    try:
        envelope = ElementTree.fromstring(call.raw)
    except (ElementTree.ParseError, ValueError):
        raise _fault("Client", "The message is not well-formed") from None
    message = envelope.find(f"{{{SOAP}}}Body/*")
    if envelope.tag != f"{{{SOAP}}}Envelope" or message is None:
        raise _fault("VersionMismatch", "The message is no SOAP 1.1 envelope")
    return envelope, message


def _sign_in(call: Call) -> None:
    kind, _, value = call.headers.get("authorization", "").partition(" ")
    try:
        known = base64.b64decode(value, validate=True).decode() == f"{USER}:{PASSWORD}"
    except (binascii.Error, UnicodeDecodeError):
        known = False
    if kind.lower() != "basic" or not known:
        headers = {"WWW-Authenticate": 'Basic realm="QXI"'}
        raise Refusal(Reply(401, b"<html><body>Unauthorized</body></html>", "text/html", headers))


def _response(asked: Asked, prefix: str, result: str, messages: Iterable[str], rows: bytes) -> bytes:
    p, space = prefix, f'xmlns:{prefix[:-1]}="{SERVICES}"' if prefix else f'xmlns="{SERVICES}"'
    # QXtend echoes the session context, the password blank.
    context = "".join(
        f"<ns2:ttContext><ns2:propertyQualifier>QAD</ns2:propertyQualifier>{element('ns2:', 'propertyName', name)}"
        f"{element('ns2:', 'propertyValue', '' if name == 'password' else value)}</ns2:ttContext>"
        for name, value in asked.session.items()
    )
    exceptions = "".join(_exception(name) for name in messages)
    if exceptions:
        exceptions = f'<ns2:dsExceptions xmlns:ns2="{COMMON}">{exceptions}</ns2:dsExceptions>'
    head = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<soapenv:Envelope xmlns:soapenv="{SOAP}" xmlns:wsa="{WSA}">'
        "<soapenv:Header><wsa:Action/><wsa:To>urn:services-qad-com:</wsa:To></soapenv:Header><soapenv:Body>"
        f"<{p}{asked.operation}Response {space}><{p}result>{result}</{p}result>"
        f'<ns2:dsSessionContext xmlns:ns2="{COMMON}">{context}</ns2:dsSessionContext>{exceptions}<{p}dsCustomer>'
    )
    tail = f"</{p}dsCustomer></{p}{asked.operation}Response></soapenv:Body></soapenv:Envelope>"
    return head.encode() + rows + tail.encode()


def _exception(name: str) -> str:
    number, severity, text = _MESSAGES[name]
    values = {
        "tt_level": "", "tt_msg_context": "ttQuery#1 field(tt_domain)", "tt_msg_data": "", "tt_msg_desc": text,
        "tt_msg_field": "tt_domain", "tt_msg_index": "0", "tt_msg_nbr": number, "tt_msg_processed": "false",
        "tt_msg_sev": severity,
    }  # fmt: skip
    return (
        f"<ns2:temp_err_msg>{''.join(element('ns2:', one, value) for one, value in values.items())}</ns2:temp_err_msg>"
    )


def _packed(body: bytes) -> Reply:
    """As MTOM packs it: the message is the first part, an attachment that nobody asked for the second."""
    start = f'--{BOUNDARY}\r\nContent-Type: application/xop+xml; charset=UTF-8; type="text/xml"\r\n'
    start += "Content-Transfer-Encoding: binary\r\nContent-ID: <root@qxi>\r\n\r\n"
    rest = f"\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-ID: <log@qxi>\r\n\r\n"
    end = f"\r\n--{BOUNDARY}--\r\n"
    kind = f'multipart/related; type="application/xop+xml"; start="<root@qxi>"; boundary="{BOUNDARY}"'
    return Reply(200, start.encode() + body + rest.encode() + b"\x00\x01<not xml" + end.encode(), kind)


# --- Faults ----------------------------------------------------------------------------------------------------------


def _fault(code: str, text: str) -> Refusal:
    """A SOAP fault, with the status that SOAP 1.1 wants for it."""
    body = (
        f'<soapenv:Envelope xmlns:soapenv="{SOAP}"><soapenv:Body><soapenv:Fault><faultcode>soapenv:{code}</faultcode>'
        f"{element('', 'faultstring', text)}<faultactor>QXI</faultactor><detail/>"
        "</soapenv:Fault></soapenv:Body></soapenv:Envelope>"
    )
    return Refusal(Reply(500, body.encode(), XML))


def _spoiled_fault(word: str) -> Refusal:
    if word == "client-fault":
        return _fault("Client", "No licence for this receiver")
    text = "ProcessException009: timeout waiting for QAD" if word == "process-009" else "The receiver is not available"
    return _fault("Client" if word == "process-009" else "Server", text)


# --- A site's own OpenEdge service -----------------------------------------------------------------------------------


def _site(state: State, call: Call) -> Reply:
    """The whole table in one answer, per domain."""
    _sign_in(call)
    _, message = _message(call)
    asked = Asked(_local(message.tag), message, {})
    if call.soap in ("client-fault", "server-fault", "process-009"):
        raise _spoiled_fault(call.soap)
    if message.tag not in (f"{{{SITE}}}getCustomers", f"{{{SITE}}}getContacts"):
        raise _fault("Client", f"Operation {asked.operation} is not known")
    name = "site_customers" if asked.operation == "getCustomers" else "site_contacts"
    domain, store = asked.value("inpdomain") or state.qad.domains[0], state.qad
    well = domain in store.domains and call.soap not in ("error", "oe-error", "process-001")
    rows = state.qxtend.fresh(store)
    codes = [code for _, code in rows.keys if store.customers[code].domain == domain] if well else []
    told = b"".join(rows.bytes_of(store, name, "", code) for code in codes)
    head = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<SOAP-ENV:Envelope xmlns:SOAP-ENV="{SOAP}"><SOAP-ENV:Body>'
        f'<{asked.operation}Response xmlns="{SITE}"><outOK>{str(well).lower()}</outOK>'
    )
    tail = f"</{asked.operation}Response></SOAP-ENV:Body></SOAP-ENV:Envelope>"
    return Reply(200, head.encode() + told + tail.encode(), XML)


def _wsdl(text: str) -> Handler:
    def handler(_state: State, call: Call) -> Reply:
        if "wsdl" not in {name.lower() for name in call.query}:
            return Reply(200, b"<html><body><h2>QdocWebService</h2></body></html>", "text/html")
        return Reply(200, text.replace("{address}", f"{call.base}{call.path}").encode(), XML)

    return handler


ROUTES = [
    ("POST", "/qxi/services/QdocWebService", _qdoc),
    ("GET", "/qxi/services/QdocWebService", _wsdl(QXTEND_WSDL)),
    ("POST", "/wsa/wsa1", _site),
    ("GET", "/wsa/wsa1", _wsdl(SITE_WSDL)),
]
