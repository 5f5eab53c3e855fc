"""Pages: by cursor when `page[size]` or `page[after]` is given, else by number, which ends at 10,000 rows.

https://developer.zendesk.com/api-reference/introduction/pagination/
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from itertools import islice
from urllib.parse import quote, urlencode

from ..web import Call, Reply, joined, refuse
from .errors import bad_request, too_many_values
from .store import R, Table

MAX_PAGES = 100


def listed(call: Call, name: str, table: Table[R], wanted: Callable[[R], bool] | None = None) -> Reply:
    """One page of a table, all rows or those that are wanted."""
    if by_cursor(call):
        return cursor_page(call, name, table, table.walk, wanted)
    if wanted is None:
        return by_number(call, name, table, table.order)
    return by_number(call, name, table, [row_id for row_id in table.order if wanted(table.rows[row_id])])


def chosen(call: Call, name: str, table: Table[R], ids: list[int]) -> Reply:
    """One page of the rows with these ids."""
    if by_cursor(call):
        return cursor_page(call, name, table, lambda behind: (key for key in sorted(ids) if key > behind))
    return by_number(call, name, table, sorted(ids))


def in_order(call: Call, name: str, table: Table[R], ids: list[int]) -> Reply:
    """One page of the rows with these ids, in the order of `ids`."""
    if by_cursor(call):
        return cursor_page(call, name, table, lambda behind: ids[ids.index(behind) + 1 :] if behind in ids else ids)
    return by_number(call, name, table, ids)


def by_cursor(call: Call) -> bool:
    """Whether the call asks for cursor paging."""
    return "page[size]" in call.query or "page[after]" in call.query


def cursor_page(
    call: Call,
    name: str,
    table: Table[R],
    walk: Callable[[int], Iterable[int]],
    wanted: Callable[[R], bool] | None = None,
) -> Reply:
    """Rows behind the cursor, and where to go on."""
    size = number(call, "page[size]", 100)
    if not 1 <= size <= 100:
        raise bad_request("page[size] must lie between 1 and 100")
    ids = walk(read_cursor(call.query.get("page[after]")))
    fitting = ids if wanted is None else (row_id for row_id in ids if wanted(table.rows[row_id]))
    found = list(islice(fitting, size + 1))
    page = found[:size]
    more = len(found) > size
    after = base64.b64encode(f"o/id/{page[-1]}".encode()).decode() if page else None
    before = base64.b64encode(f"o/id/{page[0]}".encode()).decode() if page else None
    following = link(call, {"page[size]": str(size), "page[after]": after or ""}) if more else None
    rest = {
        "meta": {"has_more": more, "after_cursor": after if more else None, "before_cursor": before},
        "links": {"prev": None, "next": following},
    }
    return joined(name, [table.encoded(row_id) for row_id in page], rest)


def by_number(call: Call, name: str, table: Table[R], ids: list[int]) -> Reply:
    """Offset paging: the page of that number, as long as it lies within the first 10,000 rows."""
    size = min(max(number(call, "per_page", 100), 1), 100)
    page = max(number(call, "page", 1), 1)
    if page > MAX_PAGES:
        error = {"code": "InvalidPaginationDepth", "title": "Requested response size was greater than maximum"}
        raise refuse(400, {"errors": [error]})
    start = (page - 1) * size
    more = start + size < len(ids)
    rest = {
        "next_page": link(call, {"page": str(page + 1), "per_page": str(size)}) if more else None,
        "previous_page": link(call, {"page": str(page - 1), "per_page": str(size)}) if page > 1 else None,
        "count": len(ids),
    }
    return joined(name, [table.encoded(row_id) for row_id in ids[start : start + size]], rest)


def whole(name: str, table: Table[R], ids: list[int]) -> Reply:
    """All of the rows, as `show_many` answers."""
    rest = {"next_page": None, "previous_page": None, "count": len(ids)}
    return joined(name, [table.encoded(row_id) for row_id in ids], rest)


def link(call: Call, changes: dict[str, str]) -> str:
    """The address of this call with other parameters."""
    query = {**dict(call.query.multi_items()), **changes}
    return f"{call.base}{call.path}.json?{urlencode(query, quote_via=quote)}"


def read_cursor(text: str | None) -> int:
    """The id in a cursor; 0 when there is none."""
    if not text:
        return 0
    try:
        return int(base64.b64decode(text, validate=True).decode().removeprefix("o/id/"))
    except (ValueError, binascii.Error):
        raise bad_request("page[after] is not valid") from None


def number(call: Call, name: str, default: int) -> int:
    """A whole number from the query."""
    text = call.query.get(name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise bad_request(f"{name} must be a number") from None


def listed_values(call: Call, name: str) -> list[str]:
    """The values of a comma-separated parameter, at most 100."""
    values = [part for part in call.query.get(name, "").split(",") if part]
    if len(values) > 100:
        raise too_many_values()
    return values


def listed_ids(call: Call, name: str = "ids") -> list[int]:
    """The ids of a comma-separated parameter, at most 100."""
    return [int(value) for value in listed_values(call, name) if value.strip().isdigit()]
