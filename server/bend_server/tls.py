"""The client's side of mutual TLS for asyncio, with certificates that are renewed meanwhile."""

import ssl
from pathlib import Path
from typing import Any


class RenewingContext(ssl.SSLContext):
    """Presents a certificate, read again before a handshake when its files have changed.

    A process outlives its first certificate; without this its next connection would present one
    that has expired.
    """

    _files: tuple[Path, Path]
    _stamp: tuple[int, ...] = ()

    def present(self, certificate: Path, key: Path) -> None:
        """Use these PEM files from now on. Raises OSError when they cannot be used."""
        self._files = (certificate, key)
        self._renew()

    def _renew(self) -> None:
        stamp = tuple(path.stat().st_mtime_ns for path in self._files)
        if stamp != self._stamp:
            self.load_cert_chain(*self._files)
            self._stamp = stamp

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Begin a handshake; asyncio and uvloop call this once a connection."""
        try:
            self._renew()
        except OSError:
            # Between the renames of key and certificate: the ones in use are good for longer.
            pass
        return super().wrap_bio(*arguments, **options)


def client_context(roots: Path, certificate: Path, key: Path) -> RenewingContext:
    """Return a context that believes `roots` alone and presents a certificate (PEM files).

    Raises:
        OSError: a file cannot be read, or they do not belong together.
    """
    context = RenewingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=str(roots))
    context.present(certificate, key)
    return context
