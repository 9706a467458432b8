"""What the executor needs around it: streams of component services, the registry, secrets."""

from typing import NamedTuple, Protocol

from bend.v1 import component_pb2, executor_service_pb2


class LinkPeer(NamedTuple):
    """Who is at the other end of a stream.

    `subject` is the path of the identity: `/component/<name>`.
    """

    spiffe_id: str
    subject: str
    namespace: str


class WorkerLink(Protocol):
    """One stream of a component service. One reader and one writer at a time."""

    @property
    def peer(self) -> LinkPeer:
        """Who is at the other end."""
        ...

    async def receive(self) -> executor_service_pb2.ConnectRequest | None:
        """Return the next message; None when the service closed or the stream broke."""
        ...

    async def send(self, message: executor_service_pb2.ConnectResponse) -> None:
        """Send one message; wait while the service does not read. Raises LinkBroken."""
        ...


class LinkBroken(Exception):
    """The stream is gone."""


class Registrar(Protocol):
    """The registry as executors use it."""

    async def register(self, namespace: str, contract: component_pb2.ComponentContract) -> None:
        """Store a contract; the same again changes nothing.

        Raises WrongState CONTRACT_MISMATCH, InvalidInput, DependencyDown.
        """
        ...


class Secrets(Protocol):
    """Where secret values come from."""

    async def get(self, namespace: str, name: str) -> str | None:
        """Return a secret's value; None when there is none. Raises DependencyDown."""
        ...
