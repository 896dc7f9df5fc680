"""Which tests carry a numbered mark, and which a table of the documentation names."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def marked(mark: str) -> dict[int, set[str]]:
    """Tests by the number of their ``pytest.mark.<mark>(number)``, read from the sources."""
    found: dict[int, set[str]] = defaultdict(set)
    for folder in ("tests", "plugins"):
        for path in (ROOT / folder).rglob("test_*.py"):
            text = path.read_text()
            if f"mark.{mark}" in text:
                for number, name in _marks(ast.parse(text), mark):
                    found[number].add(f"{path.relative_to(ROOT)}::{name}")
    return found


def _marks(module: ast.Module, mark: str) -> Iterator[tuple[int, str]]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"pytest.mark.{mark}":
                    yield ast.literal_eval(decorator.args[0]), node.name


def listed(table: Path) -> dict[int, set[str]]:
    """Tests by the number in the first column of a Markdown table; they stand in its last."""
    rows = re.findall(r"(?m)^\| (\d+) \|.*\|(.*)\|$", table.read_text())
    return {int(number): set(re.findall(r"`([\w/]+\.py::\w+)`", tests)) for number, tests in rows}
