"""Transcoding with ffmpeg, for Echo."""
