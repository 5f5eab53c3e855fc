"""A flow whose connections or key templates mean something else than before, made whole again in one transaction.

Links hang on the flow's row. Where they stay true, that row is changed under them: other key templates, another address
of the same QAD or of the same Zendesk account. For another account it is put by with all that hangs on it, under a name
of its own, and taken up again if the flow ever comes back to that account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, and_, delete, exists, insert, or_, select, update

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import schema
from airflow_provider_qadzd.ledger.identity import Flow, refuse_shared_account
from airflow_provider_qadzd.ledger.schema import (
    account,
    audit_entry,
    change_item,
    credential,
    link,
    mirror,
    qad_read,
    qad_record,
    rate_budget,
    source,
    wanted,
)
from airflow_provider_qadzd.ledger.store import Ledger
from airflow_provider_qadzd.records import Kind

_UNSENT = ("drafted", "planned")


def put_by_name(ledger: Ledger, name: str, account_id: int) -> str:
    """Under which name a flow is put by while it feeds another account than this. No DAG can be called so."""
    with ledger.reading() as tx:
        slug = tx.execute(select(account.c.slug).where(account.c.account_id == account_id)).scalar_one()
    return f"{name}@{slug}"


def is_unused(ledger: Ledger, account_id: int) -> bool:
    """Whether an account is only known by its address: no flow feeds it, and nobody onboarded it."""
    with ledger.reading() as tx:
        return tx.execute(_unused_account(account_id)).first() is not None


def holders(ledger: Ledger, flow: Flow, kind: Kind, external_ids: Sequence[str]) -> dict[str, tuple[int, str | None]]:
    """Who has these folded external ids in Zendesk now: the record's id, and its key if it is one of the flow's."""
    m = mirror.c
    own = and_(link.c.flow_id == flow.flow_id, link.c.kind == kind, link.c.zendesk_id == m.zendesk_id)
    asked = (
        select(m.external_folded, m.zendesk_id, link.c.record_key)
        .select_from(mirror.outerjoin(link, own))
        .where(m.account_id == flow.account_id, m.kind == kind, m.active, m.external_folded.in_(external_ids))
    )
    with ledger.reading() as tx:
        return {row.external_folded: (int(row.zendesk_id), row.record_key) for row in tx.execute(asked)}


def linked_keys(ledger: Ledger, flow: Flow, kind: Kind, keys: Sequence[str]) -> set[str]:
    """Which of these have their record in Zendesk."""
    n = link.c
    asked = select(n.record_key).where(
        n.flow_id == flow.flow_id, n.kind == kind, n.other_key == "", n.record_key.in_(keys)
    )  # fmt: skip
    with ledger.reading() as tx:
        return set(tx.execute(asked).scalars())


# -- the steps, each in the transaction that makes the flow whole ------------------------------------------------------


def note_new_address(tx: Connection, account_id: int, new_id: int) -> None:
    """The account is reached where the row `new_id` says, which goes. TryLater if that is in use all of a sudden."""
    address = tx.execute(_unused_account(new_id)).scalar_one_or_none()
    if address is None:
        raise TryLater("The new address has just been taken into use.", wait=1.0, advice="Run it again.")
    tx.execute(delete(credential).where(credential.c.holder == f"account:{new_id}"))
    tx.execute(delete(rate_budget).where(rate_budget.c.account_id == new_id))
    tx.execute(delete(account).where(account.c.account_id == new_id))
    tx.execute(update(account).where(account.c.account_id == account_id).values(base_url=address))


def _unused_account(account_id: int) -> Select[tuple[str]]:
    fed = exists().where(schema.flow.c.account_id == account_id)
    return select(account.c.base_url).where(account.c.account_id == account_id, account.c.webhook_id.is_(None), ~fed)


def put_by(tx: Connection, flow: Flow, name: str) -> None:
    """The flow has another account now. What was on its way to this one is looked for if it ever comes back."""
    sent = and_(change_item.c.flow_id == flow.flow_id, change_item.c.change_state == "sent")
    tx.execute(update(change_item).where(sent).values(change_state="unknown", job_id=""))
    take_up(tx, flow, name)


def take_up(tx: Connection, flow: Flow, name: str) -> None:
    """The flow is called so from now on, with all its links."""
    tx.execute(update(schema.flow).where(schema.flow.c.flow_id == flow.flow_id).values(flow_name=name))


def move_source(tx: Connection, flow: Flow, source_id: int) -> None:
    """The flow is fed by QAD at another address, under whose keys its records are known.

    Where no other flow knows either address, the source's own row moves, with what was read and who was forgotten. Else
    the flow goes over to the other row, and what that one has not read is not wanted any more. Nothing is concluded
    from reads of the old address, nor are its tokens shown to the new one.
    """
    at = select(source.c.base_url, source.c.workspaces).where(source.c.source_id == source_id)
    others = exists().where(
        schema.flow.c.source_id.in_([flow.source_id, source_id]), schema.flow.c.flow_id != flow.flow_id
    )
    known = exists().where(qad_record.c.source_id == source_id)
    if tx.execute(select(or_(others, known))).scalar_one():
        tx.execute(update(schema.flow).where(schema.flow.c.flow_id == flow.flow_id).values(source_id=source_id))
        _unwant_unknown(tx, flow, source_id)
        return
    address = tx.execute(at).one()
    for one in (source_id, flow.source_id):
        tx.execute(delete(credential).where(credential.c.holder == f"source:{one}"))
    tx.execute(delete(source).where(source.c.source_id == source_id))
    tx.execute(update(source).where(source.c.source_id == flow.source_id).values(**address._mapping))
    reads = update(qad_read).where(qad_read.c.source_id == flow.source_id, qad_read.c.complete.is_not(False))
    tx.execute(reads.values(complete=False, reason="read from another address"))


def _unwant_unknown(tx: Connection, flow: Flow, source_id: int) -> None:
    for qad_kind, kind in (("customer", "organization"), ("contact", "user")):
        known = exists().where(
            qad_record.c.source_id == source_id, qad_record.c.kind == qad_kind,
            qad_record.c.record_key == wanted.c.record_key,
        )  # fmt: skip
        tx.execute(delete(wanted).where(wanted.c.flow_id == flow.flow_id, wanted.c.kind == kind, ~known))
    tx.execute(update(wanted).where(wanted.c.flow_id == flow.flow_id).values(made_from=""))


def set_templates(tx: Connection, flow: Flow, name: str, organization: str, user: str) -> None:
    """External ids are made by these from now on: the next plan maps every record again, and updates what differs."""
    refuse_shared_account(tx, name, flow.account_id, organization, user)
    changed = update(schema.flow).where(schema.flow.c.flow_id == flow.flow_id)
    tx.execute(changed.values(organization_template=organization, user_template=user))


def refuse_on_its_way(tx: Connection, flow: Flow) -> None:
    """TryLater while a write is on its way, which can only be told by the key that it was sent with.

    What is planned and not sent is over: it was planned for what the flow was.
    """
    c = change_item.c
    sent = select(c.change_id).where(
        c.flow_id == flow.flow_id, c.change_state != "done", c.change_state.not_in(_UNSENT)
    )
    if tx.execute(sent.limit(1)).first() is not None:
        raise TryLater(
            "Changes of this flow are on their way to Zendesk.", wait=60.0,
            advice="Change the connections and templates back, let a run end, and come again.",
        )  # fmt: skip


def tell(tx: Connection, ledger: Ledger, flow: Flow, name: str, detail: Mapping[str, Any], run: str) -> None:
    """That the flow was rekeyed, in the audit: each part with what it was and what it became."""
    row = {
        "flow_id": flow.flow_id, "account_id": flow.account_id, "kind": "flow", "record_key": name, "event": "rekeyed",
        "detail": dict(detail), "happened_at": ledger.now(), "run": run,
    }  # fmt: skip
    tx.execute(insert(audit_entry), [row])
