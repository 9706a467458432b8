"""Unix microseconds as protobuf timestamps."""

from google.protobuf.timestamp_pb2 import Timestamp


def stamp(target: Timestamp, time_us: int | None) -> None:
    """Set a Timestamp field from microseconds; 0 and None leave it unset."""
    if time_us:
        target.seconds, micros = divmod(time_us, 1_000_000)
        target.nanos = micros * 1000
