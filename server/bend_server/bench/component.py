"""The external worker of the benchmarks: a component service made with the SDK alone."""

from bend import Worker, component


@component("bench.step", version="1.0.0")
async def step(value: int, pad: str = "") -> dict[str, object]:
    """Return the next value; `pad` only makes the input as large as a usual one."""
    return {"value": value + 1, "note": "one step of a benchmark chain"}


@component("bench.join", version="1.0.0")
async def join(expected: int, first: int, last: int) -> dict[str, int]:
    """Return what a join of a fan-out saw of its first and last branch."""
    return {"expected": expected, "first": first, "last": last}


def main() -> None:
    """Serve until SIGTERM."""
    Worker([step, join], credit=1024).run()


if __name__ == "__main__":
    main()
