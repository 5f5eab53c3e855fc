"""QAD's browse dialect: what to ask for, and what an answer means.

Nothing here touches the network. A reader takes an `Answer` (status, headers, body) and returns a value or raises.
QAD fails in silence (HTTP 200 with no rows, with an HTML page, with `success: false`), so each silent failure that is
known has its own branch and its own sentence here. No error ever carries a body or QAD's localised message.

No public reference describes this interface. What is relied on is what several independent programs send and receive:
`GET {base}/api/qracore/browses`, rows in `data`, `auxillaryData` in that spelling.
"""

from __future__ import annotations

import codecs
import difflib
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import msgspec

from airflow_provider_qadzd.errors import Facts, FixFirst, SetAside, TryLater
from airflow_provider_qadzd.qad.http import AWAY, Answer, header, host_in, retry_after
from airflow_provider_qadzd.records import Contact, Customer, digest, fold

PATH = "/api/qracore/browses"
FIELDS_BROWSE = "urn:browse:custom:lookupBrowseFields"
CUSTOMERS_BROWSE = "urn:browse:bebrowse:com.qad.erp.base.customerV2s"
CONTACTS_BROWSE = "urn:browse:mfg:cm803"

CUSTOMER_COLUMNS: Mapping[str, str] = {
    "code": "customerV2.customerCode",
    "name": "customerV2.businessRelationName",
    "active": "customerV2.isActive",
    "shared_set": "customerV2.sharedSetCode",
    "business_relation": "customerV2.businessRelationCode",
    "street": "customerV2.street1",
    "city": "customerV2.city",
    "postcode": "customerV2.zipCode",
    "country": "customerV2.countryCode",
    "email": "customerV2.EMail",
    "phone": "customerV2.telephone",
    "modified": "customerV2.lastModifiedDate",
}
CONTACT_COLUMNS: Mapping[str, str] = {
    "customer": "ad_mstr.ad_addr",
    "name": "contact.ContactName",
    "contact_id": "contact.Contact_ID",
    "email": "contact.ContactEmail",
    "phone": "contact.ContactTelephone",
    "function": "contact.ContactFunction",
    "primary": "contact.ContactIsPrimary",
    "business_relation": "businessRelation.BusinessRelationCode",
    "address_type": "contact.AddressTypeCode",
    "domain": "ad_mstr.ad_domain",
    "modified": "contact.LastModifiedDate",
}
# Another table's flag or date under the same name (the business relation has both) would be believed, and wrong.
_OWN_TABLE = frozenset({"active", "modified"})
_OPERATORS = frozenset({"eq", "cn", "sw", "ew", "gt", "ge", "lt", "le", "rg"})
# A tab or a line break inside a text, as old data has them, spoils no page.
_JSON = json.JSONDecoder(strict=False)
_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_CHARSET = re.compile(r"charset=\"?([\w.:-]+)", re.IGNORECASE)
_CODE = re.compile(r"[\w.:/-]{1,60}")
_LONGEST_NAME = 200
_TRUE, _FALSE = frozenset({"true", "yes", "y", "1"}), frozenset({"false", "no", "n", "0"})

FACTS = Facts(system="qad", method="GET", path=PATH, status=200)
"""What is known of a browse that was answered, and not with what was asked."""
LOGIN_PAGE = "login_page"
"""Our own code for what QAD shows to whom it does not know."""

Row = Mapping[str, Any]
"""One row as QAD sends it: a flat object with dotted keys (`customerV2.customerCode`)."""


@dataclass(frozen=True, slots=True)
class BrowsePage:
    """One page. `has_more` is None where QAD does not say."""

    rows: Sequence[Row]
    has_more: bool | None


def page_params(
    browse_id: str, page: int, *, page_size: int,
    filters: Iterable[str] = (), call_id: str = "", following: str = "next",
) -> list[tuple[str, str]]:  # fmt: skip
    """The query of page `page` (from 1). `page` and `pageAction` always go: without them some browses answer no rows.

    `call_id` is one value for all pages of a read, which ties them to one browse session in QAD. `filters` are ANDed.
    """
    params = [("browseId", browse_id), ("page", str(page)), ("pageSize", str(page_size))]
    params.append(("pageAction", "first" if page == 1 else following))
    if call_id:
        params.append(("callId", call_id))
    return params + [("filter", text) for text in filters]


def equals(column: str, value: str) -> str:
    """The filter `column = value`. No filter can hold a comma in its value: how QAD quotes one is not known."""
    return f"{column},eq,{value},literal"


def changed_since(column: str, day: str) -> str:
    """The filter `column >= day` (`YYYY-MM-DD`); whose midnight that is, is not known."""
    return f"{column},ge,{day}T00:00:00.000Z,literal"


