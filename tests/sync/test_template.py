"""Templates and their transforms, one value at a time."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_qadzd.sync.template import TRANSFORMS, BadTemplate, Unread, parsed

FIELDS = ("name", "code", "city", "active")
CASES: list[tuple[str, str, Any]] = [
    ("strip", "  Acme  Ltd ", "Acme  Ltd"),
    ("squeeze", "  Acme \t Ltd ", "Acme Ltd"),
    ("upper", "straße", "STRASSE"),
    ("lower", "ÅKESSON", "åkesson"),
    ("title", "ÅKESSON o'neil & SONS", "Åkesson O'neil & Sons"),
    ("title", "a-b", "A-B"),
    ("first", "a@x.example; b@x.example", "a@x.example"),
    ("first", " , ;", ""),
    ("first", "one\ntwo", "one"),
    ("digits", "+44 (113) 496-0000", "441134960000"),
    ("phone", " +44 (113) 496-0000", "+441134960000"),
    ("phone", "0113/4960000", "01134960000"),
    ("slug", " Key Account / EMEA ", "key_account_emea"),
    ("email_domain", "Ada@Acme.Example", "acme.example"),
    ("email_domain", "see order notes", ""),
    ("email_domain", "a@b.example, c@d.example", ""),
    ("date", "2025-01-31T00:00:00.000Z", "2025-01-31"),
    ("date", "2025-01-31", "2025-01-31"),
    ("yes_no", "TRUE", "yes"),
    ("yes_no", "n", "no"),
    ("checkbox", "Yes", True),
    ("checkbox", "0", False),
    ("number", "12.50", 12.5),
    ("number", "7.0", 7),
    ("number", "-3", -3),
]


@pytest.mark.parametrize(("name", "text", "value"), CASES, ids=lambda value: repr(value))
def test_transforms(name: str, text: str, value: Any) -> None:
    """Each transform does the one thing that its name says."""
    found = TRANSFORMS[name](text)
    assert (found, type(found)) == (value, type(value))


def test_every_transform_is_tried() -> None:
    """The table above leaves none out."""
    assert {name for name, _, _ in CASES} == set(TRANSFORMS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date", "01/02/25"), ("date", "2025-02-30"), ("date", "soon"), ("checkbox", "maybe"), ("yes_no", "perhaps"),
        ("number", "1,234"), ("number", "nan"), ("number", "inf"),
    ],
)  # fmt: skip
def test_what_a_transform_does_not_understand(name: str, text: str) -> None:
    """A guess is never written: the transform says that it could not read the value."""
    with pytest.raises(Unread):
        TRANSFORMS[name](text)


VALUES: dict[str, Any] = {"name": "Acme", "code": "C1", "city": "", "active": True, "t.n": 7, "t.gone": None}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{name} ({code})", "Acme (C1)"),
        ("{name|upper|lower}", "acme"),
        ("{ name | upper }", "ACME"),
        ("plain", "plain"),
        ("{city}", None),
        ("{city|upper}", None),
        ("{city}, {t.gone}", None),
        ("{code}, {city}", "C1,"),
        ("{active}", True),
        ("is {active}", "is true"),
        ("{t.n}", 7),
        ("{t.n|number}", 7),
        ("no {t.n}", "no 7"),
        ("{{{code}}}", "{C1}"),
        ("", None),
    ],
)
def test_templates(text: str, value: Any) -> None:
    """Names are filled in; one name alone keeps its type; a template is blank if every name in it is."""
    assert parsed(text, FIELDS).filled(VALUES) == value


def test_a_column_that_was_not_read_is_not_blank() -> None:
    """A value that is not there says nothing, and its field is left alone."""
    with pytest.raises(Unread):
        parsed("{t.other}", FIELDS).filled(VALUES)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{name", "no partner"),
        ("name}", "no partner"),
        ("{}", "no name"),
        ("{nmae}", "'nmae' is not a QAD field"),
        ("{name|lowr}", "'lowr' is not a transform"),
        ("{name|}", "'' is not a transform"),
        ("name", "stands there as plain text"),
        ("{name!r}", "'name!r' is not a QAD field"),
    ],
)
def test_templates_that_cannot_be(text: str, told: str) -> None:
    """A template that cannot be filled is refused when it is read, not when it is used."""
    with pytest.raises(BadTemplate, match=told):
        parsed(text, FIELDS)
