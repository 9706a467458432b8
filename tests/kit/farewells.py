"""A relay before PostgreSQL that says its farewell at the worst moment and stays silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
FAREWELL = b"E" + (len(_FIELDS) + 4).to_bytes(4, "big") + _FIELDS
HEADER_BYTES = 5
SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


class Relay:
    """Passes whole messages on; `farewell()` ends all connections that are open by then.

    What a killed server does, but the end of the connection, which a real one sends soon after,
    comes only once the client has said something more: in between the driver is confused.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self._behind = port
        self._open: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def farewell(self, *, heard: bool) -> None:
        """Say it on each connection; with `heard` return once the loop has read it."""
        open_, self._open = self._open, []
        for client in open_:
            client.write(FAREWELL)
        if heard:
            # An answer that came later: what was there before it is read by now.
            answers, server = await asyncio.open_connection("127.0.0.1", self._behind)
            server.write(SSL_REQUEST)
            await answers.readexactly(1)
            server.close()

    async def serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Take a connection."""
        answers, server = await asyncio.open_connection("127.0.0.1", self._behind)
        self._open.append(client)
        for work in (self._asked(reader, server, client), self._answered(answers, client)):
            task = asyncio.ensure_future(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all that was passed on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _asked(
        self,
        reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        try:
            while data := await reader.read(65536):
                if client not in self._open:
                    client.close()
                    break
                server.write(data)
                await server.drain()
        except OSError:
            pass
        finally:
            server.close()

    async def _answered(self, answers: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            while True:
                header = await answers.readexactly(HEADER_BYTES)
                size = int.from_bytes(header[1:], "big") - HEADER_BYTES + 1
                body = await answers.readexactly(size)
                if client in self._open:
                    client.write(header + body)
                    await client.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            client.close()


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Relay]:
    """Give a relay on loopback before the server of a port."""
    made = Relay(port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
