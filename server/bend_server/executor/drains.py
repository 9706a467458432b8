"""Which instances people have taken out of service, over reconnects of theirs."""

from bend.internal.v1 import control_pb2

DRAINED_MAX = 10_000

Instance = tuple[str, str]
"""(namespace, instance id)"""


class Drained:
    """The instances that get nothing new; the oldest are forgotten: their processes are gone."""

    def __init__(self) -> None:
        self._instances: dict[Instance, None] = {}

    def __contains__(self, instance: Instance) -> bool:
        """Tell whether an instance gets nothing new."""
        return instance in self._instances

    def hear(self, data: bytes) -> tuple[Instance, bool]:
        """Take in a notice; return the instance and whether it drains. Raises DecodeError."""
        notice = control_pb2.DrainNotice.FromString(data)
        instance = (notice.namespace, notice.instance_id)
        self._instances.pop(instance, None)
        if notice.drain:
            self._instances[instance] = None
            if len(self._instances) > DRAINED_MAX:
                del self._instances[next(iter(self._instances))]
        return instance, notice.drain
