"""One HTML page from its data: styles and scripts are in it, nothing is fetched, and data never become markup."""

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
    "curves.js",
    "pictures.js",
    "page.js",
)
"""Put together in this order and run as one script."""


def assemble(data: dict[str, Any], title: str) -> str:
    """The whole page.

    Everything that came from outside (labels, captions, names of classes and files) stands in one JSON block, which the
    script reads and shows with `textContent` only. The policy lets nothing run or load but the style and the script
    whose digests it names, and pictures that are in the page.
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
<noscript><p>This page draws its tables and charts with the script that is in it, and your browser runs none.
<code>cosmos-eval leaderboard</code> writes the same numbers as Markdown, CSV, LaTeX and plain HTML.</p></noscript>
<script type="application/json" id="data">{embedded(data)}</script>
<script>{script}</script>
</body>
</html>
"""


def asset(name: str) -> str:
    """A style or script of ours."""
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8").strip()


def digest(text: str) -> str:
    """What a content security policy calls an inline block by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def embedded(data: Any) -> str:
    """JSON that cannot end its block or start another: no <, no > and no &, and ASCII only (lone surrogates too)."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plain(text: str) -> str:
    """Text for an element, whatever it holds."""
    return escape(text.encode("utf-8", "replace").decode())
