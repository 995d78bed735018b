"""Small data sets in the exact layout of the downloads of real competitions: names, suffixes, columns, encodings.

Each function fills a data folder with `train` training and `test` test images and writes ``solution.csv``, which the real
download does not have. Sizes are those of the competition where its file states one.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.competitions.shapes import (
    box_mask,
    ellipse_mask,
    independent_rle,
    paint,
    relative_rle,
    save_image,
    separate_objects,
    write_rows,
)

Layout = Callable[[Path, np.random.Generator, int, int], None]
BRIGHT = (215, 205, 160)


def _hex_name(rng: np.random.Generator, digits: int) -> str:
    return "".join(rng.choice(list("0123456789abcdef"), digits))


def write_nuclei_instances(root: Path, rng: np.random.Generator, train: int, test: int) -> None:
    """Data Science Bowl 2018: a folder per image, a mask file per nucleus, several image sizes."""
    labels, sample, solution = [], [], []
    for number in range(train + test):
        part = "train" if number < train else "test"
        size = [(96, 96), (128, 96), (112, 128)][number % 3]
        id = _hex_name(rng, 64)
        objects = separate_objects(rng, size, 5, (0.08, 0.13))
        folder = root / f"stage1_{part}" / id
        image = paint(rng, size, [(mask, BRIGHT) for mask in objects])
        save_image(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]), folder / "images" / f"{id}.png")
        rows = [(id, independent_rle(mask, "column")) for mask in objects]
        if part == "train":
            labels += rows
            (folder / "masks").mkdir()
            for mask in objects:
                Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{_hex_name(rng, 64)}.png")
        else:
            sample.append((id, ""))
            solution += rows
    write_rows(root / "stage1_train_labels.csv", ("ImageId", "EncodedPixels"), labels)
    write_rows(root / "stage1_sample_submission.csv", ("ImageId", "EncodedPixels"), sample)
    write_rows(root / "solution.csv", ("ImageId", "EncodedPixels"), solution)


def write_tgs_salt(root: Path, rng: np.random.Generator, train: int, test: int) -> None:
    """TGS Salt: 101×101 pixels, 16-bit masks of 0 and 65535, a third of them empty."""
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for number in range(train + test):
        part, id, size = "train" if number < train else "test", _hex_name(rng, 10), (101, 101)
        mask = ellipse_mask(size, rng.uniform(20, 80, 2), rng.uniform(15, 35, 2)) & (number % 3 > 0)
        save_image(paint(rng, size, [(mask, BRIGHT)]), root / part / "images" / f"{id}.png")
        rows[part].append((id, independent_rle(mask, "column")))
        if part == "train":
            (root / "train" / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint16) * 65535).save(root / "train" / "masks" / f"{id}.png")
    header = ("id", "rle_mask")
    write_rows(root / "train.csv", header, rows["train"])
    write_rows(root / "sample_submission.csv", header, [(id, "1 1") for id, _ in rows["test"]])
    write_rows(root / "solution.csv", header, rows["test"])


def write_airbus_ship(root: Path, rng: np.random.Generator, train: int, test: int) -> None:
    """Airbus: 768×768 JPEG, a row per ship, an image without a ship has one empty row."""
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for number in range(train + test):
        part, id, size = "train" if number < train else "test", f"{_hex_name(rng, 9)}.jpg", (768, 768)
        ships = [] if number % 3 == 0 else [
            box_mask(size, center, rng.uniform(25, 60, 2))
            for center in ((180, 200), (560, 520))[: 1 + number % 2] + rng.uniform(-40, 40, 2)
        ]  # fmt: skip
        save_image(paint(rng, size, [(mask, BRIGHT) for mask in ships]), root / f"{part}_v2" / id)
        rows[part] += [(id, independent_rle(mask, "column")) for mask in ships] or [(id, "")]
    header = ("ImageId", "EncodedPixels")
    write_rows(root / "train_ship_segmentations_v2.csv", header, rows["train"])
    ids = list(dict.fromkeys(id for id, _ in rows["test"]))
    write_rows(root / "sample_submission_v2.csv", header, [(id, "1 2") for id in ids])
    write_rows(root / "solution.csv", header, rows["test"])


def write_severstal_steel(root: Path, rng: np.random.Generator, train: int, test: int) -> None:
    """Severstal: 1600×256 JPEG, four classes, rows only for defects in train.csv; thin vertical scratches among them."""
    header, size = ("ImageId", "EncodedPixels", "ClassId"), (1600, 256)
    colors = {1: (230, 80, 80), 2: (80, 220, 90), 3: (90, 110, 235), 4: (235, 225, 90)}
    labels, sample, solution = [], [], []
    for number in range(train + test):
        part, id = "train" if number < train else "test", f"{_hex_name(rng, 9)}.jpg"
        masks = {}
        for defect in (1 + number % 4, 1 + (number // 4 + 2) % 4) if number % 5 else ():
            x = rng.uniform(150, 1450)
            masks[defect] = (
                box_mask(size, (x, 128), (14, 127)) if defect == 1 else ellipse_mask(size, (x, 128), (130, 75))
            )
        save_image(
            paint(rng, size, [(mask, colors[defect]) for defect, mask in masks.items()]), root / f"{part}_images" / id
        )
        painted = list(masks.items())
        for index, (defect, mask) in enumerate(painted):  # a later defect covers an earlier one
            for _, later in painted[index + 1 :]:
                mask &= ~later
            if part == "train" and mask.any():
                labels.append((id, defect, independent_rle(mask, "column")))
        if part == "test":
            sample += [(id, "1 1", defect) for defect in (1, 2, 3, 4)]
            solution += [
                (id, independent_rle(masks[defect], "column") if defect in masks else "", defect)
                for defect in (1, 2, 3, 4)
            ]
    write_rows(root / "train.csv", ("ImageId", "ClassId", "EncodedPixels"), labels)
    write_rows(root / "sample_submission.csv", header, sample)
    write_rows(root / "solution.csv", header, solution)


def write_understanding_clouds(root: Path, rng: np.random.Generator, train: int, test: int) -> None:
    """Understanding Clouds: 2100×1400 JPEG, four overlapping classes, composite ids, submissions at 525×350."""
    names, header = ("Fish", "Flower", "Gravel", "Sugar"), ("Image_Label", "EncodedPixels")
    channels = {"Fish": (120, 0, 0), "Flower": (0, 120, 0), "Gravel": (0, 0, 120), "Sugar": (-60, -60, -60)}
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for number in range(train + test):
        part, id = "train" if number < train else "test", f"{_hex_name(rng, 7)}.jpg"
        image = np.full((350, 525, 3), 100.0)
        for index, name in enumerate(names):
            center, radius = rng.uniform((120, 90), (400, 260)), rng.uniform((80, 60), (120, 90))
            mask = box_mask((525, 350), center, radius) & ((number + index) % 3 > 0)
            image[mask] += channels[name]
            if part == "train":
                text = independent_rle(mask.repeat(4, axis=0).repeat(4, axis=1), "column")
            else:
                text = independent_rle(mask, "column")
            rows[part].append((f"{id}_{name}", text))
        image = (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)
        save_image(image.repeat(4, axis=0).repeat(4, axis=1), root / f"{part}_images" / id)
    write_rows(root / "train.csv", header, rows["train"])
    write_rows(root / "sample_submission.csv", header, [(id, "1 1") for id, _ in rows["test"]])
    write_rows(root / "solution.csv", header, rows["test"])


def write_sartorius_cells(root: Path, rng: np.random.Generator, train: int, test: int) -> None:
    """Sartorius: 704×520 PNG, row-major runs, a row per cell with metadata; the solution has the sample's columns."""
    header = (
        "id",
        "annotation",
        "width",
        "height",
        "cell_type",
        "plate_time",
        "sample_date",
        "sample_id",
        "elapsed_timedelta",
    )
    labels, solution, ids = [], [], []
    for number in range(train + test):
        part, id, size = "train" if number < train else "test", _hex_name(rng, 12), (704, 520)
        cells = separate_objects(rng, size, 7, (0.05, 0.09))
        save_image(paint(rng, size, [(mask, BRIGHT) for mask in cells]), root / part / f"{id}.png")
        kind = ("cort", "shsy5y", "astro")[number % 3]
        for mask in cells:
            text = independent_rle(mask, "row")
            if part == "train":
                labels.append(
                    (id, text, 704, 520, kind, "11h30m00s", "2020-11-01", f"{kind}[plate]_{number // 2}", "0 days")
                )
            else:
                solution.append((id, text))
        if part == "test":
            ids.append(id)
    write_rows(root / "train.csv", header, labels)
    write_rows(root / "sample_submission.csv", ("id", "predicted"), [(id, "") for id in ids])
    write_rows(root / "solution.csv", ("id", "predicted"), solution)


