"""If these fail, docs/api.md promises what the API does not do, or keeps silent about a part."""

import re
from pathlib import Path

from bend.v1 import error_reason_pb2
from tests.rpc.test_openapi import DOCUMENT

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def test_every_rest_path_is_documented_and_no_other() -> None:
    said = {
        (verb.lower(), path) for verb, path in re.findall(r"`(GET|PUT|POST|DELETE) ([^`]+)`", TEXT)
    }
    served = {(verb, path) for path, entry in DOCUMENT["paths"].items() for verb in entry}
    # The gateway answers for itself.
    assert said - {("get", "/healthz")} == served


def test_every_reason_is_documented() -> None:
    names = list(error_reason_pb2.ErrorReason.keys())
    reasons = {name.removeprefix("ERROR_REASON_") for name in names} - {"UNSPECIFIED"}
    table = TEXT[TEXT.index("| reason | code |") :]
    said = {
        name
        for line in table.splitlines()[2:]
        for name in re.findall(r"`([A-Z_]+)`", line.split("|")[1])
    }
    assert said == reasons
