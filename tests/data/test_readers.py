"""Every reader returns the values of its file, scaled as stated, and faults become one sentence each."""

import io
import os
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.competition import Competition
from pipeline.data import readers, tiff
from pipeline.data.images import image_size, read_image
from pipeline.data.readers import ImageReader, decode_values
from pipeline.data.samples import Sample, load_training_samples
from pipeline.data.tiff import TiffPixels, tiff_size
from pipeline.data.values import scale_values
from pipeline.data.windows import Window
from pipeline.errors import UserError
from tests.competitions.layouts import dicom_bytes
from tests.helpers import changed

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 60_000, (40, 50)).astype(np.uint16)
COLORS = RNG.integers(0, 60_000, (40, 50, 3)).astype(np.uint16)


def sample(*paths: Path) -> Sample:
    return Sample(id="a", image=paths[0], group="a", slices=paths if len(paths) > 1 else ())


@pytest.fixture
def images(competition: Competition):
    """Build a reader of a competition with changed keys of its [images] table."""
    return lambda **keys: ImageReader(changed(competition, **{f"images__{key}": value for key, value in keys.items()}))


class TestScaling:
    @given(
        low=st.integers(-1000, 60_000),
        span=st.integers(1, 60_000),
        kind=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    )
    @settings(max_examples=60, deadline=None)
    def test_is_linear_between_the_limits_and_clips_outside(self, low, span, kind):
        limits = np.iinfo(kind) if kind != "float32" else np.finfo(np.float32)
        values = np.clip(np.arange(low - span, low + 2 * span, max(1, span // 50)), limits.min, limits.max).astype(kind)
        scaled = scale_values(values[None], (low, low + span))[0]
        expected = np.clip(np.round((values.astype(float) - low) * 255 / span), 0, 255)
        assert scaled.dtype == np.uint8
        assert np.abs(scaled - expected).max() <= 1

    def test_nan_becomes_black(self):
        assert scale_values(np.array([[np.nan, 5.0]]), (0, 5)).tolist() == [[0, 255]]

    def test_deep_files_need_a_range(self, images, tmp_path):
        Image.fromarray(DEEP).save(tmp_path / "a.png")
        with pytest.raises(
            UserError, match=r"a\.png: has values of 16 bits; state images\.range = \[lowest, highest\]"
        ):
            images(channels=1).read(sample(tmp_path / "a.png"))
        assert np.array_equal(
            images(channels=1, range=(0, 65535)).read(sample(tmp_path / "a.png"))[..., 0], np.round(DEEP / 257)
        )

    def test_without_channels_and_range_images_are_read_as_ever(self, images, tmp_path):
        Image.fromarray(DEEP).save(tmp_path / "a.png")
        reader = images()
        assert reader.is_plain
        assert np.array_equal(reader.read(sample(tmp_path / "a.png")), read_image(tmp_path / "a.png"))


class TestFormats:
    def test_png_of_16_bits_per_color(self, images, tmp_path):
        cv2.imwrite(str(tmp_path / "a.png"), cv2.cvtColor(COLORS, cv2.COLOR_RGB2BGR))
        values, shown = decode_values((tmp_path / "a.png").read_bytes(), tmp_path / "a.png")
        assert shown is None
        assert np.array_equal(values, COLORS)
        read = images(range=(0, 60_000)).read(sample(tmp_path / "a.png"))
        assert np.array_equal(read, np.round(COLORS * (255 / 60_000)))

    @pytest.mark.parametrize(
        ("shape", "options"),
        [
            ((40, 50), {}),
            ((40, 50, 3), {"photometric": "rgb"}),
            ((3, 40, 50), {"photometric": "rgb", "planarconfig": "separate"}),
            ((1, 1, 3, 40, 50), {"photometric": "minisblack"}),
            ((7, 40, 50), {"photometric": "minisblack"}),
            ((40, 50, 3), {"photometric": "rgb", "tile": (16, 32)}),
            ((40, 50), {"rowsperstrip": 7}),
        ],
    )
    def test_tiff_of_any_axes_whole_and_in_windows(self, images, tmp_path, shape, options):
        tifffile = require("tifffile", "zarr")
        stored = RNG.integers(0, 60_000, shape).astype(np.uint16)
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, stored, **options)
        flat = stored.reshape([side for side in shape if side != 1])
        expected = flat if flat.ndim == 3 and flat.shape[-1] == 3 else np.moveaxis(np.atleast_3d(flat.T).T, 0, -1)
        assert np.array_equal(decode_values(path.read_bytes(), path)[0], expected)
        reader = images(channels=expected.shape[-1], range=(0, 65535))
        whole = reader.read(sample(path))
        for window in (Window(0, 0, 50, 40), Window(11, 6, 20, 30), Window(49, 39, 1, 1)):
            part = whole[window.top : window.bottom, window.left : window.right]
            assert np.array_equal(reader.read_window(sample(path), window), part)

    def test_windows_of_other_files_and_after_a_fork(self, images, tmp_path):
        tifffile = require("tifffile", "zarr")
        tifffile.imwrite(tmp_path / "a.tif", DEEP)
        Image.fromarray((DEEP // 256).astype(np.uint8)).save(tmp_path / "a.png")
        reader = images(channels=1, range=(0, 65535))
        window = Window(5, 6, 7, 8)
        expected = reader.read_window(sample(tmp_path / "a.tif"), window)
        assert reader.read_window(sample(tmp_path / "a.png"), window).shape == (8, 7, 1)
        copy = pickle.loads(pickle.dumps(reader))
        assert np.array_equal(copy.read_window(sample(tmp_path / "a.tif"), window), expected)
        child = os.fork()
        if child == 0:
            same = np.array_equal(reader.read_window(sample(tmp_path / "a.tif"), window), expected)
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0

    @pytest.mark.parametrize(
        ("kind", "elements", "shown"),
        [
            ("uint8", {}, (0, 255)),
            ("uint16", {}, (0, 65535)),
            ("int16", {}, (-32768, 32767)),
            ("uint16", {"RescaleSlope": 2, "RescaleIntercept": -1024}, (-1024, 2 * 65535 - 1024)),
            ("uint16", {"WindowCenter": 300, "WindowWidth": 200}, (200, 400)),
        ],
    )
    def test_dicom(self, tmp_path, kind, elements, shown):
        require("pydicom")
        stored = (DEEP % np.iinfo(kind).max).astype(kind)
        path = tmp_path / "a.dcm"
        path.write_bytes(dicom_bytes(stored, "1.2.3", **elements))
        values, limits = decode_values(path.read_bytes(), path)
        assert limits == shown
        slope, intercept = elements.get("RescaleSlope", 1), elements.get("RescaleIntercept", 0)
        assert np.array_equal(values[..., 0], stored.astype(float) * slope + intercept)
        assert image_size(path) == (50, 40)
        assert read_image(path).shape == (40, 50, 3)
        path.write_bytes(dicom_bytes(stored, "1.2.3", PhotometricInterpretation="MONOCHROME1"))
        limits = np.iinfo(kind)
        assert np.array_equal(
            decode_values(path.read_bytes(), path)[0][..., 0], limits.min + limits.max - stored.astype(int)
        )

    def test_an_inverted_dicom_shows_what_its_window_shows(self, tmp_path):
        """The window of the header is that of the stored values, which MONOCHROME1 shows dark for large."""
        require("pydicom")
        shown = []
        for kind in ("MONOCHROME1", "MONOCHROME2"):
            path = tmp_path / f"{kind}.dcm"
            elements = {"WindowCenter": 30_000, "WindowWidth": 20_000, "RescaleSlope": 0.5, "RescaleIntercept": 9}
            path.write_bytes(dicom_bytes(DEEP, "1.2.3", PhotometricInterpretation=kind, **elements))
            shown.append(read_image(path)[..., 0].astype(int))
        assert np.abs(shown[0] - (255 - shown[1])).max() <= 1
        assert len(np.unique(shown[0])) > 2

    @pytest.mark.parametrize("width", [0, -5])
    def test_a_window_without_width_is_ignored(self, tmp_path, width):
        require("pydicom")
        path = tmp_path / "a.dcm"
        path.write_bytes(dicom_bytes(DEEP, "1.2.3", WindowCenter=5, WindowWidth=width))
        assert decode_values(path.read_bytes(), path)[1] == (0, 65535)

    def test_tiff_of_one_bit_and_with_white_as_zero(self, tmp_path):
        tifffile = require("tifffile", "zarr", "imagecodecs")
        path, mask = tmp_path / "a.tif", DEEP.mean() < DEEP
        tifffile.imwrite(path, mask, photometric="minisblack")
        assert np.array_equal(decode_values(path.read_bytes(), path)[0][..., 0], mask * np.uint8(255))
        tifffile.imwrite(path, DEEP, photometric="miniswhite")
        assert np.array_equal(decode_values(path.read_bytes(), path)[0][..., 0], 65535 - DEEP)
        tifffile.imwrite(path, DEEP // 16, photometric="miniswhite", bitspersample=12)
        assert np.array_equal(decode_values(path.read_bytes(), path)[0][..., 0], 4095 - DEEP // 16)

    @pytest.mark.parametrize(("mode", "what"), [("P", "a palette"), ("CMYK", "CMYK"), ("LAB", "CIELAB")])
    def test_a_tiff_of_other_color_models_is_refused(self, tmp_path, mode, what):
        require("tifffile", "zarr")
        path = tmp_path / "a.tif"
        Image.new(mode, (9, 7)).save(path)
        with pytest.raises(UserError, match=rf"a\.tif: has {what} instead of gray or RGB values; convert it"):
            decode_values(path.read_bytes(), path)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_windows_of_uncompressed_tiff_are_mapped(self, tmp_path, order):
        tifffile = require("tifffile", "zarr")
        path = tmp_path / "a.tif"
        for stored in (DEEP, COLORS):
            tifffile.imwrite(path, stored, byteorder=order, photometric="rgb" if stored.ndim == 3 else "minisblack")
            pixels = TiffPixels(path, path)
            assert isinstance(pixels._array, np.memmap)
            part = pixels.read(11, 6, 20, 30)
            assert np.array_equal(part, np.atleast_3d(stored)[6:36, 11:31])
            assert part.dtype == np.uint16
            assert pixels.nbytes == 0

    def test_large_compressed_strips_are_decoded_once_or_refused(self, tmp_path, monkeypatch):
        tifffile = require("tifffile", "zarr", "imagecodecs")
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, DEEP, compression="zlib", rowsperstrip=20)
        assert TiffPixels(path, path).read(0, 0, 50, 40).shape == (40, 50, 1)
        monkeypatch.setattr(tiff, "_MAX_PART", 20 * 50 * 2 - 1)
        pixels = TiffPixels(path, path)
        assert np.array_equal(pixels.read(11, 6, 20, 30)[..., 0], DEEP[6:36, 11:31])
        assert pixels.nbytes == DEEP.nbytes
        monkeypatch.setattr(tiff, "_MAX_DECODED", DEEP.nbytes - 1)
        assert tiff_size(path) == (50, 40)
        with pytest.raises(
            UserError, match=r"a\.tif: has compressed strips of 50 × 20 pixels; convert it .* with tiles"
        ):
            TiffPixels(path, path).read(0, 0, 1, 1)
        assert np.array_equal(decode_values(path.read_bytes(), path)[0][..., 0], DEEP), "whole images need no windows"

    def test_missing_tiles_are_an_error_not_black(self, tmp_path):
        tifffile = require("tifffile", "zarr")
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, DEEP, tile=(16, 16))
        with tifffile.TiffFile(path, mode="r+") as file:
            tag = file.pages[0].tags["TileByteCounts"]
            tag.overwrite((*tag.value[:-2], 0, 0))
        with pytest.raises(UserError, match=r"a\.tif: lacks 2 of its 12 tiles or strips; download the file again"):
            decode_values(path.read_bytes(), path)

    def test_the_size_of_a_tiff_that_pillow_cannot_read(self, images, tmp_path):
        tifffile = require("tifffile", "zarr")
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.zeros((7, 9, 5), np.uint16), photometric="minisblack", planarconfig="contig")
        assert images(channels=5, range=(0, 9)).size(sample(path)) == (9, 7)

    def test_damage_is_reported_whatever_the_channels(self, images, tmp_path):
        path = tmp_path / "a.jpg"
        Image.fromarray((COLORS // 256).astype(np.uint8)).resize((200, 160)).save(path, quality=95)
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
        path.write_bytes(content)
        for channels in (1, 3):
            found: list[str] = []
            images(channels=channels).read_sizes(sample(path), [None], found.append)
            assert len(found) == 1, channels

    @pytest.mark.parametrize("model", ["RGB", "YBR_FULL"])
    def test_color_dicom(self, tmp_path, model):
        pydicom = require("pydicom")
        colors = (COLORS // 256).astype(np.uint8)
        stored = colors if model == "RGB" else pydicom.pixels.convert_color_space(colors, "RGB", model)
        path = tmp_path / "a.dcm"
        path.write_bytes(dicom_bytes(stored, "1.2.3", PhotometricInterpretation=model))
        values, shown = decode_values(path.read_bytes(), path)
        assert np.abs(values.astype(int) - colors).max() <= 2
        assert shown == (0, 255)

    def test_compressed_color_dicom(self, tmp_path):
        pydicom = require("pydicom", "pylibjpeg", "openjpeg")
        colors = (COLORS // 256).astype(np.uint8)
        data_set = pydicom.dcmread(io.BytesIO(dicom_bytes(colors, "1.2.3", PhotometricInterpretation="YBR_RCT")))
        data_set.compress(pydicom.uid.JPEG2000Lossless)
        path = tmp_path / "a.dcm"
        data_set.save_as(path)
        assert np.array_equal(decode_values(path.read_bytes(), path)[0], colors)

    def test_dicom_with_a_palette(self, tmp_path):
        require("pydicom")
        indices, path = (DEEP % 4).astype(np.uint8), tmp_path / "a.dcm"
        lookup = np.array([[0, 255, 10, 20], [0, 128, 11, 21], [0, 64, 12, 22]], dtype=np.uint8)
        elements = {"PhotometricInterpretation": "PALETTE COLOR"}
        for name, entries in zip(("Red", "Green", "Blue"), lookup, strict=True):
            elements[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 8]
            elements[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
        path.write_bytes(dicom_bytes(indices, "1.2.3", **elements))
        values, shown = decode_values(path.read_bytes(), path)
        assert np.array_equal(values, lookup.T[indices])
        assert shown == (0, 255)

    def test_dicom_of_another_color_model_is_refused(self, tmp_path):
        require("pydicom")
        path = tmp_path / "a.dcm"
        path.write_bytes(dicom_bytes(COLORS // 256, "1.2.3", PhotometricInterpretation="HSV"))
        with pytest.raises(UserError, match=r"a\.dcm: is of a kind that cannot be read \(the color model HSV"):
            decode_values(path.read_bytes(), path)

    def test_compressed_dicom(self, tmp_path):
        require("pydicom", "pylibjpeg", "openjpeg")
        path = tmp_path / "a.dcm"
        path.write_bytes(dicom_bytes((DEEP // 256).astype(np.uint8), "1.2.3", transfer_syntax="1.2.840.10008.1.2.4.90"))
        assert np.array_equal(decode_values(path.read_bytes(), path)[0][..., 0], DEEP // 256)


class TestChannels:
    @pytest.mark.parametrize(("channels", "shape"), [(1, (40, 50, 1)), (3, (40, 50, 3))])
    def test_gray_and_colors_are_converted(self, images, tmp_path, channels, shape):
        Image.fromarray((COLORS // 256).astype(np.uint8)).save(tmp_path / "rgb.png")
        Image.fromarray((DEEP // 256).astype(np.uint8)).save(tmp_path / "gray.png")
        for name in ("rgb.png", "gray.png"):
            read = images(channels=channels, range=(0, 255)).read(sample(tmp_path / name))
            assert read.shape == shape
            assert len(np.unique(read)) > 100

    def test_another_number_of_channels_is_refused(self, images, tmp_path):
        Image.fromarray((COLORS // 256).astype(np.uint8)).save(tmp_path / "a.png")
        with pytest.raises(
            UserError, match=r"a\.png: has 3 channels, and images\.channels is 5; correct images\.channels"
        ):
            images(channels=5, range=(0, 255)).read(sample(tmp_path / "a.png"))

    def test_any_number_of_channels_is_resized(self, images, tmp_path):
        tifffile = require("tifffile", "zarr")
        for channels in (1, 2, 4, 6):
            tifffile.imwrite(
                tmp_path / "a.tif", np.full((channels, 40, 50), 30_000, np.uint16), photometric="minisblack"
            )
            for size in ((25, 20), (13, 9), (90, 70)):
                read = images(channels=channels, range=(0, 60_000)).read(sample(tmp_path / "a.tif"), size)
                assert read.shape == (size[1], size[0], channels)
                assert set(np.unique(read)) <= {127, 128}


class TestSlices:
    PLACE = "train/{case}/slice_{slice}_*.png"

    @pytest.fixture
    def volumes(self, competition, tmp_path):
        """Two volumes of gray slices whose value is their number; numbers have no leading zeros."""
        for case, depth in (("a", 12), ("b", 2)):
            (tmp_path / "train" / case).mkdir(parents=True)
            for number in range(depth):
                image = Image.fromarray(np.full((6, 8), 10 * number, np.uint8))
                image.save(tmp_path / "train" / case / f"slice_{number}_x.png")
        (tmp_path / "train.csv").write_text("id,rle\n")
        keys = {
            "images__train": self.PLACE,
            "images__id": "{case}_{slice}",
            "images__suffixes": (),
            "images__size": None,
        }
        keys |= {"masks__train": None, "masks__suffixes": (), "groups": None, "csv__train": "train.csv"}
        keys |= {"csv__columns": {"id": "{id}", "rle": "{rle}"}, "images__test": None, "masks__may_be_empty": True}
        return changed(competition, **keys), tmp_path

    def test_neighbors_are_channels_in_the_order_of_numbers(self, volumes):
        competition, data = volumes
        chosen = changed(competition, images__slices={"field": "slice", "offsets": [-2, 0, 1]})
        found = {each.id: each for each in load_training_samples(chosen, data)}
        reader = ImageReader(chosen)
        assert len(found) == 14
        assert reader.read(found["a_10"])[0, 0].tolist() == [80, 100, 110]
        assert reader.read(found["a_0"])[0, 0].tolist() == [0, 0, 10], "the ends are repeated"
        assert reader.read(found["b_1"])[0, 0].tolist() == [0, 10, 10], "volumes do not mix"
        assert found["a_10"].volume != found["b_1"].volume
        assert [found[f"a_{number}"].depth for number in range(12)] == list(range(12))

    def test_a_volume_with_chosen_slices_is_one_image(self, volumes):
        competition, data = volumes
        chosen = changed(competition, images__slices={"field": "slice", "values": ["1", "0"]}, images__id="{case}")
        found = {each.id: each for each in load_training_samples(chosen, data)}
        assert sorted(found) == ["a", "b"]
        assert ImageReader(chosen).read(found["b"])[0, 0].tolist() == [10, 0]
        missing = changed(competition, images__slices={"field": "slice", "values": ["1", "5"]}, images__id="{case}")
        with pytest.raises(UserError, match=r"train/b: has no slice 5; download it again, or correct images\.slices"):
            load_training_samples(missing, data)

    def test_slices_of_another_size_are_named(self, volumes):
        competition, data = volumes
        Image.fromarray(np.zeros((5, 8), np.uint8)).save(data / "train" / "b" / "slice_1_x.png")
        chosen = changed(competition, images__slices={"field": "slice", "offsets": [0, 1]})
        found = {each.id: each for each in load_training_samples(chosen, data)}
        with pytest.raises(UserError, match=r"slice_1_x\.png: is 8×5, but slice_0_x\.png is 8×6"):
            ImageReader(chosen).read(found["b_0"])

    def test_two_files_of_one_number_are_refused(self, volumes):
        competition, data = volumes
        (data / "train" / "b" / "slice_1_y.png").write_bytes((data / "train" / "b" / "slice_1_x.png").read_bytes())
        chosen = changed(competition, images__slices={"field": "slice", "offsets": [0, 1]})
        with pytest.raises(UserError, match=r"slice_1_y\.png: is the same slice as slice_1_x\.png"):
            load_training_samples(chosen, data)

    def test_signs_and_decimals_order_slices_and_text_does_not(self, volumes):
        competition, data = volumes
        chosen = changed(competition, images__slices={"field": "slice", "offsets": [0]})
        names = {0: "-12.5", 1: "-2.5", 2: "7", 3: "10.25"}
        for number in range(4, 12):
            (data / "train" / "a" / f"slice_{number}_x.png").unlink()
        for old, new in names.items():
            (data / "train" / "a" / f"slice_{old}_x.png").rename(data / "train" / "a" / f"slice_{new}_x.png")
        depths = {each.id: each.depth for each in load_training_samples(chosen, data) if each.volume == "a"}
        assert depths == {f"a_{name}": depth for depth, name in enumerate(names.values())}
        (data / "train" / "a" / "slice_7_x.png").rename(data / "train" / "a" / "slice_1.2.840.7_x.png")
        with pytest.raises(UserError, match=r"has '1\.2\.840\.7' as slice, which is no number that tells the order"):
            load_training_samples(chosen, data)

    def test_a_neighbor_that_cannot_be_read_is_replaced_in_a_prediction(self, volumes):
        competition, data = volumes
        chosen = changed(competition, images__slices={"field": "slice", "offsets": [-2, -1, 0, 1]})
        found = {each.id: each for each in load_training_samples(chosen, data)}
        (data / "train" / "a" / "slice_4_x.png").write_bytes(b"x")
        reader = ImageReader(chosen)
        warnings: list[str] = []
        (image,) = reader.read_sizes(found["a_6"], [None], warnings.append)
        assert image[0, 0].tolist() == [50, 50, 60, 70]
        (image,) = reader.read_sizes(found["a_3"], [None], warnings.append)
        assert image[0, 0].tolist() == [10, 20, 30, 30]
        assert all("slice_4_x.png cannot be" in text for text in warnings)
        assert len(warnings) == 2
        with pytest.raises(UserError, match=r"slice_4_x\.png: cannot be decoded"):
            reader.read_sizes(found["a_4"], [None], warnings.append)
        with pytest.raises(UserError, match=r"slice_4_x\.png: cannot be decoded"):
            reader.read(found["a_6"])

    def test_one_file_cannot_be_predicted_alone(self, volumes):
        competition, data = volumes
        # One gray channel could become three without any error.
        chosen = changed(competition, images__slices={"field": "slice", "offsets": [0, 1, 2]})
        path = data / "train" / "b" / "slice_1_x.png"
        reader = ImageReader(chosen)
        for read in (lambda: reader.decode(path.read_bytes(), path), lambda: reader.read(sample(path))):
            with pytest.raises(UserError, match=r"is one slice, and the network takes 3; predict it in its folder"):
                read()


class TestFaults:
    @pytest.mark.parametrize("damage", ["cut", "noise", "empty", "text"])
    @pytest.mark.parametrize("name", ["a.dcm", "a.tif", "a.png"])
    def test_damaged_files_give_one_sentence(self, images, tmp_path, name, damage):
        require("pydicom", "tifffile", "zarr")
        path = tmp_path / name
        buffer = io.BytesIO()
        if name == "a.dcm":
            content = dicom_bytes(DEEP, "1.2.3")
        else:
            Image.fromarray(DEEP).save(buffer, "PNG" if name == "a.png" else "TIFF")
            content = buffer.getvalue()
        noise = np.random.default_rng(0).integers(0, 256, len(content), dtype=np.uint8).tobytes()
        path.write_bytes(
            {"cut": content[: len(content) // 2], "noise": noise, "empty": b"", "text": b"id,rle\n"}[damage]
        )
        reader = images(channels=1, range=(0, 65535))
        for read in (reader.read, lambda each: reader.read_window(each, Window(0, 0, 50, 40))):
            with pytest.raises(UserError, match=rf"{name}: .*; download"):
                read(sample(path))

    def test_volumes_of_frames_are_refused(self, tmp_path):
        require("pydicom")
        path = tmp_path / "a.dcm"
        path.write_bytes(dicom_bytes(DEEP, "1.2.3", NumberOfFrames=2))
        with pytest.raises(UserError, match=r"a\.dcm: cannot be read as DICOM \(it has 2 frames\)"):
            decode_values(path.read_bytes(), path)

    @pytest.mark.parametrize(
        ("syntax", "message"),
        [
            (
                "1.2.840.10008.1.2.4.80",
                r"is compressed in a way that needs another package \(.*JPEG-LS.*; install it: .*requirements-formats\.txt",
            ),
            ("1.2.840.10008.1.2.4.201", r"cannot be read as DICOM \(.*; download the file again"),
            ("1.2.840.10008.1.2.4.100", r"is of a kind that cannot be read \(.*MPEG2.*not supported\); convert it"),
        ],
    )
    def test_compressions_that_cannot_be_read(self, tmp_path, syntax, message):
        pydicom = require("pydicom", "openjpeg")
        if "needs another" in message and find_spec("libjpeg"):
            pytest.skip("the package for this compression is installed")
        data_set = pydicom.dcmread(io.BytesIO(dicom_bytes(DEEP, "1.2.3")))
        data_set.file_meta.TransferSyntaxUID = syntax
        data_set.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7" + bytes(60)])
        data_set["PixelData"].is_undefined_length = True
        path = tmp_path / "a.dcm"
        data_set.save_as(path, implicit_vr=False, little_endian=True)
        with pytest.raises(UserError, match=rf"a\.dcm: {message}"):
            decode_values(path.read_bytes(), path)

    def test_huge_claims_are_refused_before_they_are_decoded(self, tmp_path):
        require("pydicom")
        path = tmp_path / "a.dcm"
        path.write_bytes(dicom_bytes(DEEP, "1.2.3", Rows=65_000, Columns=65_000))
        with pytest.raises(UserError, match=r"it claims 65000 × 65000 pixels"):
            decode_values(path.read_bytes(), path)

    def test_huge_claims_are_refused_in_windows_too(self, competition, tmp_path, monkeypatch):
        tifffile = require("tifffile", "zarr")
        tifffile.imwrite(tmp_path / "a.tif", DEEP)
        monkeypatch.setattr(readers, "_MAX_WINDOWED_PIXELS", 40 * 50 - 1)
        chosen = changed(competition, windows={"size": (32, 32)}, masks__may_be_empty=True)
        with pytest.raises(UserError, match=r"a\.tif: claims 50 × 40 pixels; the limit is"):
            ImageReader(chosen).size(sample(tmp_path / "a.tif"))

    @pytest.mark.parametrize(("package", "name"), [("pydicom", "a.dcm"), ("tifffile", "a.tif"), ("zarr", "a.tif")])
    def test_missing_packages_are_named_with_the_command(self, monkeypatch, tmp_path, package, name):
        require("pydicom", "tifffile", "zarr")
        path = tmp_path / name
        path.write_bytes(dicom_bytes(DEEP, "1.2.3") if name == "a.dcm" else b"II*\0")
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(
            UserError, match=rf"{package} is not installed; install it: .* -r requirements-formats\.txt"
        ):
            decode_values(path.read_bytes(), path)


def require(*packages: str):
    """Return the first package; skip the test if one is missing."""
    reason = "the packages of requirements-formats.txt are not installed"
    first, *_ = [pytest.importorskip(name, reason=reason) for name in packages]
    return first
