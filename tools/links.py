"""Follows every link to another site that the project's texts and notebooks hold, and names those that lead nowhere.

python -m tools.links
"""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
KINDS = (".md", ".ipynb", ".bib", ".cff", ".py", ".toml")
LINK = re.compile(r"https?://[^\s<>\"'`\\{}|]+")
NOT_FOLLOWED = ("127.0.0.1", "localhost", "example.", "www.w3.org")  # of tests, and names of formats
REFUSED = (401, 403, 405, 429)  # there is a page, which programs are not shown
AGENT = {"User-Agent": "Mozilla/5.0 (bert-cnn link check)"}
PATIENCE = 30  # seconds


def find_links(text: str) -> set[str]:
    """The addresses in a text, without what punctuation follows them."""
    found = set()
    for link in LINK.findall(text):
        while link.endswith((".", ",", ";", ":", "!", "?", "*", ")", "]")):
            if link.endswith(")") and link.count("(") >= link.count(")"):
                break
            link = link[:-1]
        if not any(word in link for word in NOT_FOLLOWED):
            found.add(link)
    return found


def read(path: Path) -> str:
    """What people wrote: of a notebook its cells, without outputs."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def trouble(link: str) -> str:
    """ "" if the link leads somewhere; otherwise what happened."""
    try:
        with urllib.request.urlopen(urllib.request.Request(link, headers=AGENT), timeout=PATIENCE):
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code in REFUSED else f"{error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return str(error)


def main() -> int:
    command = ["git", "ls-files", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    places: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(KINDS) and not name.startswith("tests/"):
            for link in find_links(read(ROOT / name)):
                places.setdefault(link, []).append(name)
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(places, pool.map(trouble, places), strict=True))
    broken = {link: what for link, what in found.items() if what}
    for link, what in sorted(broken.items()):
        print(f"{link}: {what} ({', '.join(places[link])})")
    print(f"{len(places)} links, {len(broken)} of them lead nowhere.")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
