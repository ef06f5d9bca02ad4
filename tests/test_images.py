"""Folders of images against Pillow, read by a plain loop that shares no code with nnjit."""

import csv
import io
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import nnjit.data.image_cache as image_cache
import nnjit.data.image_files as image_files
import numpy as np
import pytest
from command_line import nnjit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnjit import load as load_network
from nnjit import registry
from nnjit.data import load, samples
from nnjit.data.image_folder import Images
from nnjit.errors import DataError, SpecError
from PIL import Image, ImageOps

ROWS_OF_TILES = 0x0112  # the tag of the EXIF orientation


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Give each test its own folder of decoded images."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(image_cache, "directory", lambda: place)
    monkeypatch.setattr(image_cache, "_warned", False)
    return place / "images"


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png16(pixels):
    """Return a PNG of 16 bits a channel from (H, W, 1 to 4), by its definition (ISO/IEC 15948); Pillow writes none."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def noise(seed, height=4, width=5, channels=None, dtype=np.uint8):
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def gray_png(seed, height=4, width=5):
    return encoded(Image.fromarray(noise(seed, height, width)), "png")


# Decoded files


def plainly(path, gray, size=None):
    """Read one file as (C, H, W) by Pillow alone."""
    with Image.open(path) as image:
        kind, image = image.format, ImageOps.exif_transpose(image)
        if image.mode in ("I;16", "I;16L", "I;16B", "I", "F"):
            dtype = "float32" if image.mode == "F" else "int32" if (image.mode, kind) == ("I", "TIFF") else "uint16"
            if size is not None:  # in the byte order of the machine
                image = Image.fromarray(np.array(image).astype(dtype)).resize(size[::-1], Image.Resampling.BILINEAR)
            pixels = np.array(image).astype(dtype)
        else:
            image = image.convert("L" if gray else "RGB")
            pixels = np.array(image.resize(size[::-1], Image.Resampling.BILINEAR) if size is not None else image)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise ValueError("NaN")
        return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)


def deep_file(rng, height, width):
    pixels = rng.integers(0, 65536, (height, width), np.uint16)
    tiff = Image.frombytes("I;16B", (width, height), pixels.astype(">u2").tobytes())
    return [
        ("png", encoded(Image.fromarray(pixels), "png")), ("tif", encoded(Image.fromarray(pixels), "tiff")),
        ("tiff", encoded(tiff, "tiff")), ("pgm", encoded(Image.fromarray(pixels), "ppm")),
        ("jp2", encoded(Image.fromarray(pixels), "jpeg2000", irreversible=False)), ("png", png16(pixels[..., None])),
    ][rng.integers(6)]  # fmt: skip


def float_file(rng, height, width):
    image = Image.fromarray(rng.normal(size=(height, width)).astype(np.float32))
    return [("tif", encoded(image, "tiff")), ("pfm", encoded(image, "ppm"))][rng.integers(2)]


def integer_file(rng, height, width):
    return "tif", encoded(Image.fromarray(rng.integers(-(2**31), 2**31, (height, width)).astype(np.int32)), "tiff")


def byte_file(rng, height, width):
    colours = Image.fromarray(rng.integers(0, 256, (height, width, 4), np.uint8))
    kinds = [("png", "png", m) for m in ("RGB", "L", "RGBA", "P", "1", "LA")] + [
        ("jpg", "jpeg", "RGB"), ("JPG", "jpeg", "L"), ("jpeg", "jpeg", "CMYK"), ("bmp", "bmp", "RGB"),
        ("gif", "gif", "P"), ("tif", "tiff", "RGB"), ("tiff", "tiff", "CMYK"), ("tif", "tiff", "1"),
        ("webp", "webp", "RGBA"), ("ppm", "ppm", "RGB"), ("pbm", "ppm", "1"), ("jpg", "png", "RGB"),
        ("png", "jpeg", "RGB"),
    ]  # fmt: skip
    suffix, kind, mode = kinds[rng.integers(len(kinds))]
    if rng.random() < 0.1:
        return "png", png16(rng.integers(0, 65536, (height, width, rng.integers(2, 5)), np.uint16))
    options = {}
    if kind in ("jpeg", "png", "webp", "tiff") and rng.random() < 0.5:
        exif = Image.Exif()
        exif[ROWS_OF_TILES] = int(rng.integers(1, 9))
        options["exif"] = exif
    if mode == "P" and kind == "png" and rng.random() < 0.5:
        options["transparency"] = 3
    image = colours.convert("RGB").convert(mode) if mode != "RGBA" else colours
    return suffix, encoded(image, kind, **options)


def damaged_file(rng, height, width):
    suffix, data = byte_file(rng, 30, 40)
    return suffix, [b"", b"hello, I am text", data[: len(data) // 3], data[:30], b"\0" * 200][rng.integers(5)]


def draw_folder(rng, folder):
    """Write images of drawn kinds into class folders and return (paths in the order of reading, options)."""
    kinds = [[byte_file], [deep_file], [float_file], [integer_file], [byte_file, damaged_file], [deep_file, byte_file],
             [deep_file, damaged_file], [byte_file, byte_file, byte_file, float_file, damaged_file]]  # fmt: skip
    chosen, paths = kinds[rng.integers(len(kinds))], []
    square, several = rng.random() < 0.7, rng.random() < 0.3
    sizes = [(5, 5)] if square else [(4, 6)]
    for name in ("a", "b c"):
        for i in range(int(rng.integers(1, 8))):
            suffix, data = chosen[rng.integers(len(chosen))](rng, *sizes[0 if not several else -1])
            if several and rng.random() < 0.3:
                suffix, data = chosen[0](rng, 7, 3)
            write(folder, {f"{name}/{i}.{suffix}": data})
            paths.append(folder / name / f"{i}.{suffix}")
        write(folder, {f"{name}/notes.txt": b"x", f"{name}/.hidden.png": b"x", f"{name}/model.npy": b"x"})
    size = (int(rng.integers(1, 9)), int(rng.integers(1, 9))) if rng.random() < 0.4 else None
    return sorted(paths), {"gray": bool(rng.random() < 0.4), "size": size}


def expectation(paths, options):
    """Return {path: pixels} of the usual form, and the paths of all others."""
    found, wrong = {}, []
    for path in paths:
        try:
            found[path] = plainly(path, **options)
        except Exception:
            wrong.append(path)
    forms = Counter((pixels.shape, pixels.dtype) for pixels in found.values())
    usual = next((form for form, _ in forms.most_common(1)), None)
    wrong += [path for path, pixels in found.items() if (pixels.shape, pixels.dtype) != usual]
    return {path: pixels for path, pixels in found.items() if path not in wrong}, sorted(wrong)


@pytest.mark.filterwarnings("ignore")  # pillow warns of palettes with transparency
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), threads=st.sampled_from([1, 3]), cached=st.booleans())
def test_mixed_folders_are_read_as_pillow_reads_them_or_their_faults_are_listed(
    tmp_path_factory, seed, threads, cached
):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("set")
    paths, options = draw_folder(rng, folder)
    right, wrong = expectation(paths, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_files, "_processors", lambda: threads)
        patch.setattr(image_files, "TASK", 100)  # some tasks for each thread
        patch.setattr(image_files, "SMALL", 0)
        patch.setattr(image_cache, "FEWEST", 1 if cached else 10**9)
        if wrong:
            with pytest.raises(DataError) as caught:
                Images(str(folder), validation=0, **options).load()
            said = str(caught.value)
            assert f": {len(wrong)} of {len(paths)} images cannot be used: " in said and "\n" not in said
            assert all(path.relative_to(folder).as_posix() in said for path in wrong[:5])
            assert (f"and {len(wrong) - 5} more" in said) == (len(wrong) > 5)
        lost = {path.parent for path in paths} - {path.parent for path in right}
        for _ in range(1 + cached):  # then from the cache
            reader = Images(str(folder), validation=0, skip=True, **options)
            if lost:
                with pytest.raises(DataError, match=r"none of its \d+ images|images cannot be used"):
                    reader.load()
                continue
            dataset = reader.load()
            np.testing.assert_array_equal(dataset.train.x, np.array(list(right.values())), strict=True)
            assert dataset.train.y.tolist() == [int(path.parent.name == "b c") for path in right]
            notes = " | ".join(dataset.notes)
            assert (f"left out: {len(wrong)} of {len(paths)} images" in notes) == bool(wrong)
            assert all(path.relative_to(folder).as_posix() in notes for path in wrong[:5])
            assert "skipped: 4 files without the suffix of an image (2 .npy, 2 .txt)" in notes
            assert ("decoded images" in notes) == cached


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm", "jpeg2000", "big-endian tiff"])
def test_sixteen_bits_keep_their_numbers(tmp_path, kind):
    pixels = noise(0, dtype=np.uint16)
    image = Image.fromarray(pixels)
    if kind.startswith("big"):
        image = Image.frombytes("I;16B", (5, 4), pixels.astype(">u2").tobytes())
    options = {"irreversible": False} if kind == "jpeg2000" else {}
    suffix = {"tiff": "tif", "ppm": "pgm", "jpeg2000": "jp2"}.get(kind, kind[-4:])
    write(tmp_path, {f"a/0.{suffix}": encoded(image, kind.split()[-1], **options)})
    dataset = Images(str(tmp_path), validation=0).load()
    np.testing.assert_array_equal(dataset.train.x, pixels[None, None], strict=True)
    assert (dataset.raw_range, dataset.depth) == ((0, 65535), "uint16")


def test_of_several_channels_of_sixteen_bits_the_upper_eight_are_read(tmp_path):
    pixels = noise(0, channels=3, dtype=np.uint16)
    write(tmp_path, {"a/0.png": png16(pixels)})
    dataset = Images(str(tmp_path), validation=0).load()
    np.testing.assert_array_equal(dataset.train.x[0], np.moveaxis(pixels >> 8, 2, 0).astype(np.uint8), strict=True)
    assert (dataset.raw_range, dataset.depth) == ((0, 255), "uint8")


def tiff16(pixels, order):
    """Return a TIFF of 16 bits a channel from (H, W, 3 or 4), by its definition (TIFF 6.0, section 2)."""
    height, width, channels = pixels.shape
    numbers = pixels.astype(f"{order}u2").tobytes()
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    tags = [(256, 3, width), (257, 3, height), (258, 3, 0), (259, 3, 1), (262, 3, 2), (273, 4, 0), (277, 3, channels),
            (278, 3, height), (279, 4, len(numbers))] + [(338, 3, 2)] * (channels == 4)  # fmt: skip
    end = 8 + 2 + 12 * len(tags) + 4
    file = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    for tag, kind, value in tags:
        count, value = (channels, end) if tag == 258 else (1, end + len(bits) if tag == 273 else value)
        form = "H2x" if kind == 3 and count == 1 else "I"
        file += struct.pack(f"{order}HHI{form}", tag, kind, count, value)
    return file + struct.pack(f"{order}I", 0) + bits + numbers


@pytest.fixture
def many_bits():
    """Files of colours of more than 8 bits, by their definitions, and a file of each kind with 8."""
    colours = noise(1, channels=4, dtype=np.uint16)
    three = colours[..., :3].astype(">u2").tobytes()
    usual = Image.fromarray((colours[..., :3] >> 8).astype(np.uint8))
    wave = bytearray(encoded(usual, "jpeg2000", irreversible=False))
    for channel in range(3):  # the bits of each channel, in the marker SIZ
        wave[wave.index(b"\xff\x4f\xff\x51") + 42 + 3 * channel] = 15
    more = {
        "a.png": png16(colours[..., :3]), "b.png": png16(colours), "c.png": png16(colours[..., :2]),
        "d.ppm": b"P6 5 4 65535\n" + three, "e.ppm": b"P6 5 4 65534\n" + three, "f.tif": tiff16(colours, "<"),
        "g.tif": tiff16(colours[..., :3], ">"), "h.jp2": bytes(wave),
    }  # fmt: skip
    kinds = {"png": "png", "ppm": "ppm", "tif": "tiff", "jp2": "jpeg2000", "jpg": "jpeg", "webp": "webp", "bmp": "bmp"}
    return more, {f"usual.{suffix}": encoded(usual, kind) for suffix, kind in kinds.items()}


def test_names_of_several_lines_and_one_file(tmp_path):
    """A message stays one line; of a single file it speaks as of one."""
    write(tmp_path, {"a/0.png": gray_png(0), "a/x\ny.png": b"no image", "b/0.png": gray_png(1)})
    for act in (Images(str(tmp_path), validation=0).load, Images(str(tmp_path)).samples):
        with pytest.raises(DataError, match=r"1 of 3 images cannot be used: 'a/x\\ny.png' is damaged") as caught:
            act()
        assert "\n" not in str(caught.value)
    write(tmp_path, {"c/x.png": gray_png(0)[:50]})
    with pytest.raises(DataError, match=r"^[^ ]*c/x.png is damaged or not an image: [^;]*$"):
        Images(str(tmp_path / "c/x.png")).samples()


def test_colours_of_more_than_eight_bits_are_named(tmp_path, many_bits, own_cache, monkeypatch):
    """Once, with their number and the first file, also if they come from the cache; others are not named."""
    more, usual = many_bits
    write(tmp_path, {f"set/x/{name}": file for name, file in (more | usual).items()})
    write(tmp_path, {f"other/x/{name}": file for name, file in usual.items()})
    (note,) = Images(str(tmp_path / "set"), validation=0).load().notes
    assert f"{len(more)} of {len(more) + len(usual)} images" in note and "first: x/a.png" in note and "upper 8" in note
    assert not Images(str(tmp_path / "other"), validation=0).load().notes
    (note,) = Images(str(tmp_path / "set/x/f.tif")).samples().notes
    assert "1 of 1 images" in note and "8 bits" in note and "f.tif" in note
    write(tmp_path, {"set/x/0.png": png16(noise(1, 9, 9, 3, np.uint16))})  # left out, so not among them
    monkeypatch.setattr(image_cache, "FEWEST", 1)
    for cached in (False, True):
        notes = Images(str(tmp_path / "set"), validation=0, skip=True).load().notes
        assert f"{len(more)} of" in notes[1] and "first: x/a.png" in notes[1]
        assert ("from the cache" in notes[2]) == cached


def test_floats_and_integers_keep_their_numbers(tmp_path):
    floats = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    integers = np.arange(20, dtype=np.int32).reshape(4, 5) * 10**8 - 10**9
    for name, pixels in (("floats", floats), ("integers", integers)):
        write(tmp_path, {f"{name}/a/0.tif": encoded(Image.fromarray(pixels), "tiff")})
        dataset = Images(str(tmp_path / name), validation=0).load()
        np.testing.assert_array_equal(dataset.train.x, pixels[None, None], strict=True)
        assert (dataset.raw_range, dataset.depth) == (None, pixels.dtype.name)
    floats[1, 2] = np.nan
    write(tmp_path, {"floats/a/1.tif": encoded(Image.fromarray(floats), "tiff")})
    with pytest.raises(DataError, match=r"1 of 2 images cannot be used: a/1.tif holds NaN or infinity"):
        Images(str(tmp_path / "floats")).load()


# Options


def test_one_number_is_both_sides(tmp_path, here):
    assert Images("x", size=32).size == Images("x", size=(32, 32)).size == (32, 32)
    assert Images("x", 32).spec() == "images(path='x', size=(32, 32))"
    text = registry.datasets.create("images(path='x', size=32, skip=true, gray=false)")
    assert (text.size, text.skip, text.gray) == ((32, 32), True, False)
    for wrong in (0, -1, (0, 2), (3,), True, 1.5, "32"):
        with pytest.raises(SpecError, match="size"):
            Images("x", size=wrong)
    write(tmp_path, {"a/0.png": gray_png(0), "a/1.png": gray_png(1, 9, 2)})
    assert Images(str(tmp_path), size=3, gray=True, validation=0).load().train.x.shape == (2, 1, 3, 3)


def test_a_class_that_loses_all_its_images_is_refused(tmp_path):
    write(tmp_path, {"a/0.png": gray_png(0), "b/0.png": b"", "b/1.png": b"text"})
    with pytest.raises(DataError, match=r"b: none of its 2 images can be used, so skip=True would leave the class 'b'"):
        Images(str(tmp_path), skip=True).load()
    write(tmp_path, {"b/2.png": gray_png(1)})
    assert len(Images(str(tmp_path), skip=True, validation=0).load().train) == 2


def test_the_form_of_most_files_is_kept_even_if_the_first_file_is_an_odd_one(tmp_path, monkeypatch):
    write(tmp_path, {"a/0.png": gray_png(0, 3, 3)} | {f"a/{i}.png": gray_png(i) for i in range(1, 5)})
    monkeypatch.setattr(image_cache, "FEWEST", 1)
    for _ in range(2):
        dataset = Images(str(tmp_path), skip=True, validation=0).load()
        assert dataset.train.x.shape == (4, 3, 4, 5)
        assert "left out: 1 of 5 images: a/0.png is 3x3 (height x width), but most are 4x5" in dataset.notes


def test_photographs_of_many_sizes_are_refused_early(tmp_path, monkeypatch):
    write(tmp_path, {f"a/{i:03}.png": gray_png(i, 3 + i % 7, 5) for i in range(100)})
    decode, seen = image_files.decode, []
    monkeypatch.setattr(image_files, "decode", lambda path, *options: seen.append(path) or decode(path, *options))
    with pytest.raises(DataError, match=r"of the first 64 images cannot be used: a/001.png is 4x5 .*size=\(3, 5\)"):
        Images(str(tmp_path)).load()
    assert len(seen) == 64
    assert len(Images(str(tmp_path), skip=True, validation=0).load().train) == 15
    assert len(Images(str(tmp_path), size=4, validation=0).load().train) == 100


def test_parts_of_a_set_are_one_list_of_faults_and_of_one_depth(tmp_path):
    deep = encoded(Image.fromarray(noise(0, dtype=np.uint16)), "png")
    write(tmp_path, {f"train/{c}/{i}.png": gray_png(i) for c in "ab" for i in range(2)} | {"val/a/0.png": deep})
    write(tmp_path, {"train/a/9.png": b"x"})
    with pytest.raises(DataError, match=r"2 of 6 images .*train/a/9.png .*val/a/0.png has pixels of 16 bits"):
        Images(str(tmp_path)).load()
    with pytest.raises(DataError, match=r"val.a: none of its 1 images"):
        Images(str(tmp_path), skip=True).load()
    write(tmp_path, {"val/a/1.png": gray_png(7)})
    dataset = Images(str(tmp_path), skip=True, gray=True).load()
    assert [len(split) for split in (dataset.train, dataset.validation)] == [4, 1]
    np.testing.assert_array_equal(dataset.validation.x[0, 0], noise(7))


def test_a_long_reading_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(image_files, "LINES", 0.0)
    write(tmp_path, {f"a/{i}.png": gray_png(i) if i % 3 else b"" for i in range(7)})
    Images(str(tmp_path), skip=True, validation=0).load()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7 and "4 of 7" in lines[3] and "2 cannot be used" in lines[3]


# The cache


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Make a set that is large enough to be kept."""
    monkeypatch.setattr(image_cache, "FEWEST", 6)
    write(tmp_path / "set", {f"{'ab'[i % 2]}/{i}.png": gray_png(i) for i in range(8)})
    return tmp_path / "set"


