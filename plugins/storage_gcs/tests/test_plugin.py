"""The hooks, the configuration, and what is imported when."""

import subprocess
import sys

import pluggy
import pytest
import requests
from echo_storage_gcs import plugin
from echo_storage_gcs.config import GcsConfig, browser_origins
from echo_storage_gcs.errors import from_google, from_status
from google.api_core import exceptions as api_errors
from google.auth import exceptions as auth_errors
from google.cloud.storage.exceptions import DataCorruption
from pydantic import ValidationError

from echo_core.plugin_api import (
    PROJECT,
    AuthError,
    EchoHooks,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
    ProviderError,
    RateLimitedError,
    UnavailableError,
)


@pytest.fixture
def hooks() -> pluggy.HookRelay:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(EchoHooks)
    manager.register(plugin)
    manager.check_pending()
    return manager.hook


def test_hooks(hooks) -> None:
    ((storage,),) = hooks.echo_register_storage()
    assert (storage.name, storage.config_model) == ("gcs", GcsConfig)
    assert storage.browser_origins(GcsConfig(bucket="films")) == ("https://storage.googleapis.com",)
    ((commands,),) = hooks.echo_register_commands()
    assert commands.name == "gcs"
    ((routes,),) = hooks.echo_register_routes()
    assert (routes.auth, [route.path for route in routes.routes]) == ("none", ["/notifications"])


def test_google_is_not_imported_before_the_storage_is_opened() -> None:
    code = (
        "import sys; from echo_core.adapters.plugin_loader import load_plugins\n"
        "from echo_core.adapters.settings import Settings\n"
        "found = {status.name: status.state for status in load_plugins(Settings().plugins)}\n"
        "assert found['storage_gcs'] == 'loaded', found\n"
        "print([n for n in sys.modules if n.partition('.')[0] in ('google', 'requests', 'grpc')"
        " and n not in ('google', 'google_crc32c') and not n.startswith('google_crc32c')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.stdout.strip(), ran.returncode) == ("[]", 0), ran.stderr


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"bucket": ""},
        {"bucket": "Films"},
        {"bucket": "a/b"},
        {"bucket": "films", "colour": "red"},
        {"bucket": "films", "endpoint": "http://storage.example"},
        {"bucket": "films", "endpoint": "https://user:secret@storage.example"},
        {"bucket": "films", "public_endpoint": "storage.example"},
        {"bucket": "films", "chunk_size_bytes": 1000},
        {"bucket": "films", "deadline_s": 0},
        {"bucket": "films", "signer": "not an address"},
        {"bucket": "films", "notifications": {"audience": "here"}},
        {"bucket": "films", "notifications": {"service_account": "a@b"}},
    ],
)
def test_settings_that_make_no_sense_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GcsConfig.model_validate(table)


def test_origin_of_browsers_is_the_public_endpoints() -> None:
    config = GcsConfig(
        bucket="films", endpoint="https://storage.internal:444/", public_endpoint="https://media.example/"
    )
    assert browser_origins(config) == ("https://media.example",)
    assert browser_origins(GcsConfig(bucket="films", endpoint="http://127.0.0.1:4443")) == ("http://127.0.0.1:4443",)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (api_errors.NotFound("No such object: films/a"), NotFoundError, "object_not_found"),
        (api_errors.NotFound("The specified bucket does not exist."), ProviderError, "bucket_not_found"),
        (api_errors.Forbidden("x does not have storage.objects.get access"), AuthError, "storage_access_denied"),
        (api_errors.Unauthorized("no"), AuthError, "storage_access_denied"),
        (api_errors.PreconditionFailed("no"), PreconditionFailedError, "object_changed"),
        (api_errors.RequestRangeNotSatisfiable("no"), InvalidRequestError, "range_not_satisfiable"),
        (api_errors.TooManyRequests("slower"), RateLimitedError, "provider_rate_limited"),
        (api_errors.ServiceUnavailable("later"), UnavailableError, "storage_unavailable"),
        (api_errors.BadRequest("what"), InvalidRequestError, "storage_refused"),
        (api_errors.RetryError("long", api_errors.ServiceUnavailable("x")), UnavailableError, "storage_unavailable"),
        (api_errors.RetryError("long", None), UnavailableError, "storage_unavailable"),
        (requests.ConnectionError("x"), UnavailableError, "storage_unavailable"),
        (requests.ReadTimeout("x"), UnavailableError, "storage_unavailable"),
        (auth_errors.TransportError("x"), UnavailableError, "storage_unavailable"),
        (auth_errors.RefreshError("revoked"), AuthError, "storage_credentials"),
        (auth_errors.RefreshError("busy", retryable=True), UnavailableError, "storage_unavailable"),
        (DataCorruption(None, "x"), ProviderError, "checksum_mismatch"),
    ],
)
def test_googles_errors_become_errors_of_echo(error: Exception, kind: type[Exception], code: str) -> None:
    mapped = from_google(error)
    assert isinstance(mapped, kind)
    assert mapped.code == code


def test_what_is_not_googles_stays_what_it_is() -> None:
    for error in (OSError(28, "full"), ValueError("defect"), from_status(503, "")):
        assert from_google(error) is error


def test_missing_permission_is_named_and_the_rest_of_the_answer_is_not() -> None:
    error = from_status(403, "secret@x.iam does not have storage.objects.create access to projects/_/buckets/films")
    assert "storage.objects.create" in error.message
    assert "secret@" not in error.message
