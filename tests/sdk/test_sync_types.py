"""The blocking client's types are those of the async one: the stub file may not fall behind."""

import ast
from pathlib import Path

import bend.sync

FOLDER = Path(bend.sync.__file__).parent


def signatures(name: str, *classes: str) -> dict[str, tuple[str, str]]:
    """Return the public methods of some classes: arguments and answer."""
    found = {}
    for node in ast.parse((FOLDER / name).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name in classes:
            for method in node.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    answer = ast.unparse(method.returns) if method.returns else "None"
                    found[method.name] = (
                        ast.unparse(method.args),
                        answer.replace("AsyncIterator", "Iterator"),
                    )
    return {name: one for name, one in found.items() if name == "__init__" or name[0] != "_"}


def test_the_stub_says_what_the_async_client_says() -> None:
    wanted = (
        signatures("catalog.py", "Catalog")
        | signatures("control.py", "Control")
        | signatures("instance_pools.py", "Pools")
        | signatures("client.py", "Client")
    )
    assert signatures("sync.pyi", "Client") == wanted
