"""Headless Chromium (or a browser built on it) for the tests that look at pages."""

import os
import shutil
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

PROGRAMS = ["chromium", "chromium-browser", "google-chrome", "chrome", "msedge"]
PLACES = [  # where macOS and Windows keep what is not on the PATH
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    os.path.expandvars(r"%ProgramFiles%\Google\Chrome\Application\chrome.exe"),
    os.path.expandvars(r"%ProgramFiles(x86)%\Microsoft\Edge\Application\msedge.exe"),
]
FOUND = filter(None, map(shutil.which, PROGRAMS + PLACES))
CHROMIUM: str | None = os.environ.get("PLAYWRIGHT_CHROMIUM") or next(FOUND, None)
ARGUMENTS: list[str] = """
    --no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync
""".split()


@contextmanager
def open_browser():
    """A Playwright Browser, closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
