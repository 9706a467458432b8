"""Whether what one schema gives stays within the bounds of another, keyword by keyword."""

from typing import Any, Protocol

LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")
OTHER = ("multipleOf", "pattern", "format", "uniqueItems")
KEYS = LOWER + UPPER + OTHER
_PARTNERS = {
    "minimum": "exclusiveMinimum",
    "exclusiveMinimum": "minimum",
    "maximum": "exclusiveMaximum",
    "exclusiveMaximum": "maximum",
}


class Bounded(Protocol):
    """What has bounds."""

    @property
    def bounds(self) -> dict[str, Any]:
        """Keyword → value."""
        ...

    @property
    def values(self) -> tuple[str, ...] | None:
        """The listed values; None without a list."""
        ...


def types_within(given: frozenset[str], taken: frozenset[str]) -> bool:
    """Tell whether every type that may come is taken."""
    return given <= taken


def within(key: str, given: Bounded, taken: Bounded) -> bool:
    """Tell whether a keyword of what is taken holds for all that is given.

    Args:
        key: one of KEYS, which differs between the two.
        given: the schema of what comes.
        taken: the schema that it has to fit.
    """
    wanted = taken.bounds.get(key)
    if wanted is None or (key == "uniqueItems" and not wanted):
        return True
    if given.values is not None and given.values == taken.values:
        # Listed values are the same on both sides: bounds beside them say nothing new.
        return True
    if key in LOWER:
        return _least(key, given, wanted)
    if key in UPPER:
        return _most(key, given, wanted)
    offered = given.bounds.get(key)
    if key == "multipleOf" and isinstance(offered, int) and isinstance(wanted, int):
        return offered % wanted == 0
    return bool(offered == wanted)


def _least(key: str, given: Bounded, wanted: Any) -> bool:
    offered = given.bounds.get(key)
    if offered is not None and offered >= wanted:
        return True
    partner = given.bounds.get(_PARTNERS.get(key, ""))
    if partner is None:
        # Nothing is shorter than empty.
        return key not in ("minimum", "exclusiveMinimum") and bool(wanted <= 0)
    return bool(partner >= wanted if key == "minimum" else partner > wanted)


def _most(key: str, given: Bounded, wanted: Any) -> bool:
    offered = given.bounds.get(key)
    if offered is not None and offered <= wanted:
        return True
    partner = given.bounds.get(_PARTNERS.get(key, ""))
    if partner is None:
        return False
    return bool(partner <= wanted if key == "maximum" else partner < wanted)
