"""The component: finds, loads and keeps models; ONNX Runtime is loaded with the first task."""

import asyncio
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bend import component
from bend_executors.model import folder

if TYPE_CHECKING:
    from bend_executors.model.batches import LoadedModel

MODELS_MAX = 8


class ModelComponent:
    """Keeps at most MODELS_MAX models, the least recently used one leaves first."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._folder = path
        self._threads = threads or max(1, (os.cpu_count() or 2) // 2)
        self._models: OrderedDict[Path, LoadedModel] = OrderedDict()
        self._loading: dict[Path, asyncio.Future[LoadedModel]] = {}
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @component("model", version="1.0.0")
    async def infer(self, script: str, body: dict[str, Any]) -> dict[str, Any]:
        """Run an ONNX model on one sample or a list of samples.

        `script` is the model's name, or `name@version`; without a version the newest runs.
        `body` maps the model's input names to values (a model with one input also takes
        `features`). A value without the batch dimension is one sample; tasks that wait at the same
        time run as one batch. The output maps output names to values; one number stays a number.
        """
        model = await self.loaded(script)
        return await model.infer(body)

    async def loaded(self, script: str) -> "LoadedModel":
        """Return a model, loading it once however many tasks ask."""
        name, file = folder.find(self._folder, script)
        model = self._models.get(file)
        if model is not None:
            self._models.move_to_end(file)
            return model
        pending = self._loading.get(file)
        if pending is None:
            loop = asyncio.get_running_loop()
            pending = asyncio.ensure_future(
                loop.run_in_executor(self._pool, self._load, name, file)
            )
            self._loading[file] = pending
            pending.add_done_callback(lambda _: self._loading.pop(file, None))
        model = await asyncio.shield(pending)
        self._models[file] = model
        while len(self._models) > MODELS_MAX:
            self._models.popitem(last=False)
        return model

    def _load(self, name: str, file: Path) -> "LoadedModel":
        # onnxruntime and numpy cost 60 MB; an idle mesh does not pay for them.
        from bend_executors.model.batches import LoadedModel

        return LoadedModel(name, file, self._threads, self._pool)
