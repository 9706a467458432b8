"""`make demo`: start the mesh, connect a component service, triage a folder, stop clean."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REGISTER_S_MAX = 60.0
STOP_S_MAX = 30.0
INTERRUPTED = 130


def bend(*arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a `bend` command; its output goes to the terminal unless quiet."""
    pipe = subprocess.PIPE if quiet else None
    return subprocess.run(
        [sys.executable, "-m", "bend", *arguments],
        check=False,
        text=True,
        stdout=pipe,
        stderr=pipe,
    )


def needed(*arguments: str) -> str:
    """Run a `bend` command that must succeed; end the demo with its message otherwise."""
    done = bend(*arguments, quiet=True)
    if done.returncode != 0:
        sys.exit(f"bend {' '.join(arguments)} failed:\n{done.stderr.strip()}")
    return done.stdout


def status() -> dict[str, object] | None:
    """Return the mesh's status, or None when none runs on this home."""
    done = bend("status", "--json", quiet=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def start_component(home: Path) -> subprocess.Popen[bytes]:
    """Start the component service as a process of its own, with its own certificate."""
    needed("components", "cert", "triage")
    certs = home / "certs"
    environment = os.environ | {
        "BEND_HOME": str(home),
        "BEND_CERT_FILE": str(certs / "component-triage.pem"),
        "BEND_KEY_FILE": str(certs / "component-triage.key"),
    }
    log = (home / "logs" / "triage-component.log").open("ab")
    return subprocess.Popen(
        [sys.executable, str(HERE / "component.py")], env=environment, stdout=log, stderr=log
    )


def wait_registered(service: subprocess.Popen[bytes], home: Path) -> None:
    """Wait until the service has registered itself."""
    deadline = time.monotonic() + REGISTER_S_MAX
    while bend("components", "get", "triage.report", "--json", quiet=True).returncode != 0:
        if service.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the component did not register; see {home}/logs/triage-component.log")
        time.sleep(0.2)


def stop(service: subprocess.Popen[bytes]) -> None:
    """Let the service finish what it holds; end it when that takes too long."""
    service.send_signal(signal.SIGTERM)
    try:
        service.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()


def triage(folder: Path, report: Path) -> int:
    """Run the workflow with live progress; return the exit code of `bend run`."""
    return bend(
        "run",
        str(HERE / "workflow.yaml"),
        "-p",
        f"folder={folder}",
        "-p",
        f"report={report}",
        "--watch",
    ).returncode


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / "samples")
    folder = parser.parse_args().folder.resolve()
    home = Path(os.environ.get("BEND_HOME", ".bend")).resolve()
    os.environ["BEND_HOME"] = str(home)
    if not folder.is_dir():
        sys.exit(f"{folder} is not a folder")
    ours = status() is None
    print(f"starting the mesh in {home}" if ours else f"using the mesh that runs in {home}")
    if ours:
        up = bend("up", "--detach")
        if up.returncode != 0:
            return up.returncode
    report = home / "triage-report.md"
    service = start_component(home)
    try:
        wait_registered(service, home)
        print(f"\ntriage of {folder}\n")
        code = triage(folder, report)
        if code == 0:
            print(f"\n{report.read_text(encoding='utf-8')}")
            print(f"The report is in {report}.")
            print("Next: `.venv/bin/bend up`, then `.venv/bin/bend executions list`; README.md")
    finally:
        stop(service)
        if ours:
            bend("down")
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
