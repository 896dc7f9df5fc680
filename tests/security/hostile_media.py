"""Files made to hurt: scripts named as videos, claims that nothing stands behind, bombs."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import imageio_ffmpeg

PICTURE = "-f lavfi -i testsrc2=size=160x90:rate=10:duration=2"
SOUND = "-f lavfi -i sine=frequency=440:duration=2"
ENORMOUS = (16000, 16000)
"""ffmpeg itself refuses more than 2^28 pixels."""
X264 = "-c:v libx264 -preset ultrafast -profile:v main -pix_fmt yuv420p -g 10"


def ffmpeg(arguments: str, path: Path, data: bytes | None = None) -> bytes:
    """Make a file with an unconfined ffmpeg; ``data`` is its stdin."""
    argv = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments.split(), path]
    subprocess.run(argv, check=True, timeout=60, input=data, stdin=None if data is not None else subprocess.DEVNULL)
    return path.read_bytes()


def normal_mp4(path: Path) -> bytes:
    return ffmpeg(f"{PICTURE} {SOUND} {X264} -c:a aac", path)


def scripts(url: str, secret: Path, neighbour: Path) -> dict[str, str]:
    """What demuxers would follow to ``url`` (of a loopback server), to a secret file and to a neighbour's video."""
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:0\n{}#EXT-X-ENDLIST\n"
    segment = "#EXTINF:5,\n{}\n"
    mpd = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT10S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    )
    return {
        "hls http": hls.format(segment.format(f"{url}/hls.ts")),
        "hls http key": hls.format(f'#EXT-X-KEY:METHOD=AES-128,URI="{url}/key"\n' + segment.format(neighbour.name)),
        "hls secret": hls.format(segment.format(f"file://{secret}")),
        "hls secret as a video": hls.format(segment.format(f"concat:{neighbour}|{secret}")),
        "hls neighbour": hls.format(segment.format(neighbour.name)),
        "hls neighbour, absolute": hls.format(segment.format(f"file:{neighbour}")),
        "hls part of a file": hls.format(segment.format(f"subfile,,start,0,end,99999,,:{neighbour}")),
        "hls data": hls.format(segment.format("data:video/mp2t;base64,R0BBEAA=")),
        "ffconcat neighbour": f"ffconcat version 1.0\nfile {neighbour.name}\n",
        "ffconcat secret": f"ffconcat version 1.0\nfile '{secret}'\n",
        "ffconcat http": f"ffconcat version 1.0\nfile {url}/concat.mp4\n",
        "dash http": mpd.format(f"{url}/dash.mp4"),
        "dash neighbour": mpd.format(f"file://{neighbour}"),
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="{url}/svg"/></svg>',
        "ism": f'<?xml version="1.0"?><SmoothStreamingMedia><c><url>{url}/ism</url></c></SmoothStreamingMedia>',
        "realtext": f"rtsp://127.0.0.1/x\n{url}/ram.mp4\n",
        "asx": f'<asx version="3.0"><entry><ref href="{url}/asx.wmv"/></entry></asx>',
        "pls": f"[playlist]\nFile1={url}/pls.mp3\nNumberOfEntries=1\n",
        "imf": f'<?xml version="1.0"?><CompositionPlaylist><Path>{secret}</Path></CompositionPlaylist>',
        "image pattern": f"{neighbour.parent}/%d.png",
        "lavfi": f"movie={neighbour}",
    }


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def change_box(data: bytes, path: tuple[bytes, ...], change: bytes | None = None, *, times: int = 1) -> bytes:
    """Replace the content of the first box at ``path``, or repeat that box; sizes of its parents follow."""
    made, at = b"", 0
    done = False
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + size]
        if kind == path[0] and not done:
            done = True
            if len(path) > 1:
                made += box(kind, change_box(content, path[1:], change, times=times))
            else:
                made += box(kind, content if change is None else change) * times
        else:
            made += data[at : at + size]
        at += size
    return made


def with_external_track(mp4: bytes, target: Path) -> bytes:
    """An MP4 whose picture lies in another file, as QuickTime allows: an alias record in its data references."""
    name = str(target).encode()
    alias = bytes(10) + bytes([0]) + bytes(27) + bytes(12) + bytes([len(target.name)])
    alias += target.name.encode().ljust(63, b"\0")[:63] + bytes(16) + struct.pack(">hh", -1, -1) + bytes(16)
    # Type 2: the absolute path, with colons for slashes after the volume's name, which is empty here.
    padded = name + bytes(len(name) % 2)
    alias += struct.pack(">HH", 2, len(padded)) + padded + struct.pack(">HH", 0xFFFF, 0)
    entry = box(b"alis", bytes(4) + alias)
    content = bytes(4) + struct.pack(">I", 1) + entry
    return change_box(mp4, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"), content)


def png(width: int, height: int) -> bytes:
    """A one-colour picture of one bit a pixel: ``ENORMOUS`` is a tenth of a megabyte, and most of a gigabyte as RGB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(1), bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row * 64) for _ in range(height // 64))
    packed += packer.compress(row * (height % 64)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0))
    return (b"\x89PNG\r\n\x1a\n" + header + chunk(b"PLTE", b"\0\0\0\xff\xff\xff") + chunk(b"IDAT", packed)) + chunk(
        b"IEND", b""
    )


def bomb(path: Path) -> bytes:
    """Small pictures, so that all looks well, then an enormous one."""
    return ffmpeg("-f png_pipe -framerate 10 -i - -c copy -f mov", path, png(64, 64) * 20 + png(*ENORMOUS))


def enormous_from_the_start(path: Path) -> bytes:
    return ffmpeg("-f png_pipe -framerate 10 -i - -c copy -f mov", path, png(*ENORMOUS))


def with_endless_duration(mp4: bytes) -> bytes:
    """2^31 seconds, says the header."""
    at = mp4.index(b"mvhd")
    header = bytearray(mp4)
    header[at + 16 : at + 24] = struct.pack(">II", 1, 0x7FFFFFFF)
    for kind in (b"mdhd", b"tkhd"):
        where = header.index(kind)
        offset = where + (16 if kind == b"mdhd" else 24)
        header[offset : offset + (8 if kind == b"mdhd" else 4)] = (
            struct.pack(">II", 1, 0x7FFFFFFF) if kind == b"mdhd" else struct.pack(">I", 0x7FFFFFFF)
        )
    at = header.index(b"stts")  # one entry: 20 samples, each of half of eternity
    header[at + 12 : at + 20] = struct.pack(">II", 20, 0x06666666)
    return bytes(header)


def with_many_tracks(mp4: bytes, tracks: int) -> bytes:
    return change_box(mp4, (b"moov", b"trak"), times=tracks)


def with_absurd_rate(path: Path) -> bytes:
    """An AVI of 10^9 frames per second."""
    avi = bytearray(ffmpeg(f"{PICTURE} -c:v mpeg4 -f avi", path))
    at = avi.index(b"strh") + 8
    avi[at + 20 : at + 28] = struct.pack("<II", 1, 1_000_000_000)
    return bytes(avi)


def with_enormous_box(mp4: bytes) -> bytes:
    """The data, says its header, go on for exabytes."""
    at = mp4.index(b"mdat") - 4
    free = mp4.index(b"free") - 4
    assert free + 8 == at
    return mp4[:free] + struct.pack(">I4sQ", 1, b"mdat", 1 << 62) + mp4[at + 8 :]
