"""What the doctor asks the ledger: which flow is known by a name, what proves an account, when webhooks last came.

Nothing here writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, func, select

from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import account, flow, inbox, link, mirror, source, ticket_event
from airflow_provider_qadzd.ledger.store import Ledger, epoch_of, iso


@dataclass(frozen=True, slots=True)
class KnownFlow:
    """What a flow was when it was first used, or last rekeyed. `workspaces` are sorted and joined by commas."""

    flow: Flow
    qad_url: str
    workspaces: str
    zendesk_url: str
    organization_template: str
    user_template: str


def known_flow(ledger: Ledger, name: str) -> KnownFlow | None:
    """The flow of that name, None if it was never used. Unlike `identity.flow_named` this makes none."""
    ends = and_(flow.c.source_id == source.c.source_id, flow.c.account_id == account.c.account_id)
    asked = select(
        flow.c.flow_id, flow.c.source_id, flow.c.account_id, source.c.base_url.label("qad_url"), source.c.workspaces,
        account.c.base_url.label("zendesk_url"), flow.c.organization_template, flow.c.user_template,
    ).where(ends, flow.c.flow_name == name)  # fmt: skip
    with ledger.reading() as tx:
        row = tx.execute(asked).one_or_none()
    if row is None:
        return None
    return KnownFlow(
        Flow(row.flow_id, name, row.source_id, row.account_id), row.qad_url, row.workspaces, row.zendesk_url,
        row.organization_template, row.user_template,
    )  # fmt: skip


def linked_organizations(ledger: Ledger, account_id: int, limit: int = 100) -> dict[int, str]:
    """Some linked organizations of the account: Zendesk id to the folded external id that it had when last seen."""
    same = and_(
        mirror.c.account_id == link.c.account_id, mirror.c.kind == link.c.kind, mirror.c.zendesk_id == link.c.zendesk_id
    )
    asked = (
        select(link.c.zendesk_id, mirror.c.external_folded)
        .join(mirror, same)
        .where(link.c.account_id == account_id, link.c.kind == "organization", mirror.c.external_folded != "")
        .order_by(link.c.flow_id, link.c.record_key)
        .limit(limit)
    )
    with ledger.reading() as tx:
        return {row.zendesk_id: row.external_folded for row in tx.execute(asked)}


def newest_delivery(ledger: Ledger, account_id: int) -> float | None:
    """When the newest kept webhook delivery arrived, in Unix seconds; None if there is none."""
    asked = select(func.max(inbox.c.received_at)).where(inbox.c.account_id == account_id)
    with ledger.reading() as tx:
        newest = tx.execute(asked).scalar_one()
    return None if newest is None else epoch_of(newest)


def found_by_export_since(ledger: Ledger, account_id: int, epoch: float) -> int:
    """How many ticket changes that happened after `epoch` were found by the export and not told by a webhook."""
    c = ticket_event.c
    asked = select(func.count()).where(
        c.account_id == account_id, c.found_by == "export", c.occurred_at > iso(epoch)
    )  # fmt: skip
    with ledger.reading() as tx:
        return int(tx.execute(asked).scalar_one())
