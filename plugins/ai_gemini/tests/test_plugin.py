"""The hooks, the configuration, prices, times, and what is imported when."""

import subprocess
import sys
from datetime import date

import pluggy
import pytest
from echo_ai_gemini import plugin
from echo_ai_gemini.config import PRICES, GeminiConfig
from echo_ai_gemini.prices import cost_usd, price_on
from echo_ai_gemini.times import clock_of, seconds_of
from pydantic import ValidationError

from echo_core.plugin_api import PROJECT, EchoHooks, ProviderError


def test_hooks() -> None:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(EchoHooks)
    manager.register(plugin)
    manager.check_pending()
    ((spec,),) = manager.hook.echo_register_ai_providers()
    assert (spec.name, spec.config_model) == ("gemini", GeminiConfig)
    assert spec.capabilities == {"transcribe", "describe", "translate", "embed"}
    assert any("sent to Google" in sentence for sentence in spec.limitations)


def test_google_is_not_imported_before_the_provider_is_opened() -> None:
    code = (
        "import sys; from echo_core.adapters.plugin_loader import load_plugins\n"
        "from echo_core.adapters.settings import Settings\n"
        "found = {status.name: status.state for status in load_plugins(Settings().plugins)}\n"
        "assert found['ai_gemini'] == 'loaded', found\n"
        "print([n for n in sys.modules if n.startswith(('google.genai', 'google.auth', 'requests'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.stdout.strip(), ran.returncode) == ("[]", 0), ran.stderr


@pytest.mark.parametrize(
    "table",
    [
        {"colour": "red"},
        {"transcribe_model": "gemini-9-nova"},
        {"aliases": {"flash": "gemini-9-nova"}},
        {"prices": []},
        {"endpoint": "http://gemini.example"},
        {"endpoint": "https://user:secret@gemini.example"},
        {"api_version": "beta"},
        {"slice_s": 60, "overlap_s": 31},
        {"visual": "all"},
        {"vertex": {"project": "A B"}},
        {"dimensions": 12},
    ],
)
def test_settings_that_make_no_sense_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GeminiConfig.model_validate(table)


def test_a_model_without_a_price_is_named() -> None:
    with pytest.raises(ValidationError, match="'gemini-9-nova' has no price"):
        GeminiConfig(describe_model="gemini-9-nova")


def test_prices_change_on_their_day() -> None:
    for day, expected in (("2026-12-31", 0.75), ("2027-01-01", 1.5)):
        assert price_on(PRICES, "gemini-3.8-flash", date.fromisoformat(day)).input_usd == expected
    with pytest.raises(ProviderError) as caught:
        price_on(PRICES, "gemini-3.8-flash", date(2026, 9, 1))
    assert caught.value.code == "ai_price_missing"


def test_long_prompts_cost_more_where_the_price_says_so() -> None:
    pro = price_on(PRICES, "gemini-3.1-pro-preview", date(2026, 11, 28))
    assert cost_usd(pro, 200_000, 1000) == pytest.approx(0.412)
    assert cost_usd(pro, 200_001, 1000) == pytest.approx(0.824, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00", 0.0),
        ("1:05", 65.0),
        ("61:05", 3665.0),
        ("01:01:05.5", 3665.5),
        (" 02:03,25 ", 123.25),
        ("00:60", None),
        ("12.5", None),
        ("around noon", None),
        ("-1:00", None),
        (12, None),
        (None, None),
    ],
)
def test_times_of_models(text: object, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def test_times_are_shown_as_they_are_read() -> None:
    assert [seconds_of(clock_of(at)) for at in (0, 59.9, 3665)] == [0, 59, 3665]
