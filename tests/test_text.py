"""Names of files, whatever their bytes, as text that can be stored and found again; numbers and lists in words."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.text import (
    capitalised,
    duration,
    encodable,
    listed,
    one_line,
    path_to_text,
    plural,
    text_to_path,
    three_digits,
)

part = st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & set(b"/\0") and name not in (b".", b".."))


@given(st.lists(part, min_size=1, max_size=3))
def test_a_path_of_any_bytes_comes_back_from_text_that_is_utf8(parts):
    path = Path(os.fsdecode(b"/" + b"/".join(parts)))
    text = path_to_text(path)
    text.encode()
    assert text_to_path(text) == path


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_what_is_utf8_stays_as_it_is(text):
    assert encodable(text) == text
    path = Path("/") / text.lstrip("/")
    assert path_to_text(path) == str(path)
    assert text_to_path(str(path)) == path


def test_bytes_that_are_not_utf8_are_shown_by_their_value():
    assert encodable(os.fsdecode(b"caf\xe9\xc3\xa9")) == "caf\\udce9\u00e9"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_a_duration_is_readable(seconds, text):
    assert duration(seconds) == text


def test_numbers_and_lists_in_words():
    assert [plural(n, "seed") for n in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
    assert [plural(n, "batch", "batches") for n in (1, 2)] == ["1 batch", "2 batches"]
    assert [listed("abc"[:n], "or") for n in (1, 2, 3)] == ["a", "a or b", "a, b or c"]
    assert [three_digits(x) for x in (1.084, 9.994, 9.996, 99.96)] == ["1.08", "9.99", "10.0", "100"]
    assert one_line(ValueError(" two\n lines\t\r\n")) == "two lines"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("row", "Row"), ("top-1", "Top-1"), ("mAP", "mAP"), ("MACs", "MACs"), ("n", "n"), ("", ""), ("a row", "A row")],
)
def test_a_heading_begins_with_a_capital_unless_it_is_a_symbol(text, shown):
    assert capitalised(text) == shown
