"""Compare requirements.lock with published vulnerabilities, and list the licenses of what is installed.

Exit codes: 0 nothing is known, 1 there are vulnerabilities, 3 the database of vulnerabilities could not be asked.
"""

import json
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from typing import Any

PIP_AUDIT = "pip-audit>=2.10,<3"
"""Run in an environment of its own: `uv tool run` installs it if necessary."""
COMMAND = [sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", PIP_AUDIT, "pip-audit"]
OPTIONS = ["--requirement", "requirements.lock", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
TIMEOUT_S = 300
VULNERABLE, UNREACHABLE = 1, 3


def main() -> int:
    """Print licenses and vulnerabilities; return the exit code."""
    for name, license in sorted((one.metadata["Name"], license_of(one)) for one in distributions()):
        print(f"{name:36} {license}")
    try:
        done = subprocess.run([*COMMAND, *OPTIONS], capture_output=True, text=True, timeout=TIMEOUT_S)
        report = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        sentence = "error: the database of vulnerabilities cannot be reached, or pip-audit cannot be installed"
        print(f"{sentence}; run make audit-packages again with access to the internet", file=sys.stderr)
        return UNREACHABLE
    faults = vulnerabilities(report)
    print("\n".join(faults) or f"no known vulnerabilities in {len(report['dependencies'])} packages")
    return VULNERABLE if faults else 0


def license_of(distribution: Distribution) -> str:
    """Return the license that a package states: as an expression, as text of one line, or as a classifier."""
    metadata: Any = distribution.metadata
    classifiers = [value for value in metadata.get_all("Classifier") or () if value.startswith("License ::")]
    text = str(metadata.get("License") or "").strip()
    stated = [metadata.get("License-Expression"), *(value.rpartition(" :: ")[2] for value in classifiers), text]
    return next((str(value) for value in stated if value and "\n" not in str(value)), "not stated")


def vulnerabilities(report: dict[str, Any]) -> list[str]:
    """Return a sentence for each vulnerability in the report of pip-audit."""
    return [
        f"{package['name']} {package['version']}: {fault['id']}; fixed in {', '.join(fault['fix_versions']) or 'none yet'}"
        for package in report["dependencies"]
        for fault in package.get("vulns", ())
    ]


if __name__ == "__main__":
    sys.exit(main())
