import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.errors import UserError
from tadaconv.reporting.core.options import parse_parameters

values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(),
    st.lists(st.integers(), max_size=3), st.tuples(st.integers(), st.text()),
)  # fmt: skip


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True), values, max_size=4))
def test_a_literal_comes_back_as_what_it_is(parameters: dict[str, object]) -> None:
    assert parse_parameters([f"{name}={value!r}" for name, value in parameters.items()]) == parameters


@pytest.mark.parametrize("text", ["(3,3) + global", "res2=res3", "1 +", "__import__('os')", ""])
def test_what_is_no_literal_is_text(text: str) -> None:
    assert parse_parameters([f"row={text}"]) == {"row": text}


@pytest.mark.parametrize("pair", ["num_clips", "=2", "num clips=2", "2=3", ""])
def test_a_pair_without_a_name_or_a_value_is_refused(pair: str) -> None:
    with pytest.raises(UserError, match="is not NAME=VALUE"):
        parse_parameters([pair])


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="k is given twice"):
        parse_parameters(["k=1", "k=1"])
