"""A headless Chromium, driven over its DevTools protocol.

Source: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.cloud import missing

PROGRAMS = ("chromium", "google-chrome", "chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",  # it is shown nothing but our own pages, and may be run by root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class Browser:
    """One tab: opens pages, and keeps what they log and ask the network for.

    Args:
        address: Of the tab, ws://.
    """

    def __init__(self, address: str) -> None:
        self._socket = connect(address, max_size=None, open_timeout=60)
        self._sent = 0
        self.console: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events that come meanwhile are kept."""
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": parameters}))
        while (message := self._receive()).get("id") != self._sent:
            pass
        assert "error" not in message, (method, message["error"])
        found: dict[str, Any] = message["result"]
        return found

    def open(self, path: Path, script: bool = True) -> None:
        """Load a file anew and wait until it is there; `script` off shows what it is without any."""
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        for url in (
            "about:blank",
            path.as_uri(),
        ):  # another page first: what is open already is not loaded anew
            self.console, self.requests, self._loaded = [], [], False
            self.call("Page.navigate", url=url)
            while not self._loaded:
                self._receive()

    def look(self, width: int = 1280, *, dark: bool = False, media: str = "screen") -> None:
        """Set the width of the window, the colour scheme and the medium."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def evaluate(self, code: str) -> Any:
        """Return the value of an expression in the page, as JSON gives it."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def each(self, selector: str, code: str) -> list[Any]:
        """Return the value of an expression for each element `e` that a selector finds."""
        found: list[Any] = self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(e => {code})"
        )
        return found

    def names(self) -> list[tuple[str, str]]:
        """Return role and name of all that a screen reader is told of."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        told = (node for node in nodes if not node["ignored"] and "role" in node)
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in told]

    def screenshot(self, path: Path) -> None:
        """Draw the whole page into a PNG file."""
        drawn = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(drawn["data"]))

    def close(self) -> None:
        """Close the browser."""
        self.call("Browser.close")
        self._socket.close()

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=60))
        about = message.get("params", {})
        match message.get("method"):
            case "Runtime.consoleAPICalled":
                self.console.append(str([one.get("value") for one in about["args"]]))
            case "Runtime.exceptionThrown":
                self.console.append(str(about["exceptionDetails"]))
            case "Log.entryAdded":
                self.console.append(about["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])
            case "Page.loadEventFired":
                self._loaded = True
        return message


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start a browser for the session; it keeps all it writes under a folder of the test."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing(f"no browser: none of {', '.join(PROGRAMS)} is on the PATH")
    profile = tmp_path_factory.mktemp("browser")
    log = profile / "log"
    with log.open("w") as output:
        command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        for _ in range(600):
            if found := re.search(r"ws://127.0.0.1:(\d+)/", log.read_text()):
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        else:
            pytest.fail(f"the browser did not start: {log.read_text()}")
        tabs = httpx.get(f"http://127.0.0.1:{found[1]}/json").json()
        tab = next(tab for tab in tabs if tab["type"] == "page")
        opened = Browser(tab["webSocketDebuggerUrl"])
        yield opened
        opened.close()
        process.wait(30)
    finally:
        process.kill()
        process.wait()