def plain_set(folder):
    return np.array([plainly(path, True) for path in sorted(folder.rglob("*.png"))])


def read(folder, **options):
    dataset = Images(str(folder), gray=True, validation=0, **options).load()
    return np.array(dataset.train.x), any("from the cache" in note for note in dataset.notes)


def test_a_large_set_is_read_once(large, own_cache, monkeypatch):
    x, cached = read(large)
    assert not cached and [path.suffix for path in own_cache.iterdir()] == [".npy"]
    monkeypatch.setattr(image_files, "decode", None)  # nothing is decoded again
    again, cached = read(large)
    assert cached
    np.testing.assert_array_equal(x, plain_set(large), strict=True)
    np.testing.assert_array_equal(again, x, strict=True)
    monkeypatch.chdir(large.parent)
    assert read("set")[1] and read(Path("..") / large.parent.name / "set")[1]  # by any name of the folder
    np.testing.assert_array_equal(np.load(next(own_cache.iterdir())), x)
    dataset = load(Images(str(large), gray=True, validation=0.25))
    assert isinstance(dataset.train._stored, np.memmap) and dataset.train._stored is dataset.validation._stored


def change_in_place(path, folder):
    times = path.stat()
    path.write_bytes(gray_png(99))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as copies do that keep the time


CHANGES = {
    "changed": lambda path, folder: path.write_bytes(gray_png(77)),
    "changed in place, with the old time": change_in_place,
    "added": lambda path, folder: write(folder, {"a/zz.png": gray_png(55)}),
    "removed": lambda path, folder: path.unlink(),
    "renamed": lambda path, folder: path.rename(path.with_name("zzz.png")),
    "moved to another class": lambda path, folder: path.rename(folder / "b" / "zzz.png"),
    "exchanged": lambda path, folder: (folder / "b/1.png").replace(path),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(large, change):
    read(large)
    CHANGES[change](large / "a" / "2.png", large)
    x, cached = read(large)
    assert not cached
    np.testing.assert_array_equal(x, plain_set(large), strict=True)


def test_options_and_versions_have_their_own_files(large, own_cache, monkeypatch):
    for options in ({"gray": True}, {"gray": False}, {"size": 3}, {"size": (3, 4)}, {"gray": True, "size": 3}):
        expected = [plainly(path, options.get("gray", False), Images("", **options).size)
                    for path in sorted(large.rglob("*.png"))]  # fmt: skip
        for _ in range(2):
            np.testing.assert_array_equal(Images(str(large), validation=0, **options).load().train.x, expected)
    assert len(list(own_cache.iterdir())) == 5
    monkeypatch.setattr("PIL.__version__", "0.0")
    assert not read(large)[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_of_the_cache_is_never_used(large, own_cache, data):
    x, _ = read(large)
    file = next(own_cache.glob("*.npy"))
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.sampled_from(["bit", "cut", "longer", "lost", "zeros"]))
    file.write_bytes({
        "bit": whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :],
        "cut": whole[:place], "longer": whole + b"x", "lost": whole[:place] + whole[place + 1 :],
        "zeros": bytes(len(whole)),
    }[change])  # fmt: skip
    again, cached = read(large)
    assert not cached
    np.testing.assert_array_equal(again, x)


