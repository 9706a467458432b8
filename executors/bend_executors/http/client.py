"""The pooled client. Apart, because loading httpx is put off until the first task."""

import ssl

import httpcore
import httpx

from bend_executors.http.guard import Allowance, GuardedBackend

KEEPALIVE_S = 30.0


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over a pool whose every connection goes through the guard."""

    def __init__(self, allowance: Allowance, connections_max: int) -> None:
        super().__init__(trust_env=False)
        # httpx offers no argument for the network backend, the one place where the address that
        # is checked is also the address that is dialled.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=connections_max,
            max_keepalive_connections=connections_max,
            keepalive_expiry=KEEPALIVE_S,
            http1=True,
            http2=True,
            network_backend=GuardedBackend(allowance),
        )


def open_client(
    allowance: Allowance, connections_max: int, redirects_max: int
) -> httpx.AsyncClient:
    """Open a client for HTTP/1.1 and 2: no proxies; redirects go through the guard, too."""
    return httpx.AsyncClient(
        transport=GuardedTransport(allowance, connections_max),
        follow_redirects=True,
        max_redirects=redirects_max,
        trust_env=False,
        headers={"user-agent": "bend-http/1.0"},
    )
