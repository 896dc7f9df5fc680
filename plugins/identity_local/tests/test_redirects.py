"""Which pages people may be sent back to, and how pages are told."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from echo_identity_local.redirects import Redirects, with_code, with_error
from echo_identity_local.wire import ApiError
from hypothesis import given
from hypothesis import strategies as st

HOME = "http://127.0.0.1:8000"
REDIRECTS = Redirects(HOME, ["https://app.example/in", "https://app.example/below/", "http://other.example:81"])


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "/videos",
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "javascript://127.0.0.1:8000/%0aalert(1)",
        "data:text/html,x",
        f"{HOME}@evil.example/",
        f"{HOME}:80@evil.example/",
        f"{HOME}.evil.example/",
        f"{HOME}\\@evil.example/",
        f"{HOME}\t/x",
        f"{HOME}/x\r\nSet-Cookie: a=b",
        f"{HOME} /x",
        f"{HOME}0/",
        "http://user@127.0.0.1:8000/",
        "http://127.0.0.1/",
        "http://127.0.0.1:1/",
        "https://127.0.0.1:8000/",
        "http://127.0.0.1:99999/",
        "http://localhost:8000/",
        "http://[::1",
        "ftp://127.0.0.1:8000/",
        "https:app.example/in",
        "https:///app.example/in",
        "https://app.example.evil.example/in",
        "https://app.example/input",
        "https://app.example/in/x",
        "https://app.example/",
        "https://app.example/below",
        "http://app.example/in",
        "https://app.example:8443/in",
        "https://app.example/below/../other",
        "https://app.example/below/%2E./other",
        "https://app.example/below/x/.%2e/../other",
        "https://app.\u00e9xample/in",
        "https://app.example/below/" + "x" * 2048,
        "http://other.example/",
    ],
)
def test_a_page_that_is_not_on_the_list_becomes_the_instances_own(wanted: str) -> None:
    assert REDIRECTS.checked(wanted) == HOME


@pytest.mark.parametrize(
    "wanted",
    [
        HOME,
        f"{HOME}/",
        f"{HOME}/a/../b?c=d&e=%20&f=a@b",
        "https://app.example/in",
        "https://app.example/in?x=https://evil.example/",
        "https://APP.example:443/below/a/b",
        "https://app.example/below/",
        "http://other.example:81",
        "http://other.example:81/x?y",
    ],
)
def test_pages_of_the_list_are_kept_but_for_their_fragment(wanted: str) -> None:
    assert REDIRECTS.checked(wanted).rstrip("?") == wanted
    assert REDIRECTS.checked(f"{wanted}#x=1").rstrip("?") == wanted


@given(st.text(st.sampled_from("htps:/\\@.#?%[]127.0.0.1:8000app.examplin \t\n"), max_size=60))
def test_whatever_is_wanted_the_origin_is_one_of_the_list(wanted: str) -> None:
    for given_ in (wanted, HOME + wanted, "https://app.example" + wanted):
        parts = urlsplit(REDIRECTS.checked(given_))
        assert (parts.scheme, parts.netloc.removesuffix(":443")) in {
            ("http", "127.0.0.1:8000"),
            ("https", "app.example"),
            ("http", "other.example:81"),
        }


def test_a_code_takes_the_place_of_another() -> None:
    assert with_code(f"{HOME}/x?code=old&a=&b=c", "new") == f"{HOME}/x?a=&b=c&code=new"


def test_an_error_is_told_in_query_and_fragment() -> None:
    said = "error=access_denied&error_code=user_banned&error_description=User+is+banned"
    assert with_error(f"{HOME}/x?a=b", ApiError(403, "user_banned", "User is banned")) == (
        f"{HOME}/x?a=b&{said}#{said}&sb="
    )