def checked_filters(filters: Iterable[str], where: str) -> tuple[str, ...]:
    """`filters`, if each is `field,op,value,type` or `field,rg,from,type,to,type`.

    QAD answers a bad filter with no rows, so it is refused here.
    """
    checked = tuple(filters)
    for text in checked:
        parts = text.split(",")
        operator = parts[1] if len(parts) > 1 else ""
        if operator not in _OPERATORS or len(parts) != (6 if operator == "rg" else 4):
            raise FixFirst(
                f"{where}: {text!r} is not a browse filter.",
                advice='Give a list of texts such as "customerV2.isActive,eq,true,literal".',
            )
    return checked


# --- Reading an answer -----------------------------------------------------------------------------------------------


def json_answer(answer: Answer, facts: Facts, where: str, now: float) -> dict[str, Any]:
    """The JSON object in `answer`; raises FixFirst or TryLater for everything that is not a good answer.

    `where` names the connection in advice; `now` is epoch seconds, for a Retry-After that is a date.
    """
    facts = replace(facts, status=answer.status)
    if answer.status != 200:
        refuse_status(answer, facts, where, now, _check_base_url(where))
    if not _looks_like_json(answer):
        _refuse_page(answer, facts, where)
    try:
        body = _decoded(answer.body, header(answer.headers, "Content-Type"))
    except ValueError:
        advice = "If this lasts: ask for smaller pages (page_size), and look at what stands between us and QAD."
        raise TryLater("QAD's answer broke off or is not JSON.", advice=advice, facts=facts) from None
    if not isinstance(body, dict):
        raise FixFirst("QAD answered JSON that is not an object.", advice=_check_base_url(where), facts=facts)
    _refuse_reported_errors(body, facts, where)
    return body


def _decoded(content: bytes, content_type: str = "") -> Any:
    """`content` as JSON, without what no database takes; ValueError for whatever else it is.

    Text that is not UTF-8 is taken in the charset that the answer declares: databases have code pages of their own.
    """
    try:
        try:
            value = msgspec.json.decode(content)  # half the time of `json`, and stricter
        except ValueError:
            value = _JSON.decode(_text(content, content_type))
        return _storable(value) if _may_be_unstorable(content) else value
    except (LookupError, RecursionError):  # an unknown charset, nesting beyond all sense
        raise ValueError from None


