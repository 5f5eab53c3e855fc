"""What a site probably means: browses and columns that others use, the nearest names, and where its paging is told.

Pure: given what an instance listed, these functions propose settings. A proposal is for a person to look at; nothing
here is ever used without one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_qadzd.records import fold

# Collected from what several independent programs read at different sites; verify per site, as the preflight does.
BROWSES: Mapping[str, tuple[str, ...]] = {
    "customers": (
        "urn:browse:bebrowse:com.qad.erp.base.customerV2s", "urn:browse:mfg:cm010", "urn:browse:mfg:cm300",
        "urn:browse:mfg:cm101", "urn:browse:mfg:cm114", "urn:browse:mfg:cm001", "urn:browse:mfg:cm007",
        "urn:browse:mfg:ad001",
    ),
    "contacts": ("urn:browse:mfg:cm803", "urn:browse:mfg:cr007"),
}  # fmt: skip
"""Browses in which others find customers and contacts, the fullest first."""

COLUMNS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "customers": {
        "code": ("customerCode", "DebtorCode", "cm_addr", "ad_addr"),
        "name": ("businessRelationName", "BusinessRelationName1", "ad_name", "cm_sort"),
        "active": ("isActive", "DebtorIsActive", "cm_active"),
        "shared_set": ("sharedSetCode",),
        "domain": ("domainCode", "cm_domain", "ad_domain"),
        "business_relation": ("businessRelationCode",),
        "street": ("street1", "AddressStreet1", "ad_line1"),
        "city": ("city", "AddressCity", "ad_city"),
        "postcode": ("zipCode", "AddressZip", "ad_zip"),
        "country": ("countryCode", "ad_ctry"),
        "email": ("EMail", "AddressEMail"),
        "phone": ("telephone", "AddressTelephone", "ad_phone"),
        "modified": ("lastModifiedDate", "cm_mod_date"),
    },
    "contacts": {
        "customer": ("ad_addr", "customerCode", "DebtorCode", "cm_addr"),
        "name": ("ContactName",),
        "contact_id": ("Contact_ID",),
        "email": ("ContactEmail", "EMail"),
        "phone": ("ContactTelephone", "telephone"),
        "function": ("ContactFunction",),
        "primary": ("ContactIsPrimary",),
        "business_relation": ("BusinessRelationCode",),
        "address_type": ("AddressTypeCode",),
        "shared_set": ("sharedSetCode",),
        "domain": ("ad_domain", "domainCode"),
        "modified": ("LastModifiedDate",),
    },
}
"""The columns in which others find each field, the likeliest first."""

# Another table's flag or date under the same name would be believed, and wrong.
_OWN_TABLES = {
    "customers": ("customer", "debtor", "cm"),
    "contacts": ("contact",),
}
_OWN = frozenset({"active", "modified"})
_LONGEST = 200
"""Characters beyond which a name is no name: comparing takes time by the square of them."""


def probable_columns(kind: str, available: Iterable[str]) -> dict[str, str]:
    """Field -> column, for the fields of `customers` or `contacts` that one column alone probably is."""
    columns = [name for name in available if len(name) <= _LONGEST]
    found = {field: _probable(kind, field, names, columns) for field, names in COLUMNS[kind].items()}
    return {field: column for field, column in found.items() if column}


def _probable(kind: str, field: str, names: Sequence[str], columns: Sequence[str]) -> str:
    if field in _OWN:
        columns = [one for one in columns if "." not in one or fold(one).startswith(_OWN_TABLES[kind])]
    for name in names:
        fitting = [one for one in columns if _squeezed(one) == _squeezed(name)]
        if len(fitting) == 1:
            return fitting[0]
    return ""


def _squeezed(column: str) -> str:
    """A column without its table, in any spelling: `t_debtor.Debtor_Code` is `debtorcode`."""
    return fold(column).rpartition(".")[2].replace("_", "").replace("-", "")


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names that are most like `name`, the likeliest first; none if nothing comes near."""
    folded = {fold(one): one for one in known if len(one) <= _LONGEST}
    return [folded[one] for one in difflib.get_close_matches(fold(name)[:_LONGEST], folded, n=count)]


def said_at(body: Mapping[str, Any], prefix: str = "") -> str:
    """The dotted path at which an answer probably says whether there is more, empty if nowhere."""
    for name, value in body.items():
        if isinstance(value, Mapping) and (below := said_at(value, f"{prefix}{name}.")):
            return below
        if "more" in fold(name) and isinstance(value, (str, bool)):
            return f"{prefix}{name}"
    return ""


def undocumented(paths: Iterable[str], document: Mapping[str, Any]) -> dict[str, list[str]]:
    """The paths that an OpenAPI or Swagger document does not have, each with the nearest that it has.

    What stands before the paths (`basePath`, or the path of a server's URL) may be left out or repeated in them.
    """
    declared = document.get("paths")
    known = [_plain(name) for name in declared] if isinstance(declared, Mapping) else []
    return {
        path: nearest(path, known)
        for path in paths
        if not any(one == _plain(path) or one.endswith(_plain(path)) or _plain(path).endswith(one) for one in known)
    }


def _plain(path: object) -> str:
    """A path without a slash at its end, in lower case; a path of nothing fits nothing."""
    return fold(str(path)).rstrip("/") or "(root)"
