"""What is refused before anything opens it."""

from __future__ import annotations

import pytest

from echo_core.application.processing import SNIFF_BYTES, looks_like_text


@pytest.mark.parametrize(
    "head",
    [
        b"#EXTM3U\n#EXT-X-VERSION:3\n",
        b"ffconcat version 1.0\nfile 'neighbour.mp4'\n",
        b"\xef\xbb\xbf<?xml version='1.0'?><MPD/>",
        b"  <!DOCTYPE html><html>",
        b'{"not": "a video"}',
        "Grüße, das ist ein Brief.\n".encode() * 300,
    ],
)
def test_text_is_recognised_whatever_it_is_called(head: bytes) -> None:
    assert looks_like_text(head[:SNIFF_BYTES])


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41",
        b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\x01",
        b"RIFF\x24\x08\0\0AVI LIST",
        b"G@\0\x10\0\0\xb0\r\0\x01\xc1\0\0\0\x01\xf0\0",
        b"ID3\x04\0\0\0\0\0#TSSE",
        b"\xff\xfb\x90d\0\x0f\xf0",
        b"",
    ],
)
def test_containers_of_video_and_sound_are_not_text(head: bytes) -> None:
    assert not looks_like_text(head)
