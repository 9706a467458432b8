"""Who calls: the peer's SPIFFE id from its certificate, or what the gateway says of its client.

The gateway's word (`x-bend-peer`, `x-bend-listener`) is believed only when the connection's own
certificate is the gateway's. A client without a certificate proves itself with the bearer token
of this mesh; on the gateway's plain-HTTP loopback listener it counts as the local user.
"""

import hmac
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bend_server.core.errors import NotPermitted, Unauthenticated
from bend_server.rpc.permissions import GRANTS, PUBLIC, Rule

PEER_HEADER = "x-bend-peer"
LISTENER_HEADER = "x-bend-listener"
REST_HEADER = "x-envoy-original-path"
NAMESPACE_HEADER = "bend-namespace"
NAMESPACE_DEFAULT = "default"
LOCAL_USER = "/user/local"
LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
TOKEN_BYTES_MAX = 4096


class Peer(NamedTuple):
    """Who calls.

    `spiffe_id` is empty for a client that has no certificate. `subject` is the path part of
    the identity (`/user/ada`), empty for nobody. `rest` tells that the gateway transcoded the call.
    """

    spiffe_id: str
    namespace: str
    subject: str
    rest: bool = False

    @property
    def role(self) -> str:
        """The first part of the subject's path; empty for nobody."""
        return self.subject.lstrip("/").partition("/")[0]


_CURRENT: ContextVar[Peer] = ContextVar("bend_rpc_peer")


def peer(context: object) -> Peer:
    """Return who makes the call that is being served.

    Args:
        context: the call's ServicerContext; the identity was checked when the call came in.

    Raises:
        Unauthenticated: no interceptor has seen this call.
    """
    found = _CURRENT.get(None)
    if found is None:
        raise Unauthenticated("the call was not authenticated")
    return found


def set_peer(found: Peer) -> None:
    """Remember who makes the call, for the task that serves it."""
    _CURRENT.set(found)


def _from_a_web_page(metadata: Mapping[str, str | bytes]) -> bool:
    """Tell whether a browser sent the call for a page of another site.

    A browser on this machine reaches loopback for every page it shows, so that being local proves
    nothing about such a call. Programs send neither header.
    """
    if metadata.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return True
    origin = metadata.get("origin")
    return origin is not None and urlsplit(str(origin)).hostname not in LOOPBACK_NAMES


class TokenFile:
    """The bearer token of this mesh, read again when its file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._token = b""

    def matches(self, token: str) -> bool:
        """Tell whether a token is the right one, in constant time; False without a file."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                self._token = self._path.read_bytes()[:TOKEN_BYTES_MAX].strip()
                self._stamp = stamp
        except OSError:
            return False
        return bool(self._token) and hmac.compare_digest(self._token, token.encode())


class Authenticator:
    """Finds out who calls, and whether the call's rule lets them.

    Args:
        trust_domain: the only SPIFFE trust domain that is believed.
        token_file: holds the bearer token; None: no token is good.
        loopback_is_user: whether the plain-HTTP loopback listener needs no token.
    """

    def __init__(
        self,
        *,
        trust_domain: str = "bend.local",
        token_file: Path | None = None,
        loopback_is_user: bool = True,
    ) -> None:
        self._prefix = f"spiffe://{trust_domain}/"
        self._token = TokenFile(token_file) if token_file else None
        self._loopback_is_user = loopback_is_user

    def admit(self, context: Any, rule: Rule) -> Peer:
        """Return who calls.

        Args:
            context: the call's grpc ServicerContext.
            rule: what the called RPC needs.

        Raises:
            Unauthenticated: no proof, or a wrong one.
            NotPermitted: this identity may not call this RPC, here or at all.
        """
        direct = self._subject(self._certificate_id(context))
        role = direct.lstrip("/").partition("/")[0]
        metadata: Mapping[str, str | bytes] = dict(context.invocation_metadata() or ())
        if role == "gateway":
            found = self._through_gateway(metadata, direct, rule)
        else:
            if role not in rule.direct:
                raise NotPermitted(
                    f"{direct} may not call this service without the gateway", subject=direct
                )
            found = Peer(self._prefix + direct.lstrip("/"), NAMESPACE_DEFAULT, direct)
        if rule.permission != PUBLIC and rule.permission not in GRANTS.get(found.role, frozenset()):
            raise NotPermitted(
                f"{found.subject} does not hold {rule.permission}",
                subject=found.subject,
                permission=rule.permission,
            )
        wanted = metadata.get(NAMESPACE_HEADER)
        if wanted is not None and wanted != found.namespace:
            raise NotPermitted(
                f"{found.subject or 'the caller'} is not of namespace {wanted!r}",
                namespace=wanted,
            )
        return found

    @staticmethod
    def _certificate_id(context: Any) -> str:
        ids: list[bytes] = list(context.auth_context().get("peer_spiffe_id") or ())
        if len(ids) != 1:
            raise Unauthenticated("the certificate has no SPIFFE id")
        return ids[0].decode("utf-8", "replace")

    def _subject(self, spiffe_id: str) -> str:
        if not spiffe_id.startswith(self._prefix):
            raise Unauthenticated(f"{spiffe_id!r} is not of this trust domain", peer=spiffe_id)
        return "/" + spiffe_id[len(self._prefix) :]

    def _through_gateway(
        self, metadata: Mapping[str, str | bytes], direct: str, rule: Rule
    ) -> Peer:
        rest = REST_HEADER in metadata
        client = metadata.get(PEER_HEADER, "")
        if isinstance(client, str) and client:
            return Peer(client, NAMESPACE_DEFAULT, self._subject(client), rest)
        authorization = metadata.get("authorization", "")
        if isinstance(authorization, str) and authorization:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() == "bearer" and self._token and self._token.matches(token.strip()):
                return Peer("", NAMESPACE_DEFAULT, LOCAL_USER, rest)
            raise Unauthenticated("the bearer token is not valid")
        if self._loopback_is_user and metadata.get(LISTENER_HEADER) == "http":
            if _from_a_web_page(metadata):
                raise Unauthenticated("a web page needs the bearer token, also on this machine")
            return Peer("", NAMESPACE_DEFAULT, LOCAL_USER, rest)
        if rule.permission == PUBLIC:
            return Peer("", NAMESPACE_DEFAULT, "", rest)
        raise Unauthenticated("no client certificate and no bearer token came with the call")
