"""Reigns, from tags alone."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import reigns
from tasks.reigns import COLUMNS, Reign, previous

Entries = dict[int, dict[str, str]]


def entry(
    version: str, over: str, after: int, by: str = "benchmark", at: int = 0, **tags: str
) -> dict[str, str]:
    told = {"version": version, "over": over, "after": str(after), "by": by, "why": f"Reason {version}."}
    told |= {"since": f"2026-01-{at + 1:02}T00:00:00+00:00", **tags}
    return {f"reign.{key}": value for key, value in told.items()}


def played(*moves: str) -> tuple[Reign, ...]:
    """Return the history of promotions ("2") and rollbacks ("<2")."""
    entries, over = {}, ""
    for number, move in enumerate(moves, start=1):
        version = move.removeprefix("<")
        by = "rollback" if move.startswith("<") else "benchmark"
        entries[number] = entry(version, over, number - 1, by, number)
        over = version
    return reigns.reigns(entries, over or None)


def told(history: tuple[Reign, ...]) -> list[tuple[Any, ...]]:
    return [
        (r.version, r.by, r.since and r.since.day, r.until and r.until.day, r.replaced_by) for r in history
    ]


def test_nothing_tells_of_nobody() -> None:
    assert reigns.reigns({}, None) == ()


def test_a_version_may_reign_twice() -> None:
    entries = {
        1: entry("1", "", 0, at=1, run="r1", who="benchmark-one"),
        2: entry("2", "1", 1, at=2),
        3: entry("1", "2", 2, "rollback", at=3, who="ana"),
    }
    history = reigns.reigns(entries, "1")
    assert told(history) == [
        ("1", "benchmark", 2, 3, "2"),
        ("2", "benchmark", 3, 4, "1"),
        ("1", "rollback", 4, None, None),
    ]
    assert (history[0].run, history[0].who, history[0].why) == ("r1", "benchmark-one", "Reason 1.")
    assert (history[2].run, history[2].who) == (None, "ana")
    row = (
        "1",
        "2026-01-02 00:00:00",
        "2026-01-03 00:00:00",
        "benchmark",
        "Reason 1.",
        "benchmark-one",
        "r1",
        "2",
    )
    assert history[0].row() == row and len(row) == len(COLUMNS)


def test_of_two_entries_after_the_same_one_the_first_counts() -> None:
    entries = {
        1: entry("1", "", 0),
        2: entry("3", "1", 1),
        3: entry("2", "1", 1),  # came second
        4: entry("4", "3", 2),
        5: entry("5", "1", 1),  # was held up for long
    }
    assert reigns.standing(entries) == [1, 2, 4]
    assert [reign.version for reign in reigns.reigns(entries, "4")] == ["1", "3", "4"]


def test_an_entry_that_was_deleted_leaves_a_gap() -> None:
    entries = {1: entry("1", "", 0), 3: entry("3", "2", 2, at=3), 4: entry("4", "3", 3, at=4)}
    assert reigns.standing(entries) == [1, 3, 4]
    assert told(reigns.reigns(entries, "4"))[1] == ("2", "hand", None, 4, "3")


def test_what_a_person_did_shows_by_what_is_not_on_record() -> None:
    entries = {1: entry("1", "", 0, at=1), 2: entry("3", "2", 1, at=2)}
    history = reigns.reigns(entries, "4")
    assert told(history) == [
        ("1", "benchmark", 2, None, "2"),
        ("2", "hand", None, 3, "3"),
        ("3", "benchmark", 3, None, "4"),
        ("4", "hand", None, None, None),
    ]
    assert told(reigns.reigns({}, "7")) == [("7", "hand", None, None, None)]


@given(st.permutations(range(1, 12)), st.data())
def test_the_order_of_reading_changes_nothing(order: list[int], data: st.DataObject) -> None:
    after = {number: data.draw(st.integers(0, number - 1)) for number in order}
    entries = {number: entry(str(number), "", after[number]) for number in order}
    kept = reigns.standing(entries)
    assert kept == reigns.standing(dict(sorted(entries.items())))
    assert kept[:1] == [1]
    # of those that are written after the same entry, one counts at most
    assert len({after[number] for number in kept}) == len(kept)


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ((), None),
        (("1",), None),
        (("1", "2"), "1"),
        (("1", "2", "3"), "2"),
        (("1", "2", "3", "<2"), "1"),  # not 3, which was bad
        (("1", "2", "3", "<2", "<1"), None),
        (("1", "2", "3", "<1"), None),
        (("1", "2", "<1", "<2"), None),  # 2 once more, in the place of 1
        (("1", "2", "<1", "3"), "1"),
        (("1", "2", "1"), "2"),  # won against 2
        (("1", "2", "1", "3", "<1"), "2"),
        (("1", "2", "<7"), "1"),  # 7 never was in production
        (("1", "2", "<7", "<1"), None),
        (("<7",), None),
    ],
)
def test_back_is_to_what_was_not_gone_back_from(moves: tuple[str, ...], expected: str | None) -> None:
    assert previous(played(*moves), {"1", "2", "3", "7"}) == expected


def test_versions_that_are_gone_are_passed_over() -> None:
    assert previous(played("1", "2", "3"), {"1", "3"}) == "1"
    assert previous(played("1", "2", "3"), {"3"}) is None


def test_going_back_again_and_again_ends() -> None:
    generator = random.Random(1)
    for _ in range(200):
        moves = [str(generator.randint(1, 5)) for _ in range(6)]
        seen = 0
        while (back := previous(played(*moves), set("12345"))) is not None:
            moves.append(f"<{back}")
            seen += 1
            assert seen < 6
