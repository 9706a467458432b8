"""YAML 1.2 core schema, bounded, without tags."""

import pytest

from bend_server.language.json_source import BadText
from bend_server.language.yaml_source import parse_yaml

SCALARS = [
    ("on", "on"),
    ("yes", "yes"),
    ("No", "No"),
    ("true", True),
    ("FALSE", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("017", 17),
    ("0o17", 15),
    ("0x1F", 31),
    ("-5", -5),
    ("1_000", "1_000"),
    ("1e3", 1000.0),
    (".5", 0.5),
    ("12345678901234567890123", 12345678901234567890123),
    ("2001-01-01", "2001-01-01"),
    ("12:30:45", "12:30:45"),
    ("'5'", "5"),
    ('"\\u00e9"', "é"),
    ("=", "="),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_are_of_the_core_schema(text: str, value: object) -> None:
    parsed = parse_yaml(f"a: {text}\n")
    assert parsed == {"a": value}
    assert isinstance(parsed, dict)
    assert type(parsed["a"]) is type(value)


def test_keys_are_text() -> None:
    assert parse_yaml("on: 1\n404: 2\n'<<': {a: 1}\n") == {"on": 1, "404": 2, "<<": {"a": 1}}


def test_a_merge_is_refused_and_not_taken_for_an_input() -> None:
    with pytest.raises(BadText, match="has no merge key"):
        parse_yaml("a: &x {n: 1}\nb: {<<: *x, m: 2}\n")


@pytest.mark.parametrize(
    "text", ["a:\n\t- b\n", "a:\r\n\t- b\r\n", "é: 1\n\tb: 2\n", "a:\x85\tb: 1"]
)
def test_a_tab_that_indents_is_called_so(text: str) -> None:
    with pytest.raises(BadText, match="indent with spaces") as caught:
        parse_yaml(text)
    assert (caught.value.line, caught.value.column) == (2, 1)


def test_an_alias_stands_for_its_anchor() -> None:
    assert parse_yaml("a: &x {n: 1}\nb: *x\n") == {"a": {"n": 1}, "b": {"n": 1}}


REFUSED = [
    ("a: 1\na: 2\n", "DUPLICATE_KEY", ("a",), 2, 1),
    ("a: !!str 5\n", "TAG", ("a",), 1, 4),
    ("a: ! 5\n", "TAG", ("a",), 1, 4),
    ("a: !!python/object:os.system {}\n", "TAG", ("a",), 1, 4),
    ("a: [1, *x]\n", "BAD_ALIAS", ("a", 1), 1, 8),
    ("a: &x [*x]\n", "BAD_ALIAS", ("a", 0), 1, 8),
    ('a: "x\\0y"\n', "BAD_TEXT", ("a",), 1, 4),
    ('"\\0": 1\n', "BAD_TEXT", (), 1, 1),
    ("a: .inf\n", "BAD_NUMBER", ("a",), 1, 4),
    ("a: [.nan]\n", "BAD_NUMBER", ("a", 0), 1, 5),
    ("a: 1e999\n", "BAD_NUMBER", ("a",), 1, 4),
    ("a: " + "9" * 400 + "\n", "BAD_NUMBER", ("a",), 1, 4),
    ("? [a]\n: 1\n", "BAD_KEY", (), 1, 3),
    ("a: {<<: {b: 1}}\n", "BAD_KEY", ("a",), 1, 5),
    ("a: 1\n---\nb: 1\n", "SYNTAX", (), 2, 1),
    ("a: [1\n", "SYNTAX", (), 2, 1),
    ("a: \x00\n", "SYNTAX", (), 1, 4),
    ("a: \ud800\n", "SYNTAX", (), 1, 1),
    ("[" * 100, "TOO_DEEP", (0,) * 8, 1, 65),
    ("[" * 100_000, "TOO_DEEP", (0,) * 8, 1, 65),
    ("- " * 100, "TOO_DEEP", (0,) * 8, 1, 129),
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
        parse_yaml(text)
    error = caught.value
    assert (error.reason, error.path, error.line, error.column) == (reason, path, line, column)


def test_a_billion_laughs_are_refused() -> None:
    rows = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(BadText) as caught:
        parse_yaml("\n".join(rows))
    assert caught.value.reason == "TOO_LARGE"


def test_aliases_do_not_nest_past_the_depth() -> None:
    rows = ["a0: &a0 " + "[" * 40 + "]" * 40]
    rows += ["a1: " + "[" * 40 + "*a0" + "]" * 40]
    with pytest.raises(BadText) as caught:
        parse_yaml("\n".join(rows))
    assert caught.value.reason == "TOO_DEEP"
