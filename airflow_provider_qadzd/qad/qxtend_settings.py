"""What a site's QXtend is like: the settings of a `qad_qxtend` connection, and three profiles to start from.

QXtend has no standard "get customers" message. Its envelope is fixed; operation, request, rows and paging are made by
each site. A profile is a set of such settings for one way of reading that is seen in the field; whatever a connection's
extra names replaces the profile's. Nothing here touches the network, and nothing needs the `[qxtend]` extra.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.qad.http import normalised_base_url
from airflow_provider_qadzd.records import Contact, Customer
from airflow_provider_qadzd.settings import refuse_unknown, settings_from

# QAD QXtend User Guide 1.8.6, appendix B, "QDoc 1.1": the namespaces of message and session context.
SERVICES = "urn:schemas-qad-com:xml-services"
COMMON = "urn:schemas-qad-com:xml-services:common"

NONE = "none"
"""What takes a setting away that a profile has, since empty text counts as not given."""


@dataclass(frozen=True, slots=True)
class QxtendSettings:
    """A QXtend connection's extra. Times are seconds. Element names are local names, or `{namespace}name`.

    Sign-in: `auth` is `basic` (HTTP), `session` (user and password in the session context), `both`, `session_id` (the
    password is the id of a QAD session that is open) or `none`.
    `domains` are read one after the other; none means that the receiver's own domain is not named.

    Request: `receiver` is where QXtend routes to; `addressing` false leaves the WS-Addressing header and the session
    context out, for a plain SOAP service. `session` are further properties of the session context (`version` is
    mandatory to QAD). `body` is a Jinja template of XML for what stands in the operation's element after the session
    context; it may name `domain`, `last_key`, `page`, `page_size`, `changed_since`, `receiver` and `parameters.<name>`,
    and has a filter `progress` that makes a quoted Progress string. `contacts_operation` and `contacts_body` are the
    same for contacts; without them contacts are read from the customers' answers.

    Answer: `row_element` is a customer, `contact_element` a contact: within a customer, or beside it with a request of
    its own, or, named like the row, the row itself. Columns map a field of Customer or Contact to an element; one set
    to "" is not read. `result_element` says whether the call went well; "none" where the service has none. `warnings`
    says what a `warning` means: `incomplete` (rows are taken, but nothing is concluded from what is not there, because
    a cut-off answer is told so), `accept` or `refuse`.

    Paging: `none` (one answer holds all), `last_key` (the key of the last row is sent again, until no row comes) or
    `page` (a number is). `key_element` is that key, by default the customer's code; `more_element` is one that says
    true or false where the service tells whether more follows.

    `customer_scope` and `shared_sets` are as in `qad/scope`. `max_megabytes` bounds one answer. `customer_url` may hold
    {base_url}, {code}, {shared_set} and {domain}; without one there is no link, since QXtend itself has no pages.
    """

    profile: str = "query_qdoc"
    auth: str = "basic"
    domains: tuple[str, ...] = ()
    receiver: str = ""
    addressing: bool = True
    soap_action: str = ""
    wsa_action: str = ""
    wsa_to: str = "urn:services-qad-com:{receiver}"
    message_id: str = "urn:services-qad-com::{receiver}:{uuid}"
    session: dict[str, str] = field(default_factory=dict)
    namespace: str = ""
    operation: str = ""
    body: str = ""
    contacts_operation: str = ""
    contacts_body: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    row_element: str = ""
    contact_element: str = ""
    customer_columns: dict[str, str] = field(default_factory=dict)
    contact_columns: dict[str, str] = field(default_factory=dict)
    result_element: str = f"{{{SERVICES}}}result"
    warnings: str = "incomplete"
    paging: str = "last_key"
    page_size: int = 500
    page_cap: int = 10_000
    customer_scope: str = "none"
    shared_sets: dict[str, str] = field(default_factory=dict)
    key_element: str = ""
    contacts_key_element: str = ""
    more_element: str = ""
    timeout: float = 120.0
    verify: str = "true"
    allow_http: bool = False
    max_megabytes: int = 1024
    customer_url: str = ""
    orders_url: str = ""
    billing_url: str = ""

    @property
    def source_parts(self) -> tuple[str, ...]:
        """What of the instance is read, for the ledger's identity of the source: receiver and domain, per domain."""
        return tuple(f"{self.receiver}/{domain}" for domain in self.domains or ("",))


