"""Secrets from the environment, and keeping their values out of what components send back."""

import json
from collections.abc import Mapping
from typing import NamedTuple

import orjson

PREFIX = "BEND_SECRET_"
MASK = b"***"
# A shorter value would turn every second word of an output into a mask.
SCRUBBED_CHARS_MIN = 4


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
    """Return what to look for when the values of some secrets must not leave."""
    known = {value: None for value in values if len(value) >= SCRUBBED_CHARS_MIN}
    if not known:
        return NO_TRACES
    found: dict[bytes, None] = {}
    for value in known:
        found[orjson.dumps(value)[1:-1]] = None
        found[json.dumps(value)[1:-1].encode()] = None
    return Traces(
        tuple(sorted(found, key=lambda trace: (-len(trace), trace))),
        tuple(sorted(known, key=lambda value: (-len(value), value))),
    )


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
