"""One self-contained HTML page from its data: nothing is fetched, and data never become markup."""

import base64
import hashlib
import json
from html import escape
from importlib import resources
from typing import Any

STYLES = ("colours.css", "report.css", "tables.css", "dialog.css", "charts.css", "narrow.css")
SCRIPTS = (
    "elements.js",
    "provenance.js",
    "tables.js",
    "leaderboard.js",
    "charts.js",
    "classes.js",
    "curves.js",
    "geometry.js",
    "images.js",
    "page.js",
)
"""Joined in this order and run as one script."""


def assemble(data: dict[str, Any], title: str) -> str:
    """The whole page.

    All labels, captions and names of classes and files are in one JSON block, which the script reads and shows with
    `textContent` only. The content security policy allows the style and the script by their digests, and images that
    are embedded in the page; nothing else runs or is loaded.
    """
    style, script = "\n".join(map(asset, STYLES)), "(() => {\n" + "\n".join(map(asset, SCRIPTS)) + "\n})();\n"
    policy = (
        f"default-src 'none'; img-src data:; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{plain(title)}</title>
<style>{style}</style>
</head>
<body>
<noscript><p>This page draws its tables and charts with its own script, and scripts are off in your browser.
<code>cosmos-eval leaderboard</code> writes the same numbers as Markdown, CSV, LaTeX and plain HTML.</p></noscript>
<script type="application/json" id="data">{embedded(data)}</script>
<script>{script}</script>
</body>
</html>
"""


def asset(name: str) -> str:
    """The text of a file of assets/."""
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8").strip()


def digest(text: str) -> str:
    """How a content security policy names an inline block."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def embedded(data: Any) -> str:
    """JSON that cannot end its block or start another: no <, no > and no &, and ASCII only (lone surrogates too)."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plain(text: str) -> str:
    """Text escaped for an element, lone surrogates replaced."""
    return escape(text.encode("utf-8", "replace").decode())
