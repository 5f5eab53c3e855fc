"""Small templates: `{name} ({code})`, with named transforms: `{customerV2.customerTypeCode|lower}`. Pure.

A name is one of our fields of a record, or, with a dot in it, a column of the QAD browse in full. The transforms are a
closed vocabulary: each takes text and gives text, a number or true and false, and one that cannot read its text says
so, because a value that nobody understood must not replace one in Zendesk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from airflow_provider_qadzd.records import fold

Scalar = str | int | float | bool | None

_YES, _NO = frozenset({"true", "yes", "y", "1"}), frozenset({"false", "no", "n", "0"})
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


class Unread(Exception):
    """A value that is not there to be read, or that a transform does not understand: its field is left as it is."""


class BadTemplate(Exception):
    """A template that cannot be: what is wrong with it, and the word that is (empty if it is the whole)."""

    def __init__(self, what: str, word: str = "", known: Collection[str] = ()) -> None:
        super().__init__(what)
        self.what, self.word, self.known = what, word, known


def _title(text: str) -> str:
    return re.sub(r"\w[\w'\u2019]*", lambda word: word[0][0].upper() + word[0][1:].lower(), text)


def _first(text: str) -> str:
    return next((part.strip() for part in re.split(r"[,;\n]", text) if part.strip()), "")


def _date(text: str) -> str:
    found = re.match(r"(\d{4}-\d{2}-\d{2})(?:$|[T ])", text)
    if not found:
        raise Unread
    try:
        return date.fromisoformat(found[1]).isoformat()
    except ValueError:
        raise Unread from None


def _checkbox(text: str) -> bool:
    word = fold(text)
    if word not in _YES | _NO:
        raise Unread
    return word in _YES


def _number(text: str) -> int | float:
    try:
        number = float(text)
    except ValueError:
        raise Unread from None
    if not math.isfinite(number):
        raise Unread
    return int(number) if number.is_integer() else number


def _email_domain(text: str) -> str:
    found = re.fullmatch(r"[^@\s,;]+@([^@\s,;]+\.[^@\s,;.]+)", text.strip())
    return found[1].lower() if found else ""


TRANSFORMS: Mapping[str, Callable[[str], Scalar]] = {
    "strip": str.strip,
    "squeeze": lambda text: " ".join(text.split()),
    "upper": str.upper,
    "lower": str.lower,
    "title": _title,
    "first": _first,
    "digits": lambda text: "".join(re.findall(r"\d", text)),
    "phone": lambda text: ("+" if text.strip().startswith("+") else "") + "".join(re.findall(r"\d", text)),
    "slug": lambda text: re.sub(r"[\W_]+", "_", text.lower()).strip("_"),
    "email_domain": _email_domain,
    "date": _date,
    "yes_no": lambda text: "yes" if _checkbox(text) else "no",
    "checkbox": _checkbox,
    "number": _number,
}
"""What may stand behind a name. The README says what each does."""


@dataclass(frozen=True, slots=True)
class Part:
    """A name to be filled in, and the transforms that its value goes through."""

    name: str
    transforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """Text and names in order; `text` is how it was written."""

    text: str
    parts: tuple[str | Part, ...]

    @property
    def names(self) -> Iterator[str]:
        """The fields and columns that it asks for."""
        return (part.name for part in self.parts if isinstance(part, Part))

    def filled(self, values: Mapping[str, Scalar]) -> Scalar:
        """The value, None if it is blank: then every name in it is.

        A template of one name alone keeps a number or a true as it is. Raises Unread where a value is missing or not
        understood.
        """
        found = [part if isinstance(part, str) else _value(part, values) for part in self.parts]
        if len(found) == 1:
            return _or_none(found[0])
        named = [value for value, part in zip(found, self.parts, strict=True) if isinstance(part, Part)]
        if named and all(value is None for value in named):
            return None
        return _or_none("".join(as_text(value) for value in found).strip())


def parsed(text: str, fields: Collection[str]) -> Template:
    """The template in `text`, whose names without a dot must be in `fields`. Raises BadTemplate."""
    parts: list[str | Part] = []
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word in ("{", "}"):
            raise BadTemplate(f"a brace in {text!r} has no partner; write {word * 2} for a brace that is meant")
        parts.append(_part(token[1], fields) if token[1] is not None else word.replace("{{", "{").replace("}}", "}"))
    if text in fields:
        raise BadTemplate(f"{text!r} is a QAD field, but stands there as plain text", f"{{{text}}}")
    return Template(text, tuple(parts))


def _part(inner: str, fields: Collection[str]) -> Part:
    name, *transforms = (word.strip() for word in inner.split("|"))
    if not name:
        raise BadTemplate("there is no name between the braces", "", fields)
    if "." not in name and name not in fields:
        raise BadTemplate(f"{name!r} is not a QAD field", name, fields)
    for word in transforms:
        if word not in TRANSFORMS:
            raise BadTemplate(f"{word!r} is not a transform", word, TRANSFORMS)
    return Part(name, tuple(transforms))


def _value(part: Part, values: Mapping[str, Scalar]) -> Scalar:
    if part.name not in values:
        raise Unread(part.name)
    value = _or_none(values[part.name])
    for name in part.transforms:
        if value is None:
            return None
        value = _or_none(TRANSFORMS[name](as_text(value)))
    return value


def _or_none(value: Scalar) -> Scalar:
    return None if isinstance(value, str) and not value.strip() else value


def as_text(value: Scalar) -> str:
    """A value as it reads inside a text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
