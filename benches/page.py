#!/usr/bin/env python3
"""Measures size, load time and layout stability of the page in headless Chromium.

Starts the service with a worker, a temporary folder and SQLite on a free port. Loads the start page ROUNDS times with
an empty cache, then uploads VIDEO and waits for its result. Prints the transferred kilobytes, the milliseconds until
the page is usable (its scripts have registered their handlers), and the layout shifts that Chromium reports. Ends
with 1 if the page has more than 150 kB, takes longer than 1 s (median), or has any layout shift.

    benches/page.py VIDEO [--binary target/release/visage] [--rounds 5]

Needs chromium and chromium-driver (scripts/install-test-deps.sh), and the models (make models).
"""

import argparse
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

MOST_KB, MOST_MS = 150, 1000
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
WATCH = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts.push(entry.value);
}).observe({type: "layout-shift", buffered: true});
"""


class Browser:
    def __init__(self) -> None:
        self.process = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        port = next(found[1] for line in self.process.stdout if (found := re.search(r"on port (\d+)\.", line)))
        self.base = f"http://127.0.0.1:{port}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,860"]
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}}
        self.base += "/" + self.ask("", wanted)["sessionId"]

    def ask(self, path: str, body: dict | None = None, method: str = "POST"):
        data = None if method == "DELETE" else json.dumps(body or {}).encode()
        with DIRECT.open(urllib.request.Request(self.base + path, data, method=method)) as answer:
            return json.load(answer)["value"]

    def tools(self, command: str, **parameters):
        return self.ask("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def eval(self, script: str):
        return self.ask("/execute/sync", {"script": script, "args": []})

    def until(self, condition: str) -> None:
        for _ in range(3000):
            if self.eval(f"return {condition}"):
                return
            time.sleep(0.05)
        sys.exit(f"the page did not reach this condition: {condition}")

    def close(self) -> None:
        self.ask("", method="DELETE")
        self.process.kill()


def load(browser: Browser, url: str) -> tuple[float, float]:
    """Loads the page once with an empty cache. Returns kilobytes and milliseconds."""
    browser.tools("Network.clearBrowserCache")
    browser.ask("/url", {"url": url})
    # The script sets this mark at its end, when the page is usable.
    browser.until("performance.getEntriesByName('usable').length")
    sizes = browser.eval(
        "return ['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind)).map((entry) => entry.transferSize)"
    )
    usable = browser.eval("return performance.getEntriesByName('usable')[0].startTime")
    return sum(sizes) / 1000, usable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("video", type=pathlib.Path)
    parser.add_argument("--binary", default="target/release/visage")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "VISAGE_HTTP__LISTEN": address,
            "VISAGE_DATABASE__URL": f"sqlite://{folder}/visage.db",
            "VISAGE_STORAGE__FOLDER": f"{folder}/videos",
            "VISAGE_MAIL__OUTBOX": f"{folder}/outbox",
            "VISAGE_LOG": "error",
        }
        service = subprocess.Popen([options.binary, "serve"], env=environment)
        browser = None
        try:
            for _ in range(600):
                try:
                    DIRECT.open(f"http://{address}/readyz").close()
                    break
                except urllib.error.URLError:
                    time.sleep(0.1)
            browser = Browser()
            browser.tools("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
            loads = [load(browser, f"http://{address}/") for _ in range(options.rounds)]
            field = browser.ask("/element", {"using": "css selector", "value": "#file"})
            browser.ask(f"/element/{next(iter(field.values()))}/value", {"text": str(options.video.resolve())})
            browser.until("document.querySelector('#send').checkVisibility()")
            browser.eval("document.querySelector('#send').click()")
            browser.until("document.querySelector('#timeline-title')")
            time.sleep(1)
            shift = sum(browser.eval("return window.shifts"))
        finally:
            if browser:
                browser.close()
            service.terminate()
            service.wait()

    weight, usable = max(kb for kb, _ in loads), statistics.median(ms for _, ms in loads)
    print(f"transferred            {weight:8.1f} kB   (at most {MOST_KB})")
    print(f"usable after           {usable:8.0f} ms   (median of {options.rounds}; at most {MOST_MS})")
    print(f"layout shifts          {shift:8.4f}      (none allowed)")
    sys.exit(weight > MOST_KB or usable > MOST_MS or shift > 0)


if __name__ == "__main__":
    main()