def test_a_read_only_cache_costs_one_warning(large, own_cache, monkeypatch):
    own_cache.parent.rmdir()
    own_cache.parent.write_text("a file where a folder should be")
    with pytest.warns(RuntimeWarning, match="decoded images cannot be kept") as caught:
        for _ in range(2):
            x, cached = read(large)
            assert not cached
            np.testing.assert_array_equal(x, plain_set(large), strict=True)
    assert len([each for each in caught if each.category is RuntimeWarning]) == 1


def test_a_full_disk_costs_one_warning(large, own_cache, monkeypatch):
    monkeypatch.setattr(image_cache, "BLOCK", 45)  # two images
    read(large)
    whole = next(own_cache.iterdir()).stat().st_size
    next(own_cache.iterdir()).unlink()
    for limit in range(0, whole, 37):  # the disk is full after as many bytes
        monkeypatch.setattr(image_cache, "_warned", False)
        monkeypatch.setattr(image_cache, "open", lambda *a, limit=limit, **k: Full(limit, *a, **k), raising=False)
        with pytest.warns(RuntimeWarning, match="cannot be kept in .*: No space left on device"):
            x, cached = read(large)
        assert not cached and list(own_cache.iterdir()) == []
        np.testing.assert_array_equal(x, plain_set(large), strict=True)


