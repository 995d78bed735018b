"""Is the data whole? Every file is opened and every promise of the competition tested, before hours of training.

A bad file never stops the check: all that is wrong comes out in one list.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.examine import ExaminedPair, Finding, examine_pair, finding_from_error, relative_name
from pipeline.data.mask_csv import read_mask_csv
from pipeline.data.samples import Sample, load_test_samples, load_training_samples
from pipeline.errors import UserError
from pipeline.host import available_cores

# Ids that a finding names of many.
_NAMED = 3


def check_data(competition: Competition, data: Path, workers: int | None = None) -> list[Finding]:
    """Test a folder of data against what its competition promises.

    Args:
        competition: the promises.
        data: the folder that holds its files.
        workers: threads; None takes one for each core. The decoders run outside Python's lock: two threads were 1.7
            times as fast as one.

    Returns:
        All findings, errors first, then by file; an empty list for good data. A broken file is a finding as well.
    """
    findings: list[Finding] = []
    # With the groups, one misnamed file would hide all the others; they are tested by themselves.
    ungrouped = competition.model_copy(update={"groups": None})
    train = _listed(partial(load_training_samples, require_masks=False), ungrouped, data, findings)
    test: list[Sample] = []
    has_test = competition.images.test is not None and (data / competition.images.test).is_dir()
    if has_test:
        test = _listed(load_test_samples, ungrouped, data, findings)
    elif competition.images.test is not None:
        what = "there is no such folder of test images"
        findings.append(Finding("warning", competition.images.test, what, "add it before you predict"))

    truth = _truth(competition, data, train, findings)
    seen = _open_all(competition, data, [*train, *test], truth, workers)
    for one in seen:
        findings += one.findings
    findings += _twins(data, seen[: len(train)], seen[len(train) :])
    for samples in (train, test):
        findings += _same_ids(data, samples) + _groups(competition, data, samples)
    findings += _strays(competition, data, train)
    if has_test:
        findings += _sample(competition, data, test)
    return sorted(findings, key=lambda finding: (finding.level, finding.file))


def _listed(
    listing: Callable[[Competition, Path], list[Sample]], competition: Competition, data: Path, findings: list[Finding]
) -> list[Sample]:
    try:
        return listing(competition, data)
    except UserError as error:
        findings.append(finding_from_error(error, data))
        return []


def _open_all(
    competition: Competition, data: Path, samples: Sequence[Sample], truth: dict[str, str], workers: int | None
) -> list[ExaminedPair]:
    def opened(sample: Sample) -> ExaminedPair:
        return examine_pair(competition, data, sample, truth.get(sample.id))

    with ThreadPoolExecutor(workers or available_cores()) as pool:
        return list(tqdm(pool.map(opened, samples), desc="check", total=len(samples), unit=" images", delay=2))


def _truth(competition: Competition, data: Path, train: Sequence[Sample], findings: list[Finding]) -> dict[str, str]:
    """The rows of the training CSV by id; what is wrong with them goes to the findings."""
    name = competition.csv.train
    if name is None:
        return {}
    found = _ids(competition, data, name, findings)
    if found and train:
        wanted = {sample.id for sample in train if sample.mask is not None}
        images = {sample.id for sample in train}
        findings += _missing(name, [id for id in wanted if id not in found], "has no row for", "fetch the file again")
        lost = [id for id in found if id not in images]
        findings += _missing(name, lost, "has rows without an image:", "add the images, or remove the rows")
    return found


def _sample(competition: Competition, data: Path, test: Sequence[Sample]) -> list[Finding]:
    """Compare the ids of the sample CSV to the test images."""
    name = competition.csv.sample
    if name is None:
        return []
    findings: list[Finding] = []
    found = _ids(competition, data, name, findings)
    if found and test:
        images = {sample.id for sample in test}
        findings += _missing(name, [id for id in images if id not in found], "has no row for", "fetch the file again")
        lost = [id for id in found if id not in images]
        findings += _missing(name, lost, "has unknown names, without a test image:", "fetch what is missing")
    return findings


def _ids(competition: Competition, data: Path, name: str, findings: list[Finding]) -> dict[str, str]:
    """The rows of a CSV by id; empty if it cannot be read."""
    if not (data / name).exists():
        findings.append(Finding("warning", name, "there is no such file", "fetch it"))
        return {}
    found: dict[str, str] = {}
    try:
        for row in read_mask_csv(data / name, competition.csv.columns):
            if row.id in found:
                findings.append(Finding("error", name, f"line {row.line} has {row.id} again", "remove one of its rows"))
            found[row.id] = row.rle
    except UserError as error:
        findings.append(finding_from_error(error, data, data / name))
    return found


def _missing(file: str, ids: Iterable[str], what: str, fix: str) -> list[Finding]:
    ids = sorted(ids)
    named = ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else "")
    return [Finding("error", file, f"{what} {named}", fix)] if ids else []


def _twins(data: Path, train: Sequence[ExaminedPair], test: Sequence[ExaminedPair]) -> list[Finding]:
    """Files of the same content under two names."""
    findings = []
    first: dict[bytes, tuple[Path, bool]] = {}
    for is_test, seen in [(False, one) for one in train] + [(True, one) for one in test]:
        if seen.image_hash is None:
            continue
        path = seen.sample.image
        twin, twin_is_test = first.setdefault(seen.image_hash, (path, is_test))
        if twin is path:
            continue
        # Among the test images a twin costs nothing; elsewhere one may be learnt and its copy be judged.
        level = "warning" if twin_is_test else "error"
        what = f"is the same picture as {relative_name(twin, data)}"
        findings.append(Finding(level, relative_name(path, data), what, "keep one, or fetch both again"))
    masks: dict[bytes, Path] = {}
    for seen in train:
        path = seen.sample.mask
        if seen.mask_hash is not None and masks.setdefault(seen.mask_hash, path) is not path:
            what = f"is the same mask as {relative_name(masks[seen.mask_hash], data)}"
            findings.append(
                Finding("warning", relative_name(path, data), what, "look at both; one may be a copy by mistake")
            )
    return findings


def _same_ids(data: Path, samples: Sequence[Sample]) -> list[Finding]:
    count = Counter(sample.id for sample in samples)
    return [
        Finding(
            "error", relative_name(sample.image, data), f"shares the id {sample.id} with another image", "rename one"
        )
        for sample in samples
        if count[sample.id] > 1
    ]


def _groups(competition: Competition, data: Path, samples: Sequence[Sample]) -> list[Finding]:
    """Names that do not fit the pattern of groups, and groups that are not complete."""
    if competition.groups is None:
        return []
    findings = []
    members: defaultdict[str, list[Path]] = defaultdict(list)
    for sample in samples:
        match = re.match(competition.groups.pattern, sample.image.stem)
        if match:
            members[match.group(1)].append(sample.image)
        else:
            what = "its name does not fit groups.pattern"
            findings.append(
                Finding("error", relative_name(sample.image, data), what, "rename it or correct the pattern")
            )
    size = competition.groups.size
    for group, paths in members.items():
        if size and len(paths) != size:
            file = relative_name(paths[0].parent / f"{group}*", data)
            what = f"the group {group} has {len(paths)} images; expected {size}"
            findings.append(Finding("error", file, what, "fetch what is missing, or remove the group"))
    return findings


def _strays(competition: Competition, data: Path, train: Sequence[Sample]) -> list[Finding]:
    """Images without a mask, masks without an image, and files that nothing will read."""
    findings = []
    for sample in train:
        if sample.mask is None:
            names = " or ".join(sample.image.stem + suffix for suffix in competition.masks.suffixes)
            findings.append(Finding("error", relative_name(sample.image, data), "has no mask", f"add {names}"))
    images, masks = competition.images, competition.masks
    for folder in filter(None, (images.train, images.val, images.test)):
        for path in _visible(data / folder):
            if path.suffix.lower() not in images.suffixes:
                fix = "convert or remove it, or extend images.suffixes"
                findings.append(Finding("warning", relative_name(path, data), "is ignored for its ending", fix))
    if not train:
        return findings  # Without the list of images every mask would be a stray.
    used = {sample.mask for sample in train}
    for image_folder, mask_folder in ((images.train, masks.train), (images.val, masks.val)):
        if mask_folder is None:
            continue
        stems = {sample.image.stem for sample in train if sample.image.parent == data / str(image_folder)}
        for path in _visible(data / mask_folder):
            if path in used:
                continue
            bases = [path.name.removesuffix(end) for end in masks.suffixes if path.name.endswith(end)]
            if any(base in stems for base in bases):
                what, fix = "is a second mask of an image, and not used", "remove one of the two"
                findings.append(Finding("warning", relative_name(path, data), what, fix))
            elif bases:
                fix = "add the image, or remove the mask"
                findings.append(Finding("error", relative_name(path, data), "is a mask without an image", fix))
            else:
                fix = "convert or remove it, or extend masks.suffixes"
                findings.append(Finding("warning", relative_name(path, data), "is ignored for its ending", fix))
    return findings


def _visible(folder: Path) -> list[Path]:
    """The files of a folder, without hidden ones such as .DS_Store."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
