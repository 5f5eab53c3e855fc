"""Each night: what Zendesk has that is neither what we wrote nor what we want, found, told, and repaired when asked.

A look first brings the mirror up to date: users by their export, organizations by an export from the beginning, because
the export is not known to tell of deleted ones; those that it leaves out are asked for by id. Then the ledger is asked
where a linked record moved. Zendesk is asked once more only about what a mirror cannot tell: whom a record was merged
into, and memberships of people who have several.

A look writes nothing in Zendesk. To repair, the links that would hide a difference give way, and the usual plan then
decides by the usual rules what to write: one way into Zendesk, not two.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_qadzd.ledger import Ledger, accounts, drift, exports, looks
from airflow_provider_qadzd.ledger.applying import end_applier, take_applier
from airflow_provider_qadzd.ledger.drift import Difference
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.looks import Moved
from airflow_provider_qadzd.records import Candidate, Kind, fold
from airflow_provider_qadzd.sync.mapping import suffixed
from airflow_provider_qadzd.sync.mirror import note_confirmed, observe, read_export, refresh_mirror
from airflow_provider_qadzd.sync.plan import Change, decide
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import PAGE, NotFound, Row

log = logging.getLogger(__name__)

MOST_ASKED = 2000
"""People whose memberships are asked about in one look; the next one goes on with those after them."""
MOST_GONE = 50
"""Records that are gone about which it is asked, in one look, whom they were merged into."""
MOST_WINNERS = 10
"""Organizations that are asked, for one that is gone, whether they won it in a merge."""
STALE = 43_200.0
"""Seconds after which a look that did not come to its end is begun anew."""
OWN_FIELD: dict[Kind, str] = {
    "organization": "organization_fields.qad_customer", "user": "user_fields.qad_contact",
}  # fmt: skip
"""Which field says whose record it is, beside the external id."""
_REPAIR_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Looked:
    """What stands after a look, by sort; how much of it is news, what is over, and whose memberships were asked for."""

    standing: dict[str, int]
    news: int
    over: int
    asked: int

    def summary(self) -> str:
        """One line for the log."""
        told = ", ".join(f"{count} {what}" for what, count in self.standing.items()) or "no difference"
        return f"Zendesk against what we wrote: {told}; {self.news} are news, {self.over} are over."


def look(ledger: Ledger, flow: Flow, client: ZendeskClient, run: str) -> Looked:
    """One look. It may be stopped anywhere, and goes on from there when it is called again soon."""
    return _Look(ledger, flow, client, run).done()


def make_way(ledger: Ledger, flow: Flow, run: str) -> tuple[int, int]:
    """Let the next plan of this run repair what its links hide: memberships to add again, merged records linked anew.

    TryLater while another run applies changes: its links are not pulled from under it.
    """
    lease = take_applier(ledger, flow.account_id, run, _REPAIR_SECONDS)
    try:
        with ledger.writing() as tx:
            return drift.make_way(tx, ledger, flow, run)
    finally:
        end_applier(ledger, lease)


@dataclass
class _Look:
    ledger: Ledger
    flow: Flow
    client: ZendeskClient
    run: str
    number: int = 0
    news: int = 0
    over: int = 0
    lookups: int = 0

    def done(self) -> Looked:
        self.number = self._begin()
        refresh_mirror(self.ledger, self.flow.account_id, self.client)
        self._read_organizations()
        for kind in _KINDS:
            for page in looks.moved(self.ledger, self.flow, kind):
                self._note(self._differences(kind, page))
            self._note(self._twice(kind))
        for page in looks.foreign_defaults(self.ledger, self.flow):
            self._note(_away(row) for row in page)
        asked = self._ask_memberships()
        self.over += drift.over(self.ledger, self.flow, self.number, self.run)
        self._move("look", "ended")
        return Looked(drift.counts(self.ledger, self.flow), self.news, self.over, asked)

    def _note(self, found: Iterable[Difference]) -> None:
        self.news += drift.note(self.ledger, self.flow, list(found), self.number, self.run)

    # -- where a look is -----------------------------------------------------------------------------------------------

    def _begin(self) -> int:
        """The number of this look: the second in which it was begun, or that of one that was stopped lately."""
        now = int(self.ledger.clock.time())
        begun = exports.start_of(self._position("look") or "ended")
        if begun is not None and now - begun < STALE:
            return begun
        with self.ledger.writing() as tx:
            for leg, position in (("look", exports.start_position(now)), ("organizations", exports.start_position(0))):
                exports.move(tx, self.ledger, self.flow.account_id, self._leg(leg), position)
        return now

    def _leg(self, name: str) -> str:
        return f"drift_{name}:{self.flow.flow_id}"

    def _position(self, name: str) -> str | None:
        return exports.position_of(self.ledger, self.flow.account_id, self._leg(name))

    def _move(self, name: str, position: str) -> None:
        with self.ledger.writing() as tx:
            exports.move(tx, self.ledger, self.flow.account_id, self._leg(name), position)

    # -- what is there -------------------------------------------------------------------------------------------------

    def _read_organizations(self) -> None:
        """Every organization there is, from the first on; those that the export leaves out are asked for by id.

        What is gone is noted before the mirror says so: a run at this moment would make it again, and nobody would
        hear that it had been merged.
        """
        if self._position("organizations") == "ended":
            return
        account = self.flow.account_id
        read_export(self.ledger, account, self.client, self._leg("organizations"), "organization", {})
        after = 0
        while ids := looks.unseen_organizations(self.ledger, account, float(self.number), after, PAGE):
            rows = self.client.organizations.show_many(ids=ids)
            self._note_gone(set(ids) - {int(row["id"]) for row in rows})
            observe(self.ledger, account, "organization", rows, asked=ids)
            after = ids[-1]
        note_confirmed(self.ledger, account)
        self._move("organizations", "ended")

    def _note_gone(self, ids: set[int]) -> None:
        keys = looks.linked_to(self.ledger, self.flow, "organization", sorted(ids))
        gone = [Moved(key, found, False, {}, "", "", "", 0.0) for found, key in keys.items()]
        self._note(self._gone("organization", gone))

    # -- what differs --------------------------------------------------------------------------------------------------

    def _differences(self, kind: Kind, page: Sequence[Moved]) -> Iterator[Difference]:
        yield from self._gone(kind, [one for one in page if not one.active])
        there = {one.key: one for one in page if one.active}
        for candidate in accounts.candidates(self.ledger, self.flow, kind, list(there)):
            yield from _edits(there[candidate.key], candidate)

    def _gone(self, kind: Kind, gone: Sequence[Moved]) -> Iterator[Difference]:
        known = drift.known_gone(self.ledger, self.flow, kind, [one.key for one in gone])
        for one in gone:
            before = known.get(one.key)
            if before is not None and before.zendesk_id == one.zendesk_id:
                yield before
            else:
                yield self._merged_or_deleted(kind, one)

    def _merged_or_deleted(self, kind: Kind, one: Moved) -> Difference:
        self.lookups += 1
        if self.lookups > MOST_GONE:
            return Difference(kind, one.key, "deleted", one.zendesk_id)
        winner = self._winner_of_organization(one) if kind == "organization" else self._winner_of_user(one)
        if winner is None:
            return Difference(kind, one.key, "deleted", one.zendesk_id)
        observe(self.ledger, self.flow.account_id, kind, [winner])
        winner_id = int(winner["id"])
        named = looks.linked_to(self.ledger, self.flow, kind, [winner_id]).get(winner_id)
        told = {"winner": winner_id, "winner_external_id": winner.get("external_id") or "", "winner_key": named or ""}
        return Difference(
            kind, one.key, "merged", one.zendesk_id, {name: value for name, value in told.items() if value}
        )

    def _winner_of_organization(self, gone: Moved) -> Row | None:
        """Zendesk tells only an organization that is there which ones it won: the likeliest are asked."""
        for candidate in looks.may_have_won(self.ledger, self.flow, gone.key, gone, MOST_WINNERS):
            try:
                merges = self.client.organizations.merges(candidate)
            except NotFound:
                continue
            if any(merge.get("loser_id") == gone.zendesk_id for merge in merges):
                return self.client.organizations.show(candidate)
        return None

    def _winner_of_user(self, gone: Moved) -> Row | None:
        """The email of a user that was merged is a further one of the winner's."""
        rows = self.client.users.search(email=gone.email_folded) if gone.email_folded else []
        for row in rows:
            other = row.get("active", True) and int(row["id"]) != gone.zendesk_id
            secondary = fold(row.get("email") or "") != gone.email_folded
            if other and secondary and self._has_address(int(row["id"]), gone.email_folded):
                return row
        return None

    def _has_address(self, user_id: int, address: str) -> bool:
        try:
            return any(fold(row.get("value") or "") == address for row in self.client.identities.of_user(user_id))
        except NotFound:
            return False

    def _twice(self, kind: Kind) -> Iterator[Difference]:
        for key, own, other, by in looks.duplicates(self.ledger, self.flow, kind, OWN_FIELD[kind]):
            yield Difference(kind, key, "duplicate", own, {"other": other, "same": by}, str(other))

    # -- memberships ---------------------------------------------------------------------------------------------------

    def _ask_memberships(self) -> int:
        """Whether our memberships are there, of those people whose default organization does not tell."""
        standing = drift.standing(self.ledger, self.flow, "moved", MOST_ASKED)
        lost = sorted({row.record_key for row in standing if row.other_key})
        self._ask(lost)
        asked, after = len(lost), self._position("memberships") or ""
        while asked < MOST_ASKED:
            contacts = looks.to_ask_about(self.ledger, self.flow, after, min(PAGE, MOST_ASKED - asked))
            if contacts:
                self._ask(contacts)
            asked, after = asked + len(contacts), contacts[-1] if contacts else ""
            self._move("memberships", after)
            if not contacts:
                break
        return asked

    def _ask(self, contacts: Sequence[str]) -> None:
        known = looks.memberships_of(self.ledger, self.flow, contacts)
        for contact, (user_id, customers) in known.items():
            try:
                there = {row["organization_id"] for row in self.client.memberships.of_user(user_id)}
            except NotFound:
                continue
            self._note(
                Difference("user", contact, "moved", user_id, {"organization": organization}, customer)
                for customer, organization in customers.items()
                if organization not in there
            )
        self.over += drift.over(self.ledger, self.flow, self.number, self.run, contacts)


