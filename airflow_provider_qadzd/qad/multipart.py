"""A `multipart/related` answer, as MTOM packs one: its root part, as it comes, and nothing of its attachments.

Nothing here touches the network. https://www.rfc-editor.org/rfc/rfc2387, https://www.w3.org/TR/soap12-mtom/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from airflow_provider_qadzd.errors import Facts, FixFirst, TryLater

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
        self._taking, self._taken = False, False
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
        if not self._taken:
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
        self._taken = self._taken or self._taking
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
