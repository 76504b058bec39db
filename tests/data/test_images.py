from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
import tifffile
from PIL import Image, ImageOps

from sfumato.data.images import fit, probe, read

RNG = np.random.default_rng(0)
GRAY_8 = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
GRAY_16 = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
BITS = RNG.random((5, 7)) < 0.5
FLOATS = RNG.normal(size=(5, 7)).astype(np.float32) * 1e4


def colours(channels: int, dtype: Any) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, (5, 7, channels), dtype=dtype, endpoint=True)


def pillow(values: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(values).save(path, **options)


def tiff(values: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, values, **options)


def deep_png(values: np.ndarray, **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        height, width, planes = values.shape
        writer = png.Writer(width, height, bitdepth=16, greyscale=planes < 3, alpha=planes in {2, 4}, **options)
        with path.open("wb") as file:
            writer.write(file, values.reshape(height, -1).tolist())

    return write


RGB_8, RGBA_8, LA_8 = colours(3, np.uint8), colours(4, np.uint8), colours(2, np.uint8)
RGB_16, RGBA_16, LA_16 = colours(3, np.uint16), colours(4, np.uint16), colours(2, np.uint16)
BANDS = colours(6, np.uint16)
RGB, GRAY = ("red", "green", "blue"), ("gray",)

CASES: dict[str, tuple[str, Callable[[Path], None], np.ndarray, tuple[str, ...]]] = {
    "gray png": ("a.png", pillow(GRAY_8), GRAY_8, GRAY),
    "gray tiff": ("a.tif", pillow(GRAY_8), GRAY_8, GRAY),
    "gray tiff, white is zero": ("a.tif", tiff(255 - GRAY_8, photometric="miniswhite"), GRAY_8, GRAY),
    "gray and alpha png": ("a.png", pillow(LA_8), LA_8, (*GRAY, "alpha")),
    "one-bit png": ("a.png", pillow(BITS), BITS, GRAY),
    "one-bit tiff": ("a.tif", pillow(BITS), BITS, GRAY),
    "rgb png": ("a.png", pillow(RGB_8), RGB_8, RGB),
    "rgb png in upper case": ("A.PNG", pillow(RGB_8), RGB_8, RGB),
    "rgb webp": ("a.webp", pillow(RGB_8, lossless=True), RGB_8, RGB),
    "rgb tiff": ("a.tiff", pillow(RGB_8), RGB_8, RGB),
    "rgb tiff, lzw": ("a.tiff", pillow(RGB_8, compression="tiff_lzw"), RGB_8, RGB),
    "rgba png": ("a.png", pillow(RGBA_8), RGBA_8, (*RGB, "alpha")),
    "16-bit gray png": ("a.png", pillow(GRAY_16), GRAY_16, GRAY),
    "16-bit gray tiff": ("a.tif", pillow(GRAY_16), GRAY_16, GRAY),
    "16-bit gray tiff, lzw": ("a.tif", pillow(GRAY_16, compression="tiff_lzw"), GRAY_16, GRAY),
    "16-bit gray tiff, big-endian": ("a.tif", tiff(GRAY_16, byteorder=">"), GRAY_16, GRAY),
    "16-bit gray tiff, white is zero": ("a.tif", tiff(65535 - GRAY_16, photometric="miniswhite"), GRAY_16, GRAY),
    "16-bit gray and alpha png": ("a.png", deep_png(LA_16), LA_16, (*GRAY, "alpha")),
    "16-bit rgb png": ("a.png", deep_png(RGB_16), RGB_16, RGB),
    "16-bit rgb png, interlaced": ("a.png", deep_png(RGB_16, interlace=True), RGB_16, RGB),
    "16-bit rgba png": ("a.png", deep_png(RGBA_16), RGBA_16, (*RGB, "alpha")),
    "16-bit rgb tiff": ("a.tif", tiff(RGB_16, photometric="rgb"), RGB_16, RGB),
    "16-bit rgb tiff, deflated": ("a.tif", tiff(RGB_16, photometric="rgb", compression="zlib"), RGB_16, RGB),
    "16-bit rgb tiff, big": ("a.tif", tiff(RGB_16, photometric="rgb", bigtiff=True, byteorder=">"), RGB_16, RGB),
    "16-bit rgb tiff, planes": (
        "a.tif",
        tiff(RGB_16.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        RGB_16,
        RGB,
    ),
    "16-bit rgba tiff": (
        "a.tif",
        tiff(RGBA_16, photometric="rgb", extrasamples=["unassalpha"]),
        RGBA_16,
        (*RGB, "alpha"),
    ),
    "8-bit rgb and infrared tiff": ("a.tif", tiff(RGBA_8, photometric="rgb", extrasamples=["unspecified"]), RGBA_8, ()),
    "six bands tiff": ("a.tif", tiff(BANDS, photometric="minisblack", planarconfig="contig"), BANDS, ()),
    "float tiff": ("a.tif", tiff(FLOATS), FLOATS, GRAY),
    "float rgb tiff": ("a.tif", tiff(np.stack([FLOATS] * 3, -1), photometric="rgb"), np.stack([FLOATS] * 3, -1), RGB),
    "double tiff": ("a.tif", tiff(FLOATS.astype(np.float64)), FLOATS, GRAY),
    "signed tiff": ("a.tif", tiff(GRAY_16.astype(np.int16)), GRAY_16.astype(np.int16), GRAY),
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_read_as_they_were_written(case: str, tmp_path: Path) -> None:
    name, write, expected, channels = CASES[case]
    write(tmp_path / name)
    header, values = read(str(tmp_path / name))
    planes = expected[..., None] if expected.ndim == 2 else expected
    assert values.dtype == expected.dtype
    np.testing.assert_array_equal(values, planes.transpose(2, 0, 1))
    assert header.channels == channels
    assert (header.num_channels, header.height, header.width) == values.shape
    assert header.dtype == expected.dtype.name
    assert header.frames == 1
    assert probe(str(tmp_path / name)) == header


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["gray png", "jpeg", "16-bit rgb png", "8-bit tiff", "16-bit tiff", "16-bit rgb tiff"])
def test_the_orientation_tag_is_applied(kind: str, turn: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = turn
    path = tmp_path / "a.any"
    stored: np.ndarray = RGB_16 if "rgb" in kind else GRAY_16 if "16" in kind else GRAY_8
    if kind == "gray png":
        Image.fromarray(stored).save(path, "PNG", exif=exif)
    elif kind == "jpeg":
        Image.fromarray(stored).save(path, "JPEG", exif=exif, quality=100)
        with Image.open(path) as image:
            stored = np.asarray(image)
    elif kind == "16-bit rgb png":
        deep_png(stored)(path)
        chunks = list(png.Reader(bytes=path.read_bytes()).chunks())
        with path.open("wb") as file:
            png.write_chunks(file, [*chunks[:1], (b"eXIf", exif.tobytes()[6:]), *chunks[1:]])
    elif kind == "16-bit rgb tiff":
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[(274, 3, 1, turn, True)])
    else:
        tifffile.imwrite(path, stored, extratags=[(274, 3, 1, turn, True)])
    # Pillow turns each plane by itself, as an image of floats.
    planes = [stored] if stored.ndim == 2 else list(stored.transpose(2, 0, 1))
    expected = []
    for plane in planes:
        tagged = Image.fromarray(plane.astype(np.float32))
        tagged.getexif()[274] = turn
        expected.append(np.asarray(ImageOps.exif_transpose(tagged)))
    header, values = read(str(path))
    np.testing.assert_array_equal(values, np.stack(expected))
    assert (header.height, header.width) == values.shape[1:]
    assert values.dtype == stored.dtype


def test_a_palette_stands_for_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (3, 2))
    image.putpalette([255, 0, 0, 0, 255, 0, 9, 8, 7])
    image.putdata([0, 1, 2, 2, 1, 0])
    image.save(tmp_path / "plain.png")
    header, values = read(str(tmp_path / "plain.png"))
    assert header.channels == RGB
    assert values[:, 0, 2].tolist() == [9, 8, 7]
    assert values[:, 1].tolist() == [[9, 0, 255], [8, 255, 0], [7, 0, 0]]

    image.save(tmp_path / "clear.png", transparency=1)
    header, values = read(str(tmp_path / "clear.png"))
    assert header.channels == (*RGB, "alpha")
    assert values[3].tolist() == [[255, 0, 255], [255, 0, 255]]
    assert values[:3, 1, 0].tolist() == [9, 8, 7]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    header, values = read(str(tmp_path / "a.jpg"))
    assert header.channels == RGB
    # Full magenta and yellow make red; JPEG at its best is off by a level or two.
    assert np.abs(values.astype(int) - np.array([255, 0, 0])[:, None, None]).max() <= 2


def test_gray_jpeg_stays_gray(tmp_path: Path) -> None:
    Image.new("L", (6, 4), 77).save(tmp_path / "a.JPEG")
    header, values = read(str(tmp_path / "a.JPEG"))
    assert header.channels == GRAY
    assert (values == 77).all()
    assert values.shape == (1, 4, 6)


@pytest.mark.parametrize("name", ["a.tif", "a.webp", "a.png"])
def test_of_several_frames_the_first_is_read(name: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(RGB_8), Image.fromarray(255 - RGB_8)]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    header, values = read(str(tmp_path / name))
    assert header.frames == 2
    np.testing.assert_array_equal(values, RGB_8.transpose(2, 0, 1))


def test_pages_of_16_bits_likewise(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([RGB_16, RGB_16 // 2]), photometric="rgb")
    header, values = read(str(tmp_path / "a.tif"))
    assert header.frames == 2
    np.testing.assert_array_equal(values, RGB_16.transpose(2, 0, 1))


def area_means(values: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Means over a grid of rectangles by the summed-area table, bilinear between its entries: exact."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    table[1:, 1:] = values.astype(np.float64).cumsum(0).cumsum(1)
    rows = np.linspace(box[0], box[2], size[0] + 1)
    columns = np.linspace(box[1], box[3], size[1] + 1)
    down = np.stack([np.interp(rows, range(len(table)), column) for column in table.T], axis=1)
    both = np.stack([np.interp(columns, range(table.shape[1]), row) for row in down])
    area = (rows[1] - rows[0]) * (columns[1] - columns[0])
    means: np.ndarray = np.diff(np.diff(both, axis=0), axis=1) / area
    return means


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (4, 4), (8, 16), (11, 11), (1, 9)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool"])
def test_resizing_takes_means_over_areas_of_the_centre(size: tuple[int, int], dtype: str) -> None:
    values = (RNG.random((2, 9, 13)) * (65535 if dtype == "uint16" else 255 if dtype == "uint8" else 1.0)).astype(
        np.float32
    )
    values = values > 0.5 if dtype == "bool" else values.astype(dtype)
    # The largest rectangle of that aspect that fits, in the middle.
    factor = min(9 / size[0], 13 / size[1])
    height, width = size[0] * factor, size[1] * factor
    box = ((9 - height) / 2, (13 - width) / 2, (9 + height) / 2, (13 + width) / 2)
    resized = fit(values, size, alpha=False)
    assert resized.dtype == values.dtype
    for plane, original in zip(resized, values, strict=True):
        expected = area_means(original, box, size)
        if dtype == "float32":
            np.testing.assert_allclose(plane, expected, atol=1e-5)
        else:
            # To the nearest; a mean within float32's rounding of a half may go either way.
            assert np.abs(plane.astype(np.float64) - expected).max() <= 0.5 + 0.02


def test_resizing_to_the_same_size_changes_nothing() -> None:
    values = RGB_16.transpose(2, 0, 1)
    np.testing.assert_array_equal(fit(values, (5, 7), alpha=False), values)


def test_what_is_invisible_does_not_show_after_resizing() -> None:
    # Red at full alpha beside green at none: half as opaque, and red.
    values = np.zeros((4, 2, 2), dtype=np.uint8)
    values[0, :, 0], values[3, :, 0], values[1, :, 1] = 200, 255, 255
    assert fit(values, (1, 1), alpha=True).flatten().tolist() == [200, 0, 0, 128]
    assert fit(np.zeros((2, 4, 4), dtype=np.uint8), (2, 2), alpha=True).max() == 0


@pytest.mark.parametrize("values", [colours(3, np.uint16), GRAY_16.astype(np.int16), FLOATS, GRAY_16])
@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd"])
def test_compressed_tiffs_keep_every_value(values: np.ndarray, compression: str, tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a.tif", values, compression=compression, photometric=None)
    _, found = read(str(tmp_path / "a.tif"))
    np.testing.assert_array_equal(found, values[None] if values.ndim == 2 else values.transpose(2, 0, 1))


def test_compressed_tiffs_name_the_package_that_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(page: Any) -> np.ndarray:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")  # tifffile's words

    tifffile.imwrite(tmp_path / "a.tif", colours(3, np.uint16))
    monkeypatch.setattr(tifffile.TiffPage, "asarray", absent)
    with pytest.raises(ValueError, match="compression needs imagecodecs; pip install imagecodecs"):
        read(str(tmp_path / "a.tif"))
