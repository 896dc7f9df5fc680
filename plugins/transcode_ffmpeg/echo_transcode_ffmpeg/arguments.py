"""Arguments that every call of ffmpeg and ffprobe shares: what they may open, and what they must not tell."""

from __future__ import annotations

from pathlib import Path

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mp3,aac,flac,wav,gif,mxf"  # no script, no list
)
"""Demuxers that may open a file. Without this list ffmpeg obeys playlists and scripts named ``.mp4`` and shows the
neighbour's files; the list of protocols alone does not stop that."""
CODECS = ",".join(
    (
        "h264,hevc,av1,libdav1d,libaom-av1,vp8,vp9,libvpx,libvpx-vp9,theora",
        "mpeg1video,mpeg2video,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,h263,flv,wmv1,wmv2,wmv3,vc1",
        "prores,dnxhd,mjpeg,dvvideo,ffv1,rawvideo,gif,png",
        "aac,aac_latm,mp3,mp3float,mp2,mp2float,ac3,eac3,opus,libopus,vorbis,flac,alac,dca,truehd",
        "ass,ssa,subrip,srt,mov_text,webvtt,text,pgssub,dvdsub,dvbsub,cc_dec",  # ffprobe opens them all
        "wmav1,wmav2,wmapro,amrnb,amrwb,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,adpcm_swf,pcm_mulaw,pcm_alaw",
        "pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_u8,pcm_s8,pcm_f32le,pcm_f32be,pcm_bluray",
    )
)
"""Decoders that may see a file: what cameras, phones, screen recorders and editors write. Each of ffmpeg's hundreds of
others is code that hostile bytes could reach (CVE-2026-8461 was in one that nobody needs)."""
TEXT_SUBTITLES = frozenset({"ass", "ssa", "subrip", "srt", "mov_text", "webvtt", "text"})
OTHER_NAMES = frozenset({"flv1", "msmpeg4v3", "amr_nb", "amr_wb", "dts"})
"""Codecs whose decoders, which ``CODECS`` lists, have another name."""
MAX_ALLOC_BYTES = 2_000_000_000
INPUT: dict[str, str] = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "codec_whitelist": CODECS}
PROBE: dict[str, str] = {**INPUT, "analyzeduration": "20000000", "probesize": "50000000"}
NO_METADATA: dict[str, str] = {"map_metadata": "-1", "map_metadata:s": "-1", "map_chapters": "-1"}
"""Options of every output (T10)."""
KEEP_TIMES: dict[str, str] = {
    "avoid_negative_ts": "disabled",
    "hls_segment_options": "movflags=+frag_discont+negative_cts_offsets:use_editlist=0",
}
"""Without these, sound and picture come out 45 ms apart: the muxer moves each output by its own B-frames."""


def keep_times(segments_before: int) -> dict[str, str]:
    """``KEEP_TIMES`` for an output behind so many segments of others: its fragments are numbered on."""
    if not segments_before:
        return KEEP_TIMES
    options = f"{KEEP_TIMES['hls_segment_options']}:fragment_index={segments_before + 1}"
    return {**KEEP_TIMES, "hls_segment_options": options}


def file_url(path: Path) -> str:
    """The name that ffmpeg cannot take for an option or another protocol."""
    return f"file:{path}"


def can_decode(codec: str) -> bool:
    """Whether one of the permitted decoders reads this codec."""
    return codec in OTHER_NAMES or codec in CODECS.split(",")


def command(ffmpeg: Path) -> list[str]:
    """Program and global options."""
    return [str(ffmpeg), "-nostdin", "-hide_banner", "-v", "error", "-y", "-max_alloc", str(MAX_ALLOC_BYTES)]


PROGRESS = ("-progress", "pipe:1", "-nostats")


def hls_output(name: str, segment_s: float) -> dict[str, str]:
    """Options for one fragmented MP4 ``<name>.mp4`` described by the playlist ``<name>.m3u8``.

    In the working directory, by relative names, because the muxer would read ``%`` in a directory's name as a pattern.
    """
    return {
        "f": "hls",
        "hls_time": f"{segment_s:.6f}",
        "hls_playlist_type": "vod",
        "hls_list_size": "0",
        "hls_segment_type": "fmp4",
        "hls_flags": "independent_segments+single_file",
        "hls_segment_filename": f"{name}.mp4",
        **NO_METADATA,
    }
