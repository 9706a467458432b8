"""Models in memory: loaded once, unloaded by a budget of bytes, the least recently used first."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bend import RetryableError, TerminalError
from bend_executors.model.folder import Found, Signature

if TYPE_CHECKING:
    from bend_executors.model.batches import LoadedModel

ROOM_S_MAX = 30.0


class Held:
    """A model on the shelf; `users` is how many tasks have it now."""

    __slots__ = ("model", "signature", "users")

    def __init__(self, model: "LoadedModel", signature: Signature) -> None:
        self.model = model
        self.signature = signature
        self.users = 0


class Shelf:
    """Loads models one at a time and keeps what fits; used from one event loop.

    A model in use is never unloaded: when everything is, a load waits ROOM_S_MAX seconds.

    Args:
        budget: bytes for all models together.
        estimate: what a model will need, in bytes.
        load: makes a model ready.
    """

    def __init__(
        self,
        budget: int,
        estimate: Callable[[Found], Awaitable[int]],
        load: Callable[[Found], Awaitable["LoadedModel"]],
    ) -> None:
        self._budget = budget
        self._estimate = estimate
        self._load = load
        self._held: OrderedDict[Path, Held] = OrderedDict()
        self._loading: dict[Path, asyncio.Future[Held]] = {}
        # Models whose files changed while tasks had them: they leave with the last of these.
        self._leaving: set[Held] = set()
        # Tasks between their model's load and its use, by its folder.
        self._asking: Counter[Path] = Counter()
        self._one_at_a_time = asyncio.Lock()
        self._freed = asyncio.Event()
        self.unloaded = 0

    @property
    def used(self) -> int:
        """The bytes of all models in memory."""
        return sum(held.model.session.bytes for held in (*self._held.values(), *self._leaving))

    @asynccontextmanager
    async def borrowed(self, found: Found, signature: Signature) -> AsyncIterator["LoadedModel"]:
        """Give a model, loading it once however many tasks ask; it stays while it is used.

        `signature` is what its files look like: one loaded from other files is loaded again.

        Raises:
            RetryableError: MODEL_MEMORY_FULL, no model became free in time.
            TerminalError: MODEL_TOO_LARGE for the whole budget; what `load` raises.
        """
        held = self._current(found, signature)
        if held is None:
            self._asking[found.folder] += 1
            try:
                held = await self._joined(found)
            finally:
                self._asking -= Counter((found.folder,))
        held.users += 1
        try:
            yield held.model
        finally:
            held.users -= 1
            if not held.users:
                self._leaving.discard(held)
                self._freed.set()

    def _current(self, found: Found, signature: Signature) -> Held | None:
        held = self._held.get(found.folder)
        if held is None:
            return None
        # A look may be older than the load, and then the files themselves tell.
        if held.signature != signature and held.signature != found.signature():
            del self._held[found.folder]
            self._gone(held)
            return None
        self._held.move_to_end(found.folder)
        return held

    async def _joined(self, found: Found) -> Held:
        pending = self._loading.get(found.folder)
        if pending is None:
            pending = asyncio.ensure_future(self._loaded(found))
            self._loading[found.folder] = pending
            pending.add_done_callback(lambda made: self._done(found.folder, made))
        # A task that is cancelled meanwhile must not take the model from the others.
        return await asyncio.shield(pending)

    def _done(self, folder: Path, made: "asyncio.Future[Held]") -> None:
        self._loading.pop(folder, None)
        if not made.cancelled():
            # Whoever asked may be gone, and then nobody else takes the error.
            made.exception()

    async def _loaded(self, found: Found) -> Held:
        async with self._one_at_a_time:
            await self._make_room(found)
            signature = found.signature()
            held = Held(await self._load(found), signature)
            self._held[found.folder] = held
            # Measured now, it may be more than the estimate was.
            while self.used > self._budget and self._drop_one(but=held):
                pass
            return held

    async def _make_room(self, found: Found) -> None:
        needed = await self._estimate(found)
        if needed > self._budget:
            raise TerminalError(
                "MODEL_TOO_LARGE",
                f"{found.label} needs about {needed} bytes, the budget is {self._budget}",
            )
        try:
            async with asyncio.timeout(ROOM_S_MAX):
                while self.used + needed > self._budget:
                    self._freed.clear()
                    if not self._drop_one():
                        await self._freed.wait()
        except TimeoutError:
            raise RetryableError(
                "MODEL_MEMORY_FULL", f"no room for {found.label}: all models are in use"
            ) from None

    def _drop_one(self, but: Held | None = None) -> bool:
        """Unload the model that was not used for the longest time; False when all are in use."""
        for path, held in self._held.items():
            if not held.users and not self._asking[path] and held is not but:
                del self._held[path]
                self._gone(held)
                return True
        return False

    def _gone(self, held: Held) -> None:
        self.unloaded += 1
        held.model.log("model_unloaded")
        if held.users:
            self._leaving.add(held)

    def shown(self) -> list[dict[str, Any]]:
        """Return each model in memory with its metrics."""
        return [
            {
                "model": held.model.session.name,
                "bytes": held.model.session.bytes,
                "load_ms": round(held.model.session.load_us / 1000, 3),
                "warmed": held.model.session.warmed,
                "users": held.users,
                "waiting": held.model.waiting,
            }
            | held.model.metrics.shown()
            for held in self._held.values()
        ]
