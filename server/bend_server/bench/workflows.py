"""The workflows that the benchmarks run, and what each must answer."""

from typing import NamedTuple

PAD = "x" * 64


class Job(NamedTuple):
    """A workflow and its one right answer for `{"value": n}`.

    `leaf` is the id of the only leaf; `steps` how many tasks one execution has.
    """

    name: str
    document: dict[str, object]
    leaf: str
    steps: int

    def expected(self, value: int) -> dict[str, object]:
        """Return the output that an execution started with `value` must have."""
        if self.leaf == "join":
            width = self.steps - 1
            return {"join": {"expected": width, "first": value + 1, "last": value + width}}
        return {self.leaf: {"value": value + self.steps, "note": "one step of a benchmark chain"}}


def chain(length: int) -> Job:
    """Return a chain of `length` steps, each adding one to the value of the one before."""
    tasks: list[dict[str, object]] = []
    for i in range(1, length + 1):
        source = "{{input.value}}" if i == 1 else f"{{{{s{i - 1}.value}}}}"
        tasks.append({"id": f"s{i}", "type": "bench.step", "value": source, "pad": PAD})
    name = f"bench_chain_{length}"
    return Job(name, {"name": name, "tasks": tasks}, f"s{length}", length)


def fan_out(width: int) -> Job:
    """Return `width` parallel steps and a join that reads the first and the last."""
    tasks: list[dict[str, object]] = [
        {"id": f"p{i}", "type": "bench.step", "value": f"{{{{input.value + {i}}}}}"}
        for i in range(width)
    ]
    tasks.append(
        {
            "id": "join",
            "type": "bench.join",
            "depends_on": [f"p{i}" for i in range(width)],
            "expected": width,
            "first": "{{p0.value}}",
            "last": f"{{{{p{width - 1}.value}}}}",
        }
    )
    name = f"bench_fan_{width}"
    return Job(name, {"name": name, "tasks": tasks}, "join", width + 1)
