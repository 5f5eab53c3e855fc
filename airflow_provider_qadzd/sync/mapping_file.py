"""A mapping file's text as a `FieldMapping`, or every error in it at once, each with its line and what to write.

It is YAML, because people comment it, PyYAML comes with Airflow, and its nodes know their lines. The text is only
composed into nodes and read from there: no YAML type or tag is ever made into a value, so `NO` and `0` are text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import yaml

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.records import Kind, fold
from airflow_provider_qadzd.sync.mapping import DEFAULT, LISTS, QAD_FIELDS, ZENDESK_FIELDS, FieldMapping, FieldRule
from airflow_provider_qadzd.sync.ownership import ONLY_AT_CREATION, OWNERS
from airflow_provider_qadzd.sync.template import BadTemplate, Template, parsed

KNOWN = ("ignore", "address_types", "organization", "user")
_RULE = ("from", "owner")
_KEY = re.compile(r"[A-Za-z0-9_\-]+")
_NOT_OURS = {
    "external_id": "external ids are templates in [qadzd] flows",
    "role": "roles are never written",
    "organization_id": "memberships are made from QAD's contacts",
    "suspended": "who is suspended stays so",
    "verified": "mail addresses are never verified by the sync",
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One error: its line, the key it stands under, what is wrong, and what to do."""

    line: int
    place: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        return f"line {self.line}: {place}{self.what}.{f' {self.hint}' if self.hint else ''}"


