"""`airflow qadzd rekey`: a flow that is refused since its connections or key templates changed, taken over by a person.

First it is said what would be done, from what the ledger knows and what the Zendesk account answers; then it is done,
in one transaction, and nothing is written in Zendesk. What follows from it the next run plans as ever: it is seen in a
dry run, held by the brake, and decided record by record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger, accounts, changes, health, identity, rekeying
from airflow_provider_qadzd.ledger.applying import end_applier, take_applier
from airflow_provider_qadzd.ledger.health import KnownFlow
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.records import Contact, Customer, fold
from airflow_provider_qadzd.sync.mapping import Rules, organization_of, user_of
from airflow_provider_qadzd.sync.onboard import recognised
from airflow_provider_qadzd.zendesk.client import ZendeskClient

_SOME = 5
_LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Rekeying:
    """What a flow was, what its connections and templates mean now, and what would be done, in sentences.

    `known` is what is taken over: the flow itself, or the one that was put by when it left the account that it comes
    back to; None where it begins anew. `put_by` is the name that the flow itself is put by under, if it is.
    """

    was: KnownFlow
    now: KnownFlow
    known: KnownFlow | None
    put_by: str = ""
    told: tuple[str, ...] = ()

    @property
    def changed(self) -> dict[str, tuple[str, str]]:
        """Each part that is another, with what it was and what it became."""
        parts = ("qad_url", "workspaces", "zendesk_url", "organization_template", "user_template")
        both = {part: (str(getattr(self.was, part)), str(getattr(self.now, part))) for part in parts}
        return {part: values for part, values in both.items() if values[0] != values[1]}


def rekeying_of(ledger: Ledger, now: KnownFlow, client: ZendeskClient, rules: Rules) -> Rekeying | None:
    """What would be done about the flow that is called so; None if it is what it was, or never ran.

    `client` is of the account that is meant now. FixFirst where nothing true can be made of it.
    """
    name = now.flow.name
    was = health.known_flow(ledger, name)
    if was is None or was == replace(now, flow=was.flow):
        return None
    plan, told = Rekeying(was, now, was), list[str]()
    if was.zendesk_url != now.zendesk_url:
        told.append(f"Zendesk was {was.zendesk_url} and is {now.zendesk_url}.")
        # An address that is in use is an account of its own.
        unused, old = rekeying.is_unused(ledger, now.flow.account_id), was.flow.account_id
        known_by = recognised(ledger, identity.account_of(ledger, old), client) if unused else ""
        if known_by:
            told.append(f"{known_by} It has a new address, and all links stay.")
        else:
            before = health.known_flow(ledger, rekeying.put_by_name(ledger, name, now.flow.account_id))
            plan = Rekeying(was, now, before, rekeying.put_by_name(ledger, name, old))
            told += _of_another_account(plan)
    known = plan.known
    if known is not None:
        told += _of_source(known, now)
        told += _of_templates(ledger, known, now, rules)
    fed = now.flow if known is None else known.flow
    with ledger.reading() as tx:
        identity.refuse_shared_account(tx, fed.name, fed.account_id, *_templates(now))
    return replace(plan, told=tuple(told))


def rekey(ledger: Ledger, plan: Rekeying, run: str) -> None:
    """Do it. TryLater while a run applies changes, or one of the flow's is on its way."""
    name, was, now, known = plan.now.flow.name, plan.was, plan.now, plan.known
    flows = [one.flow for one in (was, known) if one is not None]
    with contextlib.ExitStack() as leases:
        for account_id in sorted({flow.account_id for flow in flows}):
            leases.callback(end_applier, ledger, take_applier(ledger, account_id, run, _LEASE_SECONDS))
        for flow in flows:
            changes.supersede_planned(ledger, flow)
        with ledger.writing() as tx:
            if plan.put_by:
                rekeying.put_by(tx, was.flow, plan.put_by)
            elif was.zendesk_url != now.zendesk_url:
                rekeying.note_new_address(tx, was.flow.account_id, now.flow.account_id)
            if known is not None:
                if (_source(known), _templates(known)) != (_source(now), _templates(now)):
                    rekeying.refuse_on_its_way(tx, known.flow)
                rekeying.take_up(tx, known.flow, name)
                if _source(known) != _source(now):
                    rekeying.move_source(tx, known.flow, now.flow.source_id)
                rekeying.set_templates(tx, known.flow, name, *_templates(now))
            rekeying.tell(tx, ledger, was.flow, name, plan.changed, run)


