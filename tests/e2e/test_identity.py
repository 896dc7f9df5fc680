"""The unmodified supabase-js against a running Echo, through every row of its contract that Echo serves."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import Instance, start_instance, stop_instance
from tests.fakes.openid_provider import CLIENT_ID, CLIENT_SECRET, running_provider

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
FINE = {"status": 0, "code": ""}


def run(instance: Instance, script: str, *arguments: str) -> Any:
    done = subprocess.run(
        ["node", script, instance.url, *arguments],
        cwd=HERE,
        env={**instance.environment, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_supabase_js_signs_up_in_and_out(instance: Instance) -> None:
    told = run(instance, "identity.mjs", "ada@example.org", "correct horse battery")
    told.pop("challenge")
    assert told == {
        "signUp": {"email": "ada@example.org", "name": "Ada", **FINE},
        "session": True,
        "duplicate": {"status": 422, "code": "user_already_exists"},
        "weak": {"status": 422, "code": "weak_password"},
        "wrong": {"status": 400, "code": "invalid_credentials"},
        "unknown": {"status": 400, "code": "invalid_credentials"},
        "signIn": FINE,
        "getUser": {"email": "ada@example.org", "identities": 1, **FINE},
        "getClaims": {"alg": "ES256", "role": "authenticated", **FINE},
        "api": 200,
        "refresh": {"changed": True, **FINE},
        "parent": {"same": True, **FINE},
        "update": {"city": "London", **FINE},
        "firstEnded": {"status": 400, "code": ""},
        "reused": {"status": 400, "code": "refresh_token_already_used"},
        "family": {"status": 400, "code": "refresh_token_already_used"},
        "refreshUnknown": {"status": 400, "code": "refresh_token_not_found"},
        "signOut_others": {"here": True, "there": "", **FINE},
        "signOut_local": {"here": False, "there": "", **FINE},
        "signOut_global": {"here": False, "there": "", **FINE},
        "exchangeUnknown": {"status": 404, "code": "flow_state_not_found"},
    }


def test_a_browser_of_another_origin_may_read_the_codes(instance: Instance) -> None:
    headers = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, apikey, content-type, x-client-info, x-supabase-api-version",
    }
    with httpx2.Client(base_url=f"{instance.url}/auth/v1", trust_env=False) as http:
        assert http.options("/user", headers=headers).status_code == 200
        refused = http.get("/user", headers={"Origin": "https://app.example"})
    assert (refused.status_code, refused.json()["code"]) == (401, "no_authorization")
    assert "X-Supabase-Api-Version" in refused.headers["Access-Control-Expose-Headers"]


def test_users_of_the_operator_sign_in(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a good password\n")
    added = instance.echoctl("users", "add", "Bob@example.org", "--password-file", str(tmp_path / "password"))
    user_id = added.stdout.strip()
    assert user_id in instance.echoctl("users", "list").stdout
    with httpx2.Client(base_url=instance.url, trust_env=False) as http:
        grant = {"email": "bob@example.org", "password": "a good password"}
        session = http.post("/auth/v1/token?grant_type=password", json=grant).json()
        assert session["user"]["id"] == user_id
        for token in (session["access_token"], instance.token("bob@example.org")):
            answer = http.get("/api/v1/videos", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
    again = instance.echoctl(
        "users", "add", "bob@example.org", "--password-file", str(tmp_path / "password"), check=False
    )
    assert (again.returncode, "user_already_exists" in again.stderr) == (1, True)


def test_two_users_see_nothing_of_each_other(instance: Instance) -> None:
    with httpx2.Client(base_url=instance.url, trust_env=False) as http:
        bearers = []
        for email in ("carol@example.org", "dave@example.org"):
            session = http.post("/auth/v1/signup", json={"email": email, "password": "a good password"}).json()
            bearers.append({"Authorization": f"Bearer {session['access_token']}"})
        body = {"filename": "mine.mp4", "sizeBytes": 1000, "contentType": "video/mp4"}
        made = http.post("/api/v1/videos/signed-upload-url", json=body, headers=bearers[0])
        assert made.status_code == 201, made.text
        mine, theirs = (http.get("/api/v1/videos", headers=bearer).json()["items"] for bearer in bearers)
        assert ([video["videoId"] for video in mine], theirs) == ([made.json()["videoId"]], [])
        video_id = mine[0]["videoId"]
        assert http.get(f"/api/v1/videos/{video_id}/details", headers=bearers[1]).status_code == 404


def test_supabase_js_signs_in_with_google(tmp_path: Path) -> None:
    (tmp_path / "client_secret").write_text(f"{CLIENT_SECRET}\n")
    with running_provider() as provider:
        instance = start_instance(
            tmp_path / "echo",
            ECHO_LOG__LEVEL="debug",
            ECHO_PLUGINS__IDENTITY_LOCAL__GOOGLE__CLIENT_ID=CLIENT_ID,
            ECHO_PLUGINS__IDENTITY_LOCAL__GOOGLE__CLIENT_SECRET_FILE=str(tmp_path / "client_secret"),
            ECHO_PLUGINS__IDENTITY_LOCAL__GOOGLE__ISSUER=provider.issuer,
        )
        try:
            told = run(instance, "google.mjs")
            with httpx2.Client(base_url=f"{instance.url}/auth/v1", trust_env=False) as http:
                settings = http.get("/settings").json()
                refused = http.get("/callback?state=recognisable-state&code=recognisable-code")
        finally:
            stop_instance(instance)
        logs = "".join(instance.output) + "".join(
            path.read_text(errors="replace") for path in (tmp_path / "echo").rglob("*.log")
        )
        secrets = [*told.pop("secrets"), *provider.secrets, CLIENT_SECRET, "recognisable-state", "recognisable-code"]
        secrets += [asked[name] for asked in provider.asked for name in ("state", "nonce", "code_challenge")]
    assert told == {
        "begun": FINE,
        "passed": ["echo /auth/v1/authorize 302", "provider /authorize 302", "echo /auth/v1/callback 302"],
        "exchanged": FINE,
        "session": True,
        "user": {"email": "ada@example.org", "name": "Ada L.", "providers": ["google"]},
        "identities": ["google 1001"],
        "claims": {"alg": "ES256", "amr": "oauth", **FINE},
        "api": 200,
        "refreshed": FINE,
        "again": FINE,
        "replayed": {"status": 404, "code": "flow_state_not_found"},
    }
    assert settings["external"]["google"] is True
    assert refused.headers["Location"].startswith(f"{instance.url}?error=invalid_request&error_code=bad_oauth_state")
    assert "/auth/v1/callback" in logs
    assert all(secret and secret not in logs for secret in secrets)
