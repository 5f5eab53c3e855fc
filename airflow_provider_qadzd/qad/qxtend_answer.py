"""QXtend's dialect, the answering half: from bytes to rows or one of our errors, whatever the bytes are.

Nothing here touches the network. An `AnswerReader` is fed an answer's body as it comes and gives back rows; what it
keeps does not grow with their number. Elements that SOAP and QAD define are found by namespace, never by prefix; those
that a site defines by local name, or by `{namespace}name` where a setting says so. No error carries a body, or a text
that QAD or the site wrote.

What is hostile is refused: any document type declaration (and with it every entity and external subset; SOAP 1.1,
section 3, forbids it), more than 256 levels (libxml2's own bound), more bytes than allowed, in all or without a row.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import cast

from lxml import etree
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from airflow_provider_qadzd.errors import Facts, FixFirst, TryLater
from airflow_provider_qadzd.qad.browse import LOGIN_PAGE
from airflow_provider_qadzd.qad.qxtend import SOAP
from airflow_provider_qadzd.qad.qxtend_settings import COMMON, NONE, QxtendSettings
from airflow_provider_qadzd.records import fold

Fields = dict[str, object]
"""One row: `customer.<element>` and `contact.<element>` to its text. Blank is None, a nested element `NESTED`."""

NOT_SOAP = "not_soap"
"""Our own code for what answers behind an address where there is no SOAP service."""
NESTED = ()
"""What a field is that holds elements, or an attachment of MTOM: readable as nothing, so never mistaken for blank."""

_Event = tuple[str, etree._Element]
_MEBIBYTE = 1 << 20
_CODE = re.compile(r"[\w.:/-]{1,60}")
_HEAD, _PROLOG = 20_000, 64 * 1024
_SLICE = 512
_WITHOUT_A_ROW = 8 * _MEBIBYTE
"""What may come without completing a row: no row is that large, and what is between rows is kept in memory."""

# QAD QXtend User Guide 1.8.6, "QXI Exceptions": the session could not be started; QAD did not answer in time.
_PASSING = ("ProcessException001", "ProcessException009")
_ENVELOPE, _FAULT, _MESSAGE = f"{{{SOAP}}}Envelope", f"{{{SOAP}}}Fault", f"{{{COMMON}}}temp_err_msg"
_HOSTILE = frozenset(
    {
        etree.ErrorTypes.ERR_RESOURCE_LIMIT, etree.ErrorTypes.ERR_NAME_TOO_LONG, etree.ErrorTypes.ERR_ENTITY_LOOP,
        etree.ErrorTypes.ERR_ATTRIBUTE_NOT_FINISHED,
    }
)  # fmt: skip
_WELL = frozenset({"success", "true", "yes", "y", "ok", "1"})
_ILL = frozenset({"error", "failure", "false", "no", "n", "0"})


@dataclass(frozen=True, slots=True)
class Shape:
    """Where in an answer the rows are. `nested` are the contacts within a row, empty where the row is the record.

    `kind` is what a row is: `customer` or `contact`.
    """

    kind: str
    row: str
    nested: str = ""
    result: str = ""
    more: str = ""

    @property
    def tags(self) -> list[str]:
        """What the parser is to tell of; the rest passes by unseen."""
        own = [_any_namespace(name) for name in (self.row, self.result, self.more) if name]
        return [_ENVELOPE, _FAULT, _MESSAGE, *own]


def shape_of(settings: QxtendSettings, *, contacts: bool) -> Shape:
    """Where customers are, or contacts: within the customers, unless they have a request or a row of their own."""
    result = "" if settings.result_element == NONE else settings.result_element
    told = {"result": result, "more": settings.more_element}
    row, contact = settings.row_element, settings.contact_element
    if not contacts:
        return Shape("customer", row, **told)
    if settings.contacts_operation or contact == row:
        return Shape("contact", contact, **told)
    return Shape("customer", row, nested=contact, **told)


def _any_namespace(name: str) -> str:
    return name if name.startswith("{") else f"{{*}}{name}"


def _code(text: str) -> str:
    """`text` if it is a code, as all of QAD's are; what is not might be anything."""
    return text if _CODE.fullmatch(text) else ""


