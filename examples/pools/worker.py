"""A component that takes its time: instances of the pool `slow` run it."""

import asyncio

import bend


@bend.component("example.slow", version="1.0.0")
async def slow(number: int, seconds: float = 1.0) -> dict[str, int]:
    """Wait, then return the square of a number."""
    await asyncio.sleep(seconds)
    return {"square": number * number}


if __name__ == "__main__":
    bend.Worker([slow], credit=4).run()