class Full(io.FileIO):
    """A file on a disk that has room for `limit` bytes."""

    def __init__(self, limit, path, mode="r", **options):
        super().__init__(path, mode)
        self.limit = limit

    def write(self, data):
        if self.limit <= 0:
            raise OSError(28, "No space left on device")
        done = super().write(data[: min(self.limit, 17)])  # less than was asked for, as write(2) may do
        self.limit -= done
        return done


def test_a_set_that_does_not_fit_is_not_kept(large, own_cache, monkeypatch):
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 100}))
    with pytest.warns(RuntimeWarning, match="are free"):
        assert not read(large)[1]
    assert not list(own_cache.iterdir())


def test_the_cache_is_bounded(large, own_cache, monkeypatch):
    for size in range(1, 6):
        read(large, size=size)
        for path in own_cache.iterdir():
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**9))
    assert read(large, size=1)[1]  # the one that was used last
    leftover = own_cache / ".killed"
    leftover.write_bytes(b"x")
    os.utime(leftover, (0, 0))
    monkeypatch.setattr(image_cache, "LIMIT", 2 * max(path.stat().st_size for path in own_cache.glob("*.npy")))
    read(large, size=6)
    assert len(list(own_cache.iterdir())) == 2 and read(large, size=1)[1] and read(large, size=6)[1]


