"""The account by which Earth Engine knows us: project and credentials."""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path

import ee
import google.auth
import google.auth.exceptions
from google.auth import environment_vars
from google.auth.credentials import AnonymousCredentials, Credentials
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials as UserCredentials

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.text import decode_text, is_loopback

DEFAULT, ANONYMOUS = "default", "anonymous"
#: The access that is asked for: without storage and Drive, which the client's own scopes include.
SCOPES = (
    "https://www.googleapis.com/auth/earthengine",
    # The project's quota is used through Google Cloud's own scope.
    "https://www.googleapis.com/auth/cloud-platform",
)
_VARIABLE = "CLOUDMASK_EARTHENGINE_CREDENTIALS"
#: It warns of a file without a project, which is no matter: the project is always set.
logging.getLogger("google.auth._default").setLevel(logging.ERROR)
_NO_PROJECT = "set CLOUDMASK_EARTHENGINE_PROJECT to a Google Cloud project registered for Earth Engine"


def check_account(project: str | None, url: str, credentials: str) -> str:
    """Return the project to compute in, found without a request.

    Raises:
        SettingsError: there is no project, the key file is not one, or ``anonymous`` goes beyond this machine.
    """
    if credentials == ANONYMOUS:
        if not is_loopback(url):
            raise SettingsError(f"{_VARIABLE}: 'anonymous' is for loopback endpoints only, not for {url}")
        return project or "anonymous"
    if credentials != DEFAULT:
        project = project or _read_key(credentials).get("project_id")
    if not project:
        raise SettingsError(_NO_PROJECT)
    return project


def find_credentials(credentials: str) -> Credentials:
    """Return the credentials that the setting names.

    ``default`` is the file that GOOGLE_APPLICATION_CREDENTIALS names (a service account's key, or the
    configuration of workload identity federation), else what ``earthengine authenticate`` left, as for
    ``ee.Initialize``; else what Google's libraries find: gcloud's, those of the machine. A path is a
    service account's key.

    Raises:
        SettingsError: there are none, or they cannot be read.
    """
    if credentials == ANONYMOUS:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]  # google.auth has half its types
    if credentials != DEFAULT:
        return _load_key(credentials)
    named = environment_vars.CREDENTIALS in os.environ
    return (None if named else _find_stored_token()) or _find_application_default()


def _find_stored_token() -> Credentials | None:
    """Return what ``earthengine authenticate`` left on this machine."""
    try:
        arguments = ee.oauth.get_credentials_arguments()
    except (OSError, ValueError, AttributeError):
        return None
    if not arguments.get("refresh_token"):
        return None  # of a sign-in through gcloud, which keeps the token itself
    return UserCredentials(None, **arguments)  # type: ignore[no-untyped-call]  # as above


def _find_application_default() -> Credentials:
    try:
        with warnings.catch_warnings():
            # About a missing quota project, which is no matter: the project is always set.
            warnings.simplefilter("ignore", UserWarning)
            found, _ = google.auth.default(scopes=SCOPES)
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise SettingsError(
            "no Google credentials were found: run 'earthengine authenticate' or 'gcloud auth "
            "application-default login', let GOOGLE_APPLICATION_CREDENTIALS name a file, or set "
            f"{_VARIABLE} to a service account's key file"
        ) from error
    return found


def _load_key(path: str) -> Credentials:
    key = _read_key(path)
    try:
        found: Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]  # as above
            key, scopes=SCOPES
        )
    except (ValueError, google.auth.exceptions.GoogleAuthError):
        # The cause may quote the key.
        raise SettingsError(f"{_VARIABLE}: {path} is not a complete service account key") from None
    return found


def _read_key(path: str) -> dict[str, str]:
    """Return the key file's JSON object."""
    try:
        key = json.loads(decode_text(Path(path).expanduser().read_bytes()))
    except OSError as error:
        raise SettingsError(
            f"{_VARIABLE}: {path} cannot be read ({error.strerror}); give 'default' or the path of a service "
            "account's key file"
        ) from error
    except ValueError:
        key = None
    if not isinstance(key, dict) or key.get("type") != "service_account":
        kind = f"of type {key.get('type')!r:.40}" if isinstance(key, dict) else "not JSON"
        raise SettingsError(
            f"{_VARIABLE}: {path} is {kind}, not a service account's key; other files are for "
            f"GOOGLE_APPLICATION_CREDENTIALS, with {_VARIABLE}=default"
        )
    return key
