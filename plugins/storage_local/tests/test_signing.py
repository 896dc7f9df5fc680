from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from echo_storage_local.signing import SignatureExpiredError, SignatureInvalidError, UrlSigner
from hypothesis import given
from hypothesis import strategies as st

from echo_core.plugin_api import InvalidRequestError
from echo_core.testing.manual_clock import ManualClock

KEY = bytes(range(32))
TEXT = st.text(max_size=40).filter(lambda text: text.isprintable())
FIELDS = st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), TEXT, max_size=5).filter(
    lambda fields: not fields.keys() & {"expires", "signature"}
)


def parse(url: str) -> tuple[str, list[tuple[str, str]]]:
    parts = urlsplit(url)
    return unquote(parts.path).removeprefix("/base"), parse_qsl(parts.query, keep_blank_values=True)


def signer(clock: ManualClock | None = None) -> UrlSigner:
    return UrlSigner(KEY, "http://echo.test/base", clock or ManualClock())


@given(FIELDS, TEXT)
def test_what_was_signed_is_what_comes_back(fields: dict[str, str], name: str) -> None:
    made = signer().sign("read", f"/objects/{name}", fields, 60)
    path, items = parse(made.url)
    assert path == f"/objects/{name}"
    found = signer().verify("read", path, items)
    assert {name: found[name] for name in fields} == fields


@given(FIELDS, st.data())
def test_any_change_of_a_field_is_refused(fields: dict[str, str], data: st.DataObject) -> None:
    path, items = parse(signer().sign("read", "/objects/a", fields, 60).url)
    at = data.draw(st.integers(0, len(items) - 1))
    name, value = items[at]
    changed = data.draw(
        st.one_of(
            TEXT.filter(lambda text: text != value).map(lambda text: [*items[:at], (name, text), *items[at + 1 :]]),
            st.just(items[:at] + items[at + 1 :]),
            st.just([*items, ("extra", "1")]),
            st.just([*items, (name, value)]),
            st.just([*items[:at], (f"{name}x", value), *items[at + 1 :]]),
        )
    )
    with pytest.raises(SignatureInvalidError):
        signer().verify("read", path, changed)


@given(TEXT, TEXT)
def test_another_path_is_refused(signed: str, asked: str) -> None:
    _, items = parse(signer().sign("read", signed, {}, 60).url)
    if signed == asked:
        assert signer().verify("read", asked, items)
    else:
        with pytest.raises(SignatureInvalidError):
            signer().verify("read", asked, items)


@pytest.mark.parametrize(("access", "key"), [("upload", KEY), ("read", bytes(32))])
def test_other_access_and_other_key_are_refused(access: str, key: bytes) -> None:
    path, items = parse(signer().sign("read", "/objects/a", {}, 60).url)
    with pytest.raises(SignatureInvalidError):
        UrlSigner(key, "http://echo.test", ManualClock()).verify(access, path, items)


def test_url_is_good_until_its_expiry_and_not_a_second_longer() -> None:
    clock = ManualClock()
    signed = signer(clock).sign("read", "/objects/a", {}, 60)
    path, items = parse(signed.url)
    clock.advance(59)
    assert signer(clock).remaining_s(signer(clock).verify("read", path, items)) == 1
    clock.advance(1)
    assert clock.now() == signed.expires_at
    with pytest.raises(SignatureExpiredError):
        signer(clock).verify("read", path, items)


def test_changed_and_expired_is_invalid_first() -> None:
    clock = ManualClock()
    path, items = parse(signer(clock).sign("read", "/objects/a", {}, 60).url)
    clock.advance(61)
    with pytest.raises(SignatureInvalidError):
        signer(clock).verify("read", path, [*items, ("x", "")])


@pytest.mark.parametrize("expires_in_s", [0, -1])
def test_url_that_never_works_is_not_made(expires_in_s: int) -> None:
    with pytest.raises(InvalidRequestError):
        signer().sign("read", "/objects/a", {}, expires_in_s)
