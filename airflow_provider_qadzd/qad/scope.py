"""Within what a customer code is unique in QAD, and so what a customer is kept under.

A code belongs to a shared set of customers, which one or several domains use; in older databases it belongs to the
domain. Domains that share a set show the same customers, which must not become two; domains with sets of their own may
use one code for two companies, which must not become one. Nothing here touches the network.

https://www.qad.com/documentation/EE/2015/UG/Financials_UG_v2015EE/ (shared sets)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec.structs import replace

from airflow_provider_qadzd.errors import FixFirst, SetAside
from airflow_provider_qadzd.records import Contact, Customer, fold

SCOPES = ("none", "shared_set", "domain")
EVERY_DOMAIN = "*"

Record = TypeVar("Record", Customer, Contact)


@dataclass(frozen=True, slots=True)
class Scope:
    """`of` is one of SCOPES. `shared_sets`: which set a domain uses, where rows do not say; `*`: every other domain."""

    of: str = "none"
    shared_sets: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def checked(cls, of: str, shared_sets: Mapping[str, str], where: str) -> Scope:
        """The scope as settings say it; FixFirst for one that there is not."""
        if of not in SCOPES:
            advice = f"Use one of {', '.join(SCOPES)}."
            raise FixFirst(f"{where}: customer_scope {of!r} is not known.", advice=advice)
        return cls(of, {fold(domain): shared_set.strip() for domain, shared_set in shared_sets.items()})

    def placed(self, record: Record, workspace: str = "", domain: str = "") -> Record:
        """`record` with its domain, shared set and scope, from what its row, and its workspace or domain, tell.

        SetAside where it cannot be told: a customer without its scope might be somebody else's.
        """
        if self.of == "none" and not self.shared_sets and not workspace and not domain:
            return record
        domain = record.domain or domain or domain_of(workspace)
        named = self.shared_sets.get(fold(domain)) or self.shared_sets.get(EVERY_DOMAIN, "")
        shared_set = record.shared_set or named
        scope = {"none": "", "shared_set": shared_set, "domain": domain}[self.of]
        if self.of != "none" and not scope:
            raise SetAside(f"no_{self.of}", f"A QAD row does not tell its {self.of.replace('_', ' ')}.")
        folded = scope and fold(scope)
        if (domain, shared_set, folded) == (record.domain, record.shared_set, record.scope):
            return record
        return replace(record, domain=domain, shared_set=shared_set, scope=folded)


def domain_of(workspace: str) -> str:
    """The domain in `<domain>_<entity>`; empty where an underscore within one of them makes it ambiguous."""
    domain, _, entity = workspace.partition("_")
    return domain if entity and "_" not in entity else ""
