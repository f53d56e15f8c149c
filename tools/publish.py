"""Stamps a copy's address on GitHub, so that badges, links to Colab and the citation lead somewhere.

python -m tools.publish OWNER/NAME    write the address wherever it belongs; the last one goes
python -m tools.publish --remove      take it out again
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

import nbformat

from tools import series

GITHUB, COLAB = "https://github.com", "https://colab.research.google.com"
BADGE = f"{COLAB}/assets/colab-badge.svg"
PLACEHOLDER = "OWNER/bert-cnn"  # in the cell that installs on Colab, which is reached by a stamped link only
ROW = re.compile(r"(?m)^(\| \[(\d\d) [^]]*\]\((notebooks/[^)]+\.ipynb)\))(?: \[!\[.*?\)\]\(.*?\))?(?= \|)")


def repository(root: Path = series.ROOT) -> str:
    """owner/name, from the one place where it stands; "" before it is stamped."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository", "").removeprefix(f"{GITHUB}/")


def publish(repo: str, root: Path = series.ROOT) -> list[str]:
    """Stamp owner/name into this copy, or remove what was stamped if it is ""; the names of the files that changed.

    Raises ValueError, with one sentence, for what is no address.
    """
    if repo and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+", repo):
        raise ValueError(f"REPO must be an owner and a name as on GitHub, like ada/bert-cnn, not '{repo}'.")
    changed = []
    for name, stamp in {"pyproject.toml": in_project, "README.md": in_readme, "CITATION.cff": in_citation}.items():
        path = root / name
        text = path.read_text(encoding="utf-8")
        if (stamped := stamp(text, repo)) != text:
            path.write_text(stamped, encoding="utf-8", newline="\n")
            changed.append(path)
    for path in series.notebooks(root=root):
        changed += rewrite(path, repo, f"{COLAB}/github/{repo}/blob/main/notebooks/{path.name}")
    for path in sorted((root / "notebooks" / "coursework" / "source").glob("*/*.ipynb")):
        changed += rewrite(path, repo)
    return [path.name for path in changed]


def in_project(text: str, repo: str) -> str:
    text = re.sub(r"\[project\.urls\]\n.*\n\n", "", text)
    table = f'[project.urls]\nRepository = "{GITHUB}/{repo}"  # the one place of this address: make publish\n\n'
    return re.sub(r"(?m)^(?=\[tool\.setuptools\])", table if repo else "", text, count=1)


def in_citation(text: str, repo: str) -> str:
    text = re.sub(r"(?m)^repository-code: .*\n", "", text)
    return text.replace("keywords:", f"repository-code: {GITHUB}/{repo}\nkeywords:") if repo else text


def in_readme(text: str, repo: str) -> str:
    """How to clone it, the state of the tests, and in the table a badge for each notebook."""

    def row(found: re.Match) -> str:
        link = f"{COLAB}/github/{repo}/blob/main/{found[3]}"
        return f"{found[1]} [![Open {found[2]} in Colab]({BADGE})]({link})" if repo else found[1]

    clone = f"git clone {GITHUB}/{repo}\ncd {repo.partition('/')[2]}\n" if repo else ""
    text = re.sub(r"(<!-- commands -->\n```\n)(?:git clone .*\ncd .*\n)?", lambda found: found[1] + clone, text)
    tests = f"{GITHUB}/{repo}/actions/workflows/ci.yml"
    badges = f"[![The tests' state]({tests}/badge.svg)]({tests})\n" if repo else ""
    text = re.sub(r"(?s)(<!-- badges -->\n).*?(<!-- / -->)", lambda found: found[1] + badges + found[2], text)
    return ROW.sub(row, text)


def rewrite(path: Path, repo: str, link: str = "") -> list[Path]:
    """Stamp a notebook: its link, in words as an image would need a network, and its cell for Colab."""
    notebook = nbformat.read(path, as_version=4)
    before = [cell.source for cell in notebook.cells]
    if link:
        title, *rest = notebook.cells[0].source.split("\n\n")
        rest = [part for part in rest if not part.startswith(("[Open in Colab]", "[![Open in Colab]"))]
        notebook.cells[0].source = "\n\n".join([title, *([f"[Open in Colab]({link})"] if repo else []), *rest])
    for cell in notebook.cells:
        if "colab" in cell.metadata.get("tags", []):
            address = rf"(?<=git\+{re.escape(GITHUB)}/)[\w.-]+/[\w.-]+"
            cell.source = re.sub(address, repo or PLACEHOLDER, cell.source)
    if [cell.source for cell in notebook.cells] == before:
        return []
    series.save(notebook, path)
    return [path]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", nargs="?", default="", metavar="OWNER/NAME")
    parser.add_argument("--remove", action="store_true", help="take the address out again")
    args = parser.parse_args()
    if bool(args.repo) == args.remove:
        parser.error("name the repository, as in OWNER/NAME, or --remove its address")
    try:
        changed = publish(args.repo)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    print(f"Changed: {', '.join(changed) or 'nothing, it was all there'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
