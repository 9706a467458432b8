"""The operator's list of commands: absolute programs, and what their arguments may be.

A command has one or more shapes. A shape is a list of places: a text stands for itself, a map
`{pattern, least, most, dash}` for arguments that match a regular expression as a whole. Only the
last place may repeat. An argument that begins with `-` is refused where the place does not say
`dash: true`: it would be an option that nobody allowed.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bend import TerminalError
from bend.errors import ConfigurationError
from bend_executors.configuration import Section

ARGUMENTS_MAX = 64
ARGUMENT_BYTES_MAX = 4096
NO_MISFIT = -1
STREAMS = ("none", "logs", "partials")


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a shape: a literal, or a pattern for `least` to `most` arguments."""

    literal: str | None = None
    pattern: re.Pattern[str] | None = None
    least: int = 1
    most: int = 1
    dash: bool = False

    def fits(self, argument: str) -> bool:
        """Whether an argument may stand here."""
        if self.pattern is None:
            return argument == self.literal
        if argument.startswith("-") and not self.dash:
            return False
        return self.pattern.fullmatch(argument) is not None


Shape = tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A program that workflows may run by this name."""

    name: str
    program: str
    # The program behind its links.
    file: str
    shapes: tuple[Shape, ...]
    environment: Mapping[str, str]
    retryable: frozenset[int]
    stream: str

    def check(self, arguments: Sequence[str]) -> None:
        """Raise TerminalError ARGUMENTS_REFUSED for arguments that no shape allows."""
        if len(arguments) > ARGUMENTS_MAX:
            raise TerminalError("ARGUMENTS_REFUSED", f"at most {ARGUMENTS_MAX} arguments")
        for at, argument in enumerate(arguments):
            if "\0" in argument:
                raise TerminalError("ARGUMENTS_REFUSED", f"argument {at + 1} has a NUL")
            if len(argument.encode("utf-8", "replace")) > ARGUMENT_BYTES_MAX:
                raise TerminalError(
                    "ARGUMENTS_REFUSED", f"argument {at + 1} has over {ARGUMENT_BYTES_MAX} bytes"
                )
        misfits = [misfit(shape, arguments) for shape in self.shapes]
        if NO_MISFIT in misfits:
            return
        # The farthest that any shape came: there stands what a person must change.
        wrong = max(misfits, default=0) + 1
        raise TerminalError(
            "ARGUMENTS_REFUSED",
            f"{self.name}: argument {wrong} is not allowed, or missing",
            details={"argument": wrong},
        )


def misfit(shape: Shape, arguments: Sequence[str]) -> int:
    """Return the index of the first argument that does not fit a shape; NO_MISFIT when all do."""
    at = 0
    for place in shape:
        taken = 0
        while taken < place.most and at < len(arguments) and place.fits(arguments[at]):
            at += 1
            taken += 1
        if taken < place.least:
            return at
    return NO_MISFIT if at == len(arguments) else at


def read_commands(section: Section) -> dict[str, Command]:
    """Read the map `commands`. Raises ConfigurationError."""
    found: dict[str, Command] = {}
    for name, entry in section.sections("commands"):
        program = entry.take("program", str)
        if not os.path.isabs(program) or not os.access(os.path.realpath(program), os.X_OK):
            raise ConfigurationError(f"{entry.place}.program: an absolute program is wanted")
        shapes = entry.take("shapes", list, None)
        if shapes is None:
            shapes = [entry.take("arguments", list, [])]
        environment = entry.take("environment", dict, {})
        if not all(isinstance(v, str) and "\0" not in v for kv in environment.items() for v in kv):
            raise ConfigurationError(f"{entry.place}.environment: a map of texts is wanted")
        retryable = entry.take("retryable", list, [])
        if not all(type(code) is int and 0 < code < 256 for code in retryable):
            raise ConfigurationError(f"{entry.place}.retryable: codes of 1 to 255 are wanted")
        stream = entry.take("stream", str, "none")
        if stream not in STREAMS:
            raise ConfigurationError(f"{entry.place}.stream: one of {', '.join(STREAMS)}")
        entry.done()
        found[str(name)] = Command(
            name=str(name),
            program=program,
            file=os.path.realpath(program),
            shapes=tuple(read_shape(shape, entry.place) for shape in shapes),
            environment=environment,
            retryable=frozenset(retryable),
            stream=stream,
        )
    return found


def read_shape(values: object, place: str) -> Shape:
    """Read a shape. Raises ConfigurationError."""
    if not isinstance(values, list):
        raise ConfigurationError(f"{place}: a shape is a list of arguments")
    shape = tuple(read_place(value, place) for value in values)
    if any(one.least != one.most for one in shape[:-1]):
        raise ConfigurationError(f"{place}: only the last argument may be left out or repeated")
    return shape


def read_place(value: object, place: str) -> Place:
    """Read one place of a shape. Raises ConfigurationError."""
    if isinstance(value, str):
        return Place(literal=value)
    if not isinstance(value, dict) or set(value) - {"pattern", "least", "most", "dash"}:
        raise ConfigurationError(
            f"{place}: an argument is a text or {{pattern, least, most, dash}}"
        )
    try:
        pattern = re.compile(str(value["pattern"]))
    except (KeyError, re.error) as error:
        raise ConfigurationError(f"{place}: no pattern: {error}") from None
    most = value.get("most", 1)
    least = value.get("least", 1)
    dash = value.get("dash", False)
    sound = type(least) is int and type(most) is int and 0 <= least <= most <= ARGUMENTS_MAX
    if not sound or most == 0 or not isinstance(dash, bool):
        raise ConfigurationError(f"{place}: least, most (to {ARGUMENTS_MAX}) or dash is wrong")
    return Place(pattern=pattern, least=least, most=most, dash=dash)
