"""Users who upload, change their minds and watch, whatever happens to the servers meanwhile."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx2
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.e2e.api import NO_TLS, Api

PATIENCE_S = 90.0
POISON_SHARE = 0.08
CHANGE_OF_MIND_SHARE = 0.2
RETRIED = frozenset({429, 500, 502, 503, 507})
UPLOAD_URL = "/api/v1/videos/signed-upload-url"
COMPLETE = "/api/v1/videos/upload-complete"


@dataclass
class Submission:
    """A video that the API has accepted (202)."""

    video_id: str
    job_id: str
    poison: bool
    cancelled: bool = False
    deleted: bool = False
    retried: bool = False


def full(response: httpx2.Response) -> bool:
    """Whether this is the answer of a disk without room, with what to do."""
    return response.status_code == 507 and bool(response.json().get("remedy"))


class ImpatientError(AssertionError):
    """A call never came through."""


class Person:
    """One user: uploads from a thread of its own, follows the WebSocket from another."""

    def __init__(self, api: Api, clips: list[Path], poison: list[Path], rng: random.Random, *, at_once: int) -> None:
        self.api = api
        self.submissions: list[Submission] = []
        self.server_errors: list[str] = []
        self.troubles: list[str] = []
        self._clips, self._poison, self._rng, self._at_once = clips, poison, rng, at_once
        self._stop = threading.Event()
        self._watching = threading.Event()
        self.last_event = 0
        self.events: list[tuple[int, str]] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in (self._upload_on, self._watch)
        ]

    def start(self) -> None:
        """Upload and watch."""
        self._threads[0].start()
        self.watch()

    def watch(self) -> None:
        """Follow the WebSocket."""
        self._watching.set()
        self._threads[1].start()

    def stop_uploading(self) -> None:
        self._stop.set()
        self._join(self._threads[0], PATIENCE_S + 10)

    def stop_watching(self) -> None:
        self._watching.clear()
        self._join(self._threads[1], 20)
        self.api.http.close()

    def _join(self, thread: threading.Thread, deadline_s: float) -> None:
        if thread.ident is not None:
            thread.join(deadline_s)
            assert not thread.is_alive(), "somebody is still waiting for an answer"

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.troubles.append(f"{work.__name__}: {type(error).__name__}: {error}")

    # --- uploading --------------------------------------------------------------------------------------------------

    def _upload_on(self) -> None:
        while not self._stop.is_set():
            unfinished = 0
            for submission in self.submissions[-self._at_once * 2 :]:
                if not submission.deleted and not self.is_finished(submission):
                    unfinished += 1
            if unfinished >= self._at_once:
                self._stop.wait(0.2)
                continue
            poison = self._rng.random() < POISON_SHARE
            self.upload(self._rng.choice(self._poison if poison else self._clips), poison=poison)
            if self._rng.random() < CHANGE_OF_MIND_SHARE:
                self._rng.choice((self.cancel, self.retry, self.delete))()

    def is_finished(self, submission: Submission) -> bool:
        try:
            job = self.api.http.get(f"/api/v1/videos/jobs/{submission.job_id}")
        except httpx2.TransportError:
            return False
        return job.status_code == 404 or (
            job.status_code == 200 and job.json()["state"] in {"succeeded", "failed", "cancelled"}
        )

    def call(self, method: str, path: str, *, patience_s: float = PATIENCE_S, **arguments: object) -> httpx2.Response:
        """Ask again until the server has an answer: what a good client does."""
        end = time.monotonic() + patience_s
        while True:
            try:
                response = self.api.http.request(method, path, **arguments)  # type: ignore[arg-type]
                if response.status_code not in RETRIED and "idempotency_in_progress" not in response.text:
                    return response
                told = f"{method} {path}: {response.status_code} {response.text[:300]}"
                # Nobody knows when a full disk will have room again; everything else says when to come back.
                if response.status_code == 500 or ("retry-after" not in response.headers and not full(response)):
                    self.server_errors.append(told)
            except httpx2.TransportError as error:
                told = f"{method} {path}: {type(error).__name__}: {error}"
            if time.monotonic() > end:
                raise ImpatientError(told)
            time.sleep(0.1)

    def upload(self, clip: Path, *, poison: bool = False) -> Submission:
        content = clip.read_bytes()
        size = len(content)
        wanted = {"filename": clip.name, "contentType": "video/mp4", "sizeBytes": size}
        begun = self.call("POST", UPLOAD_URL, json=wanted, headers={"Idempotency-Key": str(uuid4())})
        assert begun.status_code == 201, f"begin: {begun.status_code} {begun.text}"
        ticket = begun.json()
        self._send(ticket, content)
        body = {
            "videoId": ticket["videoId"],
            "originalFilename": clip.name,
            "storagePath": ticket["storagePath"],
            "contentType": "video/mp4",
            "sizeBytes": size,
        }
        completed = self.call("POST", COMPLETE, json=body)
        assert completed.status_code == 202, f"complete: {completed.status_code} {completed.text}"
        if self._rng.random() < 0.2:
            again = self.call("POST", COMPLETE, json=body)
            assert again.status_code == 404 or again.json()["jobId"] == completed.json()["jobId"], again.text
        submission = Submission(ticket["videoId"], completed.json()["jobId"], poison)
        self.submissions.append(submission)
        return submission

    def _send(self, ticket: dict[str, str], content: bytes) -> None:
        url, offset, end = ticket["uploadUrl"], 0, time.monotonic() + PATIENCE_S
        while True:
            headers = {"Content-Type": "video/mp4"}
            if offset == len(content):  # all of it is there, only the end was not reached
                headers["Content-Range"] = f"bytes */{len(content)}"
            elif offset:
                headers["Content-Range"] = f"bytes {offset}-{len(content) - 1}/{len(content)}"
            try:
                sent = httpx2.put(url, content=content[offset:], headers=headers, timeout=30, verify=NO_TLS)
                if sent.status_code in {200, 201}:
                    return
            except httpx2.TransportError:
                time.sleep(0.1)
            assert time.monotonic() < end, "the bytes never came through"
            resumed = self.call("POST", f"/api/v1/videos/{ticket['videoId']}/upload/resume").json()
            if resumed["complete"]:
                return
            url, offset = resumed["uploadUrl"], resumed["offsetBytes"]

    # --- changing one's mind ----------------------------------------------------------------------------------------

    def some_submission(self) -> Submission | None:
        here = [s for s in self.submissions[-6:] if not s.deleted]
        return self._rng.choice(here) if here else None

    def cancel(self) -> str:
        if (submission := self.some_submission()) is None:
            return "nothing to cancel"
        submission.cancelled = True
        answer = self.call("POST", f"/api/v1/videos/jobs/{submission.job_id}/cancel")
        assert answer.status_code in {200, 202, 204, 409}, f"cancel: {answer.status_code} {answer.text}"
        return submission.job_id

    def retry(self) -> str:
        if (submission := self.some_submission()) is None:
            return "nothing to retry"
        answer = self.call("POST", f"/api/v1/videos/jobs/{submission.job_id}/retry")
        assert answer.status_code in {200, 202, 409}, f"retry: {answer.status_code} {answer.text}"
        return submission.job_id

    def delete(self) -> str:
        if (submission := self.some_submission()) is None:
            return "nothing to delete"
        submission.deleted = True
        answer = self.call("DELETE", f"/api/v1/videos/{submission.video_id}")
        assert answer.status_code in {204, 404}, f"delete: {answer.status_code} {answer.text}"
        return submission.video_id

    def delete_all(self) -> None:
        """Everything that the API still lists, unfinished uploads included."""
        while videos := self.call("GET", "/api/v1/videos?limit=50").json()["items"]:
            for video in videos:
                answer = self.call("DELETE", f"/api/v1/videos/{video['videoId']}")
                assert answer.status_code in {204, 404}, f"delete: {answer.status_code} {answer.text}"

    def endings(self) -> Counter[str]:
        """How the accepted videos stand."""
        found: Counter[str] = Counter()
        for submission in self.submissions:
            details = self.call("GET", f"/api/v1/videos/{submission.video_id}/details")
            found["deleted" if details.status_code == 404 else details.json()["status"]] += 1
        return found

    # --- watching ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        address = f"{self.api.url.replace('http', 'ws', 1)}/ws/jobs/status/{self.api.user_id}"
        while self._watching.is_set():
            try:
                with connect(address, open_timeout=5, close_timeout=1) as socket:
                    hello = {"type": "auth", "token": self.api.token, "lastEventId": self.last_event}
                    socket.send(json.dumps(hello))
                    while self._watching.is_set():
                        try:
                            self._take(json.loads(socket.recv(timeout=0.5)))
                        except TimeoutError:
                            continue
            except (OSError, WebSocketException, EOFError):
                time.sleep(0.1)

    def _take(self, frame: dict[str, object]) -> None:
        number = frame.get("id")
        if frame["type"] == "snapshot":
            # A person whose every event is still held is never given a snapshot in their place.
            self.troubles.append(f"snapshot after event {self.last_event}: {frame.get('reason')}")
        elif isinstance(number, int):
            if number != self.last_event + 1:
                self.troubles.append(f"event {number} came after {self.last_event}")
            self.last_event = number
            self.events.append((number, str(frame["type"])))
