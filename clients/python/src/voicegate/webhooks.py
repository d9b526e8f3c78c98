"""Webhooks, signed according to https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from typing import cast

from .errors import WebhookVerificationError
from .models import WebhookEvent


def verify_webhook(
    secret: str | Iterable[str],
    headers: Mapping[str, str],
    body: bytes | str,
    *,
    tolerance: float = 300,
    now: float | None = None,
) -> WebhookEvent:
    """The event of a webhook, if it is genuine and fresh; otherwise `WebhookVerificationError`.

    `secret` begins with `whsec_`; while a secret is being replaced, give both. `headers` are those of the request, in any
    case. `body` is what came, byte for byte, and not parsed JSON. `tolerance` is the most seconds between the gateway's
    clock and this one.
    """
    keys = [_key(one) for one in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ValueError("secret: expected at least one")
    named = {name.lower(): value for name, value in headers.items()}
    event_id, sent_at, signatures = (_header(named, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    if not (sent_at.isascii() and sent_at.isdecimal() and len(sent_at) <= 12):
        raise WebhookVerificationError("webhook-timestamp is not a time")
    if abs((time.time() if now is None else now) - int(sent_at)) > tolerance:
        raise WebhookVerificationError("the webhook is too old, or from the future")
    content = body.encode() if isinstance(body, str) else bytes(body)
    signed = f"{event_id}.{sent_at}.".encode() + content
    given = [one.encode() for one in signatures.split(" ")]
    for key in keys:
        expected = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
        # There are several signatures while a secret is being replaced.
        if any([hmac.compare_digest(expected, one) for one in given]):
            return cast(WebhookEvent, {"id": event_id, **json.loads(content)})
    raise WebhookVerificationError("no signature of the webhook fits")


def _header(headers: Mapping[str, str], name: str) -> str:
    if not headers.get(name):
        raise WebhookVerificationError(f"the header {name} is missing")
    return headers[name]


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("secret: expected whsec_ and base64")
    return key
