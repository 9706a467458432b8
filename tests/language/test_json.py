"""JSON: duplicate keys refused, digits kept, text clean."""

import pytest

from bend_server.language.findings import Place
from bend_server.language.json_source import BadText, JsonLocator, decode_text, parse_json


def test_integers_keep_their_digits() -> None:
    assert parse_json('{"a": 123456789012345678901234567890}') == {
        "a": 123456789012345678901234567890
    }


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse_json('"\\ud83d\\ude00"') == "😀"


REFUSED = [
    ('{"a": 1,\n "a": 2}', "DUPLICATE_KEY", ("a",), 2, 2),
    ('{"b": [1, {"x": 1, "x": 2}]}', "DUPLICATE_KEY", ("b", 1, "x"), 1, 20),
    ('{"\\u0061": 1, "a": 2}', "DUPLICATE_KEY", ("a",), 1, 15),
    ("[1e999]", "BAD_NUMBER", (0,), 1, 2),
    ("[1, NaN]", "BAD_NUMBER", (1,), 1, 5),
    ("[-Infinity]", "BAD_NUMBER", (0,), 1, 2),
    ("1" * 400, "BAD_NUMBER", (), 1, 1),
    ('{"a": "\\ud800"}', "BAD_TEXT", ("a",), 1, 7),
    ('{"a": ["x", "\\u0000"]}', "BAD_TEXT", ("a", 1), 1, 13),
    ('{"\\u0000": 1}', "BAD_TEXT", ("\0",), 1, 2),
    ("[" * 100 + "]" * 100, "TOO_DEEP", (0,) * 8, 1, 66),
    ("[" * 100_000, "TOO_DEEP", (0,) * 8, 1, 66),
    ('{"a": 1', "SYNTAX", (), 1, 8),
    ('{"a" 1}', "SYNTAX", (), 1, 6),
    ('{"a": 1} x', "SYNTAX", (), 1, 10),
    ("", "SYNTAX", (), 1, 1),
    ('{"a": "\n"}', "SYNTAX", (), 1, 8),
]


@pytest.mark.parametrize(
    ("text", "reason", "path", "line", "column"),
    REFUSED,
    ids=[repr(case[0][:12]) for case in REFUSED],
)
def test_what_is_refused_has_a_place(
    text: str, reason: str, path: tuple[object, ...], line: int, column: int
) -> None:
    with pytest.raises(BadText) as caught:
        parse_json(text)
    error = caught.value
    assert (error.reason, error.path, error.line, error.column) == (reason, path, line, column)


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(BadText) as caught:
        decode_text(b"name: w\nx: \xff")
    assert (caught.value.reason, caught.value.line, caught.value.column) == ("BAD_ENCODING", 2, 4)


def test_a_byte_order_mark_is_left_out() -> None:
    assert decode_text(b"\xef\xbb\xbf{}") == "{}"


def test_places_of_values_and_keys() -> None:
    locator = JsonLocator('{"a": [1,\n  {"b": "x"}]}')
    places = [
        Place(("a",), True),
        Place(("a", 1, "b")),
        Place(("a", 1, "b"), True),
        Place(("a", 1, "q")),
    ]
    assert locator.locate(places) == [(1, 2), (2, 9), (2, 4), (2, 3)]
