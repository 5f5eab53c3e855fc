"""QXtend's dialect, the asking half: an envelope made from settings.

Nothing here touches the network. An envelope may hold a password, so nothing here logs one or puts one into an error,
and no caller may either. Site-specific parts are templates, rendered in Jinja's immutable sandbox with XML escaping and
read back as XML, so that no value can add an element.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from functools import cached_property
from xml.sax.saxutils import quoteattr

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lxml import etree

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.qad.qxtend_settings import COMMON, QxtendSettings

# https://www.w3.org/TR/2000/NOTE-SOAP-20000508/ ; QXtend takes SOAP 1.1 only.
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
ADDRESSING = "http://www.w3.org/2005/08/addressing"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: which page of which domain. `page` counts from 1; `last_key` is empty on the first page."""

    domain: str = ""
    page: int = 1
    last_key: str = ""
    page_size: int = 500
    changed_since: str = ""


@dataclass(frozen=True)
class Envelopes:
    """Makes the requests of one kind of record. `where` names the template in errors."""

    settings: QxtendSettings
    operation: str
    text: str
    where: str
    username: str = ""
    password: str = field(default="", repr=False)

    @cached_property
    def body(self) -> jinja2.Template:
        """The template. FixFirst with the line of a mistake."""
        try:
            return _ENVIRONMENT.from_string(self.text)
        except jinja2.TemplateSyntaxError as error:
            raise FixFirst(f"{self.where}: the template is wrong at line {error.lineno}: {error.message}.") from None

    @property
    def words(self) -> dict[str, str]:
        """What a fault may name, by the setting that says it."""
        if not self.settings.addressing:
            return {"operation": self.operation}
        version = self.settings.session.get("version", "")
        return {"receiver": self.settings.receiver, "operation": self.operation, "session version": version}

    def names(self, value: str) -> bool:
        """Whether the template uses this value."""
        return value in jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(self.text))

    def headers(self) -> dict[str, str]:
        """What goes along over HTTP: SOAP 1.1 wants an action, and QXtend wants it empty."""
        return {
            "Content-Type": "text/xml; charset=utf-8",
            "Accept": "text/xml, multipart/related",
            "Accept-Encoding": "identity",
            "SOAPAction": f'"{self.settings.soap_action}"',
        }

    def envelope(self, ask: Ask) -> bytes:
        """The request as bytes. FixFirst where the template does not make well-formed XML."""
        try:
            return self._envelope(ask)
        except ValueError:  # lxml's word for a control character, or a name that is none; its text quotes the value
            advice = "Look at namespace, operation, receiver, session, login and password."
            raise FixFirst(f"{self.where}: a setting cannot stand in XML.", advice=advice) from None

    def _envelope(self, ask: Ask) -> bytes:
        given, space = self.settings, {None: self.settings.namespace, "soapenv": SOAP}
        if given.addressing:
            space |= {"qcom": COMMON, "wsa": ADDRESSING}
        root = etree.Element(f"{{{SOAP}}}Envelope", nsmap=space)  # type: ignore[arg-type] # the stub knows no default namespace
        if given.addressing:
            self._address(etree.SubElement(root, f"{{{SOAP}}}Header"))
        body = etree.SubElement(root, f"{{{SOAP}}}Body")
        operation = etree.SubElement(body, f"{{{given.namespace}}}{self.operation}")
        if given.addressing:
            self._say_session(operation, ask)
        operation.extend(self._rendered(ask))
        return etree.tostring(root, xml_declaration=True, encoding="utf-8")

    # QAD QXtend User Guide 1.8.6, appendix B: To and the session's version are mandatory, the rest may be empty.
    def _address(self, header: etree._Element) -> None:
        receiver = self.settings.receiver
        _add(header, ADDRESSING, "Action", self.settings.wsa_action)
        _add(header, ADDRESSING, "To", self.settings.wsa_to.replace("{receiver}", receiver))
        message_id = self.settings.message_id.replace("{receiver}", receiver).replace("{uuid}", uuid.uuid4().hex)
        _add(header, ADDRESSING, "MessageID", message_id)
        parameters = etree.SubElement(header, f"{{{ADDRESSING}}}ReferenceParameters")
        _add(parameters, COMMON, "suppressResponseDetail", "false")
        reply_to = etree.SubElement(header, f"{{{ADDRESSING}}}ReplyTo")
        _add(reply_to, ADDRESSING, "Address", "urn:services-qad-com:")

    def _say_session(self, operation: etree._Element, ask: Ask) -> None:
        context = etree.SubElement(operation, f"{{{COMMON}}}dsSessionContext")
        told = {"domain": ask.domain} if ask.domain else {}
        if self.settings.auth in ("session", "both"):
            told |= {"username": self.username, "password": self.password}
        if self.settings.auth == "session_id":
            told["sessionID"] = self.password
        for name, value in {**told, **self.settings.session}.items():
            entry = etree.SubElement(context, f"{{{COMMON}}}ttContext")
            _add(entry, COMMON, "propertyQualifier", "QAD")
            _add(entry, COMMON, "propertyName", name)
            _add(entry, COMMON, "propertyValue", value)

    def _rendered(self, ask: Ask) -> list[etree._Element]:
        """The elements that the template makes, in the operation's namespace where they name none."""
        try:
            text = self.body.render(
                domain=ask.domain, page=ask.page, last_key=ask.last_key, page_size=ask.page_size,
                changed_since=ask.changed_since, receiver=self.settings.receiver, parameters=self.settings.parameters,
            )  # fmt: skip
        except Exception as error:  # a template is a program of the site's: it may raise anything
            what = f"{self.where}: the template cannot be rendered ({type(error).__name__})."
            advice = str(error) if isinstance(error, jinja2.UndefinedError) else "Correct the template."
            raise FixFirst(what, advice=advice) from None
        outer = f"<body xmlns={quoteattr(self.settings.namespace)} xmlns:qcom={quoteattr(COMMON)}>".encode()
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        try:
            return list(etree.fromstring(outer + text.encode() + b"</body>", parser))
        except etree.XMLSyntaxError as error:
            line, column = error.position
            what = f"{self.where}: the template does not make well-formed XML, at line {line} column {column}."
            raise FixFirst(what, advice="Close every element, and let {{ values }} stand in text.") from None


def _add(parent: etree._Element, namespace: str, name: str, text: str) -> None:
    etree.SubElement(parent, f"{{{namespace}}}{name}").text = text


def envelopes_of(
    settings: QxtendSettings, *, contacts: bool, username: str, password: str, where: str
) -> Envelopes:  # fmt: skip
    """The requests for customers, or for contacts: those of the customers, where contacts have none of their own."""
    own = contacts and bool(settings.contacts_operation)
    operation = settings.contacts_operation if own else settings.operation
    name = "contacts_body" if contacts and settings.contacts_body else "body"
    where = f"{where}: {name}"
    try:
        etree.QName(operation)
    except ValueError:
        raise FixFirst(f"{where}: {operation!r} cannot be an operation.", advice="Name an XML element.") from None
    envelopes = Envelopes(settings, operation, getattr(settings, name), where, username, password)
    _ = envelopes.body  # a template that cannot be parsed is told now
    return envelopes


def progress_string(value: object) -> str:
    """`value` as a string of Progress source: quoted, with quotes doubled and its escape character escaped."""
    return '"' + str(value).replace("~", "~~").replace('"', '""') + '"'


_ENVIRONMENT = ImmutableSandboxedEnvironment(autoescape=True, undefined=jinja2.StrictUndefined)
"""Templates can reach nothing but what they are given."""
_ENVIRONMENT.filters["progress"] = progress_string
