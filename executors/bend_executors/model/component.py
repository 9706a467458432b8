"""The component: finds, fetches, loads and keeps models.

ONNX Runtime, numpy and CEL are loaded with the first task: they cost 60 MB and a second, and an
idle mesh does not pay for them.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from bend import TerminalError, component
from bend_executors.model import folder
from bend_executors.model.folder import Found, Signature
from bend_executors.model.settings import Settings, Source
from bend_executors.model.shelf import Shelf

if TYPE_CHECKING:
    from bend_executors.model.batches import LoadedModel
    from bend_executors.model.outputs import Parts
    from bend_executors.model.registry import Fetcher
    from bend_executors.model.steps import Steps

Encoding = Literal["json", "base64"]

# How long a look into the model folder is good for: what changes there is seen that much later.
LOOK_S = 1.0
LOOKS_MAX = 1024


class ModelComponent:
    """Serves the models of a folder and of a registry, within the bounds of its settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shelf = Shelf(settings.memory_bytes, self._estimated, self._load)
        # Sessions run here, and nothing else, so that a slow load never holds up a run.
        self._runs = ThreadPoolExecutor(settings.runs, thread_name_prefix="model-run")
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="model-answer")
        self._loads = ThreadPoolExecutor(1, thread_name_prefix="model-load")
        self._cel = ThreadPoolExecutor(1, thread_name_prefix="model-cel")
        self._steps: Steps | None = None
        self._looks: dict[str, tuple[float, Found, Signature]] = {}

    @component("model", version="1.1.0")
    async def infer(
        self,
        script: str,
        body: dict[str, Any],
        pre: dict[str, str] | None = None,
        post: dict[str, str] | None = None,
        encoding: Encoding = "json",
    ) -> dict[str, Any]:
        """Run an ONNX model on one sample or a list of samples.

        `script` is the model's name, or `name@version`; without a version the newest runs.
        `body` maps the model's input names to values (a model with one input also takes
        `features`). A value without the batch dimension is one sample; tasks that wait at the same
        time run as one batch. A value may be `{"base64": bytes, "shape": sizes}`. The output maps
        output names to values; one number stays a number; with `encoding: base64` tensors come as
        `{"base64", "dtype", "shape"}`. `pre` (input name → CEL over `body`) and `post` (name → CEL
        over `output`, `body`, `labels`) stand in for the model's own steps.
        """
        found, signature = self._found(script)
        async with self._shelf.borrowed(found, signature) as model:
            before = model.options.pre if pre is None else pre
            after = model.options.post if post is None else post
            given = await self._evaluated("pre", before, [{"body": body}]) if before else [body]
            made, parts = await model.infer(given[0])
            if after:
                return await self._finished(model, after, body, made.single, made.rows, parts)
            from bend_executors.model.outputs import shown

            return shown(parts, single=made.single, encoding=encoding)

    async def _finished(
        self,
        model: "LoadedModel",
        after: Mapping[str, str],
        body: dict[str, Any],
        single: bool,
        rows: int,
        parts: "Parts",
    ) -> dict[str, Any]:
        """Evaluate the steps after the model, for each sample when the task gave a list."""
        from bend_executors.model.outputs import shown

        samples = (
            [parts]
            if single or all(part.axis is None for part in parts.values())
            else [{name: part.row(at) for name, part in parts.items()} for at in range(rows)]
        )
        # A row is one sample, so one number is that number, as it is for a task of one sample.
        alone = single or len(samples) != 1 or samples[0] is not parts
        variables = [
            {
                "output": shown(entry, single=alone, encoding="json"),
                "body": body,
                "labels": list(model.options.labels),
            }
            for entry in samples
        ]
        found = await self._evaluated("post", after, variables)
        if samples[0] is parts:
            return found[0]
        return {name: [entry[name] for entry in found] for name in after}

    async def _evaluated(
        self, step: str, expressions: Mapping[str, str], samples: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Evaluate in the thread for CEL, which does one task's expressions at a time."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._cel, self._evaluate, step, expressions, samples)

    def _evaluate(
        self, step: str, expressions: Mapping[str, str], samples: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        from bend_executors.model.steps import Steps

        self._steps = self._steps or Steps()
        return self._steps.evaluate(step, expressions, samples)

    def _found(self, script: str) -> tuple[Found, Signature]:
        """Look into the folder, or remember a look that is not older than LOOK_S."""
        now = time.monotonic()
        look = self._looks.get(script)
        if look is None or now - look[0] >= LOOK_S:
            found = folder.find(self._settings.folder, script, self._settings.sources)
            if len(self._looks) >= LOOKS_MAX:
                self._looks.clear()
            look = self._looks[script] = (now, found, found.signature())
        return look[1], look[2]

    def _source(self, found: Found) -> Source | None:
        return self._settings.sources.get((found.name, found.version))

    async def _estimated(self, found: Found) -> int:
        """Return the bytes a model needs, after it was fetched if it has to be."""
        loop = asyncio.get_running_loop()
        source = self._source(found)
        if source is not None and not found.file.is_file():
            await self._fetcher().fetch(found, source)
        return await loop.run_in_executor(self._loads, self._estimate, found)

    def _fetcher(self) -> "Fetcher":
        from bend_executors.model.registry import Fetcher

        return Fetcher(self._settings.registry)

    def _estimate(self, found: Found) -> int:
        from bend_executors.model.session import estimated

        return estimated(found)

    async def _load(self, found: Found) -> "LoadedModel":
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._loads, self._opened, found)

    def _opened(self, found: Found) -> "LoadedModel":
        from bend_executors.model import options
        from bend_executors.model.batches import LoadedModel
        from bend_executors.model.session import Session

        source = self._source(found)
        chosen = options.read(found.folder, source.config if source else {})
        sha256 = source.sha256 if source else chosen.sha256
        try:
            session = Session(found, self._settings, chosen, sha256)
        except TerminalError as error:
            if source is not None and error.reason == "MODEL_DIGEST_MISMATCH":
                # It came from the registry, which has the right one; the operator's own stay.
                found.file.unlink(missing_ok=True)
            raise
        return LoadedModel(
            session,
            chosen,
            self._runs,
            self._answering,
            batch_max=self._settings.batch_max,
            run_s_max=self._settings.run_s_max,
        )

    def close(self) -> None:
        """Let the threads go; what a session runs now ends by itself."""
        for threads in (self._runs, self._answering, self._loads, self._cel):
            threads.shutdown(wait=False, cancel_futures=True)

    def stats(self) -> dict[str, Any]:
        """Return the memory of models in bytes, and each loaded model with its batch metrics."""
        return {
            "memory_bytes": self._shelf.used,
            "memory_bytes_max": self._settings.memory_bytes,
            "unloaded": self._shelf.unloaded,
            "models": self._shelf.shown(),
        }
