"""The audit of the dependencies, without the vulnerability data: what it asks for, and what it makes of the answer."""

import json

from tests.house.audit_dependencies import installed, verdict

CLEAN = {"name": "redis", "version": "8.1.0", "vulns": []}
VULNERABLE = {
    "name": "tornado",
    "version": "6.0",
    "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["6.3.3", "6.4"], "aliases": [], "description": "x"},
        {"id": "PYSEC-2", "fix_versions": [], "aliases": [], "description": "x"},
    ],
}
SKIPPED = {"name": "click", "skip_reason": "Dependency not found on PyPI and could not be audited: click (8.5.1)"}


def report(*dependencies: object) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


def test_the_packages_are_those_that_the_bridge_needs_at_any_depth_without_those_of_its_tests() -> None:
    versions = installed("tornado_bridge")
    assert {"tornado", "redis", "pydantic", "pydantic-core"} <= versions.keys()
    assert not {"pytest", "hypothesis", "tornado-bridge"} & versions.keys()


def test_packages_without_a_known_vulnerability_pass() -> None:
    assert verdict(report(CLEAN), "No known vulnerabilities found") == (["packages checked: 1"], 0)


def test_a_known_vulnerability_fails_with_the_versions_that_fix_it() -> None:
    lines = ["tornado 6.0: PYSEC-1, fixed in 6.3.3, 6.4", "tornado 6.0: PYSEC-2, fixed in no version"]
    assert verdict(report(CLEAN, VULNERABLE), "Found 2 known vulnerabilities") == ([*lines, "packages checked: 2"], 1)


def test_a_package_that_the_data_does_not_have_is_not_checked() -> None:
    line = "not checked: Dependency not found on PyPI and could not be audited: click (8.5.1)"
    assert verdict(report(SKIPPED), "No known vulnerabilities found") == ([line, "packages checked: 0"], 0)


def test_data_that_cannot_be_reached_is_said_with_its_reason() -> None:
    assert verdict("", "Traceback\nConnectionError: no route\n") == (["not checked: ConnectionError: no route"], 0)


def test_a_silent_pip_audit_has_not_checked_anything() -> None:
    assert verdict("", "") == (["not checked: pip-audit says nothing"], 0)
