"""If these fail, an engine looks for executions in partitions that do not hold them."""

from hypothesis import given
from hypothesis import strategies as st

from bend_server.core import ids

NOW_US = st.integers(ids.EPOCH_MS * 1000, (ids.EPOCH_MS + (1 << 41) - 1) * 1000)


@given(NOW_US, st.integers(0, ids.PARTITIONS - 1), st.integers(0, 1 << 40))
def test_an_id_carries_its_partition_and_time(now_us: int, partition: int, counter: int) -> None:
    execution = ids.make_id(now_us, partition, counter)
    assert 0 <= execution < 1 << 63
    assert ids.partition_of(execution) == partition
    assert ids.started_ms(execution) == now_us // 1000


@given(NOW_US, NOW_US, st.integers(0, 63), st.integers(0, 63))
def test_ids_sort_by_millisecond(a_us: int, b_us: int, a: int, b: int) -> None:
    if a_us // 1000 < b_us // 1000:
        assert ids.make_id(a_us, a, 0xFFFF) < ids.make_id(b_us, b, 0)


def test_a_public_id_gives_the_internal_id_back() -> None:
    execution = ids.make_id(1_790_000_000_000_000, 63, 7)
    assert ids.parse_public_id(ids.public_id("threat-response", execution)) == execution
    assert ids.parse_public_id("chosen-by-me") is None
    assert ids.parse_public_id("x-99999999999999999999999") is None
