"""What the simulated QAD keeps: customers and contacts, and the browse rows made from them, encoded once.

A contact may belong to several customers; each pair of contact and customer is one row of the contacts browse.
Instants are seconds since the epoch, UTC.
"""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct

from .web import encode

SHARED_SET = "AllCustomers"
DOMAIN = "DEMO1"


class Customer(Struct):
    """A customer account."""

    code: str
    name: str
    business_relation: str
    search_name: str
    street: str
    city: str
    zip: str
    country: str
    email: str
    phone: str | None
    type: str
    modified: float
    active: bool = True
    domain: str = DOMAIN
    shared_set: str = SHARED_SET
    currency: str = "EUR"
    language: str = "us"


class Contact(Struct):
    """A person at one or more customers. `id` is the internal integer, the only key that QAD has for it."""

    id: int
    name: str
    email: str
    phone: str
    mobile: str
    title: str
    function: str
    business_relation: str
    customers: list[str]
    modified: float
    primary: bool = False
    secondary: bool = False
    address_type: str = "HEADOFFICE"


def day_of(instant: float) -> str:
    """A date as browses show it; the time of day is a column of its own."""
    return time.strftime("%Y-%m-%dT00:00:00.000Z", time.gmtime(instant))


def second_of(instant: float) -> int:
    """Seconds since midnight."""
    return int(instant) % 86400


def entity_row(row: Customer) -> dict[str, Any]:
    """A customer in the columns of the entity browse."""
    return {
        "customerV2.sharedSetCode": row.shared_set,
        "customerV2.customerCode": row.code,
        "customerV2.businessRelationCode": row.business_relation,
        "customerV2.businessRelationName": row.name,
        "customerV2.addressSearchName": row.search_name,
        "customerV2.addressTypeCode": "HEADOFFICE",
        "customerV2.street1": row.street,
        "customerV2.street2": "",
        "customerV2.city": row.city,
        "customerV2.zipCode": row.zip,
        "customerV2.countryCode": row.country,
        "customerV2.EMail": row.email,
        "customerV2.telephone": row.phone,
        "customerV2.isActive": row.active,
        "customerV2.customerTypeCode": row.type,
        "customerV2.currencyCode": row.currency,
        "customerV2.languageCode": row.language,
        "customerV2.lastModifiedDate": day_of(row.modified),
        "customerV2.lastModifiedTime": second_of(row.modified),
        "customerV2.lastModifiedUser": "mfg",
    }


def classic_row(row: Customer) -> dict[str, Any]:
    """A customer in the columns of the classic browse."""
    return {
        "cm_mstr.cm_domain": row.domain,
        "cm_mstr.cm_addr": row.code,
        "ad_mstr.ad_name": row.name,
        "ad_mstr.ad_line1": row.street,
        "ad_mstr.ad_city": row.city,
        "ad_mstr.ad_zip": row.zip,
        "ad_mstr.ad_ctry": row.country,
        "ad_mstr.ad_phone": row.phone or "",
        "cm_mstr.cm_sort": row.search_name,
        "cm_mstr.cm_type": row.type,
        "cm_mstr.cm_curr": row.currency,
        "cm_mstr.cm_lang": row.language,
        "cm_mstr.cm_active": row.active,
        "cm_mstr.cm_mod_date": day_of(row.modified),
        "ad_mstr.oid_X_ad_mstr": f"20200101.{hash_of(row.code)}",
    }


def hash_of(text: str) -> int:
    """A number for a text that is the same in every process."""
    value = 0
    for char in text:
        value = (value * 131 + ord(char)) % 1000000007
    return value


def contact_row(row: Contact, code: str, domain: str) -> dict[str, Any]:
    """A contact at one of its customers."""
    return {
        "ad_mstr.ad_domain": domain,
        "ad_mstr.ad_addr": code,
        "businessRelation.BusinessRelationCode": row.business_relation,
        "contact.Contact_ID": row.id,
        "contact.ContactName": row.name,
        "contact.ContactEmail": row.email,
        "contact.ContactTelephone": row.phone,
        "contact.ContactMobilePhone": row.mobile,
        "contact.ContactTitle": row.title,
        "contact.ContactFunction": row.function,
        "contact.ContactIsPrimary": row.primary,
        "contact.ContactIsSecondary": row.secondary,
        "contact.AddressTypeCode": row.address_type,
        "contact.LastModifiedDate": day_of(row.modified),
        "contact.LastModifiedTime": second_of(row.modified),
    }


