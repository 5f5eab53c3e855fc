"""The WSDLs that the simulated services answer with, for clients that are made from one.

Document/literal, one generic operation `processQdocMessage` per API at QXtend, as QAD's own; `{address}` is filled in
when it is served.
"""

from __future__ import annotations

from collections.abc import Iterable

from .qxtend_rows import COMMON, SAMPLE, SAMPLE_CONTACT, SERVICES, SITE, contact_values, customer_values

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<wsdl:definitions xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
 xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:tns="{space}" xmlns:qcom="{common}" targetNamespace="{space}">
"""


def _texts(names: Iterable[str]) -> str:
    return "".join(f'<xsd:element name="{one}" type="xsd:string" nillable="true" minOccurs="0"/>' for one in names)


def _sequence(name: str, inner: str, many: bool = False) -> str:
    often = ' minOccurs="0" maxOccurs="unbounded"' if many else ' minOccurs="0"'
    kind = f"<xsd:complexType><xsd:sequence>{inner}</xsd:sequence></xsd:complexType>"
    return f'<xsd:element name="{name}"{often}>{kind}</xsd:element>'


def _root(name: str, inner: str) -> str:
    kind = f"<xsd:complexType><xsd:sequence>{inner}</xsd:sequence></xsd:complexType>"
    return f'<xsd:element name="{name}">{kind}</xsd:element>'


def _schema(space: str, inner: str) -> str:
    return f'<xsd:schema targetNamespace="{space}" elementFormDefault="qualified">{inner}</xsd:schema>'


def _operations(messages: dict[str, tuple[str, str]], service: str) -> str:
    """Messages, port, binding and service for operations that take and answer one element each."""
    parts = ports = bindings = ""
    for name, (asks, answers) in messages.items():
        for kind, element in (("Request", asks), ("Response", answers)):
            part = f'<wsdl:part name="parameters" element="tns:{element}"/>'
            parts += f'<wsdl:message name="{name}{kind}">{part}</wsdl:message>'
        told = f'<wsdl:input message="tns:{name}Request"/><wsdl:output message="tns:{name}Response"/>'
        ports += f'<wsdl:operation name="{name}">{told}</wsdl:operation>'
        literal = '<soap:body use="literal"/>'
        told = f"<wsdl:input>{literal}</wsdl:input><wsdl:output>{literal}</wsdl:output>"
        bindings += f'<wsdl:operation name="{name}"><soap:operation soapAction=""/>{told}</wsdl:operation>'
    transport = '<soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>'
    return (
        f'{parts}<wsdl:portType name="{service}Port">{ports}</wsdl:portType>'
        f'<wsdl:binding name="{service}Binding" type="tns:{service}Port">{transport}{bindings}</wsdl:binding>'
        f'<wsdl:service name="{service}"><wsdl:port name="{service}" binding="tns:{service}Binding">'
        '<soap:address location="{address}"/></wsdl:port></wsdl:service></wsdl:definitions>\n'
    )


_CONTEXT = _root(
    "dsSessionContext",
    _sequence("ttContext", _texts(("propertyQualifier", "propertyName", "propertyValue")), many=True),
)
_EXCEPTIONS = _root(
    "dsExceptions",
    _sequence(
        "temp_err_msg",
        _texts(
            ("tt_level", "tt_msg_context", "tt_msg_data", "tt_msg_desc", "tt_msg_field", "tt_msg_index", "tt_msg_nbr",
             "tt_msg_processed", "tt_msg_sev")
        ),
        many=True,
    ),
)  # fmt: skip
_SESSION = '<xsd:element ref="qcom:dsSessionContext" minOccurs="0"/>'
_ROW = _texts(customer_values(SAMPLE)) + _sequence("contact", _texts(contact_values(SAMPLE_CONTACT)), many=True)
_QUERY = _sequence("ttQuery", _texts(("tt_domain", "tt_changed_since", "tt_after_key", "tt_max_rows")))
_MESSAGES = _root("queryCustomerContact", _SESSION + _sequence("dsQuery", _QUERY)) + _root(
    "queryCustomerContactResponse",
    f'{_texts(("result",))}{_SESSION}<xsd:element ref="qcom:dsExceptions" minOccurs="0"/>'
    + _sequence("dsCustomer", _sequence("customer", _ROW, many=True)),
)
_IMPORT = f'<xsd:import namespace="{COMMON}"/>'

QXTEND_WSDL = (
    _HEAD.format(space=SERVICES, common=COMMON)
    + f"<wsdl:types>{_schema(COMMON, _CONTEXT + _EXCEPTIONS)}{_schema(SERVICES, _IMPORT + _MESSAGES)}</wsdl:types>"
    + _operations(
        {"processQdocMessage": ("queryCustomerContact", "queryCustomerContactResponse")}, "QdocWebService"
    )
)  # fmt: skip

_SITE_ROW = _texts(("t_cmaddr", "t_cmname", "t_cmdom", "t_sharedset", "t_brcode", "t_addr1", "t_city", "t_zip",
                    "t_ctry", "t_email", "t_phone", "t_cmactive", "t_cmtype", "t_moddate"))  # fmt: skip
_SITE_CONTACT = _texts(("t_cmaddr", "t_cmdom", "t_ctid", "t_ctname", "t_ctemail", "t_ctphone", "t_ctfunction",
                        "t_ctprimary", "t_brcode", "t_adtype", "t_moddate"))  # fmt: skip
_SITE_MESSAGES = (
    _root("getCustomers", _texts(("inpdomain",)))
    + _root("getCustomersResponse", _texts(("outOK",)) + _sequence("tempRow", _SITE_ROW, many=True))
    + _root("getContacts", _texts(("inpdomain",)))
    + _root("getContactsResponse", _texts(("outOK",)) + _sequence("tempContact", _SITE_CONTACT, many=True))
)

SITE_WSDL = (
    _HEAD.format(space=SITE, common=COMMON)
    + f"<wsdl:types>{_schema(SITE, _SITE_MESSAGES)}</wsdl:types>"
    + _operations(
        {
            "getCustomers": ("getCustomers", "getCustomersResponse"),
            "getContacts": ("getContacts", "getContactsResponse"),
        },
        "SiteCustomers",
    )
)
