"""The files that carry the project: what is promised in pyproject, pins, Makefile, CI and compose, read back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
AIRFLOW_SERVICES = ["init", "api-server", "scheduler", "dag-processor", "triggerer", "worker"]


def read(path: str) -> str:
    """The text of a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads(read("pyproject.toml"))


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services of docker-compose.yaml, merges resolved."""
    return yaml.safe_load(read("docker-compose.yaml"))["services"]


# pyproject


def test_airflow_finds_the_provider_and_the_plugin(project: dict[str, Any]) -> None:
    """Both entry points name an object in this package."""
    points = project["project"]["entry-points"]
    assert points["apache_airflow_provider"] == {
        "provider_info": "airflow_provider_qadzd.provider_info:get_provider_info"
    }
    assert points["airflow.plugins"] == {"qadzd": "airflow_provider_qadzd.plugin:QadzdPlugin"}


def test_supported_versions(project: dict[str, Any]) -> None:
    """Python 3.10 and newer, Airflow 3.3 and newer but not 4, and ruff and mypy look at the oldest Python."""
    needs = {Requirement(text).name: Requirement(text).specifier for text in project["project"]["dependencies"]}
    assert project["project"]["requires-python"] == ">=3.10"
    assert needs["apache-airflow"].contains("3.3.0")
    assert not needs["apache-airflow"].contains("3.2.9")
    assert not needs["apache-airflow"].contains("4.0.0")
    assert project["tool"]["ruff"]["target-version"] == "py310"
    assert project["tool"]["mypy"] | {"strict": True, "python_version": "3.10"} == project["tool"]["mypy"]


def test_warnings_are_errors(project: dict[str, Any]) -> None:
    """Every warning fails a test, and each exception names its message."""
    first, *exceptions = project["tool"]["pytest"]["ini_options"]["filterwarnings"]
    assert first == "error"
    assert all(re.match(r"ignore:[^:]{10,}:\w+", line) for line in exceptions)


def test_the_wheel_carries_dags_migrations_and_templates(tmp_path: Path) -> None:
    """Every file of the package and every DAG is in the built wheel, the DAGs inside the package."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    inside = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in files_below("airflow_provider_qadzd")}
    wanted |= {f"airflow_provider_qadzd/{path.relative_to(ROOT).as_posix()}" for path in files_below("dags")}
    assert wanted - inside == set()
    assert any(name.endswith("licenses/LICENSE") for name in inside)
    assert {name.split("/")[0] for name in inside if ".dist-info" not in name} == {"airflow_provider_qadzd"}


