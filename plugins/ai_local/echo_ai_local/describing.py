"""Chapters, title, summary and tags out of sentences, by counting words alone; runs in the child, standard library only
apart from the lists of stop words.

Chapters: lexical cohesion of neighbouring blocks of sentences (Hearst, TextTiling, 1997). Summary: the sentences most
like all others (Erkan and Radev, LexRank, 2004). Tags: runs of telling words (Rose et al., RAKE, 2010), names first.
What is said is counted and quoted, and never followed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import stop_words

MIN_CHAPTERED_S = 120.0
"""A shorter video has no chapters."""
MIN_CHAPTER_S = 30.0
MAX_CHAPTERS = 12
BLOCK_SENTENCES = 6
MAX_SENTENCES = 1500
"""More are joined by pairs: comparing all with all grows with the square."""
MAX_TITLE_CHARS = 80
MAX_CHAPTER_TITLE_CHARS = 50
MAX_TAGS = 8
MAX_TAG_WORDS = 3
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")  # noqa: RUF001 - the apostrophe of typesetters
MARKUP = re.compile(r"<[^>]{0,200}>|[<>\x00-\x1f\x7f]")
SENTENCE_END = re.compile(r"[.!?…。！？]['\"”’)]*$")  # noqa: RUF001 - of Chinese and Japanese
CLAUSE = re.compile(r"[,;:–—]\s|\s-\s")  # noqa: RUF001 - dashes


@dataclass(frozen=True)
class Sentence:
    """Something said, with its telling words in small letters."""

    text: str
    start_s: float
    end_s: float
    terms: Counter[str]


def describe(request: dict[str, Any]) -> dict[str, Any]:
    """``title``, ``description``, ``tags``, ``chapters`` (start and title) and ``evidence`` of a request's segments."""
    stops = _stop_words(request["language"])
    sentences = _sentences(request["segments"], stops)
    wanted = set(request["wanted"])
    found: dict[str, Any] = {"title": "", "description": "", "tags": [], "chapters": [], "evidence": {}}
    if not any(sentence.terms for sentence in sentences):
        return found
    ranks = _ranks(sentences)
    evidence = found["evidence"]
    if "title" in wanted:
        best = max(range(len(sentences)), key=lambda n: ranks[n] * _fits_title(sentences[n].text))
        found["title"] = _shortened(sentences[best].text, MAX_TITLE_CHARS)
        evidence["title"] = [_span(sentences[best])]
    if "description" in wanted:
        chosen = _summary(sentences, ranks)
        found["description"] = " ".join(sentence.text for sentence in chosen)
        evidence["description"] = [_span(sentence) for sentence in chosen]
    if "tags" in wanted:
        tags = _phrases(sentences, stops, MAX_TAGS)
        found["tags"] = tags
        evidence["tags"] = [_span(s) for tag in tags if (s := _first_with(sentences, tag)) is not None]
    if "chapters" in wanted:
        found["chapters"] = _chapters(sentences, stops, request["duration_s"])
        evidence["chapters"] = [[start, start + 1.0] for start, _ in found["chapters"]]
    return found


def _stop_words(language: str) -> frozenset[str]:
    try:
        return frozenset(stop_words.get_stop_words(language.split("-")[0].lower()))
    except stop_words.StopWordError:
        return frozenset()  # frequent words weigh little anyway, see _ranks


def _sentences(segments: Sequence[Sequence[Any]], stops: frozenset[str]) -> list[Sentence]:
    joined: list[tuple[str, float, float]] = []
    for raw, start_s, end_s in segments:
        text = " ".join(MARKUP.sub(" ", str(raw)).split())
        if not text:
            continue
        if joined and not SENTENCE_END.search(joined[-1][0]) and len(joined[-1][0]) < 300:
            before, begun_s, _ = joined.pop()
            joined.append((f"{before} {text}", begun_s, end_s))
        else:
            joined.append((text, start_s, end_s))
    while len(joined) > MAX_SENTENCES:
        pairs = [joined[at : at + 2] for at in range(0, len(joined), 2)]
        joined = [(" ".join(text for text, _, _ in pair), pair[0][1], pair[-1][2]) for pair in pairs]
    return [Sentence(text, start, end, Counter(_terms(text, stops))) for text, start, end in joined]