def _text(content: bytes, content_type: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        declared = _CHARSET.search(content_type)
        return content.decode(declared[1] if declared else "utf-8")


def _may_be_unstorable(content: bytes) -> bool:
    # Looking for plain bytes first costs a hundredth of the pattern.
    return b"\0" in content or (b"\\u" in content and _UNSTORABLE.search(content) is not None)


def _storable(value: Any) -> Any:
    """`value` with its texts as a database takes them: no NUL, and no half of a surrogate pair."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_storable(one) for one in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(one) for name, one in value.items()}
    return value


def refuse_status(answer: Answer, facts: Facts, where: str, now: float, address: str) -> NoReturn:
    """Raises what a status other than 200 means; `address` is the advice on a wrong one."""
    status, facts = answer.status, replace(facts, code=vendor_code(answer.body))
    if status in AWAY or status in (408, 500):
        wait = retry_after(answer.headers, now)
        wait = 60.0 if wait is None else wait
        raise TryLater(f"QAD is away or busy (HTTP {status}).", wait=wait, advice=f"Wait {wait:.0f} s.", facts=facts)
    if 300 <= status < 400:
        _refuse_redirect(answer, facts, where, address)
    if status == 401:
        raise FixFirst("QAD refused the credentials.", advice=f"Check the login of {where}.", facts=facts)
    if status == 403:
        advice = f"Give the user of {where} permission to read it in QAD."
        raise FixFirst("QAD forbids this to the signed-in user.", advice=advice, facts=facts)
    if status == 404:
        raise FixFirst("QAD has nothing at this address.", advice=address, facts=facts)
    raise FixFirst(f"QAD refused the request (HTTP {status}).", advice=f"Check the settings of {where}.", facts=facts)


def _refuse_redirect(answer: Answer, facts: Facts, where: str, address: str) -> NoReturn:
    location = header(answer.headers, "Location")
    if "login" in location.lower():  # QAD's browser login answers 302 to login.jsp?error=1
        facts = replace(facts, code=LOGIN_PAGE)
        raise FixFirst("QAD sent us to its login page.", advice=f"Check the login of {where}.", facts=facts)
    host = host_in(location) or "another address"
    what = f"QAD redirects to {host}; redirects are never followed, because they would carry the credentials along."
    raise FixFirst(what, advice=address, facts=facts)


def _looks_like_json(answer: Answer) -> bool:
    return answer.body[:1000].removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[")


def _refuse_page(answer: Answer, facts: Facts, where: str) -> NoReturn:
    text = answer.body[:20_000].lower()
    if b"password" in text or b"login" in text:
        what, facts = "QAD answered with its login page instead of JSON.", replace(facts, code=LOGIN_PAGE)
        raise FixFirst(what, advice=f"Check the login and the base URL of {where}.", facts=facts)
    what = "QAD answered with a page or an empty body instead of JSON, as it does in a platform fault."
    raise TryLater(what, wait=60.0, advice=f"If this lasts: {_check_base_url(where)}", facts=facts)


def _refuse_reported_errors(body: Mapping[str, Any], facts: Facts, where: str) -> None:
    result = body.get("submitResult")
    failed = isinstance(result, dict) and _word(result.get("success")) in _FALSE
    errors = _errors(result) if failed else _errors(body)
    if not failed and not errors:
        return
    code = next((code for _, code in errors if code), "")
    facts = replace(facts, code=code, details=tuple((name, code) for name, code in errors if name))
    how = "submitResult.success = false" if failed else "a bare list of errors"
    raise FixFirst(f"QAD answered {how}.", advice=f"Check the browses and filters of {where}.", facts=facts)


def _errors(holder: object) -> list[tuple[str, str]]:
    """(field, code) of each error: the message is localised text and stays behind."""
    listed = holder.get("errors") if isinstance(holder, dict) else None
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return [(_code(entry.get("fieldName")), _code(entry.get("code"))) for entry in entries]


def _code(value: object) -> str:
    """A name or number as errors may carry it, else empty: what looks like text stays behind."""
    text = str(value) if isinstance(value, (str, int)) else ""
    return text if _CODE.fullmatch(text) else ""


def _word(value: object) -> str:
    return fold(str(value)) if isinstance(value, (str, bool, int)) else ""


def vendor_code(content: bytes) -> str:
    """The vendor's code in an error's body: QAD's `errors`, or OAuth's `error` (RFC 6749, 5.2); else empty."""
    try:
        body = _decoded(content)
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    codes = [*(code for _, code in _errors(body)), _code(body.get("error"))]
    return next((code for code in codes if code), "")


def _check_base_url(where: str) -> str:
    return f"Check that the base URL of {where} ends with QAD's context root, such as /clouderp or /qad-central."


def page_from(body: Mapping[str, Any], facts: Facts, where: str, *, rows_at: str, more_at: str) -> BrowsePage:
    """The rows at the dotted path `rows_at`; a body without them is an error, not an empty page."""
    rows = _at(body, rows_at)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        what = f"QAD answered a browse without rows at {rows_at!r}: no empty list, no list at all."
        raise FixFirst(what, advice=f"Check the browse ids and `rows_at` of {where}.", facts=facts)
    return BrowsePage(rows, _has_more(_at(body, more_at), more_at, facts, where))


def _has_more(told: object, more_at: str, facts: Facts, where: str) -> bool | None:
    """`auxillaryData.HasMoreParams` is the text "true" or "false"; a JSON boolean is taken as well."""
    word = _word(told)
    if told is None or told == "":
        return None
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise FixFirst(f"QAD's {more_at} is neither true nor false.", advice=f"Check `more_at` of {where}.", facts=facts)


def _at(body: object, path: str) -> object:
    for name in path.split("."):
        body = body.get(name) if isinstance(body, Mapping) else None
    return body


def page_mark(rows: Sequence[Row]) -> str:
    """What tells one page from another: its length and its outer rows, without QAD's per-call technical columns."""
    outer = [
        {
            name: value
            for name, value in row.items()
            if not name.startswith("local_variables.") and not isinstance(value, (dict, list))
        }
        for row in (rows[0], rows[-1])
    ]
    return digest(len(rows), outer)


# --- Columns ---------------------------------------------------------------------------------------------------------


def resolve_columns(
    wanted: Mapping[str, str], available: Iterable[str], *,
    optional: Collection[str] = (), listed: Iterable[str] = (), where: str = "",
) -> dict[str, str]:  # fmt: skip
    """Field -> column as the rows spell it. A column is found as written, else in any case, else under any prefix.

    `available` are the keys of the rows at hand, `listed` the browse's own field list: rows may leave blanks out.
    An `optional` field without a column is left out; another one, or a column that fits twice, is FixFirst.
    """
    seen, known, strict = sorted(available), sorted(listed), _OWN_TABLE.intersection(optional)
    found = {field: _candidates(column, seen, known, field in strict) for field, column in wanted.items()}
    for field, candidates in found.items():
        if len(candidates) > 1:
            raise FixFirst(f"{where}: {wanted[field]!r} ({field}) could be any of {', '.join(candidates)}.",
                           advice="Write the column's full name.")  # fmt: skip
        if not candidates and field not in optional:
            near = _nearest(wanted[field], {*seen, *known})
            raise FixFirst(f"{where}: the browse has no column {wanted[field]!r} ({field}).",
                           advice=f"Nearest: {', '.join(near)}." if near else "")  # fmt: skip
    return {field: candidates[0] for field, candidates in found.items() if candidates}


def _candidates(column: str, seen: Sequence[str], known: Sequence[str], strict: bool) -> list[str]:
    """The columns that `column` may mean, by the first rule that finds any; `strict`: under no other prefix."""
    folded = {fold(name) for name in known}
    listed = _like(column, known, fold)
    # The list has it and these rows do not: a row key that the list does not know may be its other spelling.
    strangers = [name for name in seen if fold(name) not in folded] if listed else []
    every = [name for name in {fold(name): name for name in (*known, *seen)}.values() if not strict or "." not in name]
    rules = (_like(column, seen, fold), _like(column, strangers, _tail), listed, _like(column, every, _tail))
    return next((found for found in rules if found), [])


def _like(column: str, names: Sequence[str], form: Callable[[str], str]) -> list[str]:
    return [column] if column in names else [name for name in names if form(name) == form(column)]


def _tail(name: str) -> str:
    return fold(name).rpartition(".")[2]


def _nearest(column: str, names: Iterable[str]) -> list[str]:
    by_tail = {_tail(name): name for name in names if len(name) <= _LONGEST_NAME}
    return [by_tail[tail] for tail in difflib.get_close_matches(_tail(column), by_tail, n=3)]


# --- Rows ------------------------------------------------------------------------------------------------------------


def customer_from(row: Row, columns: Mapping[str, str]) -> Customer:
    """The customer in `row`; SetAside where its code is blank or a value cannot be read."""
    texts, active = _texts_in(row, columns, "active")
    if not texts["code"]:
        raise SetAside("no_customer_code", "A QAD customer row has no customer code.")
    # A blank is not "no": silence never deactivates.
    return Customer(active=flag_in(active, "active", default=True), **texts)


def contact_from(row: Row, columns: Mapping[str, str]) -> Contact:
    """The contact in `row`; SetAside where it has no customer, neither an id nor a name, or an unreadable value."""
    texts, primary = _texts_in(row, columns, "primary")
    if texts.get("contact_id") == "0":  # what an integer column holds where there is no id
        texts["contact_id"] = ""
    if not texts["customer"]:
        raise SetAside("no_customer_code", "A QAD contact row has no customer code.")
    if not texts["name"] and not texts.get("contact_id"):
        raise SetAside("no_name", "A QAD contact row has neither an id nor a name.")
    return Contact(primary=flag_in(primary, "primary", default=False), **texts)


def _texts_in(row: Row, columns: Mapping[str, str], flag: str) -> tuple[dict[str, Any], object]:
    """Each field's trimmed text, and the value of the one field that is a flag."""
    values: dict[str, Any] = dict(zip(columns, map(row.get, columns.values()), strict=True))
    told = values.pop(flag, None)
    try:
        return dict(zip(values, map(str.strip, values.values()), strict=True)), told
    except TypeError:  # a null, or a number: rare enough that a row of texts alone need not look at each of its values
        return {name: text_in(value, name) for name, value in values.items()}, told


def text_in(value: object, field: str) -> str:
    """A JSON value as trimmed text; null is empty, and 7.0 is "7" because some sites send ids as decimals."""
    if type(value) is str:
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        value = int(value) if value.is_integer() else value
    if isinstance(value, (int, float)):
        return str(value)
    raise SetAside(f"unreadable_{field}", f"QAD sent {field} as {type(value).__name__}.")


def flag_in(value: object, field: str, *, default: bool) -> bool:
    """A JSON value as a boolean; blank is `default`. A word that is neither yes nor no is SetAside, never a guess."""
    if isinstance(value, bool):
        return value
    word = text_in(value, field).lower()
    if not word:
        return default
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise SetAside(f"unreadable_{field}", f"QAD's value for {field} is neither yes nor no.")


def found_by_key(body: Mapping[str, Any], entity: str, code: str) -> bool | None:
    """Whether a keyed look-up found the customer; None where it answered about another one, or about something else.

    A missing `data` or an empty list is how QAD says "not found". Some entities come without the `data` around them.
    """
    data = body.get("data")
    holder = data if isinstance(data, dict) else body
    rows = holder.get(entity)
    if not rows:
        return False
    listed = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    codes = {_word(row.get("customerCode")) for row in listed}
    return True if fold(code) in codes else None
