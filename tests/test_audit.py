"""The audit tells vulnerabilities from a missing connection."""

import json
import subprocess

import pytest

from tests import audit

REPORT = {
    "dependencies": [
        {"name": "pillow", "version": "13.0.0", "vulns": [{"id": "CVE-1", "fix_versions": ["13.0.1"]}]},
        {"name": "odd", "skip_reason": "not on the index"},
    ]
}


@pytest.mark.parametrize(
    ("stdout", "code", "sentence"),
    [
        (json.dumps(REPORT), 1, "pillow 13.0.0: CVE-1; fixed in 13.0.1"),
        ('{"dependencies": []}', 0, "no known vulnerabilities in 0 packages"),
        ("", 3, "cannot be reached, or pip-audit cannot be installed; run make audit-packages again"),
    ],
)
def test_exit_code_tells_what_was_found(monkeypatch, capsys, stdout, code, sentence):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, stdout, "no route"))
    assert audit.main() == code
    printed = capsys.readouterr()
    assert sentence in printed.out + printed.err
    assert "numpy " in printed.out


def test_no_answer_in_time_counts_as_unreachable(monkeypatch, capsys):
    def wait(*_, **__):
        raise subprocess.TimeoutExpired("pip-audit", 300)

    monkeypatch.setattr(subprocess, "run", wait)
    assert audit.main() == audit.UNREACHABLE
