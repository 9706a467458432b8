"""Start a hundred executions at once, and wait for them."""

from bend.sync import Client

with Client() as client:
    started = [client.start("pools_example", {"number": number}) for number in range(100)]
    squares = [client.wait(one.execution_id).result()["square"] for one in started]
print(f"{len(squares)} squares, {sum(squares)} in all")
