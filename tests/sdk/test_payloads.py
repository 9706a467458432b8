"""If these fail, an id of a customer's system changes on its way through a component."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bend import payloads

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_every_value_comes_back(value: object) -> None:
    assert payloads.loads(payloads.dumps(value)) == value


def test_long_integers_keep_their_digits() -> None:
    text = b'{"id":123456789012345678901234567890,"n":[-99999999999999999999]}'
    assert payloads.dumps(payloads.loads(text)) == text


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b"[1" + b"0" * 20, b'{"a":Infinity}'])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text will do
        payloads.loads(text)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1: 2**80},
        [2**80, float("nan")],
        {"a": {3}},
        float("nan"),
        {"scores": [0.5, (None, {"x": float("inf")})]},
    ],
)
def test_what_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        payloads.dumps(value)
