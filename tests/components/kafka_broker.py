"""librdkafka's mock cluster: brokers on loopback that speak the protocol, with faults to order.

The Python package has no names for it, but the library that it carries does.
"""

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

PRODUCER = 0
ERROR_CHARS = 512

# Numbers of the protocol's requests.
PRODUCE = 0
INIT_PRODUCER_ID = 22

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (ctypes.c_void_p, []),
    "rd_kafka_conf_set": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t],
    ),
    "rd_kafka_new": (
        ctypes.c_void_p,
        [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t],
    ),
    "rd_kafka_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_new": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [ctypes.c_void_p]),
    "rd_kafka_mock_topic_create": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int],
    ),
    "rd_kafka_mock_topic_set_error": (
        None,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int],
    ),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
    ),
    "rd_kafka_mock_broker_set_host_port": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_int],
    ),
    "rd_kafka_mock_broker_set_down": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
}


def _library() -> ctypes.CDLL:
    package = Path(confluent_kafka.__file__).parent
    carried = sorted(package.parent.glob("confluent_kafka.libs/librdkafka*.so*"))
    carried += sorted(package.glob(".dylibs/librdkafka*.dylib"))
    library = ctypes.CDLL(str(carried[0]) if carried else "librdkafka.so.1")
    for name, (answer, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = answer
        function.argtypes = arguments
    return library


class Brokers:
    """A cluster of mock brokers; `close` ends it."""

    def __init__(self, count: int = 3) -> None:
        self._count = count
        self._library = _library()
        text = ctypes.create_string_buffer(ERROR_CHARS)
        settings = self._library.rd_kafka_conf_new()
        # Its own handle has nobody to connect to, and would say so again and again.
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", text, ERROR_CHARS)
        self._handle = self._library.rd_kafka_new(PRODUCER, settings, text, ERROR_CHARS)
        if not self._handle:
            raise RuntimeError(text.value.decode())
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, count)
        bootstrap: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.bootstrap = bootstrap.decode()

    def create(self, topic: str, partitions: int = 1) -> None:
        """Make a topic with a number of partitions; others are made when they are asked for."""
        made = self._library.rd_kafka_mock_topic_create(
            self._cluster, topic.encode(), partitions, min(3, self._count)
        )
        assert made == 0

    def fail_topic(self, topic: str, code: int) -> None:
        """Answer requests about a topic with an error from now on."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), code)

    def fail_next(self, request: int, *codes: int) -> None:
        """Answer the next requests of a kind with errors, one each."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, len(codes), array
        )

    def move(self, host: str, port: int) -> None:
        """Let the first broker tell clients another address, such as a gate before it."""
        self._library.rd_kafka_mock_broker_set_host_port(self._cluster, 1, host.encode(), port)

    def down(self) -> None:
        """Let no broker listen."""
        for number in range(1, self._count + 1):
            self._library.rd_kafka_mock_broker_set_down(self._cluster, number)

    def up(self) -> None:
        """Let all brokers listen again."""
        for number in range(1, self._count + 1):
            self._library.rd_kafka_mock_broker_set_up(self._cluster, number)

    def close(self) -> None:
        """End the cluster."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)
