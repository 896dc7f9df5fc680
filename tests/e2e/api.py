"""Echo's public contract as a small client, for tests."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from websockets.sync.client import ClientConnection, connect

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For ``verify``, where the server is on loopback: reading the authorities' certificates takes 20 ms of each client."""


def is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", verify=NO_TLS).status_code == 200
    except httpx2.ConnectError:
        return False


class Api:
    """One caller of one instance."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self.http = httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=30, verify=NO_TLS
        )

    def call(self, method: str, path: str, *, expect: int, **arguments: object) -> dict[str, object]:
        response = self.http.request(method, path, **arguments)  # type: ignore[arg-type]
        assert response.status_code == expect, f"{method} {path}: {response.status_code} {response.text}"
        body: dict[str, object] = response.json() if response.content else {}
        return body

    def upload(self, clip: Path, *, filename: str | None = None) -> tuple[str, str]:
        """Upload a file; returns (video id, job id)."""
        size = clip.stat().st_size
        name = filename or clip.name
        begun = self.call(
            "POST",
            "/api/v1/videos/signed-upload-url",
            expect=201,
            json={"filename": name, "contentType": "video/mp4", "sizeBytes": size},
        )
        sent = httpx2.put(
            str(begun["uploadUrl"]),
            content=clip.read_bytes(),
            headers={"Content-Type": "video/mp4"},
            verify=NO_TLS,
        )
        assert sent.status_code in {200, 201}, sent.text
        completed = self.call(
            "POST",
            "/api/v1/videos/upload-complete",
            expect=202,
            json={
                "videoId": begun["videoId"],
                "originalFilename": name,
                "storagePath": begun["storagePath"],
                "contentType": "video/mp4",
                "sizeBytes": size,
            },
        )
        return str(completed["videoId"]), str(completed["jobId"])

    def job(self, job_id: str) -> dict[str, object]:
        return self.call("GET", f"/api/v1/videos/jobs/{job_id}", expect=200)

    def details(self, video_id: str) -> dict[str, object]:
        return self.call("GET", f"/api/v1/videos/{video_id}/details", expect=200)

    def wait_for_job(self, job_id: str, *, deadline_s: float = 120) -> dict[str, object]:
        """The job once it has ended."""
        end = time.monotonic() + deadline_s
        while True:
            try:
                job = self.job(job_id)
                if job["state"] in {"succeeded", "failed", "cancelled"}:
                    return job
            except (httpx2.TransportError, AssertionError) as error:
                job = {"error": str(error)}
            assert time.monotonic() < end, f"the job has not ended within {deadline_s} s: {json.dumps(job, indent=1)}"
            time.sleep(0.1)

    @property
    def user_id(self) -> str:
        payload = self.token.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])

    @contextmanager
    def watch(self, last_event_id: int | None = None) -> Iterator[ClientConnection]:
        """An authenticated WebSocket; ``ready`` is the next frame."""
        auth: dict[str, object] = {"type": "auth", "token": self.token}
        if last_event_id is not None:
            auth["lastEventId"] = last_event_id
        with connect(f"{self.url.replace('http', 'ws', 1)}/ws/jobs/status/{self.user_id}") as socket:
            socket.send(json.dumps(auth))
            yield socket


def frames(socket: ClientConnection, *, timeout_s: float = 60) -> Iterator[dict[str, object]]:
    """Frames as they come, until the socket closes or is silent for ``timeout_s``."""
    while True:
        yield json.loads(socket.recv(timeout=timeout_s))
