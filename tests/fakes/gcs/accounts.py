"""Service accounts: keys, tokens, the metadata server, signBlob, and the issuer of OIDC tokens."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from tests.fakes.gcs.call import Answer, json_answer
from tests.fakes.gcs.errors import Refusal

if TYPE_CHECKING:
    from tests.fakes.gcs.call import Call

PROJECT = "echo-fake-project"
DEFAULT_EMAIL = f"echo@{PROJECT}.iam.gserviceaccount.com"
TOKEN_LIFETIME_S = 3600
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GOOGLE_ISSUER = "https://accounts.google.com"
GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"  # what google-auth asserts, whatever token_uri is


@lru_cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """The key of that name, the same as long as the process lives: making one takes long."""
    assert name
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem_of(key: rsa.RSAPrivateKey) -> str:
    """As a JSON key file has it."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def key_id(key: rsa.RSAPrivateKey) -> str:
    """The name by which tokens refer to the key."""
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key.public_key().public_bytes(*form)).hexdigest()[:40]


@lru_cache
def certificate(key: rsa.RSAPrivateKey) -> str:
    """A certificate of the key, as Google publishes them."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.system.gserviceaccount.com")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2100, 1, 1, tzinfo=UTC)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class Accounts:
    """The accounts of the project; tokens are of one account and for an hour of the fake's clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._keys: dict[str, rsa.RSAPrivateKey] = {DEFAULT_EMAIL: rsa_key(DEFAULT_EMAIL)}
        self._tokens: dict[str, tuple[str, float]] = {}
        self.oidc_key = rsa_key("oidc")

    def info(self, url: str, email: str = DEFAULT_EMAIL) -> dict[str, str]:
        """What the JSON key file of the account says; an account unknown so far is made."""
        key = self._keys.setdefault(email, rsa_key(email))
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": key_id(key),
            "private_key": pem_of(key),
            "client_email": email,
            "client_id": "100000000000000000001",
            "auth_uri": f"{url}/o/oauth2/auth",
            "token_uri": f"{url}/token",
            "universe_domain": "googleapis.com",
        }

    def issue(self, email: str) -> str:
        """A bearer token."""
        token = "ya29." + hashlib.sha256(f"{email}/{len(self._tokens)}".encode()).hexdigest()
        self._tokens[token] = (email, self._now() + TOKEN_LIFETIME_S)
        return token

    def revoke_all(self) -> None:
        """No token that was issued is accepted any more."""
        self._tokens = dict.fromkeys(self._tokens, ("", 0.0))

    def bearer(self, authorization: str | None) -> str:
        """The account whose token it is, or 401."""
        scheme, _, token = (authorization or "").partition(" ")
        email, expires_at = self._tokens.get(token.strip(), ("", 0.0))
        if scheme.lower() != "bearer" or expires_at <= self._now():
            raise Refusal(401, "Invalid Credentials", headers={"WWW-Authenticate": 'Bearer realm="https://accounts"'})
        return email

    def signed(self, email: str, signature: bytes, message: bytes) -> bool:
        """Whether a known account signed the message (RSASSA-PKCS1-v1_5, SHA-256)."""
        key = self._keys.get(email)
        if key is None:
            return False
        try:
            key.public_key().verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    def sign(self, email: str, message: bytes) -> bytes:
        """What a known account's signature is."""
        return self._keys[email].sign(message, padding.PKCS1v15(), hashes.SHA256())

    def exchange(self, assertion: str, audience: str) -> str:
        """The account that an assertion proves to be asking. Its times are of the client's clock: the real one."""
        for email, key in self._keys.items():
            try:
                claims = jwt.decode(assertion, RSAKey.import_key(pem_of(key)), algorithms=["RS256"]).claims
            except (JoseError, ValueError):
                continue
            right = claims.get("iss") == email and claims.get("aud") in {audience, GOOGLE_AUDIENCE}
            if right and claims.get("iat", 0) <= claims.get("exp", 0) and time.time() < claims.get("exp", 0):
                return email
        raise Refusal(400, "Invalid JWT Signature.", reason="invalid_grant")


async def token(call: Call) -> Answer:
    """POST /token."""
    form = {name: values[0] for name, values in parse_qs((await call.body.small()).decode()).items()}
    if form.get("grant_type") != JWT_BEARER:
        return json_answer({"error": "unsupported_grant_type"}, 400)
    try:
        email = call.world.accounts.exchange(form.get("assertion", ""), f"{call.world.url}/token")
    except Refusal as refusal:
        return json_answer({"error": refusal.reason, "error_description": refusal.message}, 400)
    return json_answer(_bearer(call, email))


async def certs(call: Call) -> Answer:
    """GET /oauth2/v1/certs: by key id."""
    key = call.world.accounts.oidc_key
    return json_answer({key_id(key): certificate(key)})


async def metadata(call: Call) -> Answer:
    """GET /computeMetadata/v1/… of a virtual machine that runs as the first account."""
    flavor = ("Metadata-Flavor", "Google")
    if call.headers.get("metadata-flavor") != "Google":
        raise Refusal(403, "Missing Metadata-Flavor:Google header.")
    what = "/".join(call.segments[2:]).rstrip("/")
    for name in ("default", DEFAULT_EMAIL):
        what = what.replace(f"service-accounts/{name}", "service-accounts/*")
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    texts = {
        "": "instance/\nproject/\n",
        "instance/service-accounts/*/email": DEFAULT_EMAIL,
        "instance/service-accounts/*/scopes": "\n".join(scopes),
        "project/project-id": PROJECT,
        "project/numeric-project-id": "1",
        "universe/universe-domain": "googleapis.com",
    }
    if what == "instance/service-accounts/*/token":
        await call.body.drain()
        return json_answer(_bearer(call, DEFAULT_EMAIL), headers=[flavor])
    if what == "instance/service-accounts/*" and call.query.get("recursive") == "true":
        account = {"aliases": ["default"], "email": DEFAULT_EMAIL, "scopes": scopes}
        return json_answer(account, headers=[flavor])
    if what in texts:
        return Answer(200, [("Content-Type", "application/text"), flavor], texts[what].encode())
    raise Refusal(501, f"The fake has no metadata {what}.")


async def sign_blob(call: Call) -> Answer:
    """POST /v1/projects/-/serviceAccounts/{email}:signBlob."""
    call.email = call.world.accounts.bearer(call.headers.get("authorization"))
    email = call.segments[4].removesuffix(":signBlob")
    if not call.world.granted("iam.serviceAccounts.signBlob"):
        raise Refusal(403, "Permission 'iam.serviceAccounts.signBlob' denied on resource (or it may not exist).")
    try:
        payload = base64.b64decode(str((await call.body.json()).get("payload", "")), validate=True)
        signature = call.world.accounts.sign(email, payload)
    except ValueError:
        raise Refusal(400, "Invalid value at 'payload' (TYPE_BYTES)") from None
    except KeyError:
        raise Refusal(404, f"Unknown service account: {email}") from None
    return json_answer({"keyId": "system", "signedBlob": base64.b64encode(signature).decode()})


def _bearer(call: Call, email: str) -> dict[str, Any]:
    answer = {"access_token": call.world.accounts.issue(email), "expires_in": TOKEN_LIFETIME_S}
    return {**answer, "token_type": "Bearer"}
