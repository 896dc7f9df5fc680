"""Push deliveries of Pub/Sub, as a subscription to a bucket's notifications makes them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.fakes.gcs.accounts import GOOGLE_ISSUER, PROJECT, key_id, pem_of, rsa_key

if TYPE_CHECKING:
    from tests.fakes.gcs.world import World

PUSH_EMAIL = f"push@{PROJECT}.iam.gserviceaccount.com"


@dataclass(frozen=True)
class Push:
    """A delivery that is ready to be sent."""

    url: str
    headers: dict[str, str]
    envelope: dict[str, Any]

    @property
    def body(self) -> bytes:
        """The request's body."""
        return json.dumps(self.envelope).encode()

    def send(self) -> httpx2.Response:
        """Deliver it once."""
        return httpx2.post(self.url, headers=self.headers, content=self.body, timeout=30)


def push(
    world: World,
    url: str,
    bucket: str,
    key: str,
    generation: int | str | None = None,
    *,
    event_type: str = "OBJECT_FINALIZE",
    message_id: str | None = None,
    subscription: str = f"projects/{PROJECT}/subscriptions/echo",
    audience: str | None = None,
    email: str = PUSH_EMAIL,
    email_verified: bool = True,
    expired: bool = False,
    other_key: bool = False,
    claims: dict[str, Any] | None = None,
) -> Push:
    """See ``FakeGcs.push_notification``."""
    stored = world.buckets[bucket].objects.get(key) if bucket in world.buckets else None
    generation = str(generation if generation is not None else stored.generation if stored else 0)
    if stored is not None and str(stored.generation) == generation:
        resource = stored.resource(world.url)
    else:
        resource = {"kind": "storage#object", "bucket": bucket, "name": key, "generation": generation}
    number = message_id or str(10_000_000_000 + world.number())
    message = {
        "attributes": {
            "notificationConfig": f"projects/_/buckets/{bucket}/notificationConfigs/1",
            "eventType": event_type,
            "payloadFormat": "JSON_API_V1",
            "bucketId": bucket,
            "objectId": key,
            "objectGeneration": generation,
            "eventTime": world.clock.stamp(),
        },
        "data": base64.b64encode(json.dumps(resource).encode()).decode(),
        "messageId": number,
        "message_id": number,
        "publishTime": world.clock.stamp(),
        "publish_time": world.clock.stamp(),
    }
    now = int(world.clock.now())
    issued_at = now - 7200 if expired else now
    said = {
        "iss": GOOGLE_ISSUER,
        "aud": audience or url,
        "azp": "100000000000000000002",
        "sub": "100000000000000000002",
        "email": email,
        "email_verified": email_verified,
        "iat": issued_at,
        "exp": issued_at + 3600,
        **(claims or {}),
    }
    key_used = rsa_key("nobody") if other_key else world.accounts.oidc_key
    header = {"alg": "RS256", "typ": "JWT", "kid": key_id(world.accounts.oidc_key)}
    token = jwt.encode(header, said, RSAKey.import_key(pem_of(key_used)))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "User-Agent": "APIs-Google"}
    return Push(url, headers, {"message": message, "subscription": subscription})
