"""Write what is made of the protos (run by `make generate`).

Python stubs of every proto under protos/ into sdk/python, the descriptors that the gateway
transcodes by, and the comments that the OpenAPI document shows.
"""

import filecmp
import json
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from comments import comments
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
PROJECT = ROOT.parent
SDK = Path("sdk/python")
DESCRIPTORS = Path("envoy/bend_envoy/bend.binpb")
COMMENTS = Path("server/bend_server/rpc/proto_comments.json")
HEADER = '"""Generated from protos/ by `make generate`; do not edit."""\n'
PACKAGES = ("bend/v1", "bend/internal", "bend/internal/v1", "buf", "buf/validate")


def generate(target: Path) -> None:
    """Write all generated files below `target`, laid out like the project."""
    out = target / SDK
    for package in PACKAGES:
        (out / package).mkdir(parents=True, exist_ok=True)
        (out / package / "__init__.py").write_text(HEADER, encoding="utf-8")
    for file in (DESCRIPTORS, COMMENTS):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
    well_known = str(files("grpc_tools") / "_proto")
    include = [f"-I{ROOT}", f"-I{ROOT / 'third_party'}", f"-I{well_known}"]
    protos = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "bend").rglob("*.proto"))
    public = [p for p in protos if "internal" not in p]
    services = [p for p in protos if p.endswith("_service.proto")]
    runs = (
        [f"--python_out={out}", f"--pyi_out={out}", *protos, "buf/validate/validate.proto"],
        [f"--grpc_python_out={out}", *services],
        # The gateway transcodes by this set; error details must be in it to be shown.
        [
            "--include_imports",
            f"--descriptor_set_out={target / DESCRIPTORS}",
            *public,
            "google/rpc/error_details.proto",
        ],
    )
    for run in runs:
        _protoc(*include, *run)
    with tempfile.NamedTemporaryFile() as described:
        _protoc(
            *include, "--include_source_info", f"--descriptor_set_out={described.name}", *public
        )
        texts = comments(FileDescriptorSet.FromString(described.read()))
    written = json.dumps(texts, indent=0, ensure_ascii=False)
    (target / COMMENTS).write_text(written + "\n", encoding="utf-8")


def _protoc(*arguments: str) -> None:
    code = protoc.main(["protoc", *arguments])
    if code:
        sys.exit(code)


def stale() -> list[str]:
    """Return the generated files that differ from what the protos say now."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        made = [p.relative_to(fresh) for p in fresh.rglob("*") if p.is_file()]
        return [
            str(p)
            for p in sorted(made)
            if not (PROJECT / p).is_file() or not filecmp.cmp(fresh / p, PROJECT / p, False)
        ]


def main() -> int:
    """Generate, or with --check only say what is stale; return the exit code."""
    if "--check" not in sys.argv[1:]:
        generate(PROJECT)
        return 0
    old = stale()
    for path in old:
        sys.stderr.write(f"{path} is stale: run `make generate`\n")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