def _terms(text: str, stops: frozenset[str]) -> list[str]:
    words = (word.lower() for word in WORD.findall(text))
    return [word for word in words if word not in stops and len(word) > 2 and not word.isdigit()]


def _ranks(sentences: Sequence[Sentence]) -> list[float]:
    """How central each sentence is, by power iteration over the likeness of all pairs."""
    counts = Counter(term for sentence in sentences for term in sentence.terms)
    documents = Counter(term for sentence in sentences for term in set(sentence.terms))
    total = len(sentences)
    weigh = {term: math.log(1 + total / documents[term]) for term in counts}
    vectors = [_unit({term: n * weigh[term] for term, n in s.terms.items()}) for s in sentences]
    holders: dict[str, list[int]] = {}
    for number, vector in enumerate(vectors):
        for term in vector:
            holders.setdefault(term, []).append(number)
    edges: list[dict[int, float]] = [{} for _ in sentences]
    for number, vector in enumerate(vectors):
        for term, weight in vector.items():
            if len(holders[term]) > max(20, total // 4):
                continue
            for other in holders[term]:
                if other != number:
                    edges[number][other] = edges[number].get(other, 0.0) + weight * vectors[other][term]
    ranks = [1.0 / total] * total
    for _ in range(30):
        after = [0.15 / total] * total
        for number, near in enumerate(edges):
            weight = sum(near.values())
            for other, likeness in near.items():
                after[other] += 0.85 * ranks[number] * likeness / weight
        ranks = after
    return ranks


def _unit(vector: dict[str, float]) -> dict[str, float]:
    length = math.sqrt(sum(weight * weight for weight in vector.values())) or 1.0
    return {term: weight / length for term, weight in vector.items()}


def _likeness(left: Counter[str], right: Counter[str]) -> float:
    length = math.sqrt(sum(n * n for n in left.values()) * sum(n * n for n in right.values()))
    return sum(n * right[term] for term, n in left.items()) / length if length else 0.0


def _summary(sentences: Sequence[Sentence], ranks: Sequence[float]) -> list[Sentence]:
    wanted = 2 if len(sentences) < 20 else 3 if len(sentences) < 80 else 4
    chosen: list[int] = []
    usable = [n for n, sentence in enumerate(sentences) if 4 <= len(sentence.text.split()) <= 45]
    for number in sorted(usable or range(len(sentences)), key=lambda n: -ranks[n]):
        if all(_likeness(sentences[number].terms, sentences[other].terms) < 0.6 for other in chosen):
            chosen.append(number)
        if len(chosen) == wanted:
            break
    return [sentences[number] for number in sorted(chosen)]


def _fits_title(text: str) -> float:
    words = len(text.split())
    return 1.0 if 4 <= words <= 14 else 0.6 if words <= 25 and words > 2 else 0.3


def _shortened(text: str, limit: int) -> str:
    """``text`` cut where a clause ends, else between words; no full stop and nothing hanging at its end."""
    text = text.strip()
    if len(text) > limit:
        ends = [match.start() for match in CLAUSE.finditer(text[: limit + 2]) if match.start() >= limit // 3]
        text = text[: ends[-1]] if ends else text[: limit + 1].rsplit(" ", 1)[0][:limit]
    text = text.rstrip(" .,;:…-–—")  # noqa: RUF001 - dashes
    return text[:1].upper() + text[1:]


def _phrases(sentences: Sequence[Sentence], stops: frozenset[str], limit: int) -> list[str]:
    """The most telling phrases, best first: runs of words without stop words or punctuation between them."""
    counts: Counter[str] = Counter()
    shown: dict[str, Counter[str]] = {}
    for sentence in sentences:
        for run in _runs(sentence.text, stops):
            for size in range(1, min(MAX_TAG_WORDS, len(run)) + 1):
                for at in range(len(run) - size + 1):
                    phrase = " ".join(run[at : at + size])
                    counts[phrase.lower()] += 1
                    shown.setdefault(phrase.lower(), Counter())[phrase] += 1

    def score(phrase: str) -> float:
        words = phrase.split()
        if len(words) > 1 and counts[phrase] < 2 and not _is_name(shown[phrase]):
            return 0.0
        name = 1.8 if _is_name(shown[phrase]) else 1.0
        return counts[phrase] * (1 + 0.7 * (len(words) - 1)) * name * min(1.0, len(phrase) / 5)

    chosen: list[str] = []
    for phrase in sorted(counts, key=lambda phrase: (-score(phrase), phrase)):
        words = set(phrase.split())
        if score(phrase) and not any(words & set(other.lower().split()) for other in chosen):
            common = shown[phrase].most_common(1)[0][0]
            chosen.append(common if _is_name(shown[phrase]) else phrase)
        if len(chosen) == limit:
            break
    return chosen


def _runs(text: str, stops: frozenset[str]) -> list[list[str]]:
    runs: list[list[str]] = [[]]
    end, first = 0, True
    for match in WORD.finditer(text):
        word = match.group()
        if text[end : match.start()].strip():
            runs.append([])
        if word.lower() in stops or len(word) < 3 or word.isdigit():
            runs.append([])
        else:
            # The capital of a sentence's first word says nothing.
            runs[-1].append(word.lower() if first else word)
        end, first = match.end(), False
    return [run for run in runs if run]


def _is_name(forms: Counter[str]) -> bool:
    capital = sum(n for form, n in forms.items() if all(word[:1].isupper() for word in form.split()))
    return capital * 2 > forms.total()


def _first_with(sentences: Sequence[Sentence], phrase: str) -> Sentence | None:
    return next((sentence for sentence in sentences if phrase.lower() in sentence.text.lower()), None)


def _span(sentence: Sentence) -> list[float]:
    return [sentence.start_s, sentence.end_s]


def _chapters(sentences: Sequence[Sentence], stops: frozenset[str], duration_s: float) -> list[tuple[float, str]]:
    """Three chapters or more, or none: the deepest valleys of cohesion, far enough from each other."""
    if duration_s < MIN_CHAPTERED_S or len(sentences) < 9:
        return []
    cohesion = []
    for gap in range(1, len(sentences)):
        left: Counter[str] = sum((s.terms for s in sentences[max(0, gap - BLOCK_SENTENCES) : gap]), Counter())
        right: Counter[str] = sum((s.terms for s in sentences[gap : gap + BLOCK_SENTENCES]), Counter())
        cohesion.append(_likeness(left, right))
    depths = []
    for at, value in enumerate(cohesion):
        depth = max(cohesion[: at + 1]) + max(cohesion[at:]) - 2 * value
        pause_s = sentences[at + 1].start_s - sentences[at].end_s
        depths.append(depth + 0.1 * min(2.0, max(0.0, pause_s)))
    apart_s = max(MIN_CHAPTER_S, duration_s / (2 * MAX_CHAPTERS))
    wanted = max(3, min(MAX_CHAPTERS, round(duration_s / 150)))
    starts = [0]
    for at in sorted(range(len(depths)), key=lambda at: -depths[at]):
        start_s = sentences[at + 1].start_s
        others = [0.0, *(sentences[n].start_s for n in starts[1:]), duration_s]
        if all(abs(start_s - other) >= apart_s for other in others):
            starts.append(at + 1)
        if len(starts) == wanted:
            break
    if len(starts) < 3:
        return []
    starts.sort()
    found: list[tuple[float, str]] = []
    everywhere = Counter(term for sentence in sentences for term in sentence.terms)
    for first, after in pairwise([*starts, len(sentences)]):
        title = _chapter_title(sentences[first:after], stops, everywhere, {title for _, title in found})
        found.append((sentences[first].start_s if first else 0.0, title))
    return found


def _chapter_title(part: Sequence[Sentence], stops: frozenset[str], everywhere: Counter[str], taken: set[str]) -> str:
    """The phrase said here more than elsewhere, else the beginning of the part."""
    here = Counter(term for sentence in part for term in sentence.terms)

    def share(phrase: str) -> float:
        terms = [term for term in phrase.lower().split() if term in here]
        return sum(here[term] ** 2 / everywhere[term] for term in terms)

    for phrase in sorted(_phrases(part, stops, 6), key=share, reverse=True):
        title = _shortened(phrase, MAX_CHAPTER_TITLE_CHARS)
        if title and title not in taken:
            return title
    return _shortened(part[0].text, MAX_CHAPTER_TITLE_CHARS)