_CHOICES = {
    "auth": ("basic", "session", "both", "session_id", NONE),
    "warnings": ("incomplete", "accept", "refuse"),
    "paging": (NONE, "last_key", "page"),
}
_MERGED = ("session", "parameters")

# No public message names these elements. The request is dsQuery/ttQuery with the domain and a date, as a Salesforce
# connector sends it to a site's own query QDoc; the answer has the customer's elements as QAD's WSDL of
# maintainCustomer spells them (cm_addr is cmAddr), and the columns of Contact as QAD's database has them.
_QUERY_QDOC: dict[str, Any] = {
    "namespace": SERVICES,
    "operation": "queryCustomerContact",
    "session": {"version": "ERP3_1", "scopeTransaction": "false", "mnemonicsRaw": "true"},
    "body": """<dsQuery><ttQuery>
<tt_domain>{{ domain }}</tt_domain><tt_changed_since>{{ changed_since }}</tt_changed_since>
<tt_after_key>{{ last_key }}</tt_after_key><tt_max_rows>{{ page_size }}</tt_max_rows>
</ttQuery></dsQuery>""",
    "row_element": "customer",
    "contact_element": "contact",
}
_QUERY_QDOC_COLUMNS = (
    {
        "code": "cmAddr", "name": "adName", "active": "customer.isActive", "shared_set": "sharedSetCode",
        "business_relation": "customer.businessRelationCode", "street": "adLine1", "city": "adCity",
        "postcode": "adZip", "country": "adCtry", "email": "adEmail", "phone": "customer.adPhone",
        "modified": "customer.lastModifiedDate",
    },
    {
        "customer": "customer.cmAddr", "name": "contact.ContactName", "contact_id": "contact.ContactID",
        "email": "contact.ContactEmail", "phone": "contact.ContactTelephone", "function": "contact.ContactFunction",
        "primary": "contact.ContactIsPrimary", "business_relation": "contact.BusinessRelationCode",
        "address_type": "contact.AddressTypeCode", "domain": "customer.cmDomain",
        "modified": "contact.LastModifiedDate",
    },
)  # fmt: skip

# A procedure published as a web service by OpenEdge: one call per domain, the whole table in one answer. The element
# names are those that a customer browser of a site uses; contacts are a second procedure in the same manner.
_OPENEDGE: dict[str, Any] = {
    "addressing": False,
    "operation": "getCustomers",
    "body": "<inpdomain>{{ domain }}</inpdomain>",
    "contacts_operation": "getContacts",
    "row_element": "tempRow",
    "contact_element": "tempContact",
    "result_element": "outOK",
    "paging": NONE,
}
_OPENEDGE_COLUMNS = (
    {
        "code": "t_cmaddr", "name": "t_cmname", "active": "customer.t_cmactive", "business_relation": "t_brcode",
        "shared_set": "t_sharedset", "street": "t_addr1", "city": "t_city", "postcode": "t_zip", "country": "t_ctry",
        "email": "t_email", "phone": "t_phone", "modified": "customer.t_moddate",
    },
    {
        "customer": "t_cmaddr", "name": "t_ctname", "contact_id": "t_ctid", "email": "t_ctemail",
        "phone": "t_ctphone", "function": "t_ctfunction", "primary": "t_ctprimary", "business_relation": "t_brcode",
        "address_type": "t_adtype", "domain": "t_cmdom", "modified": "contact.t_moddate",
    },
)  # fmt: skip

