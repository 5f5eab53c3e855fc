"""Whose a field is: what each owner lets an update do, and lists that both sides add to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_qadzd.records import fold
from airflow_provider_qadzd.sync.ownership import merged, ours, same, to_change

WORDS = st.lists(st.sampled_from(["a", "A", "b", "c", "d", "E", "e", "f", " f"]), max_size=6)


def folded(entries: list[str]) -> set[str]:
    """Entries as they are compared."""
    return {fold(one) for one in entries}


@pytest.mark.parametrize(
    ("owner", "current", "wanted", "changed"),
    [
        pytest.param("qad", "theirs", "ours", True, id="qad over another value"),
        pytest.param("qad", "theirs", None, True, id="qad clears"),
        pytest.param("qad", "ours", "ours", False, id="qad over the same"),
        pytest.param("zendesk", None, "ours", False, id="zendesk stays empty"),
        pytest.param("zendesk", "theirs", "ours", False, id="zendesk keeps"),
        pytest.param("fill", None, "ours", True, id="fill where nothing is"),
        pytest.param("fill", "", "ours", True, id="fill where the text is empty"),
        pytest.param("fill", [], ["ours"], True, id="fill an empty list"),
        pytest.param("fill", "theirs", "ours", False, id="fill keeps what is there"),
        pytest.param("fill", False, True, False, id="fill keeps a false"),
        pytest.param("fill", None, None, False, id="fill with nothing"),
        pytest.param("merge", ["theirs"], ["ours"], True, id="merge adds"),
        pytest.param("merge", ["Ours", "theirs"], ["ours"], False, id="merge finds its own, whatever its case"),
        pytest.param("merge", ["theirs"], [], False, id="merge of nothing leaves others' entries"),
    ],
)
def test_what_each_owner_lets_an_update_do(owner: str, current: Any, wanted: Any, changed: bool) -> None:
    """Each owner has its one rule about a value that differs."""
    assert bool(to_change({"x": wanted}, {"x": current}, {}, {"x": owner})) is changed


@pytest.mark.parametrize("owner", ["fill", "merge"])
def test_what_was_not_observed_is_not_touched(owner: str) -> None:
    """Of a record that was read without the field nobody knows what is there, so nothing is written."""
    assert to_change({"x": ["a"]}, {}, {}, {"x": owner}) == {}
    assert ours({"x": ["a"]}, {}, {"x": ["b"]}, {"x": "merge"}) == {"x": ["b"]}


def test_the_usual_owners() -> None:
    """Without a word about it, email and phone are Zendesk's after creation and everything else is QAD's."""
    found = to_change({"email": "a", "phone": "1", "name": "x"}, {"email": "b", "phone": "2", "name": "y"}, {}, {})
    assert found == {"name": ("y", "x")}


@pytest.mark.parametrize(
    ("before", "after", "alike"),
    [
        (None, "", True), ([], None, True), (["b", "A"], ["a", "b"], True), (["a"], ["a", "b"], False),
        ("2025-01-31T00:00:00Z", "2025-01-31", True), ("2025-01-31T10:00:00Z", "2025-01-31", False),
        (5, 5.0, True), (True, "true", False), (False, None, False), (0, None, False),
    ],
)  # fmt: skip
def test_what_zendesk_would_show_alike(before: Any, after: Any, alike: bool) -> None:
    """Order in a list, and midnight of a day, are no difference; false and zero are not nothing."""
    assert same(before, after) is alike


@given(remembered=WORDS, wanted=WORDS, current=WORDS)
def test_a_merge_drops_ours_alone(remembered: list[str], wanted: list[str], current: list[str]) -> None:
    """A merge never drops others' entries, always drops our old ones, and always has what is wanted."""
    after = merged(remembered, wanted, current)
    others = folded(current) - folded(remembered)
    assert others <= folded(after)
    assert not (folded(remembered) - folded(wanted)) & folded(after)
    assert folded(wanted) <= folded(after)
    assert folded(after) <= folded(wanted) | folded(current)
    assert merged(remembered, wanted, after) == after


@given(st.data())
def test_over_many_runs_everybody_keeps_their_own(data: st.DataObject) -> None:
    """Whatever QAD wants and others add from run to run: theirs stay as long as they want, ours go when QAD says so."""
    owners, there, memory = {"tags": "merge"}, [], {}
    theirs: set[str] = set()
    for _ in range(data.draw(st.integers(1, 6))):
        added = data.draw(st.sets(st.sampled_from("abcd")))
        theirs |= {one for one in added if one not in there}
        there = [*there, *sorted(added - set(there))]
        wanted = {"tags": sorted(data.draw(st.sets(st.sampled_from("abcd"))))}
        change = to_change(wanted, {"tags": there}, memory, owners)
        memory = ours(wanted, {"tags": there}, memory, owners)
        there = change["tags"][1] if change else there
        assert set(there) == set(wanted["tags"]) | theirs
        assert set(memory["tags"]) == set(wanted["tags"]) - theirs
        assert not to_change(wanted, {"tags": there}, memory, owners)
