"""What an error of librdkafka or of a broker means for the task."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError

from bend import RetryableError, TerminalError
from bend.errors import ComponentError

TERMINAL: Mapping[int, str] = {
    KafkaError.MSG_SIZE_TOO_LARGE: "KAFKA_MESSAGE_TOO_LARGE",
    KafkaError.RECORD_LIST_TOO_LARGE: "KAFKA_MESSAGE_TOO_LARGE",
    KafkaError.INVALID_MSG_SIZE: "KAFKA_MESSAGE_TOO_LARGE",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "KAFKA_UNKNOWN_TOPIC",
    KafkaError._UNKNOWN_TOPIC: "KAFKA_UNKNOWN_TOPIC",  # noqa: SLF001 - its local errors' names
    KafkaError._UNKNOWN_PARTITION: "KAFKA_UNKNOWN_TOPIC",  # noqa: SLF001
    KafkaError.TOPIC_EXCEPTION: "KAFKA_UNKNOWN_TOPIC",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "KAFKA_NOT_AUTHORIZED",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "KAFKA_NOT_AUTHORIZED",
    KafkaError.INVALID_RECORD: "KAFKA_REFUSED",
    KafkaError.INVALID_TIMESTAMP: "KAFKA_REFUSED",
    KafkaError.POLICY_VIOLATION: "KAFKA_REFUSED",
    KafkaError._INVALID_ARG: "KAFKA_CONFIGURATION",  # noqa: SLF001
}

RETRYABLE: Mapping[int, str] = {
    KafkaError._MSG_TIMED_OUT: "KAFKA_TIMEOUT",  # noqa: SLF001
    KafkaError._TIMED_OUT: "KAFKA_TIMEOUT",  # noqa: SLF001
    KafkaError.REQUEST_TIMED_OUT: "KAFKA_TIMEOUT",
    KafkaError._QUEUE_FULL: "KAFKA_QUEUE_FULL",  # noqa: SLF001
    KafkaError._TRANSPORT: "KAFKA_CONNECTION",  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN: "KAFKA_CONNECTION",  # noqa: SLF001
    KafkaError.NOT_ENOUGH_REPLICAS: "KAFKA_NOT_ENOUGH_REPLICAS",
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "KAFKA_NOT_ENOUGH_REPLICAS",
    KafkaError._FATAL: "KAFKA_PRODUCER_FATAL",  # noqa: SLF001
    KafkaError._PURGE_QUEUE: "KAFKA_PRODUCER_FATAL",  # noqa: SLF001
    KafkaError._PURGE_INFLIGHT: "KAFKA_PRODUCER_FATAL",  # noqa: SLF001
}


def failure(error: KafkaError, text: str, details: Any = None) -> ComponentError:
    """Return the task's failure; what no table names is as retryable as librdkafka says."""
    code = error.code()
    text = f"{text}: {error.name()}"
    if code in TERMINAL:
        return TerminalError(TERMINAL[code], text, details=details)
    if code in RETRYABLE:
        return RetryableError(RETRYABLE[code], text, details=details)
    if error.retriable() or error.fatal():
        return RetryableError("KAFKA_FAILED", text, details=details)
    return TerminalError("KAFKA_FAILED", text, details=details)
