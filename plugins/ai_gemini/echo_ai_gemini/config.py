"""The configuration of the plugin: ``[plugins.ai_gemini]``. Imports nothing of Google's."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def _endpoint(value: str) -> str:
    if not value:
        return ""
    parts = urlsplit(value)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("must be https: keys and tokens go there")
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment or "@" in value:
        raise ValueError("must be an address such as https://generativelanguage.googleapis.com")
    return value.rstrip("/")


class VertexConfig(BaseModel):
    """Vertex AI in place of the Gemini API. Without ``project``: the Gemini API."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str = Field(default="", pattern=r"^$|^[a-z0-9.:-]{4,60}$")
    location: str = Field(default="global", pattern=r"^[a-z0-9-]{2,40}$")
    credentials: SecretStr = SecretStr("")
    """JSON key of a service account. Empty: what ``google.auth.default()`` finds."""


class Price(BaseModel):
    """What a model costs from a day on, in US dollars per million tokens; thoughts count as output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    since: date
    input_usd: float = Field(ge=0)
    output_usd: float = Field(ge=0)
    long_factor: float = Field(default=1.0, ge=1)
    """Both are multiplied by it where a prompt is longer than 200,000 tokens."""


def _price(model: str, since: str, input_usd: float, output_usd: float, long_factor: float = 1.0) -> Price:
    return Price(
        model=model,
        since=date.fromisoformat(since),
        input_usd=input_usd,
        output_usd=output_usd,
        long_factor=long_factor,
    )


# Google's list of 2026-10-07 (ai.google.dev, "Pricing"), with the changes that it announces.
PRICES = (
    _price("gemini-3.8-flash", "2026-09-02", 0.75, 3.75),
    _price("gemini-3.8-flash", "2027-01-01", 1.5, 7.5),
    _price("gemini-3.5-flash", "2026-01-01", 1.5, 9.0),
    _price("gemini-3.5-flash-lite", "2026-01-01", 0.3, 2.5),
    _price("gemini-3.1-pro-preview", "2026-01-01", 2.0, 12.0, 2.0),
    _price("gemini-4-argon", "2026-10-01", 2.0, 10.0),
    _price("gemini-4-argon", "2026-12-01", 4.0, 20.0),
    _price("gemini-embedding-001", "2026-01-01", 0.15, 0.0),
)
ALIASES = {
    "flash": "gemini-3.8-flash",
    "flash-lite": "gemini-3.5-flash-lite",
    "pro": "gemini-3.1-pro-preview",
    "embedding": "gemini-embedding-001",
}


class GeminiConfig(BaseModel):
    """The account, the models, what they cost, and how patient Echo is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_key: SecretStr = SecretStr("")
    """Key of the Gemini API (Google AI Studio, "Get API key"). Not used with Vertex AI."""
    vertex: VertexConfig = VertexConfig()
    endpoint: Annotated[str, AfterValidator(_endpoint)] = ""
    """Where the service is reached. Empty: Google's own address."""
    api_version: str = Field(default="v1beta", pattern=r"^v\d+(?:(?:alpha|beta)\d*)?$")
    """Of the Gemini API; Vertex AI is always asked as v1beta1."""
    transcribe_model: str = "flash"
    describe_model: str = "flash"
    translate_model: str = "flash-lite"
    embed_model: str = "embedding"
    aliases: dict[str, str] = ALIASES
    """Short names of models, for the four settings above."""
    prices: tuple[Price, ...] = PRICES
    thinking_level: Literal["", "minimal", "low", "medium", "high"] = "low"
    """How much the models think before they answer, which is billed. Empty: as each model does by itself."""
    slice_s: float = Field(default=600.0, ge=60, le=1800)
    """Sound is sent in parts of this length."""
    overlap_s: float = Field(default=15.0, ge=2, le=60)
    """Each part goes so far into the next, so that no sentence is cut."""
    visual: Literal["frames", "video", "off"] = "frames"
    """What a description sees: some pictures, the whole film (where Google can read it by itself), or nothing."""
    frames: int = Field(default=12, ge=1, le=100)
    """Pictures of a description, at most."""
    visual_slice_s: float = Field(default=1500.0, ge=60, le=2700)
    """A film is looked at in parts of this length."""
    window_tokens: int = Field(default=200_000, ge=2_000, le=900_000)
    """A transcript that may have more is described in parts."""
    batch_texts: int = Field(default=100, ge=1, le=500)
    """Texts that are translated at once."""
    dimensions: int = Field(default=768, ge=128, le=3072)
    """Length of the vectors."""
    deadline_s: float = Field(default=180.0, ge=0.05, le=1200)
    """One answer that takes longer has failed."""
    patience_s: float = Field(default=300.0, ge=0, le=3600)
    """So long a call is tried again, waits that Google asks for included."""
    attempts: int = Field(default=4, ge=1, le=10)
    """How often a call is tried, at most."""
    retry_delay_s: float = Field(default=1.0, ge=0, le=60)
    """Before the second try; twice as long before each further one."""
    file_deadline_s: float = Field(default=180.0, ge=0.05, le=3600)
    """A file that Google has not made usable by then has failed."""

    @model_validator(mode="after")
    def _holds_together(self) -> GeminiConfig:
        if self.overlap_s * 2 > self.slice_s:
            raise ValueError("overlap_s must be at most half of slice_s")
        priced = {price.model for price in self.prices}
        for name in sorted({self.transcribe_model, self.describe_model, self.translate_model, self.embed_model}):
            if self.model(name) not in priced:
                raise ValueError(
                    f"the model {self.model(name)!r} has no price, so no budget could hold: add one to prices"
                )
        return self

    def model(self, name: str) -> str:
        """The id of a model, by its alias or its own name."""
        return self.aliases.get(name, name).removeprefix("models/")

    @property
    def is_vertex(self) -> bool:
        """Whether Vertex AI is asked."""
        return bool(self.vertex.project)
