"""The house is in order: one set of dependencies, quick imports, small, and fit for anybody's machine."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import companion

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(path: Path) -> dict[str, str]:
    """{name: version} of the lines `name==version` of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all([s.operator for s in requirement.specifier] == ["=="] for requirement in requirements)
    versions = {canonicalize_name(r.name): next(iter(r.specifier)).version for r in requirements}
    assert len(versions) == len(requirements)
    return versions


CONSTRAINTS = pins(ROOT / "constraints.txt")
COLAB = pins(ROOT / "tests" / "colab_versions.txt")


def direct(requirements) -> list[Requirement]:
    requirements = [Requirement(requirement) for requirement in requirements]
    return [requirement for requirement in requirements if requirement.name != PROJECT["name"]]


@pytest.mark.parametrize("requirement", direct([*PROJECT["dependencies"], *chain(*EXTRAS.values())]), ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement):
    version = CONSTRAINTS[canonicalize_name(requirement.name)]
    assert "+" not in version
    assert requirement.specifier.contains(version)


@pytest.mark.parametrize("requirement", direct(PROJECT["dependencies"]), ids=str)
def test_ranges_accept_what_colab_has(requirement):
    version = COLAB.get(canonicalize_name(requirement.name))
    assert version is None or requirement.specifier.contains(version.replace("*", "0"))


def test_colab_versions_are_of_requirements():
    assert set(COLAB) <= {canonicalize_name(requirement.name) for requirement in direct(PROJECT["dependencies"])}


def test_conda_users_get_the_same_environment():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"
    assert packages == {"pip": ["-c constraints.txt", "-e .[dev]"]}


def packages_of_extra(name: str) -> set[str]:
    """The packages that an extra installs, those of the extras it names included."""
    found = set()
    for requirement in map(Requirement, EXTRAS[name]):
        own = requirement.name == PROJECT["name"]
        found |= set().union(*map(packages_of_extra, requirement.extras)) if own else {requirement.name}
    return found


def commands_of(*goal: str) -> str:
    """What `make GOAL` runs in a clone that has no environment yet."""
    command = ["make", "--dry-run", "READY=new/.installed", "ALL=new/.installed-all", *goal]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("goal", ["lab", "run"])
def test_to_read_and_run_the_series_no_optional_part_is_installed(goal):
    assert '-e ".[series]"' in commands_of(goal)
    optional = packages_of_extra("jax") | packages_of_extra("export") | packages_of_extra("cluster")
    assert {"jax", "onnxruntime", "ray"} <= optional and not optional & packages_of_extra("series")


@pytest.mark.parametrize("goal", ["test", "check", "book"])
def test_to_change_it_everything_is_installed(goal):
    assert '-c constraints.txt -e ".[dev]"' in commands_of(goal)
    assert packages_of_extra("dev") >= set().union(*map(packages_of_extra, EXTRAS))


def test_make_help_names_every_command():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.search(r"\.PHONY: (.*)", makefile)[1].split()
    assert sorted(re.findall(r'echo "  make ([\w-]+) ', makefile)) == sorted(set(commands) - {"help"})
    assert {name for name in re.findall(r"(?m)^([a-z][\w-]*):", makefile)} == set(commands)


def test_the_workflows_run_commands_that_there_are():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        jobs = workflow["jobs"].values()
        lanes = {row["lane"] for job in jobs for row in job.get("strategy", {}).get("matrix", {}).get("include", [])}
        runs = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
        called = {name for run in runs for name in re.findall(r"^make ([\w-]+)", run)} | lanes
        assert called <= set(re.search(r"\.PHONY: (.*)", makefile)[1].split()), path.name
        assert runs and "permissions" in workflow


