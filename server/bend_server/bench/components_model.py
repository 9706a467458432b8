"""The job `model`: the model component beside ONNX Runtime called directly, and through the engine.

The models are perceptrons of three layers with weights from a fixed seed; their files are written
here, so that the figures need no package and no download.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from bend_server.bench.jobs import Sizes
from bend_server.bench.load import Load, channel
from bend_server.bench.mesh import Mesh
from bend_server.bench.rows import Report
from bend_server.bench.workflows import Job

INPUTS, OUTPUTS = 256, 16
# Width of the layers in the middle, by the name of the rows. A sample of `model` takes a quarter of
# a millisecond, between the real models of our tests (0.06 and 7 ms); one of `model_light` next to
# nothing, and so its rows show what the component itself can do.
MODELS = {"model": 4096, "model_light": 1024}
BATCH = 32
ROUNDS = 5
SEED = 20_261_125
TOLERANCE = 1e-4
FLOAT = 1
LENGTH_DELIMITED = 2


class Doubled(Job):
    """A workflow of one task of type `model`, which answers twice its input."""

    def expected(self, value: int) -> dict[str, object]:
        """Return what the model must have answered."""
        return {self.leaf: {"y": 2.0 * value}}


async def measure(mesh: Mesh, report: Report, sizes: Sizes) -> None:
    """Measure the component in this process, then a task of it through the mesh."""
    with tempfile.TemporaryDirectory() as folder:
        await alone(Path(folder), report, sizes)
    await through(mesh, report, sizes)


async def alone(folder: Path, report: Report, sizes: Sizes) -> None:
    """Compare the component with direct calls, same batch size, same threads, turn by turn."""
    import numpy as np
    import onnxruntime

    from bend_executors.model import ModelComponent, Settings

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    component = ModelComponent(Settings(folder=folder, threads=1, batch_max=BATCH))
    count = BATCH * max(20, sizes.chains // BATCH)
    rows = np.random.default_rng(SEED).random((count, INPUTS), dtype=np.float32)
    bodies: list[dict[str, Any]] = [{"x": row} for row in rows.tolist()]
    for name, width in MODELS.items():
        file = placed(folder, name, perceptron(width))
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        await component.infer(name, bodies[0])
        await compared(component, session, name, rows, bodies, report)
    await overhead(component, session, rows[:1], bodies[0], report, sizes)


async def compared(
    component: Any,
    session: Any,
    name: str,
    rows: Any,
    bodies: list[dict[str, Any]],
    report: Report,
) -> None:
    """Report samples a second of both, and their ratio; every output is compared."""
    import numpy as np

    count = len(rows)

    def direct() -> Any:
        return np.concatenate(
            [session.run(None, {"x": rows[at : at + BATCH]})[0] for at in range(0, count, BATCH)]
        )

    right = direct()
    fast: list[float] = []
    batched: list[float] = []
    wrong = 0
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        direct()
        fast.append(count / (time.perf_counter() - begin))
        begin = time.perf_counter()
        answers = await crowd(component, name, bodies)
        batched.append(count / (time.perf_counter() - begin))
        wrong += int((np.abs(np.asarray(answers) - right).max(axis=1) > TOLERANCE).sum())
    seen = next(m for m in component.stats()["models"] if m["model"].startswith(f"{name}@"))
    params = {
        "layers": f"{INPUTS}x{MODELS[name]}x{MODELS[name]}x{OUTPUTS}",
        "batch": BATCH,
        "tasks": count,
        "threads": 1,
        "mean_batch": round(seen["items"] / seen["runs"], 1),
        "largest_batch": max(int(size) for size in seen["batches"]),
        "direct_us_per_item": round(1e6 / statistics.median(fast), 1),
    }
    ratios = [one / other for one, other in zip(batched, fast, strict=True)]
    rates = {"direct_per_s": fast, "batched_per_s": batched, "batched_ratio": ratios}
    for what, samples in rates.items():
        report.row(
            f"{name}_{what}",
            statistics.median(samples),
            "" if what == "batched_ratio" else "items/s",
            job="model",
            params=params,
            samples=samples,
            wrong=wrong if what == "batched_ratio" else 0,
        )


async def crowd(component: Any, name: str, bodies: Sequence[dict[str, Any]]) -> list[Any]:
    """Run all tasks, three batches' worth at the same time; return the outputs in order."""
    answers: list[Any] = [None] * len(bodies)
    todo = iter(range(len(bodies)))

    async def one_after_another() -> None:
        for at in todo:
            answers[at] = (await component.infer(name, bodies[at]))["y"]

    async with asyncio.TaskGroup() as group:
        for _ in range(3 * BATCH):
            group.create_task(one_after_another())
    return answers


