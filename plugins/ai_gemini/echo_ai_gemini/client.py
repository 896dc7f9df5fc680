"""google-genai's client with the account of this instance."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import google.auth
import google.auth.credentials
import httpx2
from google import genai
from google.auth.exceptions import GoogleAuthError
from google.genai import types
from google.oauth2 import service_account

from echo_ai_gemini.config import GeminiConfig
from echo_core.plugin_api import AuthError

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
CONNECT_TIMEOUT_S = 10.0
VERTEX_API_VERSION = "v1beta1"
MS = 1000


@asynccontextmanager
async def open_client(config: GeminiConfig) -> AsyncIterator[genai.Client]:
    """The client; sends nothing yet. Raises ``AuthError`` (``ai_credentials``) where there is no key."""
    # Our own HTTP client: with none, the SDK takes aiohttp wherever that is installed, with other errors.
    timeout = httpx2.Timeout(config.deadline_s, connect=min(CONNECT_TIMEOUT_S, config.deadline_s))
    async with httpx2.AsyncClient(timeout=timeout, follow_redirects=True) as http:
        options = types.HttpOptions(
            base_url=config.endpoint or None,
            api_version=VERTEX_API_VERSION if config.is_vertex else config.api_version,
            timeout=round(config.deadline_s * MS),
            httpx_async_client=http,
        )
        client = _vertex(config, options) if config.is_vertex else _gemini(config, options)
        try:
            yield client
        finally:
            client.close()


def _gemini(config: GeminiConfig, options: types.HttpOptions) -> genai.Client:
    key = config.api_key.get_secret_value().strip()
    if not key:
        raise AuthError(
            "There is no key for Gemini.",
            code="ai_credentials",
            remedy="Set plugins.ai_gemini.api_key_file to a file with a key of Google AI Studio, or set "
            "plugins.ai_gemini.vertex.project.",
        )
    # Said, since variables of the environment would otherwise turn it into a client of Vertex AI.
    return genai.Client(vertexai=False, api_key=key, http_options=options)


def _vertex(config: GeminiConfig, options: types.HttpOptions) -> genai.Client:
    return genai.Client(
        vertexai=True,
        project=config.vertex.project,
        location=config.vertex.location,
        credentials=_credentials(config.vertex.credentials.get_secret_value()),
        http_options=options,
    )


def _credentials(text: str) -> google.auth.credentials.Credentials:
    try:
        if text:
            key: google.auth.credentials.Credentials = service_account.Credentials.from_service_account_info(
                json.loads(text), scopes=list(SCOPES)
            )
            return key
        found: google.auth.credentials.Credentials
        found, _ = google.auth.default(scopes=list(SCOPES))
    except (GoogleAuthError, KeyError, TypeError, ValueError) as error:
        raise AuthError(
            "There are no credentials for Vertex AI, or they are no JSON key of a service account.",
            code="ai_credentials",
            remedy="Set plugins.ai_gemini.vertex.credentials_file to the JSON key of a service account, or set "
            "GOOGLE_APPLICATION_CREDENTIALS.",
        ) from error
    return found
