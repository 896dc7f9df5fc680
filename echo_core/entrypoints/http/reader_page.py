"""The OpenAPI document as a page for people: plain HTML, no script, nothing from elsewhere."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

Node = Mapping[str, Any]

EVERYWHERE = {
    "body_timeout": "408",
    "database_busy": "503",
    "database_unavailable": "503",
    "identity_unavailable": "503",
    "invalid_host": "400",
    "method_not_allowed": "405",
    "server_busy": "503",
}
"""Problems of the server and what it stands on, with their statuses: no operation names them as its own."""
IDEMPOTENT_PLUGINS = {"idempotency_answer_not_kept": "409"}
"""Problems of routes that the document does not have."""

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; }
code, pre { font: 0.875rem/1.4 ui-monospace, monospace; }
pre { overflow: auto; padding: 0.75rem; border: 1px solid #8884; border-radius: 0.4rem; }
details { border: 1px solid #8884; border-radius: 0.4rem; margin: 0.5rem 0; padding: 0.4rem 0.8rem; }
summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.2rem 0.6rem 0.2rem 0; border-bottom: 1px solid #8883; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700; }
.muted { opacity: 0.75; }
"""


def render_page(document: Node) -> str:
    """The whole page."""
    info = document["info"]
    body = "".join(
        [
            f"<h1>{_text(info['title'])} <span class=muted>{_text(info['version'])}</span></h1>",
            f"<p>{_prose(info['description'])}</p>",
            '<p>The same for programs: <a href="/openapi.json">openapi.json</a>.</p>',
            *_tags(document),
            "<h2>Problems</h2><p>Every <code>code</code> that an error of the API may have; plugins have more.</p>",
            *_problem_list(document),
            "<h2>Models</h2>",
            *_models(document),
        ]
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(info['title'])} API</title><style>{STYLE}</style><body><main>{body}</main></body></html>"
    )


def _tags(document: Node) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{_text(tag['name'].capitalize())}</h2><p>{_prose(tag['description'])}</p>"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield _operation(method.upper(), path, operation)


def _operation(method: str, path: str, operation: Node) -> str:
    parts = [
        f'<details id="{_text(operation["operationId"])}"><summary><span class=method>{method}</span>'
        f"<code>{_text(path)}</code> — {_text(operation['summary'])}</summary>"
    ]
    if "description" in operation:
        parts.append(f"<p>{_prose(operation['description'])}</p>")
    schemes = [name for scheme in operation["security"] for name in scheme]
    optional = ", or none for what anybody may watch" if schemes and {} in operation["security"] else ""
    parts.append(f"<p>Authentication: {_text(' or '.join(schemes)) or 'none'}{optional}.</p>")
    if operation["parameters"]:
        parts.append("<h3>Parameters</h3><table><tr><th>name<th>in<th>what it is</tr>")
        parts.extend(_parameter(parameter) for parameter in operation["parameters"])
        parts.append("</table>")
    if "requestBody" in operation:
        parts.append("<h3>Request</h3>")
        parts.extend(_content(operation["requestBody"]["content"]))
    parts.append("<h3>Answers</h3>")
    for status, answer in operation["responses"].items():
        parts.append(f"<p><b>{_text(status)}</b> {_prose(answer['description'])}</p>")
        if int(status) < 400:
            parts.extend(_content(answer.get("content", {})))
    parts.append("</details>")
    return "".join(parts)


def _parameter(parameter: Node) -> str:
    schema = {key: value for key, value in parameter["schema"].items() if key != "description"}
    return (
        f"<tr><td><code>{_text(parameter['name'])}</code><td>{_text(parameter['in'])}"
        f"<td>{_prose(parameter.get('description', ''))} <code>{_text(json.dumps(schema))}</code></tr>"
    )


def _content(content: Node) -> Iterator[str]:
    for media_type, described in content.items():
        reference = described["schema"].get("$ref", "").rpartition("/")[2]
        link = f' <a href="#model-{_text(reference)}">{_text(reference)}</a>' if reference else ""
        yield f"<p class=muted>{_text(media_type)}{link}</p>"
        if "example" in described:
            example = described["example"]
            text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
            yield f"<pre>{_text(text)}</pre>"


def _problem_list(document: Node) -> Iterator[str]:
    """Codes with the statuses and operations that they come from; an error's ``type`` points here."""
    found: dict[str, tuple[str, list[str]]] = {}
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    for code in re.findall(r"`(\w+)`", answer["description"]):
                        found.setdefault(code, (status, []))[1].append(operation["operationId"])
    found |= {code: (status, ["any address"]) for code, status in EVERYWHERE.items()}
    found |= {code: (status, ["routes of plugins"]) for code, status in IDEMPOTENT_PLUGINS.items()}
    yield "<table><tr><th>code<th>status<th>from</tr>"
    for code, (status, ids) in sorted(found.items()):
        origin = _text(", ".join(sorted(set(ids))))
        yield f'<tr id="problem-{code}"><td><code>{code}</code><td>{status}<td>{origin}</tr>'
    yield "</table>"


def _models(document: Node) -> Iterator[str]:
    for name, schema in document["components"]["schemas"].items():
        text = json.dumps(schema, indent=2, ensure_ascii=False)
        yield f'<details id="model-{_text(name)}"><summary><code>{_text(name)}</code></summary><pre>{_text(text)}</pre>'
        yield "</details>"


def _text(text: str) -> str:
    return html.escape(str(text))


def _prose(text: str) -> str:
    """Escaped, with Markdown's backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))