def test_a_set_that_changes_while_it_is_read_is_not_kept(large, own_cache, monkeypatch):
    decode = image_files.decode

    def later(path, *options):
        found = decode(path, *options)
        if str(path).endswith("a/0.png"):
            Path(path).write_bytes(gray_png(123))
        return found

    monkeypatch.setattr(image_files, "decode", later)
    assert not read(large)[1]
    assert not list(own_cache.iterdir())


def test_what_cannot_be_read_now_is_not_kept_as_left_out(large, own_cache, monkeypatch):
    decode = image_files.decode

    def failing(path, *options):
        if str(path).endswith("a/0.png"):
            raise image_files.Unreadable(f"{image_files.CANNOT}: Input/output error")
        return decode(path, *options)

    with monkeypatch.context() as patch:
        patch.setattr(image_files, "decode", failing)
        assert len(read(large, skip=True)[0]) == 7
    np.testing.assert_array_equal(read(large, skip=True)[0], plain_set(large))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_ends_the_reading(tmp_path):
    write(tmp_path / "set", {"a/0.png": encoded(Image.fromarray(noise(0, 1000, 1000, 3)), "png", compress_level=1)})
    for i in range(1, 1000):
        os.link(tmp_path / "set/a/0.png", tmp_path / f"set/a/{i}.png")
    code = "import sys, nnjit.data as d; print(flush=True); d.load(('images', {'path': sys.argv[1]}))"
    environment = {**os.environ, "NNJIT_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, tmp_path / "set"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    process.stdout.readline()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0 and b"KeyboardInterrupt" in said
    assert not list((tmp_path / "cache" / "images").glob("*"))


# Images without classes


def test_samples_of_a_file_and_of_a_folder(tmp_path):
    write(tmp_path, {"b.png": gray_png(0), "a/1.png": gray_png(1), "a/deep/2.jpg": gray_png(2), "notes.txt": b""})
    for path, names in (
        ("", ["b.png", "a/1.png", "a/deep/2.jpg"]),
        ("a", ["1.png", "deep/2.jpg"]),
        ("b.png", ["b.png"]),
    ):
        reader = Images(str(tmp_path / path), gray=True)
        x = samples(reader).train.x
        assert reader.column("file").tolist() == names
        found = [plainly(tmp_path / path / name if path != "b.png" else tmp_path / name, True) for name in names]
        np.testing.assert_array_equal(x, found)
    write(tmp_path, {"a/bad.png": b"x"})
    with pytest.raises(DataError, match=r"1 of 4 images cannot be used: a/bad.png is damaged"):
        samples(str(tmp_path))
    reader = Images(str(tmp_path), gray=True, skip=True)
    assert reader.column("file").tolist() == ["b.png", "a/1.png", "a/deep/2.jpg"] and len(samples(reader).train) == 3
    if hasattr(os, "symlink"):
        (tmp_path / "a" / "around").symlink_to(tmp_path)
        assert len(samples(reader).train) == 3


# Runs and predictions

SET = {"gray": True, "size": (4, 5)}
LAYERS = ["--layers", "flatten dense(2)", "--epochs", 1]


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory):
    """Make a run on images of 8 bits, of mixed kinds, that are resized and gray."""
    place = tmp_path_factory.mktemp("bytes")
    for i in range(12):
        suffix, data = byte_file(np.random.default_rng(i), 6, 6)
        write(place / "set", {f"{('cat', 'dog')[i % 2]}/{i}.{suffix}": data})
    nnjit("run", "--data", f"images(path={str(place / 'set')!r}, gray=true, size=(4, 5))", *LAYERS, "--output",
          place / "run")  # fmt: skip
    return place / "run"


