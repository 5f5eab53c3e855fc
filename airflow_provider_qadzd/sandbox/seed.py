"""Draws both systems from one seed. The same seed and sizes give the same rows; dates are offsets from now.

Whatever the sizes allow is always there: two customers of one name (C0000205, C0000206), an inactive customer
(C0000208), a contact of two customers (C0000201 and C0000210), a mailbox shared by contacts of C0000203 and
C0000204, contacts without and with a malformed email, a contact whose email an agent holds, an organization in
Zendesk named like C0000203, and requesters who are in Zendesk before anything is synced.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from . import names
from .qad_store import Contact, Customer
from .seed_tickets import STAFF_EMAIL, plant_zendesk

if TYPE_CHECKING:
    from .state import State

DAY = 86400
FIRST_CUSTOMER, FIRST_CONTACT = 201, 50001
OPENING = ("Northwind Pumps & Valves", "Åkesson Verktyg AB", "O'Dowd Castings Ltd", "Peña y Hijos S.A.")
SAME_NAME = "Harrow & Pike Ltd"
INACTIVE = 7
TWO_CUSTOMERS, STAFF, SHARED, NO_EMAIL, MALFORMED = 0, 1, (2, 3), 4, 8
SHARED_EMAIL = "purchasing@brightwater-buying.example"
SECOND_HOME = 9


def plant(state: State) -> None:
    """Fill an empty state."""
    draw = Random(f"qadzd-{state.size.seed}")
    domains = _plant_customers(state, draw)
    _plant_contacts(state, draw, domains)
    plant_zendesk(state, draw)


def customer_code(index: int) -> str:
    """C0000201 is the first customer."""
    return f"C{FIRST_CUSTOMER + index:07d}"


def _customer_name(index: int, last: str) -> str:
    if index < len(OPENING):
        return OPENING[index]
    if index in (4, 5):
        return SAME_NAME
    if index % 1000 == 500:
        return last
    return names.company(index)


def _plant_customers(state: State, draw: Random) -> list[str]:
    """Make the customers; the mail domain of each."""
    now, domains, name = state.now, [], ""
    seen: dict[str, int] = {}
    for index in range(state.size.customers):
        name = _customer_name(index, name)
        code, slug = customer_code(index), names.ascii_slug(name)
        seen[slug] = seen.get(slug, 0) + 1
        domain = f"{slug}.example" if seen[slug] == 1 else f"{slug}-{seen[slug]}.example"
        domains.append(domain)
        city, zip_code, country = draw.choice(names.CITIES)
        state.qad.put_customer(
            Customer(
                code=code,
                name=name,
                business_relation=f"BR-{FIRST_CUSTOMER + index:06d}",
                search_name=name.split()[0].upper()[:28],
                street=f"{draw.randrange(1, 200)} {draw.choice(names.STREETS)}",
                city=city,
                zip=zip_code,
                country=country,
                email=f"ap@{domain}" if index % 5 != 1 else "",
                phone=f"+44 113 496 {index % 10000:04d}" if index % 7 != 1 else None,
                type=draw.choice(("OEM", "DIST", "END")),
                modified=now - draw.random() ** 3 * 700 * DAY - 600,
                active=index != INACTIVE and (index < 40 or index % 97 != 60),
            )
        )
    return domains


def _plant_contacts(state: State, draw: Random, domains: list[str]) -> None:
    count, seen, last = state.size.customers, {STAFF_EMAIL, SHARED_EMAIL}, ""
    if not count:
        return
    for index in range(state.size.contacts):
        at = index % count
        name = names.person(draw)
        last = email = _contact_email(index, name, domains[at], seen, last)
        row = Contact(
            id=FIRST_CONTACT + index,
            name=name,
            email=email,
            phone=f"+44 113 497 {index % 10000:04d}",
            mobile=f"+44 7700 9{index % 100000:05d}" if index % 3 == 0 else "",
            title=draw.choice(names.TITLES),
            function=draw.choice(names.FUNCTIONS),
            business_relation=f"BR-{FIRST_CUSTOMER + at:06d}",
            customers=[customer_code(home) for home in _homes(index, at, count)],
            modified=state.now - draw.random() ** 3 * 700 * DAY - 600,
            primary=index < count,
            secondary=count <= index < 2 * count,
        )
        state.qad.put_contact(row)


def _homes(index: int, at: int, count: int) -> list[int]:
    if count == 1 or (index != TWO_CUSTOMERS and index % 500 != 250):
        return [at]
    second = min(SECOND_HOME, count - 1) if index == TWO_CUSTOMERS else (at + 1) % count
    return [at, second]


def _contact_email(index: int, name: str, domain: str, seen: set[str], last: str) -> str:
    if index == STAFF:
        return STAFF_EMAIL
    if index in SHARED:
        return SHARED_EMAIL
    if index == NO_EMAIL or index % 17 == 16:
        return ""
    if index == MALFORMED:
        return "see order notes"
    if index % 200 == 150 and last:
        return last
    address = f"{names.mailbox(name)}@{domain}"
    number = 2
    while address in seen:
        address = f"{names.mailbox(name)}{number}@{domain}"
        number += 1
    seen.add(address)
    return address
