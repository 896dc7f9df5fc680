"""As whom API and worker log in, and where."""

from __future__ import annotations

import pytest

from echo_core.adapters.addresses import API_ROLE, WORKER_ROLE, Addresses, addresses, role_password
from echo_core.adapters.settings import DatabaseSettings, RedisSettings, Settings

SECRET = b"s" * 32
API_PASSWORD = role_password(SECRET, API_ROLE)
WORKER_PASSWORD = role_password(SECRET, WORKER_ROLE)
OWNER = "postgresql://postgres:owner@db.example:5432/postgres?sslmode=require"


def of(**database: str) -> Addresses:
    settings = Settings(
        database=DatabaseSettings.model_validate(database), redis=RedisSettings.model_validate({"url": "redis://r/0"})
    )
    return addresses(settings, SECRET)


def test_without_addresses_of_their_own_they_log_in_where_the_owner_does() -> None:
    found = of(url=OWNER)
    assert found.api_url == OWNER.replace("postgres:owner", f"echo_api:{API_PASSWORD}")
    assert found.worker_url == OWNER.replace("postgres:owner", f"echo_worker:{WORKER_PASSWORD}")


def test_the_tenant_that_a_pooler_reads_from_the_users_name_is_kept() -> None:
    found = of(url="postgresql://postgres.abcd:owner@pooler.example:5432/postgres")
    assert found.api_url == f"postgresql://echo_api.abcd:{API_PASSWORD}@pooler.example:5432/postgres"


def test_an_address_without_a_password_gets_the_one_that_migrating_has_set() -> None:
    found = of(
        url=OWNER,
        api_url="postgresql://echo_api.abcd@pooler.example:6543/postgres",
        worker_url="postgresql://pooler.example:6543/postgres",
    )
    assert found.api_url == f"postgresql://echo_api.abcd:{API_PASSWORD}@pooler.example:6543/postgres"
    assert found.worker_url == f"postgresql://echo_worker:{WORKER_PASSWORD}@pooler.example:6543/postgres"


@pytest.mark.parametrize("given", ["postgresql://me:mine@elsewhere/echo", "no address at all"])
def test_a_whole_address_is_taken_as_it_is(given: str) -> None:
    assert of(url=OWNER, api_url=given).api_url == given
