"""A mapping file: what it may say, and every error in it with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.records import Contact, Customer
from airflow_provider_qadzd.sync.mapping import DEFAULT, FieldMapping, Rules, organization_of, user_of
from airflow_provider_qadzd.sync.mapping_file import parse_mapping
from airflow_provider_qadzd.sync.template import TRANSFORMS

README = (Path(__file__).parents[2] / "README.md").read_text()
CUSTOMER = Customer(
    "C1", "ACME  Ltd", city="Leeds", country="GBR", email="n/a", phone="VACIO", street=".",
    columns={"customerV2.customerTypeCode": "OEM"},
)  # fmt: skip
ADA = Contact(
    "C1", "Ada", contact_id="7", email="Ada@Acme.example; x@y.example", function="-", address_type="HEADOFFICE"
)


def body(text: str, customer: Customer = CUSTOMER) -> dict[str, Any]:
    """The organization's body by that file."""
    return dict(organization_of(customer, Rules(mapping=parse_mapping(text, "map.yaml"))).body)


def problems(text: str) -> list[str]:
    """The errors in a file, a line each."""
    with pytest.raises(FixFirst) as caught:
        parse_mapping(text, "map.yaml")
    return [line.removeprefix("  map.yaml, ") for line in caught.value.what.splitlines()[1:]]


@pytest.mark.parametrize("text", ["", "# nothing\n", "organization:\nuser:\n", "{}"])
def test_an_empty_file_is_the_default(text: str) -> None:
    """What a file does not say stays as it is without one."""
    assert parse_mapping(text, "map.yaml").digest == DEFAULT.digest


def test_a_file_changes_what_it_names() -> None:
    """A named field is made as it says, one that is null is left out, and the rest is as by default."""
    found = body("organization:\n  organization_fields.qad_city:\n  details: '{name|squeeze|title} in {city}'\n")
    assert found["details"] == "Acme Ltd in Leeds"
    assert "organization_fields.qad_city" not in found
    assert found["organization_fields.qad_country"] == "GBR"


def test_junk_is_blank_but_keys_are_not() -> None:
    """Ignored values count as nothing, in whatever case, wherever they come from, except in a key."""
    assert body("organization:\n  details: '{phone}{street}'\n  notes: '{email}'")["details"] is None
    assert body("ignore: []\norganization:\n  notes: '{email}'")["notes"] == "n/a"
    assert body("ignore: [NO, 0]\norganization:\n  notes: '{city}'", Customer("no", "A", city="no"))["notes"] is None
    found = organization_of(Customer(".", "Acme"), Rules())
    assert (found.external_id, found.body["organization_fields.qad_customer"]) == (".", ".")
    assert user_of(ADA, Rules()).body["user_fields.qad_function"] is None
    assert organization_of(Customer("C1", "VACIO"), Rules()).aside == "no_name"


def test_lists_are_spelt_as_zendesk_spells_them() -> None:
    """Tags and domain names are lower case, each once, without blanks; a tag has no spaces."""
    found = body("organization:\n  tags: ['Key Account', key_account, '{customerV2.customerTypeCode}', '{phone}']\n")
    assert found["tags"] == ["key_account", "oem"]
    user = user_of(ADA, Rules(mapping=parse_mapping("user:\n  email: '{email|first}'\n  tags: '{email|first}'", "m")))
    assert (user.email, user.body["tags"]) == ("Ada@Acme.example", ["ada_acme.example"])


def test_what_was_not_read_is_left_out() -> None:
    """A column that the stored record does not have, and a value nobody understands, leave their field alone."""
    for made_from in ("details: '{customerV2.street2}'", "tags: [qad, '{customerV2.street2}']", "notes: '{city|date}'"):
        assert made_from.split(":")[0] not in body(f"organization:\n  {made_from}\n")


