"""Whether a command is a Prefect flow run, decided without importing Prefect."""

from __future__ import annotations

import os
import secrets
import tomllib
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The report names every failed scene; Prefect would add a traceback for each.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    # The default of 20 s is hit on slow machines.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Outcomes pass through memory; should one ever be stored, it is text, never a pickle.
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}
"""For the server that a flow run starts for itself; a configured API brings settings of its own."""


def prefect_wanted(choice: bool | None) -> bool:
    """``choice`` of the command line, else whether a Prefect API is configured."""
    return _api_configured() if choice is None else choice


def quieten_prefect() -> None:
    """Set what a flow run without a configured API needs: quiet, offline, its server this process's alone.

    Must run before Prefect is imported: it reads the environment once.
    """
    if not _api_configured():
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        # The server listens for every web page that is open on this machine.
        password = os.environ.setdefault("PREFECT_API_AUTH_STRING", secrets.token_hex())
        os.environ.setdefault("PREFECT_SERVER_API_AUTH_STRING", password)


def _api_configured() -> bool:
    if os.environ.get("PREFECT_API_URL"):
        return True
    try:
        home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
        profiles = tomllib.loads((home / "profiles.toml").read_text("utf-8"))
        active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
        return bool(profiles["profiles"][active].get("PREFECT_API_URL"))
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError):  # or there is no home
        return False
