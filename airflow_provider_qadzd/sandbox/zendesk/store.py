"""Everything the simulated Zendesk remembers, with the indexes that keep each question cheap.

Rows are kept as structures and encoded once; `changed` drops the encoded bytes and moves the row to its new place
in time. Nothing here decides what is allowed: the modules by resource do.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from ..web import encode
from .models import Identity, Membership, Organization, Ticket, TicketEvent, User

R = TypeVar("R", Organization, User, Identity, Membership, Ticket, TicketEvent)


def fold(text: str) -> str:
    """How Zendesk compares names, emails and external ids."""
    return text.strip().casefold()


class Table(Generic[R]):
    """Rows by id, in the order of their ids and in the order of their last change."""

    def __init__(self) -> None:
        self.rows: dict[int, R] = {}
        self.order: list[int] = []
        self.times: list[tuple[int, int]] = []
        self._time: dict[int, int] = {}
        self._bytes: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[R]:
        return iter(self.rows.values())

    def get(self, row_id: int) -> R | None:
        return self.rows.get(row_id)

    def load(self, rows: Iterable[tuple[R, int]]) -> None:
        """Add many rows, each with the second of its last change."""
        for row, stamp in rows:
            self.rows[row.id] = row
            self.order.append(row.id)
            self._time[row.id] = stamp
            self.times.append((stamp, row.id))
        self.order.sort()
        self.times.sort()

    def add(self, row: R, stamp: float) -> R:
        self.rows[row.id] = row
        insort(self.order, row.id)
        self._place(row.id, int(stamp))
        return row

    def changed(self, row: R, stamp: float) -> None:
        self._bytes.pop(row.id, None)
        self._leave(row.id)
        self._place(row.id, int(stamp))

    def redraw(self, row: R) -> None:
        """The row reads differently but counts as unchanged."""
        self._bytes.pop(row.id, None)

    def remove(self, row_id: int) -> None:
        self._leave(row_id)
        self._bytes.pop(row_id, None)
        del self.rows[row_id]
        del self.order[bisect_left(self.order, row_id)]

    def encoded(self, row_id: int) -> bytes:
        found = self._bytes.get(row_id)
        if found is None:
            found = self._bytes[row_id] = encode(self.rows[row_id])
        return found

    def walk(self, behind: int) -> Iterator[int]:
        """The ids above `behind`, in order."""
        return islice(self.order, bisect_right(self.order, behind), None)

    def since(self, place: tuple[int, int], until: int, size: int) -> list[tuple[int, int]]:
        """At most `size` (second, id) pairs behind `place`, not later than `until`."""
        start = bisect_right(self.times, place)
        stop = bisect_right(self.times, (until, 1 << 62))
        return self.times[start : min(stop, start + size)]

    def _leave(self, row_id: int) -> None:
        place = (self._time.pop(row_id), row_id)
        del self.times[bisect_left(self.times, place)]

    def _place(self, row_id: int, stamp: int) -> None:
        self._time[row_id] = stamp
        insort(self.times, (stamp, row_id))


class Store:
    """All tables of one account, and the indexes over them."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.organizations: Table[Organization] = Table()
        self.users: Table[User] = Table()
        self.identities: Table[Identity] = Table()
        self.memberships: Table[Membership] = Table()
        self.tickets: Table[Ticket] = Table()
        self.ticket_events: Table[TicketEvent] = Table()
        self.organization_fields: dict[int, dict[str, Any]] = {}
        self.user_fields: dict[int, dict[str, Any]] = {}
        self.webhooks: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, str] = {}
        self.invocations: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.triggers: dict[int, dict[str, Any]] = {}
        self.organization_by_name: dict[str, int] = {}
        self.organization_by_external_id: dict[str, int] = {}
        self.organization_by_domain: dict[str, int] = {}
        self.user_by_external_id: dict[str, int] = {}
        self.identity_by_email: dict[str, int] = {}
        self.identities_of: dict[int, list[int]] = defaultdict(list)
        self.memberships_of_user: dict[int, list[int]] = defaultdict(list)
        self.memberships_of_organization: dict[int, set[int]] = defaultdict(set)
        self.tickets_of_user: dict[int, set[int]] = defaultdict(set)
        self.admin_id = 0
        self._next = {"organizations": 360010000001, "users": 380020000001, "tickets": 1}

    def new_id(self, kind: str) -> int:
        value = self._next.get(kind, 420030000001)
        self._next[kind] = value + (1 if kind == "tickets" else 20)
        return value

    def url(self, kind: str, row_id: int | str) -> str:
        return f"{self.base_url}/api/v2/{kind}/{row_id}.json"

    def organization_named(self, name: str) -> Organization | None:
        found = self.organization_by_name.get(fold(name))
        return None if found is None else self.organizations.rows[found]

    def organization_keyed(self, external_id: str) -> Organization | None:
        found = self.organization_by_external_id.get(fold(external_id))
        return None if found is None else self.organizations.rows[found]

    def user_keyed(self, external_id: str) -> User | None:
        found = self.user_by_external_id.get(fold(external_id))
        return None if found is None else self.users.rows[found]

    def user_with_email(self, email: str) -> User | None:
        found = self.identity_by_email.get(fold(email))
        return None if found is None else self.users.rows[self.identities.rows[found].user_id]

    def memberships_for(self, user_id: int) -> list[Membership]:
        return [self.memberships.rows[key] for key in self.memberships_of_user[user_id]]

    def identities_for(self, user_id: int) -> list[Identity]:
        return [self.identities.rows[key] for key in self.identities_of[user_id]]
