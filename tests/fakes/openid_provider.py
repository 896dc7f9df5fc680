"""An OpenID provider on loopback: discovery, consent, tokens and keys, with real signatures and real checks."""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT_ID = "echo-client.apps.example"
CLIENT_SECRET = "recognisable-client-secret"


@dataclass
class OpenIdProvider:
    """What it does wrong is set by tests: ``claims`` replace those of the next ID tokens (None leaves one out),
    ``user`` is who consents, ``refuses`` what is answered in place of a code."""

    issuer: str
    now: Callable[[], float] = time.time
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "first"}))
    signs_with: RSAKey | None = None
    user: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    refuses: str = ""
    token_answer: Response | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    exchanges: int = 0
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.consents("1001", "ada@example.org")

    def consents(self, subject: str, email: str, *, verified: Any = True) -> None:
        """Somebody else is at the browser from now on."""
        picture = "https://pictures.example/ada.png"
        self.user = {"sub": subject, "email": email, "email_verified": verified, "name": "Ada L.", "picture": picture}

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discover),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
            ]
        )

    async def _discover(self, _: Request) -> Response:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return JSONResponse({**document, **self.metadata})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        assert asked["client_id"] == CLIENT_ID
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        told = {"state": asked["state"]}
        if self.refuses:
            told |= {"error": self.refuses, "error_description": "<b>not what is shown</b>"}
        else:
            code = secrets.token_urlsafe(24)
            self.secrets.append(code)
            self._codes[code] = asked
            told |= {"code": code, "iss": self.issuer}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(told)}", 302)

    async def _token(self, request: Request) -> Response:
        self.exchanges += 1
        if self.token_answer is not None:
            return self.token_answer
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        by_header = request.headers.get("Authorization") == f"Basic {basic}"
        by_form = (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        posts = "client_secret_post" in self.metadata.get("token_endpoint_auth_methods_supported", ())
        if not (by_form if posts else by_header):
            return JSONResponse({"error": "invalid_client"}, 401)
        asked = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form.get("redirect_uri"):
            return JSONResponse({"error": "invalid_grant"}, 400)
        issued_at = int(self.now())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": issued_at, "exp": issued_at + 3600, **self.user}
        claims = {**claims, "nonce": asked["nonce"], **self.claims}
        key = self.signs_with or self.key
        header = {"alg": "RS256", "kid": key.kid}
        id_token = jwt.encode(header, {name: value for name, value in claims.items() if value is not None}, key)
        access_token = secrets.token_urlsafe(24)
        self.secrets += [id_token, access_token]
        return JSONResponse({"access_token": access_token, "token_type": "Bearer", "id_token": id_token})

    async def _keys(self, _: Request) -> Response:
        return JSONResponse({"keys": [{**self.key.as_dict(private=False), "use": "sig", "alg": "RS256"}]})


@contextmanager
def running_provider(now: Callable[[], float] = time.time) -> Iterator[OpenIdProvider]:
    """The provider on a port of its own, in a thread: for tests that are asynchronous and for those that are not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        provider = OpenIdProvider(f"http://127.0.0.1:{listener.getsockname()[1]}", now)
        server = uvicorn.Server(uvicorn.Config(provider.app(), log_level="warning", ws="none", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            server.should_exit = True
            thread.join(10)
