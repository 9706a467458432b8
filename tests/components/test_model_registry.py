"""If these fail, a model runs that nobody approved, or half of one."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bend import RetryableError, TerminalError
from bend.errors import ConfigurationError
from bend_executors import configuration
from bend_executors.model import ModelComponent, Registry, Settings, Source, service
from bend_executors.model.registry import Fetcher
from tests.components import onnx_files as onnx

DATA = onnx.same(onnx.FLOAT, ["N", 2])
DIGEST = hashlib.sha256(DATA).hexdigest()


class Server:
    """Answers each request with the next of its answers, the last one for ever."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        await writer.drain()
        writer.close()


def answer(data: bytes, code: int = 200, size: int | None = None, more: str = "") -> bytes:
    length = len(data) if size is None else size
    return f"HTTP/1.1 {code} X\r\ncontent-length: {length}\r\n{more}\r\n".encode() + data


def settings(folder: Path, url: str, sha256: str = DIGEST, **registry: Any) -> Settings:
    source = Source(url=url, sha256=sha256)
    return Settings(folder=folder, sources={("m", "1.0.0"): source}, registry=Registry(**registry))


def served(server: Server, use: Callable[[str], Awaitable[Any]]) -> Any:
    """Run `use(url)` while the server listens on loopback."""

    async def run() -> Any:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        try:
            port = listening.sockets[0].getsockname()[1]
            return await use(f"http://127.0.0.1:{port}/m.onnx")
        finally:
            listening.close()

    return asyncio.run(run())


BODY = {"a": [1.0, 2.0]}


def test_a_model_is_fetched_once_checked_and_kept(tmp_path: Path) -> None:
    server = Server(answer(DATA))

    async def use(url: str) -> list[Any]:
        chosen = settings(tmp_path, url, headers={"x-token": "t"})
        first = ModelComponent(chosen)
        crowd = await asyncio.gather(*(first.infer("m", BODY) for _ in range(5)))
        again = ModelComponent(chosen)
        return [*crowd, await again.infer("m@1", BODY)]

    assert served(server, use) == [{"y": [1.0, 2.0]}] * 6
    assert len(server.heads) == 1
    assert "x-token: t" in server.heads[0]
    assert [p.name for p in (tmp_path / "m" / "1.0.0").iterdir()] == ["model.onnx"]


def test_a_wrong_digest_is_terminal_and_leaves_nothing(tmp_path: Path) -> None:
    async def use(url: str) -> Any:
        component = ModelComponent(settings(tmp_path, url, sha256="0" * 64))
        return await component.infer("m", BODY)

    with pytest.raises(TerminalError) as caught:
        served(Server(answer(DATA)), use)
    assert caught.value.reason == "MODEL_DIGEST_MISMATCH"
    assert DIGEST in caught.value.message
    assert list((tmp_path / "m" / "1.0.0").iterdir()) == []


def test_a_file_changed_on_the_disk_is_not_loaded(tmp_path: Path) -> None:
    """The file is removed, so that the next task fetches the right one."""
    other = onnx.same(onnx.INT64, ["N", 2])
    onnx.placed(tmp_path, "m", other, "1.0.0")

    async def use(url: str) -> Any:
        component = ModelComponent(settings(tmp_path, url))
        with pytest.raises(TerminalError) as caught:
            await component.infer("m", BODY)
        assert caught.value.reason == "MODEL_DIGEST_MISMATCH"
        assert not (tmp_path / "m" / "1.0.0" / "model.onnx").exists()
        return await component.infer("m", BODY)

    assert served(Server(answer(DATA)), use) == {"y": [1.0, 2.0]}


def test_an_operators_own_file_with_another_digest_stays(tmp_path: Path) -> None:
    home = onnx.placed(tmp_path, "m", DATA, config=f'{{"sha256": "{"1" * 64}"}}')
    with pytest.raises(TerminalError) as caught:
        asyncio.run(ModelComponent(Settings(folder=tmp_path)).infer("m", BODY))
    assert caught.value.reason == "MODEL_DIGEST_MISMATCH"
    assert (home / "model.onnx").exists()


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (answer(b"", 503), RetryableError, "MODEL_FETCH_FAILED"),
        (answer(b"", 429), RetryableError, "MODEL_FETCH_FAILED"),
        (answer(DATA, size=len(DATA) + 1), RetryableError, "MODEL_FETCH_FAILED"),
        (answer(b"", 404), TerminalError, "MODEL_FETCH_REFUSED"),
        (answer(b"x" * 2000), TerminalError, "MODEL_FETCH_REFUSED"),
        (b"HTTP/1.1 200 X\r\n\r\n" + b"x" * 2000, TerminalError, "MODEL_FETCH_REFUSED"),
        (answer(b"", 302, more="location: /m.onnx\r\n"), RetryableError, "MODEL_FETCH_FAILED"),
    ],
)
def test_what_a_source_may_do_wrong_has_a_reason(
    tmp_path: Path, reply: bytes, kind: type[Exception], reason: str
) -> None:
    async def use(url: str) -> Any:
        component = ModelComponent(settings(tmp_path, url, bytes_max=1000))
        return await component.infer("m", BODY)

    with pytest.raises(kind) as caught:
        served(Server(reply), use)
    assert getattr(caught.value, "reason", "") == reason
    assert list((tmp_path / "m" / "1.0.0").iterdir()) == []