def test_address_types() -> None:
    """Only contacts of a named address type count, whatever its case."""
    for text, aside in (("[headoffice]", ""), ("[REMINDER]", "address_type_not_mapped"), ("[]", "")):
        assert user_of(ADA, Rules(mapping=parse_mapping(f"address_types: {text}", "m"))).aside == aside


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("user:\n  alias: '{name}'", "# why\nuser: {alias: '{name}'}", True),
        ("ignore: [a, b]", "ignore: [B, a]", True),
        ("user:\n  alias: '{name}'", "user:\n  alias: '{name|upper}'", False),
        ("user:\n  alias: '{name}'", "user:\n  alias: {from: '{name}', owner: fill}", False),
        ("ignore: [a]", "ignore: [b]", False),
        ("address_types: [a]", "address_types: [b]", False),
    ],
)
def test_the_digest_tells_what_is_made(one: str, other: str, same: bool) -> None:
    """Records are mapped again when the mapping makes something else, and not for a comment or another order."""
    digests = {Rules(mapping=parse_mapping(text, "m")).digest for text in (one, other)}
    assert (len(digests) == 1) is same


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("organisation:\n  name: x", "line 1: organisation: 'organisation' is not known here. Did you mean"),
        ("organization:\n  tgas: [a]", "'tgas' is not a field of Zendesk's organizations. Did you mean 'tags'?"),
        ("user:\n  user_fields.x y: a", "line 2: user.user_fields.x y: 'user_fields.x y' is not a field"),
        ("user:\n\n  organization_fields.x: a", "line 3: user.organization_fields.x: "),
        ("user:\n  role: agent", "line 2: user.role: this field cannot be mapped. Take it out: roles"),
        ("user:\n  external_id: x", "[qadzd] flows"),
        ("organization:\n  notes: '{ctiy}'", "notes: 'ctiy' is not a QAD field. Did you mean 'city'? A column"),
        ("organization:\n  notes: '{city|uper}'", "'uper' is not a transform. Did you mean 'upper'?"),
        ("organization:\n  notes: city", "stands there as plain text. Did you mean '{city}'?"),
        ("organization:\n  notes: {city}", "this is no template but a YAML object. A template begins"),
        ("organization:\n  notes: {name} ({city})", "line 2: not YAML: "),
        ("organization:\n  notes: '{city'", "has no partner; write {{"),
        ("organization:\n  tags:\n    - a\n    - '{cod}'", "line 4: organization.tags: 'cod' is not a QAD field."),
        ("organization:\n  tags:\n    form: a\n", "'form' is not known here. Did you mean 'from'?"),
        ("organization:\n  tags:\n    owner: merge\n", "`from` is missing"),
        ("organization:\n  notes:\n    from: a\n    owner: zendsk\n", "'zendsk' is not an owner. Did you mean"),
        ("organization:\n  notes:\n    from: a\n    owner: merge\n", "line 4: organization.notes: only a list"),
        ("user:\n  email: {from: '{email}', owner: qad}", "the owner of email can only be zendesk"),
        ("user:\n  phone: {from: '{phone}', owner: qad}", "the owner of phone cannot be qad. Write zendesk or fill"),
        ("user:\n  name:", "a record must have a name"),
        ("user:\n  alias: a\n  alias: b", "line 3: user.alias: it stands there twice, first in line 2. Keep one."),
        ("user: [a]", "line 1: user: there must be names with values here."),
        ("ignore: [[a]]", "line 1: ignore: this must be text."),
        ("- a", "line 1: there must be names with values here."),
        ("a: b: c", "line 1: not YAML: mapping values are not allowed here."),
        ("a: '\x00'", "line 1: not YAML: "),
        ("ignore: !!python/object/apply:os.system [true]\nx: y", "'x' is not known here"),
    ],
)  # fmt: skip
def test_errors(text: str, told: str) -> None:
    """Each error names its line, its field and what to write instead."""
    assert any(told in problem for problem in problems(text)), problems(text)


def test_all_errors_come_at_once_in_the_order_of_lines() -> None:
    """Nobody mends a file one error at a time."""
    text = (
        "organization:\n  tgas: a\n  notes: '{ctiy}'\nuser:\n  role: x\n  alias: {from: '{nmae}', owner: qda}\nx: 1\n"
    )
    found = problems(text)
    assert [int(re.findall(r"line (\d+)", problem)[0]) for problem in found] == [2, 3, 5, 6, 6, 7]


def test_a_file_names_where_its_columns_are_named() -> None:
    """A column tells the file, line and field that name it; our own names are no columns."""
    mapping = parse_mapping("organization:\n  notes: '{city} {a.b}'\n  tags: ['{a.b}', '{c.d}']\n", "/x/map.yaml")
    assert mapping.columns("organization") == {
        "a.b": "/x/map.yaml, line 2, organization.notes", "c.d": "/x/map.yaml, line 3, organization.tags"
    }  # fmt: skip
    assert mapping.columns("user") == {}


def example() -> FieldMapping:
    """The README's mapping file."""
    section = README.split("\n## Mapping\n", 1)[1].split("\n## ", 1)[0]
    return parse_mapping(section.split("```yaml\n", 1)[1].split("```", 1)[0], "README.md")


def test_the_readmes_example_maps() -> None:
    """The example in the README is a mapping file without an error, and makes what its comments say."""
    customer = Customer(
        "C1", "ACME Ltd", email="ap@acme.example", modified="2025-01-31T00:00:00.000Z",
        columns={"customerV2.customerTypeCode": "Key Account", "customerV2.customCombo0": "yes",
                 "customerV2.telephone": "VACIO"},
    )  # fmt: skip
    found = organization_of(customer, Rules(mapping=example()))
    assert found.body["tags"] == ["qad", "key_account"]
    assert found.body["domain_names"] == ["acme.example"]
    assert found.body["organization_fields.contract"] is True
    assert "organization_fields.qad_city" not in found.body
    assert found.owners["tags"] == "merge"


def test_the_readme_names_every_transform() -> None:
    """Its table of transforms is the vocabulary."""
    section = README.split("\n## Mapping\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} >= set(TRANSFORMS)
