"""The secret scan: of the named files, or of all that are committed.

A fake that a test needs is marked on its own line with ``# pragma: allowlist secret``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OPTIONS = [
    # Never ask a cloud whether a finding works.
    "--no-verify",
    "--plugin",
    str(Path(__file__).with_name("secret_detectors.py")),
    # Nothing but names, versions and hashes: tests/security/test_supply_chain.py reads every line.
    "--exclude-files",
    r"(^|/)requirements(-dev|-worker)?\.lock$",
    # Hashes of content, in golden documents that can hold no mark.
    "--exclude-lines",
    r'"(cloudmask:fingerprint|file:checksum)": "[0-9a-f]{64,68}"',
    # Pictures in the outputs of the notebook.
    "--exclude-lines",
    r"(image/png\": \"|image/png;base64,)iVBORw0KGgo",
]
MADE_HERE = {".git", ".venv", "out", "dist", "build", "__pycache__", ".hypothesis"}
MADE_HERE |= {f".{tool}_cache" for tool in ("mypy", "ruff", "pytest", "import_linter")}


def main() -> int:
    files = sys.argv[1:] or list_files()
    scanner = Path(sys.executable).with_name("detect-secrets-hook")
    found = subprocess.run([scanner, *OPTIONS, *files], check=False).returncode
    print(f"{len(files)} files searched for secrets{': found some, see above' if found else ', none found'}")
    return found


def list_files() -> list[str]:
    """Return what git tracks or, in a copy without git, every file outside the folders that are made here."""
    try:
        answer = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return [str(path) for path in Path().rglob("*") if path.is_file() and not MADE_HERE & set(path.parts)]
    return [name for name in answer.stdout.split("\0") if name and Path(name).is_file()]


if __name__ == "__main__":
    sys.exit(main())
