"""Run mutation tests; fail on mutants that no test notices and no reason in `accepted_mutants.toml` explains.

`make mutate` runs this. Which modules are mutated and which tests run is in pyproject.toml, ``[tool.mutmut]``. With names
of mutants, such as ``python -m tests.mutants 'pipeline.data.rle.*'``, only these are run again.
"""

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mutmut.mutation.diff_apply import find_mutant, get_diff_for_mutant

ACCEPTED = Path(__file__).with_name("accepted_mutants.toml")
MUTMUT = Path(sys.executable).with_name("mutmut")
NOTICED = ("killed", "timeout", "segfault")


@dataclass(frozen=True)
class Mutant:
    """One change of a function: its dotted name, and the changed line before and after, without indentation."""

    function: str
    removed: str
    added: str

    def __str__(self) -> str:
        return f"{self.function}\n  - {self.removed}\n  + {self.added}"


@dataclass(frozen=True)
class Acceptance:
    """Mutants that may live: `function` is a pattern; each has one of the texts `added`, which its original lacks."""

    function: str
    added: tuple[str, ...]

    def covered(self, mutant: Mutant) -> set[str]:
        """Return the texts that cover the mutant."""
        if not fnmatch.fnmatchcase(mutant.function, self.function):
            return set()
        return {text for text in self.added if text in mutant.added and text not in mutant.removed}


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


def read_results() -> dict[str, str]:
    """Ask mutmut for the mutants of its last run: name -> status."""
    listed = subprocess.run([MUTMUT, "results", "--all", "true"], check=True, capture_output=True, text=True).stdout
    return {name.strip(): status for name, status in (line.split(": ") for line in listed.splitlines())}


def describe_mutant(name: str) -> Mutant:
    """Read what a mutant changes."""
    return Mutant(function_name(name), *changed_lines(get_diff_for_mutant(name, path=find_mutant(name).path)))


def load_acceptances() -> list[Acceptance]:
    """Read the mutants that may live. Each has a reason."""
    entries = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))["accepted"]
    assert all(entry["reason"] for entry in entries)
    return [Acceptance(entry["function"], tuple(entry["added"])) for entry in entries]


def main(names: list[str]) -> None:
    """Run mutmut and report."""
    if not names:  # mutmut would keep the verdicts of older tests
        shutil.rmtree("mutants", ignore_errors=True)
    subprocess.run([MUTMUT, "run", *names], check=True)
    results, acceptances = read_results(), load_acceptances()
    alive = [describe_mutant(name) for name, status in results.items() if status not in NOTICED]
    unexplained = [mutant for mutant in alive if not any(each.covered(mutant) for each in acceptances)]
    print(dict(Counter(results.values())))
    for mutant in unexplained:
        print(mutant)
    print(f"{len(results)} mutants, {len(alive)} live, {len(unexplained)} of them without a reason in {ACCEPTED.name}")
    for each in acceptances:
        for text in sorted(set(each.added).difference(*(each.covered(mutant) for mutant in alive))):
            print(f"no longer alive, remove it from {ACCEPTED.name}: {each.function}: {text}")
    sys.exit(bool(unexplained))


if __name__ == "__main__":
    main(sys.argv[1:])