@pytest.fixture
def later(tmp_path):
    """Make a folder of images to predict, with names and a folder below."""
    rng = np.random.default_rng(5)
    for name in ("b", "a/x", "a/ü 1", "z"):
        suffix, data = byte_file(rng, 9, 6)
        write(tmp_path / "later", {f"{name}.{suffix}": data})
    write(tmp_path / "later", {"notes.txt": b"x"})
    return tmp_path / "later"


def names_in(folder):
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".txt"]
    return sorted((path.relative_to(folder).as_posix() for path in found), key=lambda name: ("/" in name, name))


def expected(run, paths, **options):
    """Return softmax of the network's outputs for images that Pillow read."""
    x = np.array([plainly(path, **options) for path in paths]).astype(np.float32)
    z = load_network(run).predict(x).astype(np.float64)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_predictions_of_a_folder_and_of_a_file(of_bytes, later):
    names = names_in(later)
    p = expected(of_bytes, [later / name for name in names], **SET)
    head, *rows = csv.reader(io.StringIO(nnjit("predict", of_bytes, "--input", later)))
    assert head == ["file", "class", "confidence", "p(cat)", "p(dog)"] and [row[0] for row in rows] == names
    np.testing.assert_allclose([[float(cell) for cell in row[3:]] for row in rows], p, rtol=1e-5)
    assert [row[1] for row in rows] == [("cat", "dog")[k] for k in p.argmax(axis=1)]
    top = list(csv.reader(io.StringIO(nnjit("predict", of_bytes, "--input", later, "--top", 2))))
    assert top[0] == ["file", "class", "confidence", "class 2", "confidence 2"] and top[1][0] == names[0]
    name = next(name for name in names if name.startswith("a/"))
    _, row = csv.reader(io.StringIO(nnjit("predict", of_bytes, "--input", later / name)))
    assert row[0] == Path(name).name
    np.testing.assert_allclose([float(cell) for cell in row[3:]], p[names.index(name)], rtol=1e-5)


