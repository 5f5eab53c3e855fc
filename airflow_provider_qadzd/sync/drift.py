"""Each night: what Zendesk has that is neither as we wrote it nor as we want it, found, told, and repaired when asked.

A look first brings the mirror up to date, and asks for every organization by id, because the export is not known to
tell of deleted ones. Then the ledger is asked where a linked record moved. Zendesk is asked once more only about what a
mirror cannot tell: whom a record was merged into, and memberships of people who have several.

A look writes nothing in Zendesk. To repair, the links that would hide a difference give way, and the usual plan then
decides by the usual rules what to write: one way into Zendesk, not two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_qadzd.ledger import Ledger, accounts, drift, exports, looks
from airflow_provider_qadzd.ledger.applying import end_applier, take_applier
from airflow_provider_qadzd.ledger.drift import Difference, What
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.looks import Moved
from airflow_provider_qadzd.records import Candidate, Kind, fold
from airflow_provider_qadzd.sync.mapping import Rules, suffixed
from airflow_provider_qadzd.sync.mirror import (
    confirm_organizations,
    observe,
    organizations_confirmed_at,
    refresh_mirror,
)
from airflow_provider_qadzd.sync.ownership import merged, owner_of, same
from airflow_provider_qadzd.sync.plan import Change, decide
from airflow_provider_qadzd.sync.policies import Policies
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import NotFound, Row

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
_FEW = 50
"""People asked about between two notes of how far a look is: it may be stopped, and does not ask them again."""
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


def look(
    ledger: Ledger, flow: Flow, client: ZendeskClient, run: str, rules: Rules
) -> Looked:  # fmt: skip
    """One look. It may be stopped anywhere, and goes on from there when it is called again soon."""
    return _Look(ledger, flow, client, run, rules).done()


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
    rules: Rules
    number: int = 0
    news: int = 0
    over: int = 0
    lookups: int = 0

    def done(self) -> Looked:
        self.number = self._begin()
        refresh_mirror(self.ledger, self.flow.account_id, self.client, mapping=self.rules.mapping)
        if organizations_confirmed_at(self.ledger, self.flow.account_id) < self.number:
            confirm_organizations(self.ledger, self.flow.account_id, self.client, self.rules.mapping)
        for kind in _KINDS:
            for page in looks.moved(self.ledger, self.flow, kind):
                self._note_moved(kind, page)
            self._note(self._twice(kind))
        for rows in looks.foreign_defaults(self.ledger, self.flow):
            self._note(
                Difference("user", row.record_key, "moved", row.zendesk_id, other_id=row.organization_id)
                for row in rows
            )
        asked = self._ask_memberships()
        self.over += drift.over(self.ledger, self.flow, self.number, self.run)
        self._move("look", "ended")
        return Looked(drift.counts(self.ledger, self.flow), self.news, self.over, asked)

    def _note(self, found: Iterable[Difference]) -> None:
        self.news += drift.note(self.ledger, self.flow, found, self.number, self.run)

    def _begin(self) -> int:
        """The number of this look: the second in which it was begun, or that of one that was stopped lately."""
        now = int(self.ledger.clock.time())
        begun = exports.start_of(self._position("look"))
        if begun is not None and now - begun < STALE:
            return begun
        self._move("look", exports.start_position(now))
        return now

    def _position(self, name: str) -> str:
        return exports.position_of(self.ledger, self.flow.account_id, f"drift_{name}:{self.flow.flow_id}") or ""

    def _move(self, name: str, position: str) -> None:
        with self.ledger.writing() as tx:
            leg = f"drift_{name}:{self.flow.flow_id}"
            exports.move(tx, self.ledger, self.flow.account_id, leg, position)

    # -- what differs --------------------------------------------------------------------------------------------------

    def _note_moved(self, kind: Kind, page: Sequence[Moved]) -> None:
        there = {one.key: one for one in page if one.active}
        for candidate in accounts.candidates(self.ledger, self.flow, kind, list(there)):
            self._note(_edits(there[candidate.key], candidate, self.rules.policies))
        gone = [one for one in page if not one.active]
        known = drift.known_gone(self.ledger, self.flow, kind, [one.key for one in gone])
        for one in gone:
            difference = known.get(one.key)
            if difference is None or difference.zendesk_id != one.zendesk_id:
                difference = self._merged_or_deleted(kind, one)
            self._note([difference])  # one by one: a look that is stopped does not ask about these again

    def _merged_or_deleted(self, kind: Kind, one: Moved) -> Difference:
        self.lookups += 1
        deleted = Difference(kind, one.key, "deleted", one.zendesk_id)
        if self.lookups > MOST_GONE:
            return deleted
        winner = self._winner_of_organization(one) if kind == "organization" else self._winner_of_user(one)
        if winner is None:
            return deleted
        observe(self.ledger, self.flow.account_id, kind, [winner], self.rules.mapping)
        return replace(deleted, what="merged", other_id=int(winner["id"]))

    def _winner_of_organization(self, gone: Moved) -> Row | None:
        """Zendesk tells only an organization that is there which ones it won: the likeliest are asked."""
        for candidate in looks.may_have_won(self.ledger, self.flow, gone, MOST_WINNERS):
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
            yield Difference(kind, key, "duplicate", own, str(other), other, {"same": by})

    # -- memberships ---------------------------------------------------------------------------------------------------

    def _ask_memberships(self) -> int:
        """Whether our memberships are there, of those people whose default organization does not tell."""
        asked = 0
        while lost := drift.lost_memberships(self.ledger, self.flow, self.number, _FEW):
            self._ask(lost)
            asked += len(lost)
        while asked < MOST_ASKED:
            after = self._position("memberships")
            contacts = looks.to_ask_about(self.ledger, self.flow, after, _FEW)
            self._ask(contacts)
            self._move("memberships", contacts[-1] if contacts else "")
            if not contacts:
                break
            asked += len(contacts)
        return asked

    def _ask(self, contacts: Sequence[str]) -> None:
        known = looks.memberships_of(self.ledger, self.flow, contacts)
        for contact, (user_id, customers) in known.items():
            try:
                there = {row["organization_id"] for row in self.client.memberships.of_user(user_id)}
            except NotFound:
                continue
            self._note(
                Difference("user", contact, "moved", user_id, customer, organization)
                for customer, organization in customers.items()
                if organization not in there
            )
        self.over += drift.over(self.ledger, self.flow, self.number, self.run, contacts)


_KINDS: tuple[Kind, ...] = ("organization", "user")


def _edits(moved: Moved, candidate: Candidate, policies: Policies) -> Iterator[Difference]:
    """What somebody changed in Zendesk that is ours to decide; not what QAD changed and the next run will write."""
    decision = decide(candidate, policies)
    if not isinstance(decision, Change) or decision.outcome not in ("updated", "deactivated"):
        return
    edited = {
        name: list(values)
        for name, values in decision.difference.items()
        if name in moved.written and not _as_written(candidate, name, values[0], moved.written[name])
    }
    rekeyed = edited.pop("external_id", None)
    if rekeyed is not None:
        yield _changed(moved, candidate, "external_id", {"external_id": rekeyed})
    if edited:
        yield _changed(moved, candidate, "edited", edited)


def _changed(moved: Moved, candidate: Candidate, what: What, changed: Mapping[str, Any]) -> Difference:
    return Difference(candidate.kind, candidate.key, what, moved.zendesk_id, detail={"changed": changed})


def _as_written(candidate: Candidate, name: str, now: Any, written: Any) -> bool:
    """Whether a field is as we left it: of a merged list the link remembers only the entries that are ours."""
    if owner_of(name, candidate.owners) == "merge":
        return same(merged((), written, now or ()), now)
    return same(now, written) or (name == "name" and now == suffixed(str(written), candidate.key))


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
    other = f"{row.other_id} (external id {row.other_external_id})" if row.other_external_id else row.other_id
    if row.what in ("edited", "external_id"):
        changed = row.detail["changed"].items()
        return ", ".join(f"{name} is {_spelt(now)}, we want {_spelt(ours)}" for name, (now, ours) in changed)
    if row.what == "merged":
        return f"gone: merged into {other or 'another'}"
    if row.what == "duplicate":
        return f"{other} has the same {row.detail['same']}"
    if row.what == "moved" and row.other_key:
        return f"no longer a member of {row.other_key}"
    if row.what == "moved":
        return f"its default organization is {other or 'none'}, none of its QAD customers"
    return "gone"


def _spelt(value: Any) -> str:
    return "nothing" if value in (None, "") else repr(value)
