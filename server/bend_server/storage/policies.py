"""What was decided about versions of components: rows of two tables, put together by component."""

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import Connection, and_, delete, insert, select, true, update

from bend_server.ports.store import VersionPolicy
from bend_server.storage.tables import component_version, component_weight


def policies_of(
    weights: Iterable[tuple[str, str, str, int]], deprecated: Iterable[tuple[str, str, str]]
) -> list[VersionPolicy]:
    """Return policies by namespace and name.

    Args:
        weights: (namespace, name, version, weight).
        deprecated: (namespace, name, version).
    """
    shares: dict[tuple[str, str], list[tuple[str, int]]] = {}
    old: dict[tuple[str, str], list[str]] = {}
    for namespace, name, version, weight in weights:
        shares.setdefault((namespace, name), []).append((version, weight))
    for namespace, name, version in deprecated:
        old.setdefault((namespace, name), []).append(version)
    return [
        VersionPolicy(*key, tuple(sorted(shares.get(key, ()))), tuple(sorted(old.get(key, ()))))
        for key in sorted(shares.keys() | old.keys())
    ]


def unregistered(name: str, weights: Mapping[str, int], known: Collection[str]) -> list[str]:
    """Return what weights name that is not registered, as `name@version`, sorted."""
    if not known:
        return [name]
    return sorted(f"{name}@{version}" for version in weights if version not in known)


def write_deprecated(
    connection: Connection, namespace: str, name: str, version: str, deprecated: bool
) -> bool:
    """Mark a version; return whether it is known."""
    columns = component_version.c
    changed = connection.execute(
        update(component_version)
        .where(columns.namespace == namespace, columns.name == name, columns.version == version)
        .values(deprecated=int(deprecated))
    )
    return changed.rowcount == 1


def write_weights(
    connection: Connection, namespace: str, name: str, weights: Mapping[str, int], now_us: int
) -> list[str]:
    """Replace a component's weights; return what is not registered: then nothing is written."""
    columns = component_version.c
    known = connection.scalars(
        select(columns.version).where(columns.namespace == namespace, columns.name == name)
    ).all()
    missing = unregistered(name, weights, known)
    if missing:
        return missing
    columns = component_weight.c
    connection.execute(
        delete(component_weight).where(columns.namespace == namespace, columns.name == name)
    )
    if weights:
        rows = [
            {
                "namespace": namespace,
                "name": name,
                "version": version,
                "weight": weight,
                "updated_us": now_us,
            }
            for version, weight in weights.items()
        ]
        connection.execute(insert(component_weight), rows)
    return []


def read_policies(connection: Connection, namespace: str, name: str) -> list[VersionPolicy]:
    """Return the policies of one component, or of all when no name is given."""
    weight, version = component_weight.c, component_version.c
    weights = connection.execute(
        select(weight.namespace, weight.name, weight.version, weight.weight).where(
            and_(weight.namespace == namespace, weight.name == name) if name else true()
        )
    )
    deprecated = connection.execute(
        select(version.namespace, version.name, version.version).where(
            version.deprecated == 1,
            and_(version.namespace == namespace, version.name == name) if name else true(),
        )
    )
    return policies_of((tuple(row) for row in weights), (tuple(row) for row in deprecated))
