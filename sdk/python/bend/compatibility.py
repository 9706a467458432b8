"""What CheckCompatibility answers."""

from dataclasses import dataclass
from typing import Any

from bend.v1 import registry_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two contracts.

    `kind` is a name of ContractChange.Kind, for example INPUT_REQUIRED; `path` is a JSON path that
    begins with `$.input` or `$.output`.
    """

    kind: str
    path: str
    message: str
    breaking: bool

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of `bend components check`."""
        return {
            "kind": self.kind,
            "path": self.path,
            "message": self.message,
            "breaking": self.breaking,
        }


@dataclass(frozen=True, slots=True)
class Compatibility:
    """How a contract relates to an older one; `base_version` is empty when there is none."""

    compatible: bool
    base_version: str
    version: str
    changes: tuple[Change, ...]

    @classmethod
    def of(cls, answer: pb.CheckCompatibilityResponse) -> "Compatibility":
        """Read an answer."""
        return cls(
            compatible=answer.compatible,
            base_version=answer.base_version,
            version=answer.version,
            changes=tuple(
                Change(pb.ContractChange.Kind.Name(one.kind), one.path, one.message, one.breaking)
                for one in answer.changes
            ),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of `bend components check`."""
        return {
            "compatible": self.compatible,
            "base_version": self.base_version,
            "version": self.version,
            "changes": [change.as_json() for change in self.changes],
        }
