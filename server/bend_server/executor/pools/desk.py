"""What people ask of pools, at any executor: list, read, put, scale, delete."""

from bend.internal.v1 import pool_service_pb2
from bend.v1 import pool_pb2
from bend_server.core.errors import InvalidInput, NotFound, NotPermitted, WrongState
from bend_server.executor.pools.spec import PoolSpec, pool_spec, wrong
from bend_server.executor.pools.warden import Described, Warden


class Desk:
    """The use cases of pools.

    Args:
        warden: knows the pools and hears of those that others manage.
    """

    def __init__(self, warden: Warden) -> None:
        self._warden = warden

    def pools(self, namespace: str) -> list[pool_pb2.PoolStatus]:
        """Return all pools of a namespace by name."""
        return [
            self._status(one)
            for (space, _), one in self._warden.described.items()
            if space == namespace
        ]

    def stats(self, namespace: str, name: str) -> tuple[pool_pb2.PoolStatus, pool_pb2.PoolStats]:
        """Return one pool with its counters. Raises NotFound POOL_NOT_FOUND."""
        one = self._described(namespace, name)
        known = self._warden.reports.get(one.spec.key)
        return self._status(one), pool_pb2.PoolStats() if known is None else known[1].stats

    async def put(
        self, namespace: str, name: str, message: pool_pb2.Pool
    ) -> tuple[pool_pb2.Pool, bool]:
        """Store a description; return it and whether it changed.

        Raises:
            InvalidInput: it is wrong.
            WrongState: the operator's file has a pool of that name.
            NotPermitted: the operator does not allow this driver to pools by API.
            LimitExceeded, DependencyDown: from the registry.
        """
        if message.name not in {"", name}:
            raise wrong("name", f"{message.name!r} is not {name!r}")
        message.name = name
        spec = pool_spec(namespace, message)
        self._not_configured(spec)
        allowed = self._warden.file.content.api_drivers
        if spec.driver not in allowed:
            raise NotPermitted(
                f"pools by API may not use the driver {spec.driver!r}: "
                "the executor's file of pools does not list it in api_drivers",
                driver=spec.driver,
            )
        record, changed = await self._change(spec.key, put=message)
        if record is None:
            raise NotFound(f"no pool {name!r}", reason="POOL_NOT_FOUND", pool=name)
        return record.pool, changed

    async def scale(self, namespace: str, name: str, instances: int | None) -> pool_pb2.PoolStatus:
        """Hold a pool at a number of instances; None: it follows the demand again.

        Raises:
            NotFound: POOL_NOT_FOUND.
            InvalidInput: over the pool's most.
            DependencyDown: from the registry.
        """
        one = self._described(namespace, name)
        if instances is not None and not 0 <= instances <= one.spec.most:
            raise InvalidInput(
                f"pool {name!r} has at most {one.spec.most} instances, not {instances}",
                field="instances",
            )
        if instances is None:
            await self._change(one.spec.key, configured=one.configured, follow=True)
        else:
            await self._change(one.spec.key, configured=one.configured, hold=instances)
        return self._status(self._described(namespace, name))

    async def delete(self, namespace: str, name: str) -> None:
        """Delete a pool; its instances finish.

        Raises:
            NotFound: POOL_NOT_FOUND.
            WrongState: the operator's file describes it.
            DependencyDown: from the registry.
        """
        one = self._described(namespace, name)
        self._not_configured(one.spec)
        await self._change(one.spec.key, remove=True)

    def _described(self, namespace: str, name: str) -> Described:
        found = self._warden.described.get((namespace, name))
        if found is None:
            raise NotFound(f"no pool {name[:80]!r}", reason="POOL_NOT_FOUND", pool=name[:80])
        return found

    def _not_configured(self, spec: PoolSpec) -> None:
        known = self._warden.described.get(spec.key)
        if known is not None and known.configured:
            raise WrongState(
                f"pool {spec.name!r} is described in the executor's file of pools",
                pool=spec.name,
            )

    async def _change(
        self,
        key: tuple[str, str],
        *,
        put: pool_pb2.Pool | None = None,
        hold: int | None = None,
        follow: bool | None = None,
        remove: bool | None = None,
        configured: bool = False,
    ) -> tuple[pool_service_pb2.PoolRecord | None, bool]:
        answer = await self._warden.registry.change_pool(
            pool_service_pb2.ChangePoolRequest(
                namespace=key[0],
                name=key[1],
                put=put,
                hold=hold,
                follow=follow,
                remove=remove,
                configured=configured,
            )
        )
        record = answer.record if answer.HasField("record") else None
        self._warden.remember(record, key)
        await self._warden.nudge()
        return record, answer.changed

    def _status(self, one: Described) -> pool_pb2.PoolStatus:
        """Return what was reported last, under the description that holds now."""
        known = self._warden.reports.get(one.spec.key)
        status = pool_pb2.PoolStatus()
        if known is None:
            status.state = pool_pb2.PoolStatus.UNMANAGED
            status.reason = self._unmanaged(one)
        else:
            status.CopyFrom(known[1].status)
        status.pool.CopyFrom(one.spec.message)
        status.source = (
            pool_pb2.PoolStatus.CONFIGURATION if one.configured else pool_pb2.PoolStatus.API
        )
        status.ClearField("held_instances")
        if one.held is not None:
            status.held_instances = one.held
        return status

    def _unmanaged(self, one: Described) -> str:
        if not one.configured and one.spec.driver not in self._warden.file.content.api_drivers:
            return f"the operator no longer allows the driver {one.spec.driver!r} to pools by API"
        return "no executor has taken it yet"