@dataclass
class _Reader:
    """Walks the nodes; what is wrong is noted, and the walk goes on."""

    path: str
    problems: list[Problem] = field(default_factory=list)
    named_in: dict[str, str] = field(default_factory=dict)

    def note(self, node: yaml.Node, place: str, what: str, hint: str = "") -> None:
        self.problems.append(Problem(node.start_mark.line + 1, place, what, hint))

    def entries(self, node: yaml.Node, place: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Key, its node and its value of an object, each key once."""
        if not isinstance(node, yaml.MappingNode):
            if not _is_null(node):
                self.note(node, place, "there must be names with values here", "Write `name: value`, a name a line.")
            return
        seen: dict[str, int] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if not name:
                self.note(key, place, "a name must be plain text", _QUOTES)
            elif name in seen:
                self.note(key, _under(place, name), f"it stands there twice, first in line {seen[name]}", "Keep one.")
            else:
                seen[name] = key.start_mark.line + 1
                yield name, key, value

    def texts(self, node: yaml.Node, place: str) -> list[tuple[str, yaml.Node]]:
        """A list of texts, or one alone."""
        found = node.value if isinstance(node, yaml.SequenceNode) else [] if _is_null(node) else [node]
        for one in found:
            if not isinstance(one, yaml.ScalarNode):
                self.note(one, place, "this must be text", _QUOTES)
        return [(one.value, one) for one in found if isinstance(one, yaml.ScalarNode)]

    def unknown(self, node: yaml.Node, place: str, what: str, word: str, known: Collection[str]) -> None:
        self.note(node, place, what, _nearest(word, known))

    # -- fields --------------------------------------------------------------------------------------------------------

    def fields(self, node: yaml.Node, kind: Kind) -> tuple[FieldRule, ...]:
        """The default rules, changed by what the file says of `kind`."""
        rules = {rule.field: rule for rule in DEFAULT.rules(kind)}
        for name, key, value in self.entries(node, kind):
            place = f"{kind}.{name}"
            if not self.is_field(name, key, kind, place):
                continue
            if _is_null(value):
                if name == "name":
                    self.note(key, place, "a record must have a name", "Give it a template, or take the line out.")
                rules.pop(name, None)
            elif rule := self.rule(name, value, kind, place):
                rules[name] = rule
        return tuple(rules.values())

    def is_field(self, name: str, node: yaml.Node, kind: Kind, place: str) -> bool:
        """Whether Zendesk may have such a field and we may write it. Which custom fields there are, Zendesk knows."""
        start = f"{kind}_fields."
        if name.startswith(start) and _KEY.fullmatch(name.removeprefix(start)):
            return True
        if name in _NOT_OURS:
            self.note(node, place, "this field cannot be mapped", f"Take it out: {_NOT_OURS[name]}.")
        elif name not in ZENDESK_FIELDS[kind]:
            hint = f"A custom field is written `{start}KEY`."
            known = (*ZENDESK_FIELDS[kind], *(rule.field for rule in DEFAULT.rules(kind)))
            near = difflib.get_close_matches(name, known, n=1)
            self.note(node, place, f"{name!r} is not a field of Zendesk's {kind}s",
                      f"Did you mean {near[0]!r}?" if near else f"{_nearest(name, known)} {hint}")  # fmt: skip
        return name in ZENDESK_FIELDS[kind]

    def rule(self, name: str, node: yaml.Node, kind: Kind, place: str) -> FieldRule | None:
        """A template, a list of them, or an object with `from` and `owner`."""
        before = len(self.problems)
        source, owner_node = self.source_and_owner(node, place) if isinstance(node, yaml.MappingNode) else (node, None)
        if source is None:
            return None
        many = name in LISTS or isinstance(source, yaml.SequenceNode)
        templates = self.templates(source, kind, place)
        owner = self.owner(owner_node, name, many, place)
        if len(self.problems) > before:
            return None
        return FieldRule(name, tuple(templates), many, owner)

    def source_and_owner(self, node: yaml.MappingNode, place: str) -> tuple[yaml.Node | None, yaml.Node | None]:
        """What stands under `from` and `owner`; no source if there is none."""
        if all(_is_null(value) for _, value in node.value):  # what YAML makes of `{name}`
            self.note(node, place, "this is no template but a YAML object", _QUOTES)
            return None, None
        found: dict[str, yaml.Node] = {}
        for word, key, value in self.entries(node, place):
            if word in _RULE:
                found[word] = value
            else:
                self.unknown(key, place, f"{word!r} is not known here", word, _RULE)
        if "from" not in found:
            self.note(node, place, "`from` is missing", "Write what the field is made from.")
        return found.get("from"), found.get("owner")

    def templates(self, node: yaml.Node, kind: Kind, place: str) -> list[Template]:
        found = []
        for text, at in self.texts(node, place):
            try:
                template = parsed(text, QAD_FIELDS[kind])
            except BadTemplate as error:
                hint = _nearest(error.word, error.known) if error.known else ""
                if error.word and not error.known:
                    hint = f"Did you mean {error.word!r}?"
                if error.known == QAD_FIELDS[kind]:
                    hint += " A column of the browse is written in full, with its dot."
                self.note(at, place, error.what, hint)
                continue
            for name in template.names:
                line = at.start_mark.line + 1
                self.named_in.setdefault(name, f"{self.path}, line {line}, {place}")
            found.append(template)
        return found

    def owner(self, node: yaml.Node | None, name: str, many: bool, place: str) -> str:
        usual = "zendesk" if name in ONLY_AT_CREATION else "merge" if many else "qad"
        if node is None:
            return usual
        given = node.value if isinstance(node, yaml.ScalarNode) else ""
        if given not in OWNERS:
            self.unknown(node, place, f"{given!r} is not an owner", given, OWNERS)
        elif given == "merge" and not many:
            self.note(node, place, "only a list can be merged", f"Write a list under `from`, or {_or(OWNERS[:3])}.")
        elif name == "email" and given != "zendesk":
            self.note(node, place, "the owner of email can only be zendesk", "A later email is added as a second one.")
        elif name == "phone" and given not in ("zendesk", "fill"):
            hint = "Write zendesk or fill: an update would only add a second number."
            self.note(node, place, f"the owner of phone cannot be {given}", hint)
        return str(given)


_QUOTES = "A template begins with a brace, so put it in quotes."


def parse_mapping(text: str, path: str) -> FieldMapping:
    """The mapping in the text of the file at `path`. FixFirst with every error in it.

    Fields that the file does not name are mapped as by default; one that is null is not mapped.
    """
    reader = _Reader(path)
    root = _composed(text, reader)
    read: dict[str, yaml.Node] = {}
    for name, key, value in reader.entries(root, "") if root is not None else ():
        if name in KNOWN:
            read[name] = value
        else:
            reader.unknown(key, name, f"{name!r} is not known here", name, KNOWN)

    def folded(name: str, usual: frozenset[str]) -> frozenset[str]:
        return frozenset(fold(text) for text, _ in reader.texts(read[name], name)) if name in read else usual

    def fields(kind: Kind) -> tuple[FieldRule, ...]:
        return reader.fields(read[kind], kind) if kind in read else DEFAULT.rules(kind)

    mapping = FieldMapping(
        fields("organization"), fields("user"), folded("ignore", DEFAULT.ignored),
        folded("address_types", DEFAULT.address_types), tuple(reader.named_in.items()),
    )  # fmt: skip
    refuse(reader.problems, path)
    return mapping


def refuse(problems: Collection[Problem], path: str) -> None:
    """FixFirst listing the problems in the order of their lines, if there are any."""
    if problems:
        many = f"{len(problems)} errors" if len(problems) > 1 else "an error"
        listed = "\n".join(f"  {path}, {problem}" for problem in sorted(problems))
        raise FixFirst(f"The mapping file has {many}; nothing is mapped.\n{listed}")


def _composed(text: str, reader: _Reader) -> yaml.Node | None:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        hint = _QUOTES if re.search(r":\s+\{", text) else ""
        reader.problems.append(Problem(mark.line + 1 if mark else 1, "", f"not YAML: {error.problem}", hint))
        return None
    except yaml.YAMLError as error:
        reader.problems.append(Problem(1, "", f"not YAML: {str(error).splitlines()[0]}"))
        return None
    return root


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _under(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _nearest(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."


def _or(words: Collection[str]) -> str:
    return " or ".join(f"`{word}`" for word in words)
