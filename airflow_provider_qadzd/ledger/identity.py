"""Which source, account and flow a connection means, so that no row ever hangs on a connection's name.

A connection that now points elsewhere finds another source or account here. A flow remembers its two ends and its key
templates; if one of them moved, that is said, and nothing is read or written on the wrong side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select, update

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.schema import account, flow, source
from airflow_provider_qadzd.ledger.store import Ledger, insert_into


@dataclass(frozen=True, slots=True)
class Account:
    """One Zendesk account as the ledger knows it. `slug` is its part of the webhook path.

    `set_ticket_organization`: onboarding was told to set the organization of open tickets that lack theirs.
    """

    account_id: int
    base_url: str
    slug: str
    webhook_id: str | None = None
    onboarded_at: str | None = None
    set_ticket_organization: bool = False

    @property
    def holder(self) -> str:
        """Under which name its credentials are kept."""
        return f"account:{self.account_id}"


@dataclass(frozen=True, slots=True)
class Flow:
    """A source feeding an account, by the name it has in `[qadzd] flows`."""

    flow_id: int
    name: str
    source_id: int
    account_id: int


def source_id_of(ledger: Ledger, base_url: str, workspaces: tuple[str, ...]) -> int:
    """The id of the QAD instance at `base_url` (normalised) read through `workspaces`, given on first sight."""
    spelt = ",".join(sorted(workspaces))
    known = select(source.c.source_id).where(source.c.base_url == base_url, source.c.workspaces == spelt)
    with ledger.reading() as tx:
        found = tx.execute(known).scalar_one_or_none()
    if found is not None:
        return int(found)
    row = {"base_url": base_url, "workspaces": spelt, "first_seen_at": ledger.now()}
    with ledger.writing() as tx:
        tx.execute(insert_into(tx, source).values(row).on_conflict_do_nothing())
        return int(tx.execute(known).scalar_one())


def account_at(ledger: Ledger, base_url: str) -> Account:
    """The account at `base_url` (normalised), given on first sight with its host's first label as slug."""
    known = select(account).where(account.c.base_url == base_url)
    with ledger.reading() as tx:
        found = tx.execute(known).one_or_none()
    while found is None:
        # Nothing is inserted if another process has just taken this address, or just this slug: then look again.
        with ledger.writing() as tx:
            row = {"base_url": base_url, "slug": _free_slug(tx, base_url), "first_seen_at": ledger.now()}
            tx.execute(insert_into(tx, account).values(row).on_conflict_do_nothing())
            found = tx.execute(known).one_or_none()
    return _account(found)


def account_of(ledger: Ledger, account_id: int) -> Account:
    """The account of that number, which is there."""
    with ledger.reading() as tx:
        return _account(tx.execute(select(account).where(account.c.account_id == account_id)).one())


def onboarded_accounts(ledger: Ledger) -> list[Account]:
    """Every account that has a webhook."""
    onboarded = select(account).where(account.c.webhook_id.is_not(None)).order_by(account.c.account_id)
    with ledger.reading() as tx:
        return [_account(row) for row in tx.execute(onboarded)]


def _account(row: Row[Any]) -> Account:
    return Account(
        row.account_id, row.base_url, row.slug, row.webhook_id, row.onboarded_at, row.set_ticket_organization
    )  # fmt: skip


def note_onboarding(ledger: Ledger, account_id: int, webhook_id: str) -> None:
    """Remember the account's webhook; the day of the first onboarding stays."""
    with ledger.writing() as tx:
        tx.execute(
            update(account)
            .where(account.c.account_id == account_id)
            .values(webhook_id=webhook_id, onboarded_at=func.coalesce(account.c.onboarded_at, ledger.now()))
        )


def note_ticket_organization(ledger: Ledger, account_id: int, wanted: bool) -> None:
    """Remember whether organizations are to be set on tickets."""
    with ledger.writing() as tx:
        tx.execute(update(account).where(account.c.account_id == account_id).values(set_ticket_organization=wanted))


def flow_named(
    ledger: Ledger, name: str, source_id: int, account_id: int, organization_template: str, user_template: str
) -> Flow:
    """The flow of that name, made on first sight.

    FixFirst if it has been another source, account or key template before: its links belong to those.
    """
    row: dict[str, object] = {
        "source_id": source_id, "account_id": account_id,
        "organization_template": organization_template, "user_template": user_template,
    }  # fmt: skip
    known = select(flow).where(flow.c.flow_name == name)
    with ledger.reading() as tx:
        found = tx.execute(known).one_or_none()
    if found is None:
        made = {**row, "flow_name": name, "first_seen_at": ledger.now()}
        with ledger.writing() as tx:
            # Two new flows into one account come here one after the other.
            tx.execute(select(account.c.account_id).where(account.c.account_id == account_id).with_for_update())
            refuse_shared_account(tx, name, account_id, organization_template, user_template)
            tx.execute(insert_into(tx, flow).values(made).on_conflict_do_nothing())
            found = tx.execute(known).one()
    _refuse_moved(name, [part for part, value in row.items() if getattr(found, part) != value])
    return Flow(found.flow_id, name, source_id, account_id)


def refuse_another_account(ledger: Ledger, name: str, account_id: int) -> None:
    """FixFirst if the flow of that name, where there is one, writes to another account than this."""
    with ledger.reading() as tx:
        known = tx.execute(select(flow.c.account_id).where(flow.c.flow_name == name)).scalar_one_or_none()
    _refuse_moved(name, ["account_id"] if known not in (None, account_id) else [])


def _refuse_moved(name: str, parts: Sequence[str]) -> None:
    if parts:
        raise FixFirst(
            f"Flow {name!r} was set up with another {', '.join(part.replace('_', ' ') for part in parts)}; "
            "its links belong to that one.",
            advice=ways_out(name),
        )


def ways_out(name: str) -> str:
    """What to do about a flow that is not what it was."""
    return (
        f"Change it back; or see what `airflow qadzd rekey --flow {name}` would make of it; or give the new pair a "
        "flow name of its own in [qadzd] flows."
    )


def refuse_shared_account(
    tx: Connection, name: str, account_id: int, organization_template: str, user_template: str
) -> None:
    """FixFirst if another flow into the account has one of these key templates: their external ids would meet."""
    same = and_(
        flow.c.account_id == account_id, flow.c.flow_name != name,
        or_(flow.c.organization_template == organization_template, flow.c.user_template == user_template),
    )  # fmt: skip
    other = tx.execute(select(flow.c.flow_name).where(same)).scalars().first()
    if other is not None:
        raise FixFirst(
            f"Flow {name!r} would write the same external ids as flow {other!r} into the same Zendesk account.",
            advice="Give it organization and user templates with a part of its own, such as `eu-{code}`.",
        )


def _free_slug(tx: Connection, base_url: str) -> str:
    host = base_url.split("//", 1)[-1].split("/", 1)[0]
    wish = host.split(".", 1)[0] if host.endswith(".zendesk.com") else host.replace(":", "-").replace(".", "-")
    taken = set(tx.execute(select(account.c.slug)).scalars())
    return next(slug for slug in [wish, *(f"{wish}-{n}" for n in range(2, 1000))] if slug not in taken)
