"""The operator's modules: a folder, packed once into the zip file that sandboxes import from.

Packed, because a sandbox runs as a user who may not reach the folder, and because a task then
sees one state of it from its first import to its last.
"""

import base64
import io
import os
import re
import zipfile
from pathlib import Path

from bend import TerminalError

FILES_MAX = 2000
BYTES_MAX = 8 * 1024 * 1024
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
State = tuple[tuple[str, int, int], ...]


class Modules:
    """Packs the folder when it changed. Blocks for as long as its listing takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state: State | None = None
        self._packed = ""

    def packed(self) -> str:
        """Return the zip file in base 64, "" without files.

        Raises TerminalError MODULES_UNUSABLE.
        """
        state = self._listed()
        if state != self._state:
            self._packed = self._pack(state) if state else ""
            self._state = state
        return self._packed

    def _listed(self) -> State:
        found = []
        size = 0
        try:
            for folder, folders, names in os.walk(self.folder):
                wanted = (name for name in folders if name.isidentifier())
                folders[:] = sorted(name for name in wanted if name != "__pycache__")
                for name in sorted(names):
                    path = Path(folder) / name
                    if path.is_symlink() or name.endswith(".pyc") or not path.is_file():
                        continue
                    facts = path.stat()
                    size += facts.st_size
                    found.append((str(path.relative_to(self.folder)), facts.st_mtime_ns, size))
                    self._bounded(len(found), size)
        except OSError as error:
            raise TerminalError("MODULES_UNUSABLE", f"modules: {error.strerror}") from None
        return tuple(found)

    @staticmethod
    def _bounded(count: int, size: int) -> None:
        if count > FILES_MAX or size > BYTES_MAX:
            raise TerminalError(
                "MODULES_UNUSABLE",
                f"the folder of modules has more than {FILES_MAX} files or {BYTES_MAX} bytes; "
                "large packages belong into python.packages",
            )

    def _pack(self, state: State) -> str:
        data = io.BytesIO()
        try:
            with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
                for name, _, _ in state:
                    packed.write(self.folder / name, name)
        except (OSError, ValueError) as error:
            raise TerminalError("MODULES_UNUSABLE", f"modules: {type(error).__name__}") from None
        return base64.b64encode(data.getvalue()).decode("ascii")
