"""`python -m tests.house.audit_dependencies` asks pip-audit for known vulnerabilities of what the bridge installs.

The exit status is 1 if there is one. Where the vulnerability data cannot be reached, it prints "not checked" with the
reason, and the exit status is 0.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def installed(name: str) -> dict[str, str]:
    """Return the versions of all packages that a distribution needs, at any depth, as they are installed here."""
    versions: dict[str, str] = {}
    pending = [Requirement(name)]
    while pending:
        wanted = pending.pop()
        extras = wanted.extras or {""}
        for text in distribution(wanted.name).requires or ():
            needed = Requirement(text)
            if needed.marker and not any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                continue
            known = canonicalize_name(needed.name)
            if known not in versions:
                versions[known] = distribution(needed.name).version
                pending.append(needed)
    return versions


def verdict(report: str, problem: str) -> tuple[list[str], int]:
    """Return what there is to say of pip-audit's JSON report, and the exit status.

    `problem` is what pip-audit has written on stderr. It is used if there is no report.
    """
    try:
        dependencies: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except ValueError:
        reason = problem.strip().splitlines()[-1] if problem.strip() else "pip-audit says nothing"
        return [f"not checked: {reason}"], 0
    lines = [f"not checked: {found['skip_reason']}" for found in dependencies if "skip_reason" in found]
    checked = [found for found in dependencies if "skip_reason" not in found]
    vulnerable = [
        f"{found['name']} {found['version']}: {vulnerability['id']}, fixed in {_versions(vulnerability)}"
        for found in checked
        for vulnerability in found["vulns"]
    ]
    return [*lines, *vulnerable, f"packages checked: {len(checked)}"], int(bool(vulnerable))


def _versions(vulnerability: dict[str, Any]) -> str:
    return ", ".join(vulnerability["fix_versions"]) or "no version"


def ask(versions: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return pip-audit's report on packages, which is empty if it has failed, and what it has written on stderr."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "requirements.txt"
        path.write_text("".join(f"{name}=={version}\n" for name, version in versions), encoding="utf-8")
        options = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
        ran = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options, "--requirement", path], capture_output=True, text=True
        )
    return ran.stdout, ran.stderr


def main() -> int:
    lines, status = verdict(*ask(sorted(installed("tornado_bridge").items())))
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