def _source(one: KnownFlow) -> tuple[str, str]:
    return one.qad_url, one.workspaces


def _templates(one: KnownFlow) -> tuple[str, str]:
    return one.organization_template, one.user_template


# -- in sentences ------------------------------------------------------------------------------------------------------


def _of_another_account(plan: Rekeying) -> Iterator[str]:
    yield (
        "That is another account. Nothing is written or deleted in the old one; what is known of it stays in the "
        f"ledger as flow {plan.put_by}, and is taken up again if this flow comes back to it."
    )
    if plan.known is not None:
        yield "The flow has fed this account before: its links of then are taken up again."
    else:
        yield "The flow begins anew there: run qadzd_onboard first. In the old account, switch the webhook off."


def _of_source(known: KnownFlow, now: KnownFlow) -> Iterator[str]:
    if _source(known) == _source(now):
        return
    was, is_now = (
        f"{one.qad_url}{f' (workspaces {one.workspaces})' if one.workspaces else ''}" for one in (known, now)
    )
    yield f"QAD was {was} and is {is_now}."
    yield (
        "Its keys are taken for the same customers and contacts as before: all links stay, and the next plan updates "
        "what differs. If they are others, change it back, and give them a flow name and key templates of their own."
    )


def _of_templates(ledger: Ledger, known: KnownFlow, now: KnownFlow, rules: Rules) -> Iterator[str]:
    for kind, was, is_now in (
        ("organization", known.organization_template, now.organization_template),
        ("user", known.user_template, now.user_template),
    ):
        if was == is_now:
            continue
        yield f"The external id of {kind}s was {was} and is {is_now}."
        new = _NewIds.of(ledger, known.flow, "organization" if kind == "organization" else "user", rules)
        yield f"{new.count} linked {kind}s stay linked, and the next plan gives each its new one."
        if new.taken:
            examples = "; ".join(new.taken[:_SOME])
            yield f"{len(new.taken)} of these are somebody else's, and Zendesk will refuse them: {examples}."


@dataclass(frozen=True, slots=True)
class _NewIds:
    """How many linked records get another external id, and of whom somebody else has it now, in words."""

    count: int
    taken: list[str]

    @classmethod
    def of(cls, ledger: Ledger, flow: Flow, kind: Literal["organization", "user"], rules: Rules) -> _NewIds:
        """From the stored payloads. FixFirst if two linked records would get the same one."""
        count, taken, given = 0, list[str](), dict[str, str]()
        qad_kind = "customer" if kind == "organization" else "contact"
        for page in accounts.records_to_map(ledger, flow, qad_kind, kind, rules.digest):
            linked = rekeying.linked_keys(ledger, flow, kind, [row.record_key for row in page])
            ids = {row.record_key: _external_id(qad_kind, row, rules) for row in page if row.record_key in linked}
            holders = rekeying.holders(ledger, flow, kind, [fold(one) for one in ids.values()])
            for key, external_id in ids.items():
                other = given.setdefault(fold(external_id), key)
                if other != key:
                    raise FixFirst(
                        f"The template {getattr(rules, kind)} makes {external_id!r} of both {other} and {key}.",
                        advice="Use one that tells all records apart.",
                    )
                zendesk_id, holder = holders.get(fold(external_id), (0, key))
                count += 1
                if holder != key:
                    taken.append(f"{external_id} of {key} is that of {kind} {zendesk_id} ({holder or 'not ours'})")
        return cls(count, taken)


def _external_id(qad_kind: str, row: Any, rules: Rules) -> str:
    if qad_kind == "customer":
        return organization_of(Customer(**row.payload), rules).external_id
    return user_of(Contact(**row.payload), rules).external_id
