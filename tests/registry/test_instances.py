"""If these fail, tasks go to instances that are gone, or live ones are not seen."""

from bend.internal.v1 import control_pb2
from bend_server.registry.instances import EXPIRY_US, Instances


def announcement(
    executor: str = "e1",
    *,
    incarnation: int = 1,
    sequence: int = 1,
    names: tuple[str, ...] = ("i1",),
    namespace: str = "default",
    leaving: bool = False,
) -> control_pb2.InstanceAnnouncement:
    message = control_pb2.InstanceAnnouncement(
        executor=executor, incarnation=incarnation, sequence=sequence, leaving=leaving
    )
    group = message.groups.add(
        group="0" * 16, namespace=namespace, component="a.b", version="1.0.0", credit=4
    )
    group.labels["zone"] = "x"
    for name in names:
        group.instances.add(instance_id=name, credit=4, in_flight=1, connected_us=5)
    return message


def seen(live: Instances, now_us: int = 0) -> list[str]:
    return [entry.instance_id for entry in live.of("default", "a.b", now_us)]


def test_an_announcement_replaces_the_one_before() -> None:
    live = Instances()
    live.apply(announcement(names=("i1", "i2")), 0)
    assert seen(live) == ["i1", "i2"]
    live.apply(announcement(sequence=2, names=("i2", "i3")), 0)
    assert seen(live) == ["i2", "i3"]
    found = live.of("default", "a.b", 0)[0]
    assert (found.labels, found.executor, found.credit) == ({"zone": "x"}, "e1", 4)


def test_an_overtaken_announcement_is_dropped() -> None:
    live = Instances()
    live.apply(announcement(sequence=5, names=("new",)), 0)
    live.apply(announcement(sequence=4, names=("old",)), 0)
    live.apply(announcement(sequence=5, names=("old",)), 0)
    assert seen(live) == ["new"]
    live.apply(announcement(incarnation=2, sequence=1, names=("restarted",)), 0)
    assert seen(live) == ["restarted"]


def test_silence_and_leaving_end_an_executors_instances() -> None:
    live = Instances()
    live.apply(announcement("e1", names=("i1",)), 0)
    live.apply(announcement("e2", names=("i2",)), EXPIRY_US // 2)
    assert seen(live, EXPIRY_US) == ["i1", "i2"]
    assert seen(live, EXPIRY_US + 1) == ["i2"]
    live.apply(announcement("e2", sequence=2, leaving=True), EXPIRY_US + 1)
    assert seen(live, EXPIRY_US + 1) == []


def test_namespaces_do_not_see_each_other() -> None:
    live = Instances()
    live.apply(announcement("e1", names=("i1",)), 0)
    live.apply(announcement("e2", names=("i2",), namespace="other"), 0)
    assert seen(live) == ["i1"]
    assert live.counts("default", 0) == {"a.b": 1}
    assert live.counts("other", 0) == {"a.b": 1}
