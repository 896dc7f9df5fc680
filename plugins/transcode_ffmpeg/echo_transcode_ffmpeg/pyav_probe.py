"""Print what ``ffprobe -show_format -show_streams -of json`` would: ``python -I pyav_probe.py OPTIONS FILE``.

Stands in for ffprobe on machines that have none. A program of its own, so that a decoder that crashes or hangs on a
hostile file takes nothing else with it. OPTIONS is JSON: the demuxer's options.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

import av
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorTrc

FIRST_FRAME_PACKETS = 200
"""The rotation is known only from a decoded frame; one that has not come by then will not come."""
PROGRESSIVE_FIELD_ORDERS = (0, 1)  # AV_FIELD_UNKNOWN, AV_FIELD_PROGRESSIVE
TRANSFERS = {
    ColorTrc.BT709.value: "bt709",
    ColorTrc.SMPTE2084.value: "smpte2084",
    ColorTrc.ARIB_STD_B67.value: "arib-std-b67",
}


def _display(container: Any, stream: Any) -> dict[str, Any]:
    """The rotation, and the matrix as ffprobe writes it."""
    try:
        for number, packet in enumerate(container.demux(stream)):
            for frame in packet.decode():
                return {"rotation": int(frame.rotation), "displaymatrix": _matrix(frame)}
            if number > FIRST_FRAME_PACKETS:
                break
    except av.FFmpegError:
        pass
    return {"rotation": 0}


def _matrix(frame: Any) -> str:
    for data in frame.side_data:
        if data.type == Type.DISPLAYMATRIX:
            numbers = struct.unpack("=9i", bytes(data)[:36])
            return "".join(f"{row:08}: {' '.join(map(str, numbers[3 * row : 3 * row + 3]))}\n" for row in range(3))
    return ""


def _seconds(value: int | None, base: Any) -> str | None:
    return None if value is None else f"{float(value * base):.6f}"


def _flags(stream: Any) -> list[str]:
    return [flag.name for flag in stream.disposition]


def _common(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    return {
        "codec_type": stream.type,
        "codec_name": context.codec.canonical_name if context is not None else "",
        "profile": (context.profile or "") if context is not None else "",
        "bit_rate": str(context.bit_rate) if context is not None and context.bit_rate else None,
        "start_time": _seconds(stream.start_time, stream.time_base),
        "duration": _seconds(stream.duration, stream.time_base),
        "disposition": {name: int(name in _flags(stream)) for name in ("attached_pic", "default", "forced")},
        "tags": {"language": stream.language or "", "title": stream.metadata.get("title", "")},
    }


def _video(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    aspect = context.sample_aspect_ratio
    interlaced = context.field_order not in PROGRESSIVE_FIELD_ORDERS
    return {
        "width": context.width,
        "height": context.height,
        "pix_fmt": context.pix_fmt or "",
        "level": context.level,
        "sample_aspect_ratio": f"{aspect.numerator}:{aspect.denominator}" if aspect else "",
        "avg_frame_rate": str(stream.average_rate or "0/0"),
        "r_frame_rate": str(stream.base_rate or "0/0"),
        "color_transfer": TRANSFERS.get(int(context.color_trc), ""),
        "field_order": "tt" if interlaced else "progressive",
    }


def _audio(stream: Any) -> dict[str, Any]:
    return {"channels": stream.codec_context.channels, "sample_rate": str(stream.codec_context.sample_rate)}


def main() -> int:
    """Probe the file; exit status 1 with a line on stderr when it cannot be read."""
    options, path = json.loads(sys.argv[1]), sys.argv[2]
    try:
        with av.open(path, options=options, metadata_errors="replace") as container:
            streams: list[dict[str, Any]] = []
            for stream in container.streams:
                facts: dict[str, Any] = {"codec_type": stream.type}
                if stream.type in ("video", "audio", "subtitle"):
                    facts |= _common(stream)
                if stream.type == "video":
                    facts |= _video(stream)
                elif stream.type == "audio":
                    facts |= _audio(stream)
                streams.append(facts)
            pictures = [
                (stream, facts)
                for stream, facts in zip(container.streams, streams, strict=True)
                if stream.type == "video" and not facts["disposition"]["attached_pic"]
            ]
            for stream, facts in pictures[:1]:
                if facts["codec_name"] not in options.get("codec_whitelist", "").split(","):
                    continue  # this decoder must not see the file
                facts["side_data_list"] = [_display(container, stream)]
            duration = _seconds(container.duration, 1 / av.time_base)
            overall = {
                "format_name": container.format.name,
                "duration": duration,
                "start_time": _seconds(container.start_time, 1 / av.time_base),
                "bit_rate": str(container.bit_rate) if container.bit_rate else None,
            }
    except (av.FFmpegError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({"streams": streams, "format": overall}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
