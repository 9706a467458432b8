"""A component service outside of Bend, made with the SDK alone: it looks into files.

It connects to the mesh by itself, registers its five components with the contracts that their type
hints say, and identifies content with the ONNX model that the package `magika` carries.
"""

import asyncio
import os
import re
import stat
from collections import Counter
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

from magika import Magika
from magika.types import MagikaResult

from bend import Context, Final, TerminalError, Worker, component

FILES_MAX = 20_000
BATCH = 16
CERTAIN = 0.5


@cache
def model() -> Magika:
    """Load the model once, with the first file."""
    return Magika()


@component("triage.list", version="1.0.0")
def listing(folder: str) -> dict[str, list[dict[str, Any]]]:
    """List the files below a folder, and those that cannot be read with the reason."""
    root = Path(folder)
    if not root.is_dir():
        raise TerminalError("NO_FOLDER", f"{folder} is not a folder that this service can see")
    files: list[dict[str, Any]] = []
    unreadable: list[dict[str, Any]] = []
    left_out = 0

    def closed(error: OSError) -> None:
        unreadable.append(named(root, Path(error.filename)) | {"reason": str(error.strerror)})

    for place, folders, names in os.walk(root, onerror=closed):
        folders.sort()
        for path in (Path(place) / name for name in sorted(names)):
            try:
                facts = path.lstat()
            except OSError as error:
                # Gone since the folder was read, or in a folder that may only be listed.
                closed(error)
                continue
            if not stat.S_ISREG(facts.st_mode):
                continue
            if not os.access(path, os.R_OK):
                unreadable.append(named(root, path) | {"reason": "Permission denied"})
            elif len(files) < FILES_MAX:
                files.append(named(root, path) | {"bytes": facts.st_size})
            else:
                left_out += 1
    if left_out:
        reason = f"only the first {FILES_MAX} files are looked at"
        unreadable.append({"path": f"{left_out} more files", "reason": reason})
    return {"files": files, "unreadable": unreadable}


def named(root: Path, path: Path) -> dict[str, Any]:
    """Return what a file is called below the root; JSON is UTF-8, a file's name need not be."""
    below = os.fsencode(path.relative_to(root))
    shown = below.decode("utf-8", "backslashreplace")
    return {"path": shown} if os.fsencode(shown) == below else {"path": shown, "raw": below.hex()}


def located(root: Path, entry: dict[str, Any]) -> Path:
    """Return where a file that `named` described is."""
    if "raw" in entry:
        return root / os.fsdecode(bytes.fromhex(entry["raw"]))
    return root / str(entry["path"])


def describe(path: str, result: MagikaResult) -> dict[str, Any]:
    """Say in plain words what the model found."""
    if not result.ok:
        return {"path": path, "kind": "unreadable", "score": 0.0, "extensions": []}
    found = result.output
    return {
        "path": path,
        "kind": found.label,
        "description": found.description,
        "score": round(float(result.score), 3),
        "extensions": list(found.extensions),
    }


@component("triage.identify", version="1.0.0", long_running=True)
async def identify(
    context: Context, folder: str, files: list[dict[str, Any]]
) -> AsyncIterator[dict[str, Any] | Final]:
    """Identify each file by its content; every file is a partial result at once."""
    root = Path(folder)
    found: list[dict[str, Any]] = []
    for at in range(0, len(files), BATCH):
        batch = files[at : at + BATCH]
        paths = [located(root, entry) for entry in batch]
        results = await asyncio.to_thread(lambda: model().identify_paths(paths))  # noqa: B023
        for entry, result in zip(batch, results, strict=True):
            one = describe(str(entry["path"]), result)
            found.append(one)
            yield one
        context.heartbeat()
    yield Final({"files": found})


@component("triage.compare", version="1.0.0")
def compare(files: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare what each file is with what its extension claims."""
    lying = []
    for entry in files:
        claimed = Path(entry["path"]).suffix.lower().removeprefix(".")
        known = entry["extensions"]
        if claimed and known and claimed not in known and entry["score"] >= CERTAIN:
            lying.append({"path": entry["path"], "claims": claimed, "is": entry["kind"]})
    kinds = Counter(entry["kind"] for entry in files)
    return {"lying": lying, "kinds": dict(sorted(kinds.items()))}


@component("triage.alarm", version="1.0.0")
def alarm(context: Context, lying: list[dict[str, str]]) -> dict[str, int]:
    """Raise an alarm for files whose name lies; here it only writes to the task's log."""
    for entry in lying:
        context.log(f"{entry['path']} claims {entry['claims']} but is {entry['is']}")
    return {"alarms": len(lying)}


def cell(name: str) -> str:
    """Return a file's name as it can stand in a table: whoever named the file writes no report."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", plain)


@component("triage.report", version="1.0.0")
def report(
    path: str,
    folder: str,
    unreadable: list[dict[str, Any]],
    kinds: dict[str, int],
    lying: list[dict[str, str]],
    alarm: str,
) -> dict[str, Any]:
    """Write the report as Markdown and answer its numbers."""
    files = sum(kinds.values())
    lines = [f"# Triage of {cell(folder)}", ""]
    lines += [f"{files} files identified, {len(lying)} names lie."]
    lines += [f"Alarm: {alarm}.", ""]
    if lying:
        lines += ["| file | claims | is |", "|---|---|---|"]
        lines += [f"| {cell(e['path'])} | {cell(e['claims'])} | **{e['is']}** |" for e in lying]
        lines.append("")
    if kinds:
        lines += ["| kind | files |", "|---|---|"]
        lines += [f"| {kind} | {count} |" for kind, count in kinds.items()]
        lines.append("")
    lines += [f"- not read: {cell(e['path'])}: {e['reason']}" for e in unreadable]
    target = Path(path)
    target.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return {"path": str(target.resolve()), "files": files, "lying": len(lying)}


if __name__ == "__main__":
    Worker([listing, identify, compare, alarm, report]).run()
