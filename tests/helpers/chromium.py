"""A headless Chromium driven through its DevTools protocol over a pair of pipes: no driver, no socket, no package.

Messages are JSON ended by a zero byte; the browser reads them from its descriptor 3 and writes to 4.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 120.0
"""Seconds to wait for an answer or a state; a busy machine is not a failure."""
# Descriptors 3 and 4 may be anything in the process that starts this one, so they are put in place behind a new start.
STARTER = """
import fcntl, os, sys
hear, say = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(hear, 3), os.dup2(say, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

# Contrast as WCAG 2 defines it, of every text against the nearest background that is opaque.
CONTRAST = """(() => {
  const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const worst = {};
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.closest('script, noscript, caption')) continue;
    const isClear = (c) => c.length === 4 && c[3] < 1;
    let at = e;
    while (at && isClear(parse(getComputedStyle(at).backgroundColor))) at = at.parentElement;
    const back = at ? parse(getComputedStyle(at).backgroundColor) : [255, 255, 255];
    const style = getComputedStyle(e);
    const front = parse(e instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(front.slice(0, 3)), light(back.slice(0, 3))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const name = e.tagName + '.' + (e.getAttribute('class') ?? '');
    if (!(worst[name] <= ratio)) worst[name] = ratio;
  }
  return worst;
})()"""


def find_chromium() -> str | None:
    """The path of a browser that speaks the protocol: COSMOS_CHROMIUM, else what the system has."""
    named = os.environ.get("COSMOS_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page, its console, and what it asked a network for."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self.browser, self.session = browser, session
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.refused: list[str] = []
        """Of the requests, those that the page's own policy stopped."""
        self._numbers: dict[str, str] = {}
        self._loaded: set[str] = set()
        """Documents whose load event has come, by their loaders."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its answer."""
        return self.browser.call(method, parameters, self.session)

    def hear(self, event: str, said: dict[str, Any]) -> None:
        """Note what a test asks about."""
        if event == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(" ".join(str(one.get("value", one.get("description"))) for one in said["args"]))
        elif event == "Log.entryAdded":
            self.complaints.append(said["entry"]["text"])
        elif event == "Network.requestWillBeSent" and not said["request"]["url"].startswith("data:"):
            self.requests.append(said["request"]["url"])
            self._numbers[said["requestId"]] = said["request"]["url"]
        elif event == "Network.loadingFailed" and said.get("blockedReason") == "csp":
            self.refused.append(self._numbers[said["requestId"]])
        elif event == "Page.lifecycleEvent" and said["name"] == "load":
            self._loaded.add(said["loaderId"])

    def open(self, path: Path, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Open a file in a window of some size, and wait until it is drawn."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        for seen in (self.complaints, self.requests, self.refused):
            seen.clear()
        document = self.call("Page.navigate", url=path.resolve().as_uri())["loaderId"]
        while document not in self._loaded:  # an expression could be answered by the document before
            self.browser.take_message()
        self.run("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(() => drawn())))")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; an error in it is raised here."""
        said = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"].get("exception", said["exceptionDetails"])
        return said["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true: some events (of details, of a closed dialog) come a moment later."""
        end = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({expression})"):
            assert time.monotonic() < end, f"it never came: {expression}"
            time.sleep(0.01)

    def texts(self, selector: str) -> list[str]:
        """The text of every element that a selector finds, spaces put together."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return self.run(f"{found}.map(e => e.textContent.replace(/\\s+/g, ' ').trim())")

    def click(self, selector: str) -> None:
        """A press of the mouse where the element really is, as a person would; it must be what lies on top there."""
        where = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            "const x = b.x + b.width / 2, y = b.y + b.height / 2, top = document.elementFromPoint(x, y);"
            "return e === top || e.contains(top) || top?.contains(e) ? [x, y] : null })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        assert where, f"{selector} is covered by something else"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], button="left", clickCount=1)

    def key(self, name: str, shift: bool = False) -> None:
        """A key: Tab, Enter, Escape, Space, ArrowRight, ..."""
        code, text = {"Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, ""), "Space": (32, " ")}[name]
        key = " " if name == "Space" else name
        common = {"key": key, "code": name, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, selector: str, text: str) -> None:
        """Put the focus on a box, empty it, and type."""
        self.run(f"(e => {{ e.focus(); e.select() }})(document.querySelector({json.dumps(selector)}))")
        if not text:
            self.call("Input.dispatchKeyEvent", type="keyDown", key="Delete", code="Delete", windowsVirtualKeyCode=46)
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Save what the window, or the whole page, looks like."""
        import base64

        said = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(said["data"]))


class Browser:
    """A browser process and the two pipes to it."""

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self.out = os.pipe()
        self.incoming, theirs_out = os.pipe()
        options = [
            "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-extensions", "--disable-breakpad", "--force-prefers-reduced-motion", "--hide-scrollbars",
            "--allow-pre-commit-input",  # else a press soon after a page was opened is dropped
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        command = [sys.executable, "-c", STARTER, str(theirs_in), str(theirs_out), program, *options]
        self.process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer = b""
        self.last = 0
        self.tabs: dict[str, Tab] = {}

    def call(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Send one command and wait for its answer; events on the way go to their tabs."""
        self.last += 1
        message = {
            "id": self.last,
            "method": method,
            "params": parameters,
            **({"sessionId": session} if session else {}),
        }
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            said = self.take_message()
            if said.get("id") == self.last:
                assert "error" not in said, f"{method}: {said['error']}"
                return said["result"]

    def take_message(self) -> dict[str, Any]:
        """Wait for the next message; an event goes to its tab."""
        said = self.message()
        if "method" in said and said.get("sessionId") in self.tabs:
            self.tabs[said["sessionId"]].hear(said["method"], said["params"])
        return said

    def message(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.incoming], [], [], PATIENCE)
            found = os.read(self.incoming, 1 << 20) if ready else b""
            if not found:
                raise ConnectionError("the browser said nothing more")
            self.buffer += found
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def new_tab(self) -> Tab:
        """A new page."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self.tabs[session] = tab = Tab.__new__(Tab)
        tab.__init__(self, session)  # type: ignore[misc]  # events may come before it is made
        return tab

    def close(self) -> None:
        """End the process."""
        with suppress(ConnectionError):
            self.call("Browser.close", {})
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.out)
        os.close(self.incoming)


@contextmanager
def running(program: str, profile: Path) -> Iterator[Browser]:
    """A browser for a while.

    Raises:
        ConnectionError: it does not start.
    """
    browser = Browser(program, profile)
    try:
        browser.call("Browser.getVersion", {})
        yield browser
    finally:
        browser.close()
