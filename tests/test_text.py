"""Names of files, whatever their bytes, as text that can be stored and found again."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tadaconv.text import encodable, path_to_text, text_to_path

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