def test_predictions_of_images_are_written_to_files(of_bytes, later, tmp_path):
    names, p = names_in(later), expected(of_bytes, [later / name for name in names_in(later)], **SET)
    for suffix in ("jsonl", "npz"):
        nnjit("predict", of_bytes, "--input", later, "--output", tmp_path / f"p.{suffix}")
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == names
    np.testing.assert_allclose([[line["p(cat)"], line["p(dog)"]] for line in lines], p, rtol=1e-5)
    with np.load(tmp_path / "p.npz") as found:
        assert found["id"].tolist() == names
        np.testing.assert_allclose(found["p"], p, rtol=1e-5)


def test_images_that_cannot_be_predicted(of_bytes, later):
    names = names_in(later)
    write(later, {"a/cut.png": gray_png(0, 50, 50)[:200], "empty.jpg": b""})
    said = nnjit("predict", of_bytes, "--input", later, status=1)
    assert "2 of 6 images cannot be used: " in said and "empty.jpg is damaged" in said and "a/cut.png is" in said
    said = nnjit("predict", of_bytes, "--input", f"images(path={str(later)!r}, skip=true)")
    assert [line.split(",")[0] for line in said.splitlines() if line.count(",") == 4][1:] == names
    assert "left out: 2 of 6 images: empty.jpg is" in said
    write(later, {"deep.png": encoded(Image.fromarray(noise(0, dtype=np.uint16)), "png")})
    said = nnjit("predict", of_bytes, "--input", later / "deep.png", status=1)
    assert "pixels of 16 bits, but the network was trained on pixels of 8 bits a channel" in said
    wrong = f"images(path={str(later)!r}, size=9)"
    assert "size=(9, 9), but the network was trained on images with size=(4, 5)" in nnjit(
        "predict", of_bytes, "--input", wrong, status=2
    )
    assert "images have no columns" in nnjit("predict", of_bytes, "--input", later, "--id", "x", status=2)
    assert "no file or folder" in nnjit("predict", of_bytes, "--input", later / "none.png", status=1)
    (later / "nothing").mkdir()
    assert "holds no images" in nnjit("predict", of_bytes, "--input", later / "nothing", status=1)


