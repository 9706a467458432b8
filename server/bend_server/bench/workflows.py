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
        if self.leaf == "each":
            step = {"note": "one step of a benchmark chain"}
            return {"each": [{"value": value + i + 1, **step} for i in range(self.steps)]}
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


def items(count: int) -> Job:
    """Return one task that runs for each of `count` items, at most 1,000 at once."""
    numbers = list(range(count))
    task = {
        "id": "each",
        "type": "bench.step",
        "for_each": numbers,
        "max_parallel": min(count, 1000),
        "value": "{{input.value + item}}",
    }
    name = f"bench_items_{count}"
    return Job(name, {"name": name, "tasks": [task]}, "each", count)


def layers(width: int, depth: int) -> Job:
    """Return `depth` layers of `width` tasks, each depending on the whole layer before it."""
    tasks: list[dict[str, object]] = []
    for layer in range(depth):
        before = [f"l{layer - 1}_{i}" for i in range(width)] if layer else []
        tasks += [
            {"id": f"l{layer}_{i}", "type": "bench.step", "value": 1, "depends_on": before}
            for i in range(width)
        ]
    name = f"bench_layers_{width}_{depth}"
    return Job(name, {"name": name, "tasks": tasks}, "", len(tasks))


def conditional(count: int) -> Job:
    """Return `count` tasks, each with a condition of its own."""
    tasks: list[dict[str, object]] = [
        {"id": f"c{i}", "type": "bench.step", "value": 1, "condition": f"input.value > {i}"}
        for i in range(count)
    ]
    name = f"bench_conditional_{count}"
    return Job(name, {"name": name, "tasks": tasks}, "", count)
