"""A headless Chromium for the tests that look at pages; None where there is none."""

import os
import shutil
from contextlib import contextmanager

NAMES = ["chromium", "chromium-browser", "google-chrome"]
CHROMIUM: str | None = os.environ.get("PLAYWRIGHT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
ARGUMENTS: list[str] = [
    "--no-sandbox",  # in containers there is none
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def open_browser():
    """A Playwright Browser, closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