_KINDS: tuple[Kind, ...] = ("organization", "user")


def _edits(moved: Moved, candidate: Candidate) -> Iterator[Difference]:
    """What somebody changed in Zendesk that is ours to decide; not what QAD changed and the next run will write."""
    decision = decide(candidate)
    if not isinstance(decision, Change) or decision.outcome != "updated":
        return
    edited = {
        name: list(values)
        for name, values in decision.difference.items()
        if name not in moved.written or not _as_written(candidate.key, values[0], moved.written[name])
    }
    rekeyed = edited.pop("external_id", None)
    if rekeyed is not None:
        yield Difference(candidate.kind, candidate.key, "rekeyed", moved.zendesk_id, {"external_id": rekeyed})
    if edited:
        yield Difference(candidate.kind, candidate.key, "edited", moved.zendesk_id, {"fields": edited})


def _as_written(key: str, now: Any, written: Any) -> bool:
    return (now or None) == (written or None) or (isinstance(written, str) and now == suffixed(written, key))


def _away(row: Any) -> Difference:
    home = {"default_organization": row.organization_id, "its_external_id": row.external_folded or ""}
    return Difference("user", row.record_key, "moved", int(row.zendesk_id), home)


# -- for people --------------------------------------------------------------------------------------------------------


def as_table(rows: Sequence[Any]) -> str:
    """Rows of `ledger.drift.standing` as lines of a table."""
    lines = [(row.what, row.kind, row.record_key, str(row.zendesk_id or ""), told(row)) for row in rows]
    widths = [max((len(line[n]) for line in lines), default=0) for n in range(4)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(line[:4], widths, strict=True)), line[4]]).rstrip()
        for line in lines
    )


