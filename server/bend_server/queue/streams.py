"""The three streams and their consumers as JetStream configurations."""

from dataclasses import dataclass

from bend_server.ports.queue import CHUNKS, RESULTS, TASKS

MEBIBYTE = 1024 * 1024
SECOND_NS = 1_000_000_000
CONSUMERS_MAX = 100_000
ACK_PENDING_MAX = 100_000
PULLS_MAX = 4096
TAIL_INACTIVE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Sizes of the streams.

    `work_bytes_max`: TASKS and RESULTS each refuse more than that; `chunk_bytes_max`: CHUNKS drops
    its oldest beyond it, and after `chunk_age_s` seconds. `replicas` 3 needs a cluster.
    """

    work_bytes_max: int = 4096 * MEBIBYTE
    chunk_bytes_max: int = 1024 * MEBIBYTE
    chunk_age_s: int = 24 * 3600
    replicas: int = 1


def stream_configs(options: StreamOptions) -> list[dict[str, object]]:
    """Return the configurations of all streams, as STREAM.CREATE takes them."""
    work = {
        "retention": "workqueue",
        "max_bytes": options.work_bytes_max,
        "max_age": 0,
        "discard": "new",
    }
    stored = {
        "retention": "limits",
        "max_bytes": options.chunk_bytes_max,
        "max_age": options.chunk_age_s * SECOND_NS,
        "discard": "old",
    }
    kinds = ((TASKS, "tasks.*", work), (RESULTS, "results.*", work), (CHUNKS, "chunks.*", stored))
    return [
        {
            "name": name,
            "subjects": [subject],
            "storage": "file",
            "num_replicas": options.replicas,
            "max_consumers": CONSUMERS_MAX,
            "max_msgs": -1,
            "max_msg_size": -1,
            "allow_direct": True,
            **kind,
        }
        for name, subject, kind in kinds
    ]


def durable_config(
    durable: str, subject: str, ack_wait_s: float, inactive_s: float | None
) -> dict[str, object]:
    """Return a durable explicit-ack pull consumer's configuration."""
    config: dict[str, object] = {
        "durable_name": durable,
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * SECOND_NS),
        "deliver_policy": "all",
        "filter_subject": subject,
        "max_deliver": -1,
        "max_ack_pending": ACK_PENDING_MAX,
        "max_waiting": PULLS_MAX,
        "replay_policy": "instant",
    }
    if inactive_s is not None:
        config["inactive_threshold"] = int(inactive_s * SECOND_NS)
    return config


def tail_config(name: str, subject: str, from_sequence: int) -> dict[str, object]:
    """Return the configuration of a watcher's consumer; `from_sequence` 0: only what comes."""
    config: dict[str, object] = {
        "name": name,
        "ack_policy": "none",
        "filter_subject": subject,
        "max_waiting": PULLS_MAX,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": TAIL_INACTIVE_S * SECOND_NS,
        "replay_policy": "instant",
    }
    if from_sequence > 0:
        config["deliver_policy"] = "by_start_sequence"
        config["opt_start_seq"] = from_sequence
    else:
        config["deliver_policy"] = "new"
    return config
