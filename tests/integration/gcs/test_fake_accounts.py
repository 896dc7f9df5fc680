"""The fake's service accounts: tokens, metadata server, signBlob, permissions, Pub/Sub deliveries; and the program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import google.auth.transport.requests
import httpx2
import pytest
from google.api_core.exceptions import Forbidden
from google.auth import iam
from google.auth.exceptions import GoogleAuthError, RefreshError
from google.cloud import storage
from google.oauth2 import id_token, service_account

from tests.fakes.gcs.accounts import JWT_BEARER
from tests.fakes.gcs.server import FakeGcs

BUCKET = "echo-videos"
ROOT = Path(__file__).parents[3]

ON_A_VIRTUAL_MACHINE = """
import google.auth, json, sys
from google.cloud import storage
credentials, project = google.auth.default()
client = storage.Client(project=project, credentials=credentials, client_options={"api_endpoint": sys.argv[1]})
client.bucket("echo-videos").blob("from-a-machine").upload_from_string(b"1")
print(json.dumps([project, client._credentials.service_account_email]))
client.close()
"""


def test_tokens_last_an_hour(gcs: FakeGcs, client: storage.Client) -> None:
    gcs.put_object(BUCKET, "a", b"1")
    client.bucket(BUCKET).get_blob("a")
    gcs.advance(3600)
    client.bucket(BUCKET).get_blob("a")
    asked = [(request.path.rsplit("/", 1)[-1], request.status) for request in gcs.log]
    assert asked == [("token", 200), ("a", 200), ("a", 401), ("token", 200), ("a", 200)]


def test_nobody_without_a_token(gcs: FakeGcs, http: httpx2.Client) -> None:
    for method, path in (
        ("GET", f"/storage/v1/b/{BUCKET}"),
        ("GET", f"/storage/v1/b/{BUCKET}/o/a"),
        ("DELETE", f"/storage/v1/b/{BUCKET}/o/a"),
        ("POST", f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=a"),
        ("POST", f"/v1/projects/-/serviceAccounts/{gcs.email}:signBlob"),
    ):
        answer = http.request(method, gcs.url + path, headers={"Authorization": "Bearer wrong"})
        assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (401, "authError")


def test_an_assertion_is_verified(gcs: FakeGcs, http: httpx2.Client) -> None:
    info = gcs.service_account_info()
    others = gcs.service_account_info("other@example.iam.gserviceaccount.com")
    stolen = service_account.Credentials.from_service_account_info({**info, "private_key": others["private_key"]})
    with pytest.raises(RefreshError, match="invalid_grant"):
        stolen.refresh(google.auth.transport.requests.Request())
    answer = http.post(info["token_uri"], data={"grant_type": JWT_BEARER, "assertion": "a.b.c"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_default_credentials_of_a_virtual_machine(gcs: FakeGcs, tmp_path: Path) -> None:
    names = ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **dict.fromkeys(names, gcs.address)}
    command = [sys.executable, "-c", ON_A_VIRTUAL_MACHINE, gcs.url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [gcs.project, gcs.email]
    assert gcs.objects(BUCKET)["from-a-machine"].read() == b"1"


def test_sign_blob(gcs: FakeGcs, client: storage.Client, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"{gcs.url}/v1/projects/-/serviceAccounts/{{}}:signBlob"
    monkeypatch.setattr(iam, "_IAM_SIGN_ENDPOINT", endpoint)
    gcs.put_object(BUCKET, "a", b"1")

    class Keyless(google.auth.credentials.Signing):
        def __init__(self) -> None:
            self.signer = iam.Signer(google.auth.transport.requests.Request(), client._credentials, gcs.email)
            self.signer_email = gcs.email

        def sign_bytes(self, message: bytes) -> bytes:
            return bytes(self.signer.sign(message))

        signer_email = None
        signer = None

    url = (
        client.bucket(BUCKET)
        .blob("a")
        .generate_signed_url(version="v4", expiration=60, credentials=Keyless(), api_access_endpoint=gcs.url)
    )
    assert http.get(url).content == b"1"
    gcs.deny("iam.serviceAccounts.signBlob")
    with pytest.raises(GoogleAuthError, match=r"iam\.serviceAccounts\.signBlob"):
        Keyless().sign_bytes(b"1")


@pytest.mark.parametrize(
    ("permission", "does"),
    [
        ("storage.objects.create", lambda bucket: bucket.blob("b").upload_from_string(b"1")),
        ("storage.objects.create", lambda bucket: bucket.blob("b").create_resumable_upload_session()),
        ("storage.objects.get", lambda bucket: bucket.blob("a").reload()),
        ("storage.objects.get", lambda bucket: bucket.blob("a").download_as_bytes()),
        ("storage.objects.list", lambda bucket: list(bucket.list_blobs())),
        ("storage.objects.delete", lambda bucket: bucket.blob("a").delete()),
        ("storage.objects.update", lambda bucket: bucket.blob("a").patch()),
        ("storage.buckets.get", lambda bucket: bucket.reload()),
        ("storage.buckets.update", lambda bucket: bucket.patch()),
    ],
)
def test_permissions(gcs: FakeGcs, bucket: storage.Bucket, permission: str, does: Any) -> None:
    gcs.put_object(BUCKET, "a", b"1")
    does(bucket)
    gcs.put_object(BUCKET, "a", b"1")
    gcs.deny(permission)
    with pytest.raises(Forbidden, match=permission):
        does(bucket)
    assert permission not in bucket.test_iam_permissions([permission, "storage.other"])


def test_pub_sub_deliveries(gcs: FakeGcs) -> None:
    stored = gcs.put_object(BUCKET, "a", b"1")
    push = gcs.push_notification("https://echo.example/push", BUCKET, "a")
    attributes = push.envelope["message"]["attributes"]
    assert (attributes["eventType"], attributes["objectId"]) == ("OBJECT_FINALIZE", "a")
    assert attributes["objectGeneration"] == str(stored.generation)
    certs, request = f"{gcs.url}/oauth2/v1/certs", google.auth.transport.requests.Request()

    def claims(audience: str | None = "https://echo.example/push", **options: Any) -> Any:
        push = gcs.push_notification("https://echo.example/push", BUCKET, "a", **options)
        token = push.headers["Authorization"].removeprefix("Bearer ")
        return id_token.verify_token(token, request, audience=audience, certs_url=certs)

    right = claims()
    assert (right["iss"], right["email_verified"]) == ("https://accounts.google.com", True)
    assert claims(email="other@example.org")["email"] == "other@example.org"
    for wrong in ({"expired": True}, {"other_key": True}):
        with pytest.raises((GoogleAuthError, ValueError)):
            claims(**wrong)
    with pytest.raises((GoogleAuthError, ValueError)):
        claims(audience="https://echo.example/push", claims={"aud": "https://other.example"})
    delivered = gcs.push_notification(f"{gcs.url}/nowhere", BUCKET, "a", message_id="7").send()
    assert delivered.status_code == 501


def test_the_program(tmp_path: Path, http: httpx2.Client) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.fakes.gcs",
        "--dir",
        str(tmp_path),
        "--bucket",
        "b",
        "--cors-origin",
        "http://o",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = json.loads(program.stdout.readline())["url"]
        credentials = service_account.Credentials.from_service_account_file(str(tmp_path / "service-account.json"))
        client = storage.Client(project="p", credentials=credentials, client_options={"api_endpoint": url})
        client.bucket("b").blob("a").upload_from_string(b"1")
        assert client.get_bucket("b").cors[0]["origin"] == ["http://o"]
        assert http.get(f"{url}/__objects").json()[0]["name"] == "a"
        assert http.post(f"{url}/__permissions", json={"deny": ["storage.objects.get"]}).status_code == 200
        with pytest.raises(Forbidden):
            client.bucket("b").get_blob("a")
        http.post(f"{url}/__permissions", json={"deny": []})
        http.post(f"{url}/__faults", json={"match": {"method": "GET", "path": "/o/a"}, "times": 1, "status": 503})
        assert client.bucket("b").get_blob("a").size == 1
        http.post(f"{url}/__clock", json={"advanceS": 3600})
        assert client.bucket("b").get_blob("a").size == 1
        log = http.get(f"{url}/__log").json()
        assert [request["status"] for request in log if request["path"].endswith("/o/a")] == [403, 503, 200, 401, 200]
        http.post(f"{url}/__reset")
        assert client.bucket("b").get_blob("a") is None
        client.close()
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 0


def test_unknown_routes_are_loud(gcs: FakeGcs, http: httpx2.Client) -> None:
    for path in ("/batch/storage/v1", "/other", "/token", "/__other", "/nobody/nothing"):
        assert http.get(gcs.url + path).status_code == 501
