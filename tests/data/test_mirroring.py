"""Which classes are mirror images of one another, and that a label goes with what is seen."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.data import mirroring
from tadaconv.data.mirroring import mirror_pairs, mirrored_labels, mirrored_name, require_mirror, why_not_mirrored
from tadaconv.errors import UserError

SIX = (
    "Pulling something from left to right", "Pulling something from right to left",
    "Pushing something from left to right", "Pushing something from right to left",
    "Turning the camera left while filming something", "Turning the camera right while filming something",
)  # fmt: skip
APART = ("Holding something upright", "Lifting something up", "Leftover food", "turn_right", "Putting something left")


def test_six_classes_change_places_and_others_stay() -> None:
    names = (*APART, *SIX)
    pairs = tuple((SIX[i], SIX[i + 1]) for i in (0, 2, 4))
    assert mirror_pairs(names) == pairs
    assert mirrored_labels(names) == (0, 1, 2, 3, 4, 6, 5, 8, 7, 10, 9)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("swipe_left", "swipe_right"),
        ("left-hand", "right-hand"),
        ("moveLeft", "moveRight"),
        ("MoveLeftHand", "MoveRightHand"),
        ("LEFT", "RIGHT"),
        ("HTMLLeft2", "HTMLRight2"),
        ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
        ("from (left) to right", "from (right) to left"),
        ("HandClockwise", "HandCounterclockwise"),
    ],
)
def test_words_end_where_letters_do_and_where_case_changes(one: str, other: str) -> None:
    assert (mirrored_name(one), mirrored_name(other)) == (other, one)
    assert mirror_pairs([one, other]) == ((one, other),)


SPELLINGS = (
    "counterclockwise", "counter-clockwise", "counter_clockwise", "counter clockwise",
    "anticlockwise", "anti-clockwise", "anti_clockwise", "anti clockwise",
)  # fmt: skip


@pytest.mark.parametrize("cased", [str.lower, str.title, str.upper, str.capitalize])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_counterclockwise_is_written_in_many_ways(spelling: str, cased: Callable[[str], str]) -> None:
    one, other = f"2_{cased(spelling)}.left", f"2_{cased('clockwise')}.right"
    assert mirrored_name(one) == other
    assert mirror_pairs(["clockwise", one, "up", other]) == ((one, other),)
    assert mirrored_labels([one, other, one.replace("left", "right")]) == (1, 0, 2)


def test_camel_case_is_one_way_to_write_it() -> None:
    assert mirror_pairs(["TurnCounterClockwise", "TurnClockwise"]) == (("TurnCounterClockwise", "TurnClockwise"),)


@pytest.mark.parametrize(
    "name", ["anti", "counter", "anti-left", "counter--clockwise", "antique-clockwise", "aNti-clockwise"]
)
def test_half_of_counterclockwise_is_no_word(name: str) -> None:
    assert mirrored_name(name) == name.replace("left", "right").replace("clockwise", "counterclockwise")


def test_classes_that_differ_in_spelling_alone_have_no_other() -> None:
    names = ["clockwise", "counterclockwise", "anti-clockwise", "left", "right"]
    assert mirrored_labels(names) == (0, 1, 2, 4, 3)


@pytest.mark.parametrize(
    "name", ["upright", "Upright", "leftover", "Rightmost", "brightness", "lEfT", "\u00fcleft", ""]
)
def test_words_that_only_hold_another_stay(name: str) -> None:
    assert mirrored_name(name) == name


parts = st.lists(
    st.sampled_from(
        ["left", "Right", "LEFT", "right", "clockwise", "Counterclockwise", "up", "Up", "_", "-", " ", "2"]
    ),
    max_size=6,
).map("".join)


@given(st.lists(parts, unique=True, max_size=8))
def test_mirroring_twice_is_the_identity_on_names_and_labels(names: list[str]) -> None:
    assert [mirrored_name(mirrored_name(name)) for name in names] == names
    assert_twice_is_the_identity(names)


def assert_twice_is_the_identity(names: list[str]) -> None:
    labels = mirrored_labels(names)
    assert [labels[label] for label in labels] == list(range(len(names)))


spelled = st.lists(st.sampled_from(["anti", "Counter", "clockwise", "Counterclockwise", "-"]), max_size=4).map("".join)


@given(st.lists(spelled, unique=True, max_size=20))
def test_mirroring_twice_is_the_identity_on_labels_of_any_spelling(names: list[str]) -> None:
    assert_twice_is_the_identity(names)


def test_counters_of_counters_are_no_mirror_images() -> None:
    assert_twice_is_the_identity(["antiCounterCounterclockwise", "antiCounterClockwise", "counterclockwise"])


Coins = tuple[bool, ...]
Trained = Callable[[int, Coins], tuple[int, int]]
"""From a class and the tosses of coins, the class that is seen, and the label that is trained on it."""


def information(trained: Trained, num_coins: int) -> float:
    """Bits that the label tells of the tosses to whoever sees the clip, I(label; tosses | seen), by enumeration."""
    cases: list[tuple[int, int, Coins]] = []
    for label, tosses in product(range(len(SIX)), product((False, True), repeat=num_coins)):
        cases.append((*trained(label, tosses), tosses))

    def entropy(values: Iterator[object]) -> float:
        counts = Counter(values)
        return sum(-n / len(cases) * log2(n / len(cases)) for n in counts.values())

    seen = entropy(s for s, _, _ in cases)
    return (
        entropy((s, label) for s, label, _ in cases)
        + entropy((s, tosses) for s, _, tosses in cases)
        - entropy(iter(cases))
        - seen
    )


OTHER = mirrored_labels(SIX)


def with_swap(label: int, tosses: Coins) -> tuple[int, int]:
    return (OTHER[label], OTHER[label]) if tosses[0] else (label, label)


def plain(label: int, tosses: Coins) -> tuple[int, int]:
    return (OTHER[label] if tosses[0] else label), label


def twice(label: int, tosses: Coins) -> tuple[int, int]:
    """Mirrored without the label, and then, by another coin, with it."""
    seen = OTHER[label] if tosses[0] else label
    return with_swap(seen, tosses[1:])[0], with_swap(label, tosses[1:])[1]


def test_with_a_swap_the_label_tells_nothing_of_the_mirror() -> None:
    assert information(with_swap, 1) == pytest.approx(0, abs=1e-12)
    assert information(plain, 1) == pytest.approx(1)
    assert information(twice, 2) == pytest.approx(1)


def test_a_plain_mirror_of_mirror_images_is_refused_or_warned_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "_warned", set())
    with pytest.raises(
        UserError, match=r"'Pulling something from left to right' and .*; set mirror='swap' in the regime"
    ) as error:
        require_mirror("yes", SIX, refuse=True)
    assert "\n" not in str(error.value)
    with caplog.at_level(logging.WARNING, "tadaconv"):
        for mirror, names in (("yes", APART), ("no", SIX), ("swap", SIX)):
            require_mirror(mirror, names, refuse=True)
            assert why_not_mirrored(mirror, names) == ""
        assert not caplog.records
        require_mirror("yes", SIX)
        require_mirror("yes", SIX)
    assert [record.message for record in caplog.records] == [str(error.value)]
    four = [f"{side} {n}" for n in range(4) for side in ("left", "right")]
    assert "and 1 more" in why_not_mirrored("yes", four)


def test_a_swap_of_nothing_is_warned_of_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirroring, "_warned", set())
    with caplog.at_level(logging.WARNING, "tadaconv"):
        for _ in range(2):
            require_mirror("swap", APART, refuse=True)
    (record,) = caplog.records
    assert record.message == (
        "by their names no two classes are mirror images of one another; mirror='swap' does what 'yes' does"
    )
