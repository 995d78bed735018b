"""Check the data: examine every file and compare folders and CSV files, before hours of training.

A bad file never stops the check: all findings are listed.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.competition.files import is_pattern
from pipeline.data.examine import ExaminedSample, Examiner, Finding, finding_from_error, relative_name
from pipeline.data.explain_rle import explain_rle
from pipeline.data.mask_csv import read_mask_csv
from pipeline.data.row_format import train_format
from pipeline.data.samples import (
    Sample,
    describe_masks,
    load_test_samples,
    load_training_samples,
    read_submission_keys,
)
from pipeline.errors import UserError
from pipeline.host import available_cores

_NAMED_IDS = 3
"""Number of ids listed in a finding if there are many."""


def check_data(competition: Competition, data: Path, workers: int | None = None) -> list[Finding]:
    """Compare a data folder with what its competition states.

    Args:
        competition: the description that the data should match.
        data: the data folder.
        workers: threads; one per core if None. The decoders release the GIL: two threads were 1.7 times as fast
            as one.

    Returns:
        All findings, errors first, then by file; empty for good data.
    """
    findings: list[Finding] = []
    # Without the groups' pattern: one wrong name would otherwise hide all other findings. It is checked separately.
    ungrouped = competition.model_copy(update={"groups": None})
    train = _list(partial(load_training_samples, require_masks=False, blocks=False), ungrouped, data, findings)
    test: list[Sample] = []
    has_test = competition.images.test is not None and _exists(data, competition.images.test)
    if has_test:
        test = _list(load_test_samples, ungrouped, data, findings)
    elif competition.images.test is not None:
        what = "there is no such folder of test images"
        findings.append(Finding("warning", competition.images.test, what, "add it before you predict"))

    rows = _read_train_csv(competition, data, train, findings) if competition.masks.train else {}
    examined = _examine_all(Examiner(competition, data, rows), [*train, *test], workers)
    for result in examined:
        findings += result.findings
    findings += _explain_differences(competition, data, examined, rows)
    findings += _find_duplicates(data, examined[: len(train)], examined[len(train) :])
    for samples in (train, test):
        findings += _find_repeated_ids(data, samples)
    findings += _check_groups(competition, data, train, test)
    findings += _find_strays(competition, data, train)
    if has_test:
        findings += _check_sample_submission(competition, data, test)
    return sorted(findings, key=lambda finding: (finding.level, finding.file))


def format_findings(findings: Sequence[Finding], data: Path) -> str:
    """Format findings as a table with a last line that counts them."""
    width = max((len(finding.file) for finding in findings), default=0)
    lines = [f"{finding.level:7}  {finding.file:{width}}  {finding.what}; {finding.fix}" for finding in findings]
    errors = sum(finding.level == "error" for finding in findings)
    return "\n".join([*lines, f"{data}: {errors:,} errors, {len(findings) - errors:,} warnings"])


def has_errors(findings: Sequence[Finding]) -> bool:
    """Return whether a finding is an error."""
    return any(finding.level == "error" for finding in findings)


def _exists(data: Path, place: str) -> bool:
    return is_pattern(place) or (data / place).is_dir()


def _list(
    listing: Callable[[Competition, Path], list[Sample]], competition: Competition, data: Path, findings: list[Finding]
) -> list[Sample]:
    try:
        return listing(competition, data)
    except UserError as error:
        findings.append(finding_from_error(error, data))
        return []


def _examine_all(examiner: Examiner, samples: Sequence[Sample], workers: int | None) -> list[ExaminedSample]:
    with ThreadPoolExecutor(workers or available_cores()) as pool:
        results = pool.map(examiner.examine, samples)
        return list(tqdm(results, desc="check", total=len(samples), unit=" images", delay=2))


def _read_train_csv(
    competition: Competition, data: Path, train: Sequence[Sample], findings: list[Finding]
) -> dict[str, str]:
    """Read the RLE of ``csv.train`` by id, where each image has one mask file and one row; add to the findings."""
    name = competition.csv.train
    if name is None or competition.csv.rows != "image":
        return {}
    if not (data / name).exists():
        findings.append(Finding("warning", name, "there is no such file", "download it"))
        return {}
    found: dict[str, str] = {}
    try:
        for row in read_mask_csv(data / name, train_format(competition), extra_columns=True):
            if row.id in found:
                what = f"line {row.line} repeats {row.id}"
                findings.append(Finding("error", name, what, "remove one of its rows"))
            found[row.id] = row.rle
    except UserError as error:
        findings.append(finding_from_error(error, data))
    if found and train:
        wanted = {sample.id for sample in train if sample.has_label}
        images = {sample.id for sample in train}
        findings += _list_ids(name, wanted - found.keys(), "has no row for", "download the file again")
        findings += _list_ids(
            name, found.keys() - images, "has rows without an image:", "add the images, or remove them"
        )
    return found


def _explain_differences(
    competition: Competition, data: Path, examined: Sequence[ExaminedSample], rows: dict[str, str]
) -> list[Finding]:
    """If most masks differ from their rows, report the pixel order, first pixel or size with which they agree."""
    different = [result.sample for result in examined if result.differs_from_csv]
    compared = sum(result.sample.id in rows and bool(result.sample.masks) for result in examined)
    if not different or 2 * len(different) < compared:
        return []
    what = f"{len(different)} of {compared} masks differ from their rows"
    fix = explain_rle(competition, different, rows) or "correct the [csv] table of the competition"
    return [Finding("error", str(competition.csv.train), what, fix)]


def _check_sample_submission(competition: Competition, data: Path, test: Sequence[Sample]) -> list[Finding]:
    """Compare the ids of the sample submission with the test images."""
    name = competition.csv.sample
    if name is None:
        return []
    try:
        keys = read_submission_keys(competition, data)
    except UserError as error:
        return [finding_from_error(error, data)]
    if keys is None:
        return [Finding("warning", name, "there is no such file", "download it")]
    images, ids = {sample.id for sample in test}, {id for id, _ in keys}
    missing = _list_ids(name, images - ids, "has no row for", "download the file again")
    return missing + _list_ids(name, ids - images, "has ids without a test image:", "download what is missing")


def _list_ids(file: str, ids: Iterable[str], what: str, fix: str) -> list[Finding]:
    ids = sorted(ids)
    named = ", ".join(ids[:_NAMED_IDS]) + (f" and {len(ids) - _NAMED_IDS:,} more" if len(ids) > _NAMED_IDS else "")
    return [Finding("error", file, f"{what} {named}", fix)] if ids else []


def _find_duplicates(data: Path, train: Sequence[ExaminedSample], test: Sequence[ExaminedSample]) -> list[Finding]:
    """Find files with the same content."""
    findings = []
    first: dict[bytes, tuple[Path, bool]] = {}
    for is_test, result in [(False, result) for result in train] + [(True, result) for result in test]:
        if result.image_hash is None:
            continue
        path = result.sample.image
        other, other_is_test = first.setdefault(result.image_hash, (path, is_test))
        if other != path:
            # Harmless among test images; elsewhere, one may be trained on and its copy scored.
            level: Literal["error", "warning"] = "warning" if other_is_test else "error"
            what = f"is the same image as {relative_name(other, data)}"
            findings.append(Finding(level, relative_name(path, data), what, "keep one, or download both again"))
    masks: dict[bytes, Path] = {}
    for path, hash in [item for result in train for item in result.mask_hashes.items()]:
        if masks.setdefault(hash, path) != path:
            what, fix = f"is the same mask as {relative_name(masks[hash], data)}", "look at both; one may be a copy"
            findings.append(Finding("warning", relative_name(path, data), what, fix))
    return findings


def _find_repeated_ids(data: Path, samples: Sequence[Sample]) -> list[Finding]:
    count = Counter(sample.id for sample in samples)
    return [
        Finding(
            "error", relative_name(sample.image, data), f"has the same id, {sample.id}, as another image", "rename one"
        )
        for sample in samples
        if count[sample.id] > 1
    ]


def _check_groups(
    competition: Competition, data: Path, train: Sequence[Sample], test: Sequence[Sample]
) -> list[Finding]:
    """Find names that have no group, and groups that are not complete."""
    if competition.groups is None:
        return []
    findings = []
    for listing, samples in (
        (partial(load_training_samples, require_masks=False, blocks=False), train),
        (load_test_samples, test),
    ):
        if not samples:
            continue
        try:
            grouped = listing(competition, data)
        except UserError as error:
            findings.append(finding_from_error(error, data))
            continue
        members: defaultdict[str, list[Path]] = defaultdict(list)
        for sample in grouped:
            members[sample.group].append(sample.image)
        size = competition.groups.size
        for group, paths in members.items():
            if size and len(paths) != size:
                file = relative_name(paths[0].parent / f"{group}*", data)
                what = f"the group {group} has {len(paths)} images; expected {size}"
                findings.append(Finding("error", file, what, "download what is missing, or remove the group"))
    return findings


def _find_strays(competition: Competition, data: Path, train: Sequence[Sample]) -> list[Finding]:
    """Find images without a mask, masks without an image, and files that are ignored."""
    findings = []
    for sample in train:
        if not sample.has_label:
            fix = f"add {describe_masks(competition, sample)}"
            findings.append(Finding("error", relative_name(sample.image, data), "has no mask", fix))
    images, masks = competition.images, competition.masks
    for folder in filter(None, (images.train, images.val, images.test)):
        for path in [] if is_pattern(folder) else _list_visible(data / folder):
            if path.suffix.lower() not in images.suffixes:
                fix = "convert or remove it, or extend images.suffixes"
                findings.append(Finding("warning", relative_name(path, data), "is ignored for its suffix", fix))
    if not train:
        return findings  # without the list of images, every mask would be a stray
    used = {path for sample in train for _, path in sample.masks}
    for image_folder, mask_folder in ((images.train, masks.train), (images.val, masks.val)):
        if mask_folder is None or is_pattern(mask_folder):
            continue
        stems = {sample.image.stem for sample in train if sample.image.parent == data / str(image_folder)}
        for path in _list_visible(data / mask_folder):
            if path in used:
                continue
            bases = [path.name.removesuffix(end) for end in masks.suffixes if path.name.endswith(end)]
            if any(base in stems for base in bases):
                finding = ("warning", "is a second mask of an image, and ignored", "remove one of the two")
            elif bases:
                finding = ("error", "is a mask without an image", "add the image, or remove the mask")
            else:
                finding = ("warning", "is ignored for its suffix", "convert or remove it, or extend masks.suffixes")
            level, what, fix = finding
            findings.append(Finding("error" if level == "error" else "warning", relative_name(path, data), what, fix))
    return findings


def _list_visible(folder: Path) -> list[Path]:
    """List the files of a folder without hidden ones such as .DS_Store."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
