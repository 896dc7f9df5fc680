"""Google's storage client with the credentials of this instance."""

from __future__ import annotations

import json

import google.auth
import google.auth.credentials
import requests
import requests.adapters
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Client
from google.oauth2 import service_account

from echo_core.plugin_api import AuthError
from echo_storage_gcs.config import GcsConfig

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
REFRESH_TIMEOUT_S = 5


def load_credentials(config: GcsConfig) -> google.auth.credentials.Credentials:
    """The service account's key, or what the machine offers. Blocks. Raises ``AuthError`` (``storage_credentials``)."""
    if text := config.credentials.get_secret_value():
        return _from_key(text)
    return _default(
        "Set plugins.storage_gcs.credentials_file to the JSON key of a service account; or run Echo where Google "
        "provides one; or set GOOGLE_APPLICATION_CREDENTIALS."
    )


def load_own_credentials() -> google.auth.credentials.Credentials:
    """Those of whoever is signed in here. Blocks. Raises ``AuthError`` (``storage_credentials``)."""
    return _default("Sign in with 'gcloud auth application-default login'.")


def _default(remedy: str) -> google.auth.credentials.Credentials:
    credentials: google.auth.credentials.Credentials
    try:
        credentials, _ = google.auth.default(scopes=list(SCOPES))
    except (DefaultCredentialsError, GoogleAuthError) as error:
        raise AuthError(
            "There are no credentials for Google Cloud Storage.", code="storage_credentials", remedy=remedy
        ) from error
    return credentials


def _from_key(text: str) -> google.auth.credentials.Credentials:
    try:
        info = json.loads(text)
        kind = info["type"]
        if kind == "service_account":
            key: google.auth.credentials.Credentials = service_account.Credentials.from_service_account_info(
                info, scopes=list(SCOPES)
            )
            return key
    except (GoogleAuthError, KeyError, TypeError, ValueError) as error:
        raise AuthError(
            "The credentials of the storage are no JSON key of a service account.",
            code="storage_credentials",
            remedy="Download the key again, and name its file in plugins.storage_gcs.credentials_file.",
        ) from error
    raise AuthError(
        f"The credentials of the storage are of type {str(kind)[:40]!r}, not of a service account.",
        code="storage_credentials",
        remedy="Leave plugins.storage_gcs.credentials_file out, and set GOOGLE_APPLICATION_CREDENTIALS to this file.",
    )


def open_plain_session(config: GcsConfig) -> requests.Session:
    """HTTP without credentials, for addresses that carry their own rights. Close it."""
    session = requests.Session()
    session.auth = _as_it_is  # else one from a .netrc might be added
    _widen(session, config)
    return session


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _widen(session: requests.Session, config: GcsConfig) -> None:
    for scheme in ("https://", "http://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=2 * config.threads))


def open_session(config: GcsConfig, credentials: google.auth.credentials.Credentials) -> AuthorizedSession:
    """HTTP with those credentials, for as many threads as there are. Close it."""
    session = AuthorizedSession(credentials, refresh_timeout=REFRESH_TIMEOUT_S)
    _widen(session, config)
    return session


def open_client(
    config: GcsConfig, credentials: google.auth.credentials.Credentials, session: AuthorizedSession
) -> Client:
    """The client. Sends nothing yet."""
    # The project is only needed to make buckets, which Echo does not do.
    client = Client(
        project=getattr(credentials, "project_id", None) or "echo",
        credentials=credentials,
        _http=session,
        client_options={"api_endpoint": config.endpoint},
    )
    # It would ask for the bucket's settings behind our back, without our deadlines and with a permission that Echo's
    # account need not have, for traces that nobody collects.
    client._bucket_metadata_cache = None
    return client