def test_another_folder_is_evaluated_as_the_run_read_its_own(of_bytes, tmp_path):
    write(tmp_path / "new", {f"{name}/{i}.png": gray_png(i, 7, 8) for i, name in enumerate(("cat", "dog", "cat"))})
    said = nnjit("evaluate", of_bytes, "--data", tmp_path / "new")
    paths = [tmp_path / "new" / name for name in ("cat/0.png", "cat/2.png", "dog/1.png")]
    p = expected(of_bytes, paths, **SET)
    found = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert float(found["loss"]) == pytest.approx(-np.log(p[[0, 1, 2], [0, 0, 1]]).mean(), rel=1e-4)
    write(tmp_path / "new", {"cat/empty.png": b""})
    for command in ("evaluate", "predict"):  # the notes of the reader are no part of what a pipe gets
        arguments = (command, of_bytes, "--data", f"images(path={str(tmp_path / 'new')!r}, skip=true)")
        (line,) = nnjit(*arguments, stream="stderr").splitlines()
        assert line.startswith("left out: 1 of 4 images: cat/empty.png is")
        assert "left out" not in nnjit(*arguments, stream="stdout")


def test_a_saved_network_predicts_images_of_its_size(of_bytes, tmp_path):
    load_network(of_bytes).save(tmp_path / "mine.safetensors")
    write(tmp_path / "new", {"0.png": gray_png(0)})
    *_, row = csv.reader(io.StringIO(nnjit("predict", tmp_path / "mine.safetensors", "--input", tmp_path / "new")))
    x = noise(0)[None, None].astype(np.float32)
    np.testing.assert_allclose([float(cell) for cell in row[-2:]], load_network(of_bytes).predict(x)[0], rtol=1e-5)
    write(tmp_path / "new", {"0.png": gray_png(0, 9, 9)})
    said = nnjit("predict", tmp_path / "mine.safetensors", "--input", tmp_path / "new", status=1)
    assert "have shape (1, 9, 9), the network takes (1, 4, 5)" in said and "size=(4, 5)) resizes them" in said


@pytest.mark.parametrize(("dtype", "layer"), [("uint16", "minmax(low=0.0, high=65535.0)"), ("float32", "minmax")])
def test_a_run_on_deep_images(tmp_path, dtype, layer):
    rng = np.random.default_rng(0)
    for i in range(10):
        pixels = rng.uniform(-3 if dtype == "float32" else 0, 900 if dtype == "float32" else 65535, (4, 5))
        name = f"set/{'ab'[i % 2]}/{i}.tif"
        write(tmp_path, {name: encoded(Image.fromarray(pixels.astype(dtype)), "tiff")})
    run, folder = tmp_path / "run", tmp_path / "set"
    nnjit("run", "--data", f"images(path={str(folder)!r}, validation=0.2)", *LAYERS, "--output", run)
    config = (run / "config.toml").read_text()
    assert layer in config and (dtype == "float32") == ("minmax(" not in config)
    trained = load_network(run)
    assert trained.trained_on.depth == dtype and trained.input_shape == (1, 4, 5)
    names = names_in(folder)
    rows = list(csv.reader(io.StringIO(nnjit("predict", run, "--input", folder))))[1:]
    p = expected(run, [folder / name for name in names], gray=False)
    np.testing.assert_allclose([[float(cell) for cell in row[3:]] for row in rows], p, rtol=1e-4)
    write(tmp_path, {"bytes.png": gray_png(0)})
    said = nnjit("predict", run, "--input", tmp_path / "bytes.png", status=1)
    assert "pixels of 8 bits a channel, but the network was trained on pixels of " in said


def test_the_commands_and_outputs_of_the_document(here):
    """docs/images.md, from top to bottom: each command runs, each quoted output comes, but for digits of numbers."""

    def plain(text):
        return re.sub(r"kept in [^;]+;", "kept;", re.sub(r"0\.\d+", "0.", text))

    text = (Path(__file__).parents[1] / "docs" / "images.md").read_text(encoding="utf-8")
    blocks, said = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL), ""
    assert {"python", "sh", "text"} == {language for language, _ in blocks}
    for language, content in blocks:
        if language == "python":
            exec(compile(content, "docs/images.md", "exec"), {})
        elif language == "sh":
            said = plain(nnjit(*shlex.split(content)[1:], status=None))
        else:
            assert plain(content) in said
