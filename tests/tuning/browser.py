"""A real browser for tests of pages: headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)


class Page:
    """One tab. `errors` and `requests` are what the page said and asked for since it was opened."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._number = 0
        self._mobile = self._loaded = False
        self.errors: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Opens a file in a window of this size, as a phone's below 500 pixels."""
        self._size(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self.errors.clear()
        self.requests.clear()
        self._loaded = False
        self._call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + 600
        while not self._loaded and time.monotonic() < deadline:
            self._receive()
        self._settle()

    def resize(self, width: int, height: int) -> None:
        self._size(width, height)
        self._settle()

    def _size(self, width: int, height: int) -> None:
        self._mobile = width < 500
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self._call("Emulation.setDeviceMetricsOverride", **size, mobile=self._mobile)
        self._call("Emulation.setTouchEmulationEnabled", enabled=self._mobile)

    def _settle(self) -> None:
        """Until what is drawn at the next frames is drawn."""
        frames = "".join("requestAnimationFrame(() => " for _ in range(4)) + "done(1)" + ")" * 4
        self.run(f"new Promise((done) => {frames})")

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression in the page; what it throws is raised."""
        told = self._call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise AssertionError(told["exceptionDetails"]["exception"].get("description", told))
        return told["result"].get("value")

    def tap(self, x: float, y: float) -> None:
        self.drag(x, y, x, y)

    def drag(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """Presses the mouse, or a finger on a phone, at a point of the window, moves it and lets it go."""
        if self._mobile:
            self._call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
            if (x, y) != (to_x, to_y):
                for share in (0.25, 0.5, 0.75, 1.0):
                    at = {"x": x + share * (to_x - x), "y": y + share * (to_y - y)}
                    self._call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[at])
            self._call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            return
        press = {"button": "left", "clickCount": 1}
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self._call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **press)
        if (x, y) != (to_x, to_y):
            for share in (0.5, 1.0):
                at = {"x": x + share * (to_x - x), "y": y + share * (to_y - y)}
                self._call("Input.dispatchMouseEvent", type="mouseMoved", buttons=1, button="left", **at)
        self._call("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, y=to_y, **press)

    def press(self, key: str) -> None:
        self._call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        told = self._call("Page.captureScreenshot", captureBeyondViewport=True, clip=self._whole())
        path.write_bytes(base64.b64decode(told["data"]))

    def _whole(self) -> dict[str, Any]:
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = self._receive()
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv())
        method, told = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(part.get("value", part.get("description"))) for part in told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        return message


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser with a profile of its own; the test is skipped where there is none, or nothing to drive it with."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs a browser: chromium or google-chrome on the path")
    websocket = pytest.importorskip("websocket", reason="needs the package websocket-client to drive a browser")
    started = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port, tab = _tab(profile, started)
        socket = websocket.create_connection(f"ws://127.0.0.1:{port}/devtools/page/{tab}", timeout=60)
        try:
            yield Page(socket)
        finally:
            socket.close()
    finally:
        started.terminate()
        try:
            started.wait(600)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _tab(profile: Path, started: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The port that the browser chose, and its first tab."""
    from urllib.request import urlopen

    told = profile / "DevToolsActivePort"
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if started.poll() is not None:
            pytest.skip(f"the browser does not start here (exit code {started.returncode})")
        try:
            port = int(told.read_text().splitlines()[0])
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return port, str(tabs[0]["id"])
        except (OSError, ValueError, IndexError):
            pass  # it is still starting
        time.sleep(0.1)
    raise AssertionError("the browser did not open its port within a minute")