def test_the_results_go_into_the_package():
    """On Colab, notebooks 08, 10 and 14 find them there."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folder = ROOT / setuptools["package-dir"]["companion.assets.results"]
    patterns = setuptools["package-data"]["companion.assets.results"]
    packed = {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)}
    files = {"heads.csv", "predictions.parquet", "log_odds.parquet"}
    assert packed >= {"rates.json"} | files


def test_the_citation_is_valid_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format requires
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert [set(author) for author in citation["authors"]] == [{"name"}]
    assert citation["version"] == companion.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"(?m)^## (.*)$", changelog)[1] == companion.__version__  # the tag is v and this
    assert citation["license"] == PROJECT["license"]
    assert citation.get("repository-code") == PROJECT.get("urls", {}).get("Repository")


def test_every_import_is_a_requirement():
    imported = set()
    for path in (ROOT / "companion").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    imported -= set(sys.stdlib_module_names) | {"companion"}
    distributions = packages_distributions()
    names = {canonicalize_name(distributions[name][0]) for name in imported}
    required = direct([*PROJECT["dependencies"], *EXTRAS["tasks"], *EXTRAS["export"], *EXTRAS["cluster"]])
    assert names <= {canonicalize_name(requirement.name) for requirement in required}


def test_importing_the_companion_loads_no_framework():
    code = "import companion, sys; print(*{'torch', 'tensorflow', 'keras', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def modules() -> dict[str, Path]:
    """{dotted name: file} of the package's modules."""
    files = sorted((ROOT / "companion").rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


SIZES = {  # lines, every one counted
    "companion": 2100,
    "companion.export": 400,
    "companion.predict": 650,
    "companion.tasks": 540,
    "companion.study": 1950,
}


def test_the_companion_can_be_read_in_one_sitting():
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules().items()}
    assert max(lines.values()) <= 250, lines
    for package, most in SIZES.items():
        depth = package.count(".") + 1
        inside = [n for n in lines if n == package or (n.startswith(f"{package}.") and n.count(".") == depth)]
        inside = [name for name in inside if name == package or name not in SIZES]
        assert sum(lines[name] for name in inside) <= most, package


LAYERS = [  # a module imports from its own layer and from those above it
    {"config", "data", "files", "labels", "encoders", "keras_encoder", "quiet"},
    {"pytorch_class", "pytorch_functional", "keras_class", "keras_functional"},
    {"weights", "attribution", "faithfulness", "display", "checks"},
    {"tasks", "export"},
    {"predict"},
    {"study"},
]


def layer(module: str) -> int:
    """0 for what stands at the bottom; -1 for the package itself."""
    name = ([*module.split("."), ""])[1]
    return next((i for i, names in enumerate(LAYERS) if name in names), -1)


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, wherever in it; `from companion import x` imports companion.x."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in ("companion", "companion.study", "companion.tasks"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in ("companion", "tools")}


@pytest.mark.parametrize("module", modules())
def test_nothing_imports_upwards(module):
    assert layer(module) >= 0 or module == "companion", f"{module} has no place in LAYERS."
    imported = imports(modules()[module])
    assert not {name for name in imported if name.startswith("tools")}
    assert {name for name in imported if layer(name) > layer(module)} == set()


READERS = "answer challenge results specs statistics"


def test_reading_results_takes_no_framework():
    names = ", ".join(f"companion.study.{name}" for name in READERS.split())
    code = f"import sys, {names}; print(*{{'torch', 'tensorflow', 'keras', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


FOREIGN = {
    "a registry's host": r"\b(pypi|anaconda)\.(org|com)\b|python[h]osted|download\.pytorch|[/@]mirrors?\.",
    "somebody's absolute path": r"(?<![\w.])(/(home|root|work|Users|opt|mnt)/\w|[A-Z]:\\+Users)",
}


def project_texts():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in sorted(set(names.split("\0")) - {""}):
        path = ROOT / name
        if path.is_file() and "assets" not in path.parts and path.suffix not in (".parquet", ".png"):
            yield name, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_names(what):
    found = [f"{name}: {m[0]}" for name, text in project_texts() for m in re.finditer(FOREIGN[what], text)]
    assert not found, f"These files name {what}: {found}"


def test_that_check_can_fail():
    assert re.search(FOREIGN["a registry's host"], "--index-url https://pypi." + "org/simple")
    assert re.search(FOREIGN["somebody's absolute path"], "File /" + "home/ada/x.py")
