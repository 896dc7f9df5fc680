"""What google-genai raises and answers, as Echo's errors: mapped here and nowhere else."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import httpx2
import requests
from google.auth import exceptions as auth_errors
from google.genai import errors as genai_errors
from google.genai import types
from pydantic import ValidationError

from echo_core.plugin_api import (
    AuthError,
    EchoError,
    InvalidRequestError,
    ProviderError,
    QuotaExceededError,
    RateLimitedError,
    UnavailableError,
)

_log = logging.getLogger(__name__)
_DELAY = re.compile(r"(\d+(?:\.\d+)?)s")
_KEY = re.compile(r"AIza[\w-]+|(?<=key=)[^&\s]+")
_KEY_REASONS = frozenset(
    {"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "API_KEY_HTTP_REFERRER_BLOCKED"}
)
FILE_GONE = "ai_file_gone"
RENEW = "Check plugins.ai_gemini.api_key (or the service account of plugins.ai_gemini.vertex), and what it may use."
LOWER = "Lower plugins.ai_gemini.slice_s (or window_tokens, or batch_texts), or take another model, and try again."


class AnswerError(ProviderError):
    """An answer came and is of no use; ``asks_again``: a second try may well bring a better one."""

    default_code = "ai_answer_invalid"
    default_remedy = "Try this step again, or take another model."
    asks_again = True


class CutOffError(AnswerError):
    """The answer is longer than it may be."""

    default_code = "ai_truncated"
    default_remedy = LOWER
    asks_again = False


class RefusedAnswerError(AnswerError):
    """Google's filters withhold the answer; the same request gets the same."""

    asks_again = False


def from_google(error: Exception) -> Exception:
    """The error of Echo for one of Google's; anything else (a full disk, a defect) comes back as it is."""
    if isinstance(error, EchoError):
        return error
    if isinstance(error, genai_errors.APIError):
        return _from_status(error)
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        return UnavailableError("Gemini did not answer in time.", code="ai_unavailable")
    if isinstance(error, httpx2.TransportError | ConnectionError | requests.ConnectionError):
        return UnavailableError("Gemini cannot be reached.", code="ai_unavailable")
    if isinstance(error, auth_errors.TransportError):
        return UnavailableError("Google's sign-in does not answer.", code="ai_unavailable")
    if isinstance(error, auth_errors.GoogleAuthError):
        return AuthError("Google does not accept the credentials of Vertex AI.", code="ai_credentials", remedy=RENEW)
    if isinstance(error, genai_errors.UnknownApiResponseError | json.JSONDecodeError | ValidationError):
        return AnswerError("Gemini's answer cannot be read.")
    return error


def is_unbilled(error: Exception) -> bool:
    """Whether the call that raised this was certainly not billed: refused, or never sent."""
    if isinstance(error, genai_errors.ClientError):
        return error.code != 408
    return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | auth_errors.GoogleAuthError)


def _from_status(error: genai_errors.APIError) -> EchoError:
    code, message = int(error.code or 0), str(error.message or "")
    if code == 429:
        return _too_many(error.details)
    if code in {401, 403} or _KEY_REASONS & _reasons(error.details):
        return _denied(code, message)
    if code == 404:
        return InvalidRequestError(
            "Gemini does not know the model, or not for this account.",
            code="ai_model_unknown",
            remedy="Set the models of plugins.ai_gemini, or its aliases, to ones that Google offers today.",
        )
    if code == 408 or code >= 500:
        return UnavailableError(f"Gemini is down or overloaded ({code}).", code="ai_unavailable")
    _log.warning("ai.refused", extra={"status": code, "answer": _shown(message)})
    if "exceeds the maximum number of tokens" in message:
        return InvalidRequestError("The material is longer than the model takes.", code="ai_too_long", remedy=LOWER)
    return InvalidRequestError(f"Gemini refused the request ({code} {error.status}).", code="ai_refused", remedy=LOWER)


def _denied(code: int, message: str) -> EchoError:
    _log.warning("ai.denied", extra={"status": code, "answer": _shown(message)})
    if "access the File" in message:
        return UnavailableError(
            "Gemini no longer has a file that was uploaded for it, or not for this key.",
            code=FILE_GONE,
            remedy="Try this step again.",
        )
    return AuthError("Gemini refuses the key or the account.", code="ai_credentials", remedy=RENEW)


def _too_many(details: Any) -> EchoError:
    if any("PerDay" in quota for quota in _quota_ids(details)):
        return QuotaExceededError(
            "The Gemini quota of this day is spent.",
            code="ai_quota_day",
            remedy="Wait until midnight Pacific time, or ask Google for a larger quota; then try this step again.",
        )
    return RateLimitedError(
        "Gemini gets too many requests from this account.", code="ai_rate_limited", retry_after_s=_retry_delay(details)
    )


def _details(details: Any) -> list[dict[str, Any]]:
    body = details.get("error", details) if isinstance(details, dict) else {}
    found = body.get("details", []) if isinstance(body, dict) else []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _reasons(details: Any) -> set[str]:
    return {str(entry.get("reason")) for entry in _details(details)}


def _quota_ids(details: Any) -> list[str]:
    return [
        str(violation.get("quotaId"))
        for entry in _details(details)
        for violation in entry.get("violations", ())
        if isinstance(violation, dict)
    ]


def _retry_delay(details: Any) -> float | None:
    for entry in _details(details):
        if found := _DELAY.fullmatch(str(entry.get("retryDelay", ""))):
            return float(found[1])
    return None


def _shown(message: str) -> str:
    """What may stand in a log."""
    return _KEY.sub("[key]", message)[:500]


def read_answer(answer: types.GenerateContentResponse) -> dict[str, Any]:
    """The JSON object of an answer that is whole. Raises ``AnswerError`` with the reason why there is none."""
    if not answer.candidates:
        blocked = answer.prompt_feedback.block_reason if answer.prompt_feedback else None
        raise RefusedAnswerError(
            f"Gemini does not answer to this material ({_name(blocked)}).",
            code="ai_blocked_prompt",
            remedy="Write these fields by hand, or let another provider do it.",
        )
    reason = _name(answer.candidates[0].finish_reason)
    if reason == "MAX_TOKENS":
        raise CutOffError("Gemini's answer was cut off at its limit.")
    if reason == "RECITATION":
        raise RefusedAnswerError(
            "Gemini withholds its answer since it would recite a work of somebody else.",
            code="ai_recitation",
            remedy="Let another provider do it, or write it by hand.",
        )
    if reason != "STOP":
        raise RefusedAnswerError(
            f"Gemini's filters withhold the answer ({reason}).",
            code="ai_blocked_safety",
            remedy="Write these fields by hand, or let another provider do it.",
        )
    try:
        content = json.loads(answer.text or "")
    except ValueError:
        raise AnswerError("Gemini's answer is not the JSON that was asked for.") from None
    if not isinstance(content, dict):
        raise AnswerError("Gemini's answer has another shape than was asked for.")
    return content


def _name(value: Any) -> str:
    return str(getattr(value, "name", value) or "no reason given")