def test_the_readme_is_the_project_page(project: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    """Where there is a README, pyproject names it, and the image build, which reads pyproject, gets it."""
    if (ROOT / "README.md").exists():
        assert project["project"].get("readme") == "README.md"
        assert " README.md " in services["init"]["build"]["dockerfile_inline"]


def files_below(folder: str) -> list[Path]:
    """Files of a folder, without what Python leaves there."""
    return [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]


# pins


def pins(path: str) -> list[tuple[Requirement, int]]:
    """Each pinned requirement of a file with the number of its hashes."""
    lines = [
        line for line in read(path).replace("\\\n", " ").splitlines() if line and not line.lstrip().startswith("#")
    ]
    return [(Requirement(line.split(" --hash")[0].strip()), line.count("--hash=sha256:")) for line in lines]


@pytest.mark.parametrize("path", ["requirements/dev.txt", "requirements/uv.txt"])
def test_pins_are_exact_and_hashed(path: str) -> None:
    """Each line is one exact version with at least one hash."""
    for pin, hashes in pins(path):
        assert [part.operator for part in pin.specifier] == ["=="], pin
        assert hashes, pin


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_pins_answer_pyproject_on_every_python(project: dict[str, Any], python: str) -> None:
    """Whatever pyproject asks for, the build tools included, is pinned once, at a version that it allows."""
    here = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": "x86_64"}
    chosen: dict[str, str] = {}
    for pin, _ in pins("requirements/dev.txt"):
        if pin.marker is None or pin.marker.evaluate(here):
            assert pin.name not in chosen
            chosen[pin.name] = next(iter(pin.specifier)).version
    groups = [*project["project"]["optional-dependencies"].values(), *project["dependency-groups"].values()]
    groups += [project["build-system"]["requires"], project["project"]["dependencies"]]
    for wanted in (Requirement(text) for group in groups for text in group if isinstance(text, str)):
        assert wanted.specifier.contains(chosen[wanted.name.lower()]), wanted


def test_no_address_of_a_registry() -> None:
    """No tracked file names a package registry: the pins work from any mirror."""
    # Written in parts, or this file would name one.
    hosts = re.compile("|".join([r"pypi\." + "org", "python" + r"hosted\.org", "--" + "index-url [^\"' ]"]))
    named = [str(path) for path in text_files() if hosts.search(path.read_text(encoding="utf-8", errors="replace"))]
    assert named == []


def text_files() -> list[Path]:
    """Tracked files in a clone; without git, the files of the source distribution."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    return [*filter(Path.is_file, ROOT.iterdir()), *files_below("airflow_provider_qadzd"), *files_below("requirements")]


# Makefile, bootstrap, CI


@pytest.mark.parametrize(
    "target", ["help", "demo", "test", "lint", "format", "bench", "conformance", "wheel", "pins", "clean"]
)
def test_make_knows_the_target(target: str) -> None:
    """Each promised target exists and is listed by `make help`."""
    subprocess.run(["make", "-n", target, "SPEC=x"], cwd=ROOT, check=True, capture_output=True, timeout=30)
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=30).stdout
    assert f"make {target} " in listed


def test_conformance_says_what_it_needs() -> None:
    """Without SPEC it stops and says how to call it."""
    command = ["make", "-o", "env", "conformance", "SPEC="]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode != 0
    assert "make conformance SPEC=path/to/zendesk-openapi.yaml" in ran.stderr


@pytest.fixture
def bare_clone(tmp_path: Path) -> Path:
    """A copy of what the bootstrap reads, and `bin` with the few programs it needs, but no Python."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    for name in ["pyproject.toml", "bootstrap.sh"]:
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for name in ["sh", "cat", "cksum", "dirname", "mkdir", "rm", "cmp"]:
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def bootstrap(clone: Path) -> subprocess.CompletedProcess[str]:
    """Runs the bootstrap with nothing but `bin` on PATH, and no HOME."""
    return subprocess.run(
        [clone / "bin" / "sh", clone / "bootstrap.sh"],
        env={"PATH": str(clone / "bin")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_bootstrap_without_python_says_what_to_install(bare_clone: Path) -> None:
    """No Python, or one that is too old: the message names version and Debian package, and no stamp is left."""
    old = bare_clone / "bin" / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    ran = bootstrap(bare_clone)
    assert ran.returncode == 1
    assert "no Python 3.10 or newer" in ran.stderr
    assert "apt-get install python3" in ran.stderr
    assert not (bare_clone / ".venv").exists()


def test_bootstrap_without_pip_and_venv_says_what_to_install(bare_clone: Path) -> None:
    """A Python with neither pip nor ensurepip, and no uv: the message names the Debian package."""
    python = bare_clone / "bin" / "python3"
    # Prints its own path, so that each later question comes back here; knows neither pip nor venv.
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f'    *version_info*) echo "{python}" ;;\n'
        f'    *fcntl*) exec "{sys.executable}" "$@" ;;\n'
        "    *) exit 1 ;;\n"
        "esac\n"
    )
    python.chmod(0o755)
    ran = bootstrap(bare_clone)
    assert ran.returncode == 1
    assert "apt-get install python3-venv" in ran.stderr
    assert not (bare_clone / ".venv" / "stamp").exists()


def test_ci_runs_lint_and_tests() -> None:
    """.ci/run is executable, stops at the first failure and calls both."""
    script = read(".ci/run")
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "set -euo pipefail" in script
    assert re.findall(r"^make (\w+)", script, re.M) == ["lint", "test"]


def test_pre_commit_hooks_are_local() -> None:
    """Hooks fetch nothing and call the pinned tools."""
    repos = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    programs = {hook["entry"].split()[0] for hook in repos[0]["hooks"] if hook["language"] == "system"}
    assert programs == {".venv/bin/ruff", ".venv/bin/mypy"}


# docker-compose.yaml


def test_compose_has_every_service(services: dict[str, dict[str, Any]]) -> None:
    """Airflow's five processes, what they stand on, the receiver, and the sandbox only by its profile."""
    assert set(services) == {*AIRFLOW_SERVICES, "receiver", "sandbox", "redis", "postgres"}
    assert {name: found["profiles"] for name, found in services.items() if "profiles" in found} == {
        "sandbox": ["sandbox"]
    }


def test_compose_receiver_holds_least(services: dict[str, dict[str, Any]]) -> None:
    """The receiver has the ledger and the key of the signing secrets, and is on no network with Redis or Airflow."""
    receiver = services["receiver"]
    assert set(receiver["environment"]) == {"QADZD_LEDGER_URL", "QADZD_RECEIVER_KEYS"}
    assert not {"volumes", "env_file", "secrets"} & set(receiver)
    assert receiver["environment"]["QADZD_LEDGER_URL"].startswith("postgresql+psycopg://qadzd_receiver:")
    assert "--receiver-role qadzd_receiver" in services["init"]["command"][-1]
    assert receiver["networks"] == ["receiving"]
    others = {name for name, found in services.items() if "receiving" in found.get("networks", [])}
    assert others == {"receiver", "postgres", "sandbox"}


@pytest.mark.parametrize("name", AIRFLOW_SERVICES)
def test_compose_airflow_services_hold_both_keys(services: dict[str, dict[str, Any]], name: str) -> None:
    """Each Airflow service has Airflow's secrets, the ledger, the vault key and the receiver key."""
    assert set(services[name]["environment"]) >= {
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__CORE__FERNET_KEY",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "QADZD_LEDGER_URL",
        "QADZD_RECEIVER_KEYS",
        "QADZD_VAULT_KEYS",
    }


def test_compose_knows_no_secret(services: dict[str, dict[str, Any]]) -> None:
    """Every secret comes from a variable without a default, and each such variable must be set somewhere."""
    text = read("docker-compose.yaml")
    used = {
        variable
        for found in services.values()
        for setting, value in found.get("environment", {}).items()
        if re.search(r"KEY|SECRET|PASSWORD|_CONN$|BACKEND|LEDGER_URL", setting)
        for variable in re.findall(r"\$\{(\w+)", value) or pytest.fail(f"{setting} is written down")
    }
    assert len(used) == 10
    for variable in used:
        assert f"${{{variable}:?" in text
        assert f"${{{variable}:-" not in text
        # The comment at the top says how to make each.
        assert variable in text.split("services:")[0].split("x-airflow:")[0]


def test_compose_publishes_two_ports_to_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    """Only the user interface and the receiver can be reached, and by default only from the same machine."""
    published = {name: found["ports"] for name, found in services.items() if "ports" in found}
    assert published == {
        "api-server": ["${QADZD_BIND:-127.0.0.1}:8080:8080"],
        "receiver": ["${QADZD_BIND:-127.0.0.1}:8081:8081"],
    }


def test_compose_commands_and_health(services: dict[str, dict[str, Any]]) -> None:
    """Commands start with programs of the image, every lasting service has a health check, one service builds."""
    for name, found in services.items():
        if name in {"redis", "postgres"}:
            continue
        command = found["command"]
        assert (command if isinstance(command, list) else command.split())[0] in {"airflow", "python", "bash"}
        assert found["image"] == "qadzd-airflow:3.3.2"
        assert ("build" in found) == (name == "init")
    assert {name for name, found in services.items() if "healthcheck" not in found} == {"init"}
    # `init` alone must not inherit a wait for itself.
    assert "init" not in services["init"]["depends_on"]


def test_compose_init_prepares_airflow_and_the_ledger(services: dict[str, dict[str, Any]]) -> None:
    """One service migrates Airflow's database, makes the first user and upgrades the ledger, in that order."""
    script = services["init"]["command"][-1]
    steps = re.findall(r"^airflow (\w+ \w+(?: upgrade)?)", script, re.M)
    assert steps == ["db migrate", "users create", "qadzd ledger upgrade"]


def test_compose_build_copies_what_exists(services: dict[str, dict[str, Any]], project: dict[str, Any]) -> None:
    """The image is built from files that are here, on the Airflow line that is pinned, with extras that exist."""
    recipe = services["init"]["build"]["dockerfile_inline"]
    for line in re.findall(r"^COPY --chown=\S+ (.*) \S+$", recipe, re.M):
        assert [name for name in line.split() if not (ROOT / name).exists()] == []
    pinned = {pin.name: next(iter(pin.specifier)).version for pin, _ in pins("requirements/dev.txt")}
    assert f"FROM apache/airflow:{pinned['apache-airflow']}" in recipe
    extras = re.search(r"/opt/qadzd\[([\w,]+)\]", recipe)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["project"]["optional-dependencies"])


def test_compose_ledger_role_is_shut_out_of_airflow() -> None:
    """The ledger has its own database and role, and nobody connects to Airflow's database by default."""
    sql = yaml.safe_load(read("docker-compose.yaml"))["configs"]["databases"]["content"]
    assert "CREATE DATABASE qadzd OWNER qadzd;" in sql
    assert "GRANT CONNECT ON DATABASE qadzd TO qadzd_receiver;" in sql
    assert re.search(r"REVOKE CONNECT ON DATABASE airflow,.* FROM PUBLIC;", sql)
    # Compose would take a dollar sign as one of its own variables.
    assert "$" not in sql


@pytest.mark.parametrize("command", ["tests.bench", "tests.bench.backfill", "tests.bench.burst", "tests.conformance"])
def test_what_runs_outside_of_the_tests_starts(command: str) -> None:
    """Bench and conformance import everything they need, since no test runs them."""
    done = subprocess.run([sys.executable, "-m", command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
