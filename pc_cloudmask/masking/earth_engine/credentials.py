"""The account by which Earth Engine knows us: project and credentials."""

from __future__ import annotations

import logging
import os
import warnings

import ee
import google.auth
import google.auth.exceptions
from google.auth import environment_vars
from google.auth.credentials import AnonymousCredentials, Credentials
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials as UserCredentials

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.earth_engine.account import ANONYMOUS, DEFAULT, VARIABLE, read_key

#: The access that is asked for: without storage and Drive, which the client's own scopes include.
SCOPES = (
    "https://www.googleapis.com/auth/earthengine",
    # The project's quota is used through Google Cloud's own scope.
    "https://www.googleapis.com/auth/cloud-platform",
)
#: It warns of a file without a project, which is no matter: the project is always set.
logging.getLogger("google.auth._default").setLevel(logging.ERROR)


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
            f"{VARIABLE} to a service account's key file"
        ) from error
    return found


def _load_key(path: str) -> Credentials:
    key = read_key(path)
    try:
        found: Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]  # as above
            key, scopes=SCOPES
        )
    except (ValueError, google.auth.exceptions.GoogleAuthError):
        # The cause may quote the key.
        raise SettingsError(f"{VARIABLE}: {path} is not a complete service account key") from None
    return found
