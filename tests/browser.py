"""Headless Chromium (or a browser built on it) for the tests that look at pages, and pictures of what it shows."""

import io
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
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


PICTURES = Path(__file__).parent.parent / "notebooks" / "pictures"
LARGEST = 200_000  # bytes of a picture


def take_picture(place, name: str) -> Image.Image:
    """A screenshot of a page or of a part of it, in 256 colours; `make pictures` keeps it for the README."""
    picture = Image.open(io.BytesIO(place.screenshot(animations="disabled"))).convert("RGB").quantize(256)
    if os.environ.get("KEEP_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        picture.save(PICTURES / name, optimize=True)
    return picture


def assert_kept(picture: Image.Image, name: str) -> None:
    """The README's picture shows as much of the page, and is small."""
    assert (PICTURES / name).stat().st_size <= LARGEST
    kept = Image.open(PICTURES / name)
    assert kept.width == picture.width and abs(kept.height - picture.height) <= 0.1 * picture.height


@contextmanager
def open_browser():
    """A Playwright Browser, closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
