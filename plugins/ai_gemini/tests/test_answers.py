"""Every way in which an answer fails to come, or comes and is of no use: code, retry, money."""

import time

import httpx2
import pytest
from echo_ai_gemini.errors import from_google, is_unbilled
from google.auth import exceptions as auth_errors
from google.genai import errors as genai_errors

from echo_core.plugin_api import (
    AuthError,
    EchoError,
    InvalidRequestError,
    QuotaExceededError,
    RateLimitedError,
    TranslateRequest,
    UnavailableError,
)

ASK = ":generateContent"


def request(call, *texts: str) -> TranslateRequest:
    return TranslateRequest(call=call, texts=texts or ("one", "two"), source_language="en", target_language="de")


@pytest.mark.parametrize(
    ("mode", "kind", "code", "asked", "states"),
    [
        ("daily_quota", QuotaExceededError, "ai_quota_day", 1, ["released"]),
        ("bad_key", AuthError, "ai_credentials", 1, ["released"]),
        ("denied", AuthError, "ai_credentials", 1, ["released"]),
        ("file_forbidden", UnavailableError, "ai_file_gone", 1, ["released"]),
        ("unavailable", UnavailableError, "ai_unavailable", 3, ["open"] * 3),
        ("html", UnavailableError, "ai_unavailable", 3, ["open"] * 3),
        ("drop", UnavailableError, "ai_unavailable", 3, ["open"] * 3),
        ("drop_response", UnavailableError, "ai_unavailable", 3, ["open"] * 3),
        ("blocked_prompt", EchoError, "ai_blocked_prompt", 1, ["settled"]),
        ("safety", EchoError, "ai_blocked_safety", 1, ["settled"]),
        ("recitation", EchoError, "ai_recitation", 1, ["settled"]),
        ("max_tokens", EchoError, "ai_truncated", 1, ["settled"]),
        ("wrong_shape", EchoError, "ai_answer_invalid", 2, ["settled"] * 2),
        ("fenced", EchoError, "ai_answer_invalid", 2, ["settled"] * 2),
        ("fewer", EchoError, "ai_answer_invalid", 2, ["settled"] * 2),
    ],
)
async def test_each_fault_has_its_code(gemini, open_provider, call, mode, kind, code, asked, states) -> None:
    gemini.faults.add(mode, ASK, times=9)
    async with open_provider(attempts=3) as provider:
        with pytest.raises(kind) as caught:
            await provider.translate(request(call, "one"))
    assert caught.value.code == code
    assert caught.value.remedy.endswith(".")
    assert len(gemini.calls(ASK)) == asked
    assert [one.state for one in call.reservations] == states
    assert call.remembered() == []


@pytest.mark.parametrize("mode", ["unavailable", "html", "drop", "drop_response", "wrong_shape", "fenced", "fewer"])
async def test_one_fault_is_got_over(gemini, provider, call, mode) -> None:
    gemini.faults.add(mode, ASK)
    translation = await provider.translate(request(call))
    assert translation.texts == ("ONE", "TWO")
    assert len(gemini.calls(ASK)) == 2


async def test_a_short_wait_that_google_asks_for_is_kept(gemini, provider, call) -> None:
    gemini.faults.add("rate_limited", ASK, delay_s=0.3)
    started = time.monotonic()
    assert (await provider.translate(request(call))).texts == ("ONE", "TWO")
    assert time.monotonic() - started >= 0.3
    assert [one.state for one in call.reservations] == ["released", "settled"]


async def test_a_long_wait_is_left_to_the_pipeline(gemini, open_provider, call) -> None:
    gemini.faults.add("rate_limited", ASK, delay_s=400)
    async with open_provider(patience_s=5) as provider:
        with pytest.raises(RateLimitedError) as caught:
            await provider.translate(request(call))
    assert caught.value.retry_after_s == 400
    assert len(gemini.calls(ASK)) == 1


