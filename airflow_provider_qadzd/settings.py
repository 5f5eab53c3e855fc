"""How a setting is read: by name, into a frozen dataclass, checked, with an error that says what to write instead.

A connection's extra, a `[qadzd]` option that holds JSON and a mapping file are all read here. Nothing is spread into a
call: what a dataclass does not name is an error with the nearest known name.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, get_type_hints

from airflow_provider_qadzd.errors import FixFirst

Settings = TypeVar("Settings")

_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


def settings_from(cls: type[Settings], given: Mapping[str, object], where: str) -> Settings:
    """`given` as an instance of the dataclass `cls`.

    Field types understood: str, int, float, bool (also as text), tuple[str, ...] (a list, or text with commas) and
    dict[str, str]. `where` names the place in errors ("connection qad_default, extra"). Empty text counts as not given.
    Raises FixFirst for an unknown name, a missing one without a default, or a value of the wrong type.
    """
    known: dict[str, Field[Any]] = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    refuse_unknown(given, known, where)
    values = {
        name: _value(value, hints[name], f"{where}: {name}") for name, value in given.items() if value not in ("", None)
    }
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise FixFirst(f"{where}: {name} is missing.", advice="Set it and run again.")
    return cls(**values)


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """FixFirst naming the first name of `given` that is not in `known`, with the nearest known one."""
    known = sorted(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known names: {', '.join(known)}."
            raise FixFirst(f"{where}: {name!r} is not a known setting.", advice=hint)


def _value(value: object, hint: Any, where: str) -> object:
    try:
        return _READERS[hint](value)
    except (TypeError, ValueError):
        raise FixFirst(f"{where} must be {_NAMES[hint]}, not {type(value).__name__} {value!r}.") from None


def _text(value: object) -> str:
    if isinstance(value, (str, int, float)):
        return str(value)
    raise TypeError


def _number(value: object) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)  # type: ignore[arg-type]


def _integer(value: object) -> int:
    number = _number(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _flag(value: object) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (list, tuple)):
        return tuple(_text(part) for part in value)
    raise TypeError


def _text_by_name(value: object) -> dict[str, str]:
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, Mapping):
        return {_text(name): _text(part) for name, part in value.items()}
    raise TypeError


_READERS: dict[Any, Any] = {
    str: _text, int: _integer, float: _number, bool: _flag, tuple[str, ...]: _texts, dict[str, str]: _text_by_name,
}  # fmt: skip
_NAMES: dict[Any, str] = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false",
    tuple[str, ...]: "a list of texts", dict[str, str]: "an object of texts",
}  # fmt: skip