def local_name(tag: str) -> str:
    """An element's name without its namespace."""
    return tag.rpartition("}")[2]


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of `dsExceptions`, without its text: number, severity and the field it is about."""

    number: str
    severity: str
    field: str = ""


class AnswerReader:
    """Reads one answer. Feed it, take the records that come, then `close` it; both raise FixFirst or TryLater.

    `first` and `last` are the outer rows, `rows` counts them; `more` is what `more_element` said, None where nothing.
    `warnings` are the numbers of the warnings. `names` are the elements of an answer without a row, for a hint.
    `fault` is what a SOAP fault was raised as. `asked` are words of the request, such as the receiver, by name.
    """

    def __init__(
        self, shape: Shape, facts: Facts, where: str, max_megabytes: int = 1024, charset: str = "",
        asked: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.first: Fields | None = None
        self.last: Fields | None = None
        self.rows = 0
        self.more: bool | None = None
        self.warnings: list[str] = []
        self.names: Sequence[str] = ()
        self.fault: FixFirst | TryLater | None = None
        self._shape, self._facts, self._where = shape, facts, where
        self._limit, self._charset = max_megabytes * _MEBIBYTE, charset
        self._asked = {name: value for name, value in asked.items() if len(value) > 1}
        self._parser: etree.XMLPullParser | None = None
        self._keys, self._nested_keys = _Keys(shape.kind), _Keys("contact")
        self._begun = False
        self._fed = self._since_row = self._depth = 0
        self._head = self._waiting = b""
        self._result = ""
        self._messages: list[Message] = []

    def feed(self, chunk: bytes) -> list[Fields]:
        """The records that this part of the answer completes."""
        self._head += chunk[: max(0, _HEAD - len(self._head))]
        self._fed += len(chunk)
        self._since_row += len(chunk)
        if self._fed > self._limit:
            raise self._refused(f"it is larger than {self._limit // _MEBIBYTE} MiB", "Raise max_megabytes, or page.")
        if self._since_row > _WITHOUT_A_ROW + len(chunk):
            raise self._refused(f"{_WITHOUT_A_ROW // _MEBIBYTE} MiB of it hold no row", "Check row_element.")
        # In small slices until the root has begun: a document type stands before it, and is refused by then.
        if self._parser is None:
            self._waiting += chunk
            chunk, self._waiting = (self._waiting, b"") if len(self._waiting) >= _SLICE else (b"", self._waiting)
        start, found = 0, list[Fields]()
        while start < len(chunk):
            size = len(chunk) if self._begun else _SLICE
            found += self._parse(chunk[start : start + size])
            start += size
        if self._fed > _PROLOG and not self._begun:
            raise self._not_soap()
        return found

    def close(self) -> list[Fields]:
        """The end of the answer, with the records of one that was short. Raises what it says went wrong."""
        found = self._parse(self._waiting)
        try:
            root = self._opened().close()
        except etree.XMLSyntaxError as error:
            raise self._broken(error) from None
        if not self._begun:
            raise self._not_soap()
        self._judge()
        if not self.rows:
            self.names = tuple(dict.fromkeys(local_name(str(one.tag)) for one in root.iter(etree.Element)))[:200]
        return found

    # --- Parsing ---

    def _opened(self) -> etree.XMLPullParser:
        if self._parser is None:
            # The declaration knows better than a header that a proxy may have set.
            charset = None if b"encoding" in self._head[:200] else self._charset or None
            try:
                self._parser = etree.XMLPullParser(
                    ("start", "end"), tag=self._shape.tags, encoding=charset and codecs.lookup(charset).name,
                    resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True,
                    remove_pis=True,
                )  # fmt: skip
            except (LookupError, ValueError):
                raise self._refused("its charset is not known") from None
        return self._parser

    def _parse(self, part: bytes) -> list[Fields]:
        parser = self._opened()
        try:
            parser.feed(part)
            return self._events(cast("Iterable[_Event]", parser.read_events()))
        except etree.XMLSyntaxError as error:
            raise self._broken(error) from None

    def _events(self, events: Iterable[tuple[str, etree._Element]]) -> list[Fields]:
        shape, found, ended = self._shape, list[Fields](), None
        row, row_name, nested = shape.row, local_name(shape.row), _any_namespace(shape.nested) if shape.nested else ""
        for event, element in events:
            tag = str(element.tag)
            is_row = tag == row or (not row.startswith("{") and local_name(tag) == row_name)
            if event == "start":
                if not self._begun:
                    self._begin(element)
                self._depth += is_row
            elif is_row:
                self._depth -= 1
                if self._depth:  # a field that is called like its row
                    continue
                outer = self._fields(element)
                found += self._nested(element, nested, outer) if nested else (outer,)
                self.first = outer if self.first is None else self.first
                self.last = outer
                self.rows += 1
                ended = element
            elif not self._depth:
                self._note(tag, element)
        if ended is not None:
            self._since_row = 0
            _release(ended)
        return found

    def _begin(self, root: etree._Element) -> None:
        # The first event is of the root, or of what lies deeper in a document that is no envelope.
        self._begun = True
        if root.getroottree().docinfo.internalDTD is not None:
            raise self._refused("it has a document type declaration, which SOAP forbids")
        if root.tag != _ENVELOPE:
            raise self._not_soap()

    def _fields(self, row: etree._Element) -> Fields:
        """A row's own elements. Of one that repeats, the first counts."""
        keys, fields = self._keys, Fields()
        for child in row:
            text = child.text
            # Within what holds elements there is nothing, or the white space before the first of them.
            fields[keys[child.tag]] = text if (text and not text.isspace()) or not len(child) else NESTED
        if len(fields) < len(row):
            fields |= {keys[child.tag]: NESTED if len(child) else child.text for child in reversed(row)}
        return fields

    def _nested(self, row: etree._Element, nested: str, outer: Fields) -> Iterator[Fields]:
        keys = self._nested_keys
        for one in row.iter(nested):
            yield outer | {keys[child.tag]: NESTED if len(child) else child.text for child in one}

    def _note(self, tag: str, element: etree._Element) -> None:
        """What is said about the whole answer."""
        if tag == _FAULT:
            self.fault = self._faulted(element)
            raise self.fault
        if tag == _MESSAGE:
            told = {local_name(str(child.tag)): (child.text or "").strip() for child in element}
            severity = fold(told.get("tt_msg_sev", "")) or "error"
            number, about = (_code(told.get(name, "")) for name in ("tt_msg_nbr", "tt_msg_field"))
            self._messages.append(Message(number, severity, about))
        elif self._shape.result and local_name(tag) == local_name(self._shape.result):
            self._result = fold(element.text or "")
        elif self._shape.more and local_name(tag) == local_name(self._shape.more):
            self.more = self._yes_or_no(fold(element.text or ""))

    def _yes_or_no(self, word: str) -> bool | None:
        if word and word not in _WELL and word not in _ILL:
            advice = f"Check more_element of {self._where}."
            raise FixFirst(f"QXtend's {self._shape.more} is neither true nor false.", advice=advice, facts=self._facts)
        return word in _WELL if word else None

    # --- What it means ---

    def _judge(self) -> None:
        """The verdict on an answer that came whole, before anything is concluded from it."""
        errors = [one for one in self._messages if one.severity not in ("warning", "informational", "information")]
        self.warnings = [one.number or "warning" for one in self._messages if one.severity == "warning"]
        if errors or self._result in _ILL:
            raise self._reported(errors or self._messages)
        if self._result == "warning":
            self.warnings = self.warnings or ["warning"]
        elif self._shape.result and self._result not in _WELL:
            told = "no" if not self._result else "an unknown"
            what = f"QXtend's answer has {told} result, so nothing says that the call went well."
            raise FixFirst(what, advice=f"Check result_element of {self._where}.", facts=self._facts)

    def _reported(self, errors: Sequence[Message]) -> FixFirst | TryLater:
        code = next((one.number for one in errors if one.number), "")
        details = tuple((one.field, one.number) for one in errors if one.field)
        facts = replace(self._facts, code=code, details=details)
        if any(one.number in _PASSING for one in errors):
            what = "QAD had no session to spare, or did not answer QXtend in time."
            return TryLater(what, advice="If this lasts: look at QXtend's sessions and timeouts.", facts=facts)
        what = "QXtend answered result = error."
        return FixFirst(what, advice=f"Look the code up in QAD; check the request of {self._where}.", facts=facts)

    # https://www.w3.org/TR/2000/NOTE-SOAP-20000508/#_Toc478383510 : codes are qualified, and refined after a dot.
    def _faulted(self, fault: etree._Element) -> FixFirst | TryLater:
        parts = {local_name(str(child.tag)): "".join(map(str, child.itertext())) for child in fault}
        code = _code(parts.get("faultcode", "").strip().rpartition(":")[2])
        passing = next((one for one in _PASSING if any(one in text for text in parts.values())), "")
        facts = replace(self._facts, code=passing or code)
        if passing or code.partition(".")[0] == "Server":
            return TryLater("QXtend could not process the call.", advice="A retry may help.", facts=facts)
        # Its text stays behind, but which of our own words stand in it may be told.
        named = [name for name, value in self._asked.items() if any(value in text for text in parts.values())]
        about = " and ".join(named) or "receiver, operation, session, login and the receiver's licence"
        what = "QXtend refused the call before processing it" + (f"; its fault names the {about}." if named else ".")
        return FixFirst(what, advice=f"Check {about} of {self._where}.", facts=facts)

    def _broken(self, error: etree.XMLSyntaxError) -> FixFirst | TryLater:
        if error.code in _HOSTILE:  # type: ignore[attr-defined]
            return self._refused("it is nested too deeply, or a part of it is too large")
        if not self._begun:
            return self._not_soap()
        advice = "If this lasts: ask for smaller pages (page_size), and look at what stands between us and QXtend."
        return TryLater("QXtend's answer broke off, or is not well-formed XML.", advice=advice, facts=self._facts)

    def _not_soap(self) -> FixFirst | TryLater:
        """What an address answers behind which there is no QXtend, or none at the moment."""
        head, check = self._head.lower(), f"check the address of {self._where}: it ends with the service's own path."
        if not head.strip() or (b"<html" in head and b"login" not in head and b"password" not in head):
            what = "QXtend answered with a page or an empty body instead of XML, as a server in front of it does."
            return TryLater(what, advice=f"If this lasts: {check}", facts=replace(self._facts, code=NOT_SOAP))
        if b"<html" in head:
            what = "QXtend answered with a login page instead of XML."
            facts = replace(self._facts, code=LOGIN_PAGE)
            return FixFirst(what, advice=f"Check login and auth of {self._where}.", facts=facts)
        what = "QXtend's address answered something that is no SOAP 1.1 envelope."
        return FixFirst(what, advice=check[0].upper() + check[1:], facts=replace(self._facts, code=NOT_SOAP))

    def _refused(
        self, why: str, advice: str = "QXtend never answers so: look at what stands behind the address."
    ) -> FixFirst:
        return FixFirst(f"QXtend's answer is refused: {why}.", advice=advice, facts=self._facts)