async def overhead(
    component: Any, session: Any, one: Any, body: dict[str, Any], report: Report, sizes: Sizes
) -> None:
    """Report what the component adds to a lone call, turn by turn with a direct one."""
    direct: list[float] = []
    mine: list[float] = []
    for _ in range(10 * sizes.singles):
        begin = time.perf_counter()
        session.run(None, {"x": one})
        middle = time.perf_counter()
        await component.infer("model_light", body)
        mine.append((time.perf_counter() - middle) * 1000)
        direct.append((middle - begin) * 1000)
    extra = [one - other for one, other in zip(mine, direct, strict=True)]
    report.row(
        "model_overhead_p50",
        statistics.median(extra),
        "ms",
        job="model",
        params={"direct_p50_ms": round(statistics.median(direct), 3), "calls": len(extra)},
        samples=extra,
    )


async def through(mesh: Mesh, report: Report, sizes: Sizes) -> None:
    """Run executions of one model task through the engine: one by one, then many in flight."""
    placed(mesh.home / "models", "double", model([node("Add", "xx", "y")], [], ["N"], ["N"]))
    task = {"id": "m", "type": "model", "script": "double", "body": {"x": "{{input.value}}"}}
    work = Doubled("bench_model", {"name": "bench_model", "tasks": [task]}, "m", 1)
    async with channel(mesh.address(mesh.engine), mesh.home / "certs", "bench") as opened:
        load = Load(opened)
        await load.deploy(work)
        for value in range(5):
            await load.run(work, value)
        results = [await load.run(work, value) for value in range(sizes.singles)]
        samples = [took for took, _ in results]
        wrong = sum(not good for _, good in results)
        middle = statistics.median(samples)
        report.row("model_engine_p50", middle, "ms", job="model", samples=samples, wrong=wrong)
        seconds, wrong = await load.chains(work, sizes.chains, sizes.in_flight)
    params = {"executions": sizes.chains, "in_flight": sizes.in_flight}
    report.row(
        "model_engine_per_s",
        sizes.chains / seconds,
        "tasks/s",
        job="model",
        params=params,
        wrong=wrong,
    )


def placed(folder: Path, name: str, data: bytes) -> Path:
    """Put a model into a model folder; return its file."""
    file = folder / name / "1.0.0" / "model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def perceptron(width: int) -> bytes:
    """Return a model that is measured: x → y, each layer a product and a ReLU."""
    import numpy as np

    chance = np.random.default_rng(SEED)
    nodes: list[bytes] = []
    weights: list[bytes] = []
    layers = (INPUTS, width, width, OUTPUTS)
    name = "x"
    for at, (rows, columns) in enumerate(pairwise(layers)):
        values = chance.standard_normal((rows, columns), dtype=np.float32) / np.float32(rows**0.5)
        sizes = b"".join(field(1, size) for size in values.shape)
        data = values.astype("<f4").tobytes()
        weights.append(sizes + field(2, FLOAT) + field(8, f"w{at}") + field(9, data))
        last = at == len(layers) - 2
        nodes.append(node("MatMul", (name, f"w{at}"), "y" if last else f"p{at}"))
        if not last:
            nodes.append(node("Relu", (f"p{at}",), f"r{at}"))
        name = f"r{at}"
    return model(nodes, weights, ["N", INPUTS], ["N", OUTPUTS])


def model(
    nodes: Sequence[bytes],
    weights: Sequence[bytes],
    given: Sequence[int | str],
    answered: Sequence[int | str],
) -> bytes:
    """Return an ONNX file of operations from x to y. Source: onnx.proto3 of the ONNX project."""
    graph = b"".join(field(1, entry) for entry in nodes) + field(2, "bench")
    graph += b"".join(field(5, entry) for entry in weights)
    graph += field(11, port("x", given)) + field(12, port("y", answered))
    return field(1, 8) + field(8, field(1, "") + field(2, 13)) + field(7, graph)


def port(name: str, shape: Sequence[int | str]) -> bytes:
    """Return an input's or output's description; text in the shape names a free size."""
    sizes = b"".join(
        field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape
    )
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, sizes)))


def node(operation: str, inputs: Sequence[str], output: str) -> bytes:
    """Return one operation."""
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operation)


def field(number: int, value: int | bytes | str) -> bytes:
    """Return a protobuf field: a number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Return a number >= 0 in groups of seven bits."""
    out = b""
    while value > 127:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))
