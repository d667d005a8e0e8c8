"""Which project and credentials the settings name, found without Google's libraries."""

from __future__ import annotations

import json
from pathlib import Path

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.text import decode_text, is_loopback

DEFAULT, ANONYMOUS = "default", "anonymous"
VARIABLE = "CLOUDMASK_EARTHENGINE_CREDENTIALS"


def check_account(project: str | None, url: str, credentials: str) -> str:
    """Return the project to compute in, found without a request; raise SettingsError if one of them is at fault."""
    if credentials == ANONYMOUS:
        if not is_loopback(url):
            raise SettingsError(f"{VARIABLE}: 'anonymous' is for loopback endpoints only, not for {url}")
        return project or "anonymous"
    if credentials != DEFAULT:
        project = project or read_key(credentials).get("project_id")
    if not project:
        raise SettingsError(
            "set CLOUDMASK_EARTHENGINE_PROJECT to a Google Cloud project registered for Earth Engine"
        )
    return project


def read_key(path: str) -> dict[str, str]:
    """Return the key file's JSON object."""
    try:
        key = json.loads(decode_text(Path(path).expanduser().read_bytes()))
    except OSError as error:
        raise SettingsError(
            f"{VARIABLE}: {path} cannot be read ({error.strerror}); give 'default' or the path of a service "
            "account's key file"
        ) from error
    except ValueError:
        key = None
    if not isinstance(key, dict) or key.get("type") != "service_account":
        kind = f"of type {key.get('type')!r:.40}" if isinstance(key, dict) else "not JSON"
        raise SettingsError(
            f"{VARIABLE}: {path} is {kind}, not a service account's key; other files are for "
            f"GOOGLE_APPLICATION_CREDENTIALS, with {VARIABLE}=default"
        )
    return key