def told(row: Any) -> str:
    """What stands, in words."""
    detail: dict[str, Any] = dict(row.detail)
    if row.what == "edited":
        fields = detail["fields"].items()
        return ", ".join(f"{name} is {_spelt(now)}, we want {_spelt(ours)}" for name, (now, ours) in fields)
    if row.what == "rekeyed":
        now, ours = detail["external_id"]
        return f"external id {_spelt(now)}, ours is {_spelt(ours)}"
    if row.what == "merged":
        who = " ".join(f"{name} {detail[key]}" for name, key in _WINNER.items() if detail.get(key))
        return f"gone: merged into {detail['winner']}{f' ({who})' if who else ''}"
    if row.what == "moved" and row.other_key:
        return f"no longer a member of {row.other_key} ({detail['organization']})"
    if row.what == "moved":
        home, key = detail["default_organization"], detail["its_external_id"]
        named = f"{home} (external id {key})" if key else home
        return f"its default organization is {named or 'none'}, none of its QAD customers"
    if row.what == "duplicate":
        return f"{detail['other']} has the same {detail['same']}"
    return "gone"


_WINNER = {"external id": "winner_external_id", "customer or contact": "winner_key"}


def _spelt(value: Any) -> str:
    return "nothing" if value in (None, "") else repr(value)