_CUSTOMER = Customer("", "", "", "", "", "", "", "", "", "", "", 0.0)
_CONTACT = Contact(0, "", "", "", "", "", "", "", [], 0.0)
SAMPLES = {
    "entity": entity_row(_CUSTOMER),
    "classic": classic_row(_CUSTOMER),
    "contacts": contact_row(_CONTACT, "", DOMAIN),
}
"""A row of each browse, for the names and the types of its columns."""
SAMPLE_DAY = day_of(0.0)

RowKey = tuple[str, int]


class QadStore:
    """Customers by code, contacts by id, and for each browse its rows in a steady order."""

    def __init__(self) -> None:
        self.customers: dict[str, Customer] = {}
        self.contacts: dict[int, Contact] = {}
        self.domains = [DOMAIN]
        self.version = 0
        self._bytes: dict[str, dict[RowKey, bytes]] = {"entity": {}, "classic": {}, "contacts": {}}
        self._keys: dict[str, tuple[int, list[RowKey]]] = {}

    def put_customer(self, row: Customer) -> None:
        self.customers[row.code] = row
        self._forget("entity", (row.code, 0))
        self._forget("classic", (row.code, 0))
        if row.domain not in self.domains:
            self.domains.append(row.domain)

    def redraw_contacts_of(self, code: str) -> None:
        """The customer's domain may have moved, which its contacts' rows show."""
        for contact in self.contacts.values():
            if code in contact.customers:
                self._forget("contacts", (code, contact.id))

    def put_contact(self, row: Contact) -> None:
        self.contacts[row.id] = row
        for code in row.customers:
            self._forget("contacts", (code, row.id))

    def remove_customer(self, code: str) -> None:
        """The customer is gone, and its contacts with it unless they have another one."""
        del self.customers[code]
        for contact in [row for row in self.contacts.values() if code in row.customers]:
            contact.customers.remove(code)
            if not contact.customers:
                del self.contacts[contact.id]
        self.version += 1

    def remove_contact(self, contact_id: int) -> None:
        del self.contacts[contact_id]
        self.version += 1

    def keys(self, kind: str) -> list[RowKey]:
        """The rows of a browse: (customer code, contact id or 0)."""
        known = self._keys.get(kind)
        if known is not None and known[0] == self.version:
            return known[1]
        if kind == "contacts":
            found = [(code, row.id) for row in self.contacts.values() for code in row.customers]
        else:
            found = [(code, 0) for code in self.customers]
        self._keys[kind] = (self.version, found)
        return found

    def row(self, kind: str, key: RowKey) -> dict[str, Any]:
        code, contact_id = key
        customer = self.customers.get(code)
        if kind == "contacts":
            domain = DOMAIN if customer is None else customer.domain
            return contact_row(self.contacts[contact_id], code, domain)
        return entity_row(self.customers[code]) if kind == "entity" else classic_row(self.customers[code])

    def exists(self, key: RowKey) -> bool:
        code, contact_id = key
        if not contact_id:
            return code in self.customers
        return contact_id in self.contacts and code in self.contacts[contact_id].customers

    def domain_of(self, key: RowKey) -> str:
        customer = self.customers.get(key[0])
        return DOMAIN if customer is None else customer.domain

    def encoded(self, kind: str, key: RowKey) -> bytes:
        """The row's bytes, with the technical columns that browses add."""
        found = self._bytes[kind].get(key)
        if found is None:
            unique = f"{key[0]}.{key[1]}" if key[1] else key[0]
            found = encode({**self.row(kind, key), "local_variables.uniqueId": unique})
            self._bytes[kind][key] = found
        return found

    def _forget(self, kind: str, key: RowKey) -> None:
        self.version += 1
        self._bytes[kind].pop(key, None)
