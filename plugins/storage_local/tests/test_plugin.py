import errno
import shutil

import pluggy
import pytest
from echo_storage_local import plugin
from echo_storage_local.config import LocalStorageConfig
from echo_storage_local.content_types import validate_content_type
from echo_storage_local.errors import from_os_error
from pydantic import ValidationError

from echo_core.plugin_api import (
    PROJECT,
    EchoHooks,
    InsufficientStorageError,
    InvalidRequestError,
    PutFile,
    UnavailableError,
)


@pytest.fixture
def hooks() -> pluggy.HookRelay:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(EchoHooks)
    manager.register(plugin)
    manager.check_pending()
    return manager.hook


def test_echo_register_storage(hooks) -> None:
    ((spec,),) = hooks.echo_register_storage()
    assert (spec.name, spec.config_model) == ("local", LocalStorageConfig)


def test_echo_register_routes(hooks) -> None:
    ((spec,),) = hooks.echo_register_routes()
    assert spec.auth == "none"
    assert {method for route in spec.routes for method in route.methods} == {"GET", "HEAD", "PUT", "POST", "DELETE"}


@pytest.mark.parametrize("root", ["/var/lib/echo", "../out", "a/../../b", "", ".", "a\0b"])
def test_root_stays_below_data_dir(root: str) -> None:
    with pytest.raises(ValidationError):
        LocalStorageConfig(root=root)


@pytest.mark.parametrize("setting", [{"chunk_size_bytes": 1000}, {"min_free_bytes": -1}, {"colour": "red"}])
def test_settings_that_make_no_sense_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LocalStorageConfig(**setting)


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOSPC, InsufficientStorageError, "insufficient_storage"),
        (errno.EDQUOT, InsufficientStorageError, "insufficient_storage"),
        (errno.EACCES, UnavailableError, "storage_not_writable"),
        (errno.EROFS, UnavailableError, "storage_not_writable"),
        (errno.EIO, UnavailableError, "storage_failed"),
        (errno.EMFILE, UnavailableError, "storage_failed"),
        (None, UnavailableError, "storage_failed"),
    ],
)
def test_os_errors_become_errors_of_echo(number: int | None, kind: type[Exception], code: str) -> None:
    error = from_os_error(OSError(number, "secret path", "/var/lib/echo/x"))
    assert type(error) is kind
    assert error.code == code
    assert error.retryable
    assert "/var" not in error.message


@pytest.mark.parametrize("value", ["video/mp4", "text/vtt; charset=utf-8", "application/vnd.apple.mpegurl"])
def test_media_types(value: str) -> None:
    assert validate_content_type(value) == value


@pytest.mark.parametrize("value", ["", "video", "video/", "a/b\r\nx: y", "a/b;é", "a b/c", "a/b\n"])
def test_what_is_no_media_type_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequestError):
        validate_content_type(value)


async def test_only_regular_files_can_be_stored(storage, tmp_path) -> None:
    with pytest.raises(InvalidRequestError):
        await storage.put_file(PutFile(key="a", path=tmp_path, content_type="video/mp4"))


async def test_check_fails_when_the_folder_is_not_there_any_more(served, storage) -> None:
    await storage.check()
    shutil.rmtree(served.data_dir / "objects")
    with pytest.raises(UnavailableError):
        await storage.check()