def test_headers_never_follow_a_redirect(tmp_path: Path) -> None:
    server = Server(answer(b"", 302, more="location: /other\r\n"), answer(DATA))

    async def use(url: str) -> Any:
        chosen = settings(tmp_path, url, headers={"x-token": "t"})
        return await ModelComponent(chosen).infer("m", BODY)

    with pytest.raises(TerminalError, match="answers 302"):
        served(server, use)
    assert len(server.heads) == 1


def test_files_are_a_registry_too_and_old_remains_go(tmp_path: Path) -> None:
    import os

    (tmp_path / "m.onnx").write_bytes(DATA)
    home = tmp_path / "models" / "m" / "1.0.0"
    home.mkdir(parents=True)
    (home / ".old.part").write_bytes(b"half")
    os.utime(home / ".old.part", (0, 0))
    chosen = settings(tmp_path / "models", (tmp_path / "m.onnx").as_uri())
    assert asyncio.run(ModelComponent(chosen).infer("m", BODY)) == {"y": [1.0, 2.0]}
    assert [p.name for p in home.iterdir()] == ["model.onnx"]


def test_a_fetch_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    from bend_executors.model.folder import Found

    async def use(url: str) -> None:
        chosen = settings(tmp_path, url)
        found = Found("m", "1.0.0", tmp_path / "m" / "1.0.0")
        fetching = asyncio.ensure_future(
            Fetcher(chosen.registry).fetch(found, chosen.sources["m", "1.0.0"])
        )
        await answered.wait()
        assert [part.suffix for part in found.folder.iterdir()] == [".part"]
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching

    answered = asyncio.Event()

    # The announced bytes never come whole, and the connection stays open.
    class Silent(Server):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(DATA, size=10_000))
            await writer.drain()
            answered.set()
            await reader.read()
            writer.close()

    served(Silent(b""), use)
    assert list((tmp_path / "m" / "1.0.0").iterdir()) == []


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Serve the components that a text of components.yaml configures."""

    def made(text: str) -> Any:
        (tmp_path / "components.yaml").write_text(text, encoding="utf-8")
        environment = {"BEND_HOME": str(tmp_path), "BEND_SECRET_MODELS_TOKEN": "t"}
        section = configuration.load(environment).section("model")
        served = service(environment, section)
        section.done()
        return served.functions[0].__self__  # type: ignore[attr-defined]

    return made


def test_the_operators_file_is_read(written: Callable[[str], Any], tmp_path: Path) -> None:
    component = written(
        f"""
model:
  memory_bytes: 100000000
  threads: 2
  runs: 3
  batch_max: 16
  run_s_max: 5
  warm_up: false
  registry:
    url: https://models.internal/onnx/
    headers: {{authorization: {{secret: MODELS_TOKEN}}}}
  models:
    m: {{url: m-1.onnx, sha256: "{DIGEST}", version: 1.2.0}}
    m@1.3.0: {{url: "file:///srv/m.onnx", sha256: "{DIGEST}", config: {{labels: [a, b]}}}}
"""
    )
    found = component._settings
    assert (found.threads, found.runs, found.batch_max, found.warm_up) == (2, 3, 16, False)
    assert found.folder == tmp_path / "models"
    assert found.registry.headers == {"authorization": "t"}
    assert found.sources["m", "1.2.0"].url == "https://models.internal/onnx/m-1.onnx"
    assert found.sources["m", "1.3.0"].config == {"labels": ["a", "b"]}
    with pytest.raises(TerminalError, match=r"known: 1\.2\.0, 1\.3\.0"):
        asyncio.run(component.infer("m@2", {}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {batch: 1}", "unknown key 'batch'"),
        ("model: {threads: 0}", "threads: 1 to 64"),
        ("model: {run_s_max: -1}", "run_s_max: seconds above 0"),
        ("model: {models: {m: {url: 'https://x/m'}}}", "'sha256' is missing"),
        ("model: {models: {m: {url: 'https://x/m', sha256: abc}}}", "64 hexadecimal digits"),
        (f"model: {{models: {{m: {{url: 'ftp://x/m', sha256: '{DIGEST}'}}}}}}", "http, https or"),
        (f"model: {{models: {{m: {{url: m.onnx, sha256: '{DIGEST}'}}}}}}", "http, https or"),
        (f"model: {{models: {{../m: {{url: 'https://x/', sha256: '{DIGEST}'}}}}}}", "is no name"),
    ],
)
def test_a_wrong_file_names_the_key(written: Callable[[str], Any], text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        written(text)