async def test_an_answer_that_takes_too_long_has_failed_and_may_be_billed(gemini, open_provider, call) -> None:
    gemini.faults.add("slow", ASK, delay_s=5, times=9)
    async with open_provider(deadline_s=0.3, attempts=2) as provider:
        with pytest.raises(UnavailableError, match="in time"):
            await provider.translate(request(call))
    assert [one.state for one in call.reservations] == ["open", "open"]


async def test_nothing_listens(open_provider, call) -> None:
    async with open_provider(endpoint="http://127.0.0.1:9", attempts=2) as provider:
        with pytest.raises(UnavailableError):
            await provider.translate(request(call))
    assert [one.state for one in call.reservations] == ["released", "released"]


async def test_an_answer_without_counts_costs_what_was_reserved(gemini, provider, call) -> None:
    gemini.faults.add("no_usage", ASK)
    translation = await provider.translate(request(call))
    assert translation.usage.cost_usd == call.reservations[0].at_most.cost_usd > 0


async def test_check_names_a_model_that_is_off(gemini, provider) -> None:
    assert list(await provider.check()) == []
    assert not gemini.calls("POST")
    gemini.retire("gemini-3.5-flash-lite")
    (sentence,) = await provider.check()
    assert "'gemini-3.5-flash-lite'" in sentence
    assert "translate_model" in sentence


async def test_check_raises_where_nothing_works(gemini, provider, open_provider) -> None:
    for model in ("gemini-3.5-flash-lite", "gemini-3.8-flash", "gemini-embedding-001"):
        gemini.retire(model)
    with pytest.raises(InvalidRequestError) as caught:
        await provider.check()
    assert caught.value.code == "ai_model_unknown"
    async with open_provider(api_key="wrong") as other:
        with pytest.raises(AuthError):
            await other.check()


async def test_without_a_key_it_says_so(open_provider) -> None:
    with pytest.raises(AuthError) as caught:
        async with open_provider(api_key=""):
            raise AssertionError("opened")
    assert "api_key_file" in caught.value.remedy


async def test_the_environment_does_not_turn_it_into_another_client(open_provider, gemini, call, monkeypatch) -> None:
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "another")
    monkeypatch.setenv("GOOGLE_API_KEY", "another")
    async with open_provider() as provider:
        assert (await provider.translate(request(call))).texts == ("ONE", "TWO")
    assert gemini.calls(ASK)[0].headers["x-goog-api-key"] == gemini.api_key


def test_keys_do_not_reach_logs(caplog) -> None:
    key = "AIza" + "x" * 35
    from_google(genai_errors.ClientError(400, {"error": {"message": f"API key {key} expired", "status": "X"}}, None))
    assert "[key]" in str(caplog.records[0].__dict__["answer"])
    assert key not in str(caplog.records[0].__dict__)


@pytest.mark.parametrize(
    ("error", "kind", "unbilled"),
    [
        (httpx2.ReadTimeout("x"), UnavailableError, False),
        (httpx2.ConnectTimeout("x"), UnavailableError, True),
        (httpx2.ConnectError("x"), UnavailableError, True),
        (httpx2.RemoteProtocolError("x"), UnavailableError, False),
        (TimeoutError(), UnavailableError, False),
        (auth_errors.TransportError("x"), UnavailableError, True),
        (auth_errors.RefreshError("x"), AuthError, True),
        (genai_errors.ClientError(408, {}, None), UnavailableError, False),
        (genai_errors.ServerError(500, {"message": "<html>"}, None), UnavailableError, False),
        (genai_errors.ClientError(400, {"error": {"message": "no"}}, None), InvalidRequestError, True),
        (genai_errors.ClientError(429, {"error": "odd"}, None), RateLimitedError, True),
    ],
)
def test_googles_errors_become_errors_of_echo(error: Exception, kind: type[Exception], unbilled: bool) -> None:
    assert isinstance(from_google(error), kind)
    assert is_unbilled(error) is unbilled


def test_what_is_not_googles_stays_what_it_is() -> None:
    for error in (OSError(28, "full"), TypeError("defect"), UnavailableError("x")):
        assert from_google(error) is error
