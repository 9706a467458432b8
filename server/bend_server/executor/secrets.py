"""Secrets from the environment, and keeping their values out of what components send back."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote, quote_plus

import orjson

PREFIX = "BEND_SECRET_"
MASK = b"***"
# A shorter value would turn every second word of an output into a mask.
SCRUBBED_CHARS_MIN = 4
# Base 64 of a shorter one is too short a text to be sure of.
ENCODED_CHARS_MIN = 8
# By the bytes before it, modulo three: how many letters of base 64 they have a part in.
BASE64_LEADS = (0, 2, 3)


class EnvironmentSecrets:
    """Secrets as variables `BEND_SECRET_<NAME>`, the same for all namespaces.

    Args:
        environment: for example os.environ; read at each call.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def get(self, namespace: str, name: str) -> str | None:
        """See ports.links.Secrets; the name's letter case does not matter."""
        found = self._environment.get(PREFIX + name)
        return found if found is not None else self._environment.get(PREFIX + name.upper())


class Traces(NamedTuple):
    """How secret values show in JSON and in text, longest first."""

    json: tuple[bytes, ...] = ()
    text: tuple[str, ...] = ()


NO_TRACES = Traces()


def traces(values: list[str]) -> Traces:
    """Return what to look for when the values of some secrets must not leave.

    That is a value itself and how it travels in URLs, forms and Basic authentication, which
    services echo. Who wants to smuggle one out has other ways, and the component had it anyway.
    """
    known = {value: None for value in values if len(value) >= SCRUBBED_CHARS_MIN}
    if not known:
        return NO_TRACES
    for value in list(known):
        known |= dict.fromkeys(encodings(value))
    found: dict[bytes, None] = {}
    for value in known:
        found[orjson.dumps(value)[1:-1]] = None
        found[json.dumps(value)[1:-1].encode()] = None
    return Traces(
        tuple(sorted(found, key=lambda trace: (-len(trace), trace))),
        tuple(sorted(known, key=lambda value: (-len(value), value))),
    )


def encodings(value: str) -> Iterator[str]:
    """Yield the forms of a value in URLs and forms, and its part of any base 64 around it."""
    if len(value) < ENCODED_CHARS_MIN:
        return
    data = value.encode("utf-8", "surrogatepass")
    yield from (quote(data), quote(data, safe=""), quote_plus(data))
    for before, lead in enumerate(BASE64_LEADS):
        # What follows has a part in the last letter, unless the value ends with its group.
        whole = (before + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + data).decode()[lead:whole]


def scrub(data: bytes, secrets: Traces) -> bytes:
    """Return JSON with every trace of a secret masked."""
    for trace in secrets.json:
        if trace in data:
            data = data.replace(trace, MASK)
    return data


def scrub_text(text: str, secrets: Traces) -> str:
    """Return text with every trace of a secret masked."""
    for trace in secrets.text:
        text = text.replace(trace, MASK.decode())
    return text