# QAD QXtend Training Guide 1.8.4, chapter 10: source application, profile, and a Progress filter on the primary table;
# the domain goes in the session context. It reaches cm_mstr and ad_mstr, not Financials: no email, no active flag,
# and of contacts only the address's attention slot. Element names and version are not published.
_QUERY_SERVICE: dict[str, Any] = {
    "namespace": SERVICES,
    "operation": "querySourceApplication",
    "session": {"version": "QXO1_8"},
    "parameters": {"source_application": "QADERP", "profile": "Customer"},
    "body": """<dsQueryRequest><ttQueryRequest>
<sourceApplication>{{ parameters.source_application }}</sourceApplication><profile>{{ parameters.profile }}</profile>
<filter>cm_addr &gt; {{ last_key | progress }}</filter><maxRows>{{ page_size }}</maxRows>
</ttQueryRequest></dsQueryRequest>""",
    "row_element": "Customer",
    "contact_element": "Customer",
}
_QUERY_SERVICE_COLUMNS = (
    {
        "code": "cmAddr", "name": "adName", "domain": "cmDomain", "street": "adLine1", "city": "adCity",
        "postcode": "adZip", "country": "adCtry", "phone": "adPhone", "modified": "customer.cmModDate",
    },
    {"customer": "cmAddr", "name": "adAttn", "phone": "adPhone", "domain": "cmDomain"},
)  # fmt: skip

_PROFILES = {
    "query_qdoc": (_QUERY_QDOC, _QUERY_QDOC_COLUMNS),
    "openedge": (_OPENEDGE, _OPENEDGE_COLUMNS),
    "query_service": (_QUERY_SERVICE, _QUERY_SERVICE_COLUMNS),
}
PROFILES = tuple(_PROFILES)


def qxtend_settings(given: Mapping[str, Any], where: str) -> QxtendSettings:
    """The connection's extra over its profile. FixFirst for what is unknown, ill-typed, missing or contradictory."""
    own = settings_from(QxtendSettings, given, where)
    _among(own.profile, PROFILES, "profile", where)
    profile, _ = _PROFILES[own.profile]
    named = {name: value for name, value in given.items() if value not in ("", None)}
    merged = {name: {**profile.get(name, {}), **getattr(own, name)} for name in _MERGED}
    settings = settings_from(QxtendSettings, {**profile, **named, **merged}, where)
    for name, choices in _CHOICES.items():
        _among(getattr(settings, name), choices, name, where)
    _refuse_gaps(settings, where)
    refuse_unknown(settings.customer_columns, Customer.__struct_fields__, f"{where}: customer_columns")
    refuse_unknown(settings.contact_columns, Contact.__struct_fields__, f"{where}: contact_columns")
    return settings


def columns_of(profile: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """A profile's columns of customers and of contacts: field to element."""
    return _PROFILES[profile][1]


def _among(value: str, choices: tuple[str, ...], name: str, where: str) -> None:
    if value not in choices:
        raise FixFirst(f"{where}: {name} {value!r} is not known.", advice=f"Use {', '.join(choices)}.")


def _refuse_gaps(settings: QxtendSettings, where: str) -> None:
    needed = {"namespace": "It is the targetNamespace of the service's WSDL."}
    if settings.addressing:
        needed["receiver"] = "QXtend refuses what names no receiver."
    for name, advice in needed.items():
        if not getattr(settings, name):
            raise FixFirst(f"{where}: {name} is missing.", advice=advice)
    if settings.addressing and not settings.session.get("version"):
        raise FixFirst(f"{where}: session has no version.", advice='QXtend needs one, such as {"version": "ERP3_1"}.')
    # An extra is shown on screens; these are the connection's, which Airflow keeps sealed.
    if {"username", "password", "sessionID", "domain"} & settings.session.keys():
        advice = "Put them into login, password and domains; auth = session or session_id sends them along."
        raise FixFirst(f"{where}: session holds username, password, sessionID or domain.", advice=advice)
    if settings.auth in ("session", "both", "session_id") and not settings.addressing:
        raise FixFirst(f"{where}: auth = {settings.auth} needs the session context.", advice="Set addressing.")
    for name in ("page_size", "page_cap", "max_megabytes"):
        if getattr(settings, name) < 1:
            raise FixFirst(f"{where}: {name} must be at least 1.")


def normalised_service_url(url: str, allow_http: bool, where: str) -> str:
    """The service's address in one spelling: the WSDL's own address does as well."""
    text = url.strip()
    head, _, query = text.partition("?")
    return normalised_base_url(head if query.lower() == "wsdl" else text, allow_http, where)
