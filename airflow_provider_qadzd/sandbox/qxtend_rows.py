"""A customer, and its contacts, in the XML of each simulated service.

Element names follow QAD's where those are known (`cm_addr` is `cmAddr`; the columns of Contact as they are); the rest
is what a site might have called it. Blank text is an empty element, an unknown value `xsi:nil`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from .qad_store import Contact, Customer, day_of, second_of

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
SERVICES = "urn:schemas-qad-com:xml-services"
COMMON = "urn:schemas-qad-com:xml-services:common"
SITE = "urn:services-site-example:customers"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text_of(found: ElementTree.Element | None) -> str:
    """An element's text, trimmed; empty for none."""
    return "" if found is None or found.text is None else found.text.strip()


def element(prefix: str, name: str, value: object) -> str:
    """One element; None is nil, and what XML cannot hold becomes a question mark, as Progress writes the unknown."""
    if value is None:
        return f'<{prefix}{name} xsi:nil="true" xmlns:xsi="{_INSTANCE}"/>'
    text = str(value).lower() if isinstance(value, bool) else escape(_NOT_XML.sub("?", str(value)))
    return f"<{prefix}{name}>{text}</{prefix}{name}>" if text else f"<{prefix}{name}/>"


def _elements(prefix: str, values: Mapping[str, object]) -> str:
    return "".join(element(prefix, name, value) for name, value in values.items())


def _customer(row: Customer, people: Sequence[Contact], prefix: str) -> bytes:
    """The site's query QDoc: everything that Financials knows, contacts within."""
    contacts = "".join(f"<{prefix}contact>{_elements(prefix, contact_values(one))}</{prefix}contact>" for one in people)
    return f"<{prefix}customer>{_elements(prefix, customer_values(row))}{contacts}</{prefix}customer>\n".encode()


def customer_values(row: Customer) -> dict[str, object]:
    """A customer's elements in the query QDoc."""
    return {
        "cmAddr": row.code, "cmDomain": row.domain, "adName": row.name, "adLine1": row.street, "adLine2": "",
        "adLine3": "", "adCity": row.city, "adZip": row.zip, "adCtry": row.country, "adPhone": row.phone,
        "adEmail": row.email, "cmSort": row.search_name, "cmType": row.type, "cmCurr": row.currency,
        "cmLang": row.language, "isActive": row.active, "sharedSetCode": row.shared_set,
        "businessRelationCode": row.business_relation, "lastModifiedDate": day_of(row.modified),
        "lastModifiedTime": second_of(row.modified),
    }  # fmt: skip


def contact_values(row: Contact) -> dict[str, object]:
    """A contact's elements in the query QDoc."""
    return {
        "ContactID": row.id, "ContactName": row.name, "ContactEmail": row.email, "ContactTelephone": row.phone,
        "ContactMobilePhone": row.mobile, "ContactTitle": row.title, "ContactFunction": row.function,
        "ContactIsPrimary": row.primary, "ContactIsSecondary": row.secondary, "AddressTypeCode": row.address_type,
        "BusinessRelationCode": row.business_relation, "LastModifiedDate": day_of(row.modified),
    }  # fmt: skip


def _operational(row: Customer, people: Sequence[Contact], prefix: str) -> bytes:
    """The query service: cm_mstr and ad_mstr only, so no email, no active flag, and an attention slot for people."""
    values = {
        "cmAddr": row.code, "cmDomain": row.domain, "adName": row.name, "adLine1": row.street, "adCity": row.city,
        "adZip": row.zip, "adCtry": row.country, "adAttn": people[0].name if people else "", "adPhone": row.phone,
        "adAttn2": "VACIO", "cmType": row.type, "cmCurr": row.currency, "cmModDate": day_of(row.modified),
    }  # fmt: skip
    return f"<{prefix}Customer>{_elements(prefix, values)}</{prefix}Customer>\n".encode()


def _site_customer(row: Customer, _people: Sequence[Contact], _prefix: str) -> bytes:
    values = {
        "t_cmaddr": row.code, "t_cmname": row.name, "t_cmdom": row.domain, "t_sharedset": row.shared_set,
        "t_brcode": row.business_relation, "t_addr1": row.street, "t_city": row.city, "t_zip": row.zip,
        "t_ctry": row.country, "t_email": row.email, "t_phone": row.phone, "t_cmactive": row.active,
        "t_cmtype": row.type, "t_moddate": day_of(row.modified),
    }  # fmt: skip
    return f"<tempRow>{_elements('', values)}</tempRow>\n".encode()


def _site_contacts(row: Customer, people: Sequence[Contact], _prefix: str) -> bytes:
    rows = [
        {
            "t_cmaddr": row.code, "t_cmdom": row.domain, "t_ctid": one.id, "t_ctname": one.name,
            "t_ctemail": one.email, "t_ctphone": one.phone, "t_ctfunction": one.function,
            "t_ctprimary": one.primary, "t_brcode": one.business_relation, "t_adtype": one.address_type,
            "t_moddate": day_of(one.modified),
        }
        for one in people
    ]  # fmt: skip
    return "".join(f"<tempContact>{_elements('', values)}</tempContact>\n" for values in rows).encode()


ROWS: dict[str, Callable[[Customer, Sequence[Contact], str], bytes]] = {
    "qdoc": _customer, "service": _operational, "site_customers": _site_customer, "site_contacts": _site_contacts,
}  # fmt: skip
"""By shape: one customer as bytes."""
SAMPLE = Customer("", "", "", "", "", "", "", "", "", "", "", 0.0)
SAMPLE_CONTACT = Contact(0, "", "", "", "", "", "", "", [], 0.0)