def dicom_bytes(pixels: np.ndarray, uid: str, **elements: object) -> bytes:
    """Write the pixels of a DICOM file, (h, w) gray or (h, w, 3) RGB; further elements by keyword."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    bits = 8 * pixels.dtype.itemsize
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.UID("1.2.840.10008.5.1.4.1.1.7")
    meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(uid)
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data_set = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data_set.SOPClassUID, data_set.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data_set.Rows, data_set.Columns = pixels.shape[:2]
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    if pixels.ndim == 3:
        data_set.SamplesPerPixel, data_set.PhotometricInterpretation, data_set.PlanarConfiguration = 3, "RGB", 0
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = bits, bits, bits - 1
    data_set.PixelRepresentation = int(pixels.dtype.kind == "i")
    data_set.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(data_set, name, value)
    if "transfer_syntax" in elements:
        data_set.compress(elements["transfer_syntax"])
    buffer = io.BytesIO()
    data_set.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_siim_pneumothorax(root: Path, rng: np.random.Generator, train: int, test: int) -> None:
    """SIIM: 1024×1024 DICOM in folders of studies and series, relative runs from 0, -1 for an empty mask, rows to merge.

    The images of both parts of stage 1 are labeled.
    """
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for number in range(train + test):
        part, id, size = (
            "train" if number < train else "test",
            f"1.2.276.0.{rng.integers(10**9)}.{number}",
            (1024, 1024),
        )
        lungs = [ellipse_mask(size, (x, 500), (150, 330)) for x in (320, 700)]
        masks = [box_mask(size, (x, 320), rng.uniform(50, 110, 2)) for x in (320, 700)][: number % 3]
        objects = [(lung, (60, 60, 60)) for lung in lungs] + [(mask, (215, 215, 215)) for mask in masks]
        stage_1 = root / f"dicom-images-{('train', 'test')[number % 2]}" / f"{id}.1" / f"{id}.2"
        folder = stage_1 if part == "train" else root / "stage_2_images"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{id}.dcm").write_bytes(dicom_bytes(paint(rng, size, objects)[..., 0], id))
        texts = [
            relative_rle(mask) for mask in (masks if part == "train" else [np.any(masks, axis=0)] if masks else [])
        ]
        rows[part] += [(id, text) for text in texts or ["-1"]]
    header = ("ImageId", "EncodedPixels")
    write_rows(root / "stage_2_train.csv", header, rows["train"])
    write_rows(root / "stage_2_sample_submission.csv", header, [(id, "-1") for id, _ in rows["test"]])
    write_rows(root / "solution.csv", header, rows["test"])


def write_uw_madison_gi(root: Path, rng: np.random.Generator, train: int, test: int) -> None:
    """UW-Madison: 16-bit PNG slices of cases and days, two sizes, three classes, a row for each, row-major."""
    names, levels = ("large_bowel", "small_bowel", "stomach"), (6000, 9500, 13000)
    rows: dict[str, list[tuple[str, str, str]]] = {"train": [], "test": []}
    depth = 4
    for number in range((train + test) // depth):
        part, (width, height) = "train" if number * depth < train else "test", [(96, 96), (112, 96)][number % 2]
        case, day = 100 + number // 2, 10 + number % 2
        folder = root / part / f"case{case}" / f"case{case}_day{day}" / "scans"
        folder.mkdir(parents=True)
        centers = np.array([(26, 26), (68, 30), (48, 68)]) + rng.uniform(-7, 7, (3, 2))
        for z in range(depth):
            image = rng.normal(2500, 250, (height, width))
            id = f"case{case}_day{day}_slice_{z + 1:04d}"
            for index, name in enumerate(names):
                mask = ellipse_mask((width, height), centers[index] + z, rng.uniform(11, 16, 2)) & (z != index)
                image[mask] = levels[index] + rng.normal(0, 250, mask.sum())
                rows[part].append((id, name, independent_rle(mask, "row")))
            values = image.clip(0, 65535).astype(np.uint16)
            Image.fromarray(values).save(folder / f"slice_{z + 1:04d}_{width}_{height}_1.50_1.50.png")
    write_rows(root / "train.csv", ("id", "class", "segmentation"), rows["train"])
    header = ("id", "class", "predicted")
    write_rows(root / "sample_submission.csv", header, [(id, name, "") for id, name, _ in rows["test"]])
    write_rows(root / "solution.csv", header, rows["test"])


def write_hubmap_kidney(root: Path, rng: np.random.Generator, train: int, test: int) -> None:
    """HuBMAP: slides as TIFF in the three axis orders of the download, tiles or strips, a table of patients."""
    import tifffile

    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    patients = []
    for number in range(train + test):
        part, id, size = "train" if number < train else "test", _hex_name(rng, 9), (420 + 40 * (number % 3), 380)
        objects = separate_objects(rng, size, 6, (0.05, 0.08))
        image = paint(rng, size, [(mask, (200, 90, 160)) for mask in objects])
        path = root / part / f"{id}.tiff"
        path.parent.mkdir(parents=True, exist_ok=True)
        match number % 3:
            case 0:
                tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), compression="lzw")
            case 1:
                tifffile.imwrite(path, image.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
            case _:
                tifffile.imwrite(path, image.transpose(2, 0, 1)[None, None], photometric="minisblack")
        rows[part].append((id, independent_rle(np.any(objects, axis=0), "column")))
        patients.append((f"{id}.tiff", *size, 60000 + number // 2))
    header = ("image_file", "width_pixels", "height_pixels", "patient_number")
    write_rows(root / "HuBMAP-20-dataset_information.csv", header, patients)
    write_rows(root / "train.csv", ("id", "encoding"), rows["train"])
    write_rows(root / "sample_submission.csv", ("id", "predicted"), [(id, "") for id, _ in rows["test"]])
    write_rows(root / "solution.csv", ("id", "predicted"), rows["test"])


def write_vesuvius_ink(root: Path, rng: np.random.Generator, train: int, test: int) -> None:
    """Vesuvius: a folder of 65 slices per fragment, 16-bit TIFF, the ink in the middle ones; masks, an infrared photo."""
    import tifffile

    rows = []
    for number in range(train + test):
        part, size = "train" if number < train else "test", (190 + 20 * number, 300)
        id = str(number + 1) if number < train else chr(ord("a") + number - train)
        folder = root / part / id
        (folder / "surface_volume").mkdir(parents=True)
        ink = np.any([box_mask(size, rng.uniform((30, 30), (size[0] - 30, 270)), (18, 12)) for _ in range(9)], axis=0)
        for layer in range(65):
            values = rng.normal(21000, 1200, size[::-1]) + 14000 * ink * (24 <= layer <= 40)
            path = folder / "surface_volume" / f"{layer:02}.tif"
            tifffile.imwrite(path, values.clip(0, 65535).astype(np.uint16))
        Image.fromarray(np.full(size[::-1], 255, np.uint8)).save(folder / "mask.png")
        text = independent_rle(ink, "row")
        if part == "train":
            Image.fromarray(ink.astype(np.uint8) * 255).save(folder / "inklabels.png")
            Image.fromarray(np.full(size[::-1], 90, np.uint8)).save(folder / "ir.png")
            write_rows(folder / "inklabels_rle.csv", ("Id", "Predicted"), [(id, text)])
        else:
            rows.append((id, text))
    write_rows(root / "sample_submission.csv", ("Id", "Predicted"), [(id, "1 1 5 1") for id, _ in rows])
    write_rows(root / "solution.csv", ("Id", "Predicted"), rows)


LAYOUTS: dict[str, Layout] = {
    "nuclei-instances": write_nuclei_instances,
    "tgs-salt": write_tgs_salt,
    "airbus-ship": write_airbus_ship,
    "severstal-steel": write_severstal_steel,
    "understanding-clouds": write_understanding_clouds,
    "sartorius-cells": write_sartorius_cells,
    "siim-pneumothorax": write_siim_pneumothorax,
    "uw-madison-gi": write_uw_madison_gi,
    "hubmap-kidney": write_hubmap_kidney,
    "vesuvius-ink": write_vesuvius_ink,
}
