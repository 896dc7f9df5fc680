"""Which folder is served as the web application, and what of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import echo_core
from echo_core.adapters.settings import Settings, WebSettings
from echo_core.adapters.settings_errors import ConfigurationError
from echo_core.adapters.web_build import find_web_build
from echo_core.entrypoints.http import web_files
from echo_core.entrypoints.http.web_files import BuildError, load_build, preferred_encoding


def test_a_named_folder_without_a_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"web\.dir: there is no index\.html"):
        find_web_build(Settings(web=WebSettings(dir=str(tmp_path))))
    (tmp_path / "index.html").write_text("<!doctype html>")
    assert find_web_build(Settings(web=WebSettings(dir=str(tmp_path)))) == tmp_path


def test_the_build_of_a_checkout_is_found_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo_core, "__file__", str(tmp_path / "echo_core" / "__init__.py"))
    assert find_web_build(Settings()) is None
    for folder in ("web/dist", "echo_core/_web"):  # the packed one goes first
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "index.html").write_text("<!doctype html>")
        assert find_web_build(Settings()) == tmp_path / folder


def test_hidden_files_and_links_that_lead_out_are_left_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    root = tmp_path / "dist"
    (root / "assets").mkdir(parents=True)
    (root / ".vite").mkdir()
    (root / "index.html").write_text("<!doctype html>")
    (root / ".vite" / "manifest.json").write_text("{}")
    (root / ".env").write_text("A=b")
    (root / "assets" / "leak.txt").symlink_to(secret)
    (root / "assets" / "outside").symlink_to(tmp_path, target_is_directory=True)
    (root / "assets" / "same.html").symlink_to(root / "index.html")
    (root / "gone.txt").symlink_to(tmp_path / "nothing")
    assert sorted(load_build(root)) == ["/assets/same.html", "/index.html"]


def test_what_is_too_large_or_has_no_page_is_no_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match="no index"):
        load_build(tmp_path)
    (tmp_path / "index.html").write_text("x" * 100)
    monkeypatch.setattr(web_files, "MAX_BUILD_BYTES", 99)
    with pytest.raises(BuildError, match="more than 99 bytes"):
        load_build(tmp_path)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", ""),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("br;q=0.5, gzip;q=0.9", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("br;q=0, *", "gzip"),
        ("*", "br"),
        ("*;q=0", ""),
        ("identity", ""),
        ("identity;q=1, br;q=0.2", ""),
        ("identity;q=0.5, br", "br"),
        ("identity;q=0", ""),
        ("br;q=high, gzip;q=0.1", "gzip"),
        ("br;q=1.5", ""),
        ("br;q=0.0001", ""),
        (" br ; q=1.000 ,", "br"),
        ("brotli, x-br", ""),
    ],
)
def test_the_encoding_is_the_one_that_is_wanted_most(header: str, wanted: str) -> None:
    assert preferred_encoding(header, ("br", "gzip")) == wanted


@given(st.text(max_size=60), st.lists(st.sampled_from(["br", "gzip"]), unique=True))
def test_no_header_brings_what_there_is_not(header: str, available: list[str]) -> None:
    assert preferred_encoding(header, available) in {"", *available}
