"""Run mutation tests; fail on mutants that no test notices and no reason in `accepted_mutants.toml` explains.

`make mutate` runs this. Which modules are mutated and which tests run is in pyproject.toml, ``[tool.mutmut]``.
"""

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ACCEPTED = Path(__file__).with_name("accepted_mutants.toml")
MUTMUT = Path(sys.executable).with_name("mutmut")
SURVIVED = ("survived", "no tests", "suspicious")


@dataclass(frozen=True)
class Mutant:
    """One change of one line: dotted name of the function, and the line before and after, without indentation."""

    function: str
    removed: str
    added: str

    def __str__(self) -> str:
        return f"{self.function}\n  - {self.removed}\n  + {self.added}"


def function_name(mutant: str) -> str:
    """Convert mutmut's ``a.b.xǁClassǁmethod__mutmut_3`` or ``a.b.x_name__mutmut_3`` to a dotted name."""
    module, _, mangled = mutant.rpartition("__mutmut_")[0].rpartition(".")
    names = mangled.removeprefix("xǁ").split("ǁ") if "ǁ" in mangled else [mangled.removeprefix("x_")]
    return ".".join([module, *names])


def changed_lines(diff: str) -> tuple[str, str]:
    """Return what a unified diff removes and adds, the lines stripped and joined by one space."""
    removed, added = (
        " ".join(line[1:].strip() for line in diff.splitlines() if re.match(rf"\{sign}(?!\{sign}{{2}} )", line))
        for sign in "-+"
    )
    return removed, added


def surviving_mutants() -> list[Mutant]:
    """Ask mutmut for the mutants of its last run that no test noticed."""
    listed = subprocess.run([MUTMUT, "results"], check=True, capture_output=True, text=True).stdout
    names = [line.split(":")[0].strip() for line in listed.splitlines() if line.endswith(SURVIVED)]
    mutants = []
    for name in names:
        diff = subprocess.run([MUTMUT, "show", name], check=True, capture_output=True, text=True).stdout
        mutants.append(Mutant(function_name(name), *changed_lines(diff)))
    return mutants


def accepted_mutants() -> set[Mutant]:
    """Read the mutants that may live. Each has a reason."""
    entries = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))["mutant"]
    assert all(entry["reason"] for entry in entries)
    return {Mutant(entry["function"], entry["removed"], entry["added"]) for entry in entries}


def main() -> None:
    """Run mutmut and report."""
    subprocess.run([MUTMUT, "run"], check=True)
    alive, accepted = surviving_mutants(), accepted_mutants()
    unexplained = [mutant for mutant in alive if mutant not in accepted]
    for mutant in unexplained:
        print(mutant)
    print(f"{len(alive)} mutants live, {len(unexplained)} of them without a reason in {ACCEPTED.name}")
    for mutant in sorted(accepted - set(alive), key=str):
        print(f"no longer alive, remove it from {ACCEPTED.name}: {mutant}")
    sys.exit(bool(unexplained))


if __name__ == "__main__":
    main()