class _Keys(dict[object, str]):
    """An element's tag to the key of its field; each is worked out once."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, tag: object) -> str:
        if len(self) > 10_000:  # no site has as many elements: one that makes them up costs time, not memory
            self.clear()
        key = self[tag] = f"{self._kind}.{local_name(str(tag))}"
        return key


def _release(row: etree._Element) -> None:
    """Let go of a row that was read, and of all before it; the parser still stands behind it."""
    row.clear()
    for element in (row, *row.iterancestors()):
        parent = element.getparent()
        while parent is not None and element.getprevious() is not None:
            del parent[0]


# --- MTOM ------------------------------------------------------------------------------------------------------------


_PLAIN = (b"", b"binary", b"8bit", b"7bit")
_SWITCH_OFF = "If this lasts: let QXtend answer without MTOM."


class RootPart:
    """The root part of a `multipart/related` answer, as it comes (https://www.rfc-editor.org/rfc/rfc2387).

    Attachments pass by unread. FixFirst for a part in an encoding that XML does not come in; TryLater for what breaks
    off.
    """

    def __init__(self, boundary: bytes, start: bytes, facts: Facts) -> None:
        self._start, self._facts = start.strip(b"<> "), facts
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._taking, self._taken, self._ended = False, False, False
        self._out: list[bytes] = []
        calls: dict[str, Callable[..., None]] = {
            "on_part_begin": self._on_begin, "on_header_field": self._on_name, "on_header_value": self._on_value,
            "on_header_end": self._on_header, "on_headers_finished": self._on_headers, "on_part_data": self._on_data,
            "on_part_end": self._on_end,
        }  # fmt: skip
        self._parser = MultipartParser(boundary, calls)  # type: ignore[arg-type]

    def feed(self, chunk: bytes) -> bytes:
        """What of the root part is in this part of the answer."""
        try:
            self._parser.write(chunk)
        except MultipartParseError:
            raise TryLater("QXtend's multipart answer is broken.", advice=_SWITCH_OFF, facts=self._facts) from None
        taken, self._out = b"".join(self._out), []
        return taken

    def close(self) -> None:
        """The end of the answer; TryLater where the root part has not ended by then."""
        if not self._ended:
            what = "QXtend's multipart answer broke off, or has no root part."
            raise TryLater(what, advice=_SWITCH_OFF, facts=self._facts)

    def _on_begin(self) -> None:
        self._headers, self._name, self._value = {}, b"", b""

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value.strip()
        self._name = self._value = b""

    def _on_headers(self) -> None:
        named = self._headers.get(b"content-id", b"").strip(b"<> ")
        self._taking = not self._taken and (not self._start or named == self._start)
        if self._taking and self._headers.get(b"content-transfer-encoding", b"").lower() not in _PLAIN:
            what = "QXtend's multipart answer is encoded in a way that XML never is."
            raise FixFirst(what, advice=_SWITCH_OFF, facts=self._facts)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._taking:
            self._out.append(data[start:end])

    def _on_end(self) -> None:
        self._taken, self._ended = self._taken or self._taking, self._ended or self._taking
        self._taking = False


def root_part(headers: Mapping[str, str], facts: Facts) -> tuple[RootPart | None, str]:
    """How an answer with these headers is unpacked: its multipart reader, if it is one, and the charset it tells."""
    named = {name.lower(): value for name, value in headers.items()}
    kind, options = parse_options_header(named.get("content-type", "").encode("latin-1", "replace"))
    if not kind.startswith(b"multipart/"):
        return None, options.get(b"charset", b"").decode("ascii", "replace")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise FixFirst("QXtend's multipart answer names no boundary.", advice=_SWITCH_OFF, facts=facts)
    return RootPart(boundary, options.get(b"start", b""), facts), ""
