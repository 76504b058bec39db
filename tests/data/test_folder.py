import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sfumato.data import Affine, DataOptions, load
from sfumato.errors import InputError


def gray(path: Path, level: int = 0, size: tuple[int, int] = (4, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path)
    return path


def refused(folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(str(folder), DataOptions(**options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_images_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for i, name in enumerate(["b.png", "a/z.PNG", "a/nested/y.tiff", "c.webp", "ä ö.jpg"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB" if name == "c.webp" else "L", (4, 3), 50 * i if name != "c.webp" else (50 * i,) * 3).save(path)
    (tmp_path / "c.webp").unlink()
    data = load(str(tmp_path))
    assert data.values.shape == (4, 1, 3, 4)
    assert data.values.dtype == torch.uint8
    assert data.values[:, 0, 0, 0].tolist() == [100, 50, 0, 200]
    assert data.labels is None
    spec = data.spec
    assert spec.transform == Affine((127.5,), (127.5,), 0.0, 255.0, 256)
    assert (spec.channels, spec.count) == (("gray",), 4)
    assert spec.source == tmp_path.name
    assert data.skipped == ()
    assert data.notes == ("read as 4 images of 3 x 4 pixels, 1 channel (gray); uint8, from 0 to 255 in 256 levels",)


def test_deep_images_keep_every_level(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(2, 128, 256)
    for i, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    data = load(str(tmp_path))
    assert data.spec.dtype == "uint16"
    assert (data.spec.transform.high, data.spec.transform.levels) == (65535.0, 65536)
    assert data.values.flatten().tolist() == list(range(65536))
    np.testing.assert_array_equal(data.spec.to_array(data.spec.encode(data.values)), values[:, None])


def test_one_bit_images_have_two_levels(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).random((3, 5, 6)) < 0.5
    for i, image in enumerate(bits):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    data = load(str(tmp_path))
    assert (data.spec.dtype, data.spec.transform.high, data.spec.transform.levels) == ("bool", 1.0, 2)
    encoded = data.spec.encode(data.values)
    assert set(encoded.flatten().tolist()) == {-1.0, 1.0}
    np.testing.assert_array_equal(data.spec.to_array(encoded), bits[:, None])


def test_images_of_floats_are_not_bounded(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(7, 300, (5, 4, 4)).astype(np.float32)
    for i, image in enumerate(values):
        tifffile.imwrite(tmp_path / f"{i}.tif", image)
    spec = load(str(tmp_path)).spec
    assert (spec.transform.low, spec.transform.high, spec.transform.levels) == (None, None, None)
    assert spec.transform.shift[0] == pytest.approx(values.astype(np.float64).mean(), rel=1e-12)
    assert spec.transform.scale[0] == pytest.approx(values.astype(np.float64).std(), rel=1e-12)
    assert spec.second_moment == pytest.approx(1, rel=1e-12)
    values[2, 1, 1] = np.nan
    tifffile.imwrite(tmp_path / "2.tif", values[2])
    assert load(str(tmp_path)).skipped == (("2.tif", "it holds NaN or infinite values"),)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for name in ["dog/1.png", "cat/deep/2.png", "cat/1.png", "emu/x.png"]:
        gray(tmp_path / name)
    data = load(str(tmp_path))
    assert data.spec.class_names == ("cat", "dog", "emu")
    assert data.spec.class_counts == (2, 1, 1)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1, 2]


def test_one_folder_or_many_images_beside_the_folders_make_no_classes(tmp_path: Path) -> None:
    gray(tmp_path / "cat/1.png")
    assert load(str(tmp_path)).labels is None
    gray(tmp_path / "dog/1.png")
    assert load(str(tmp_path)).labels is not None
    gray(tmp_path / "1.png")
    data = load(str(tmp_path))
    assert data.labels is None
    assert data.spec.class_names == ()
    assert data.notes[0].startswith(
        "the 2 sub-folders are not read as classes, because 1 image is in none of them (the first: 1.png)"
    )


def test_a_stray_image_is_named_and_left_out(tmp_path: Path) -> None:
    for name in ["cat/1.png", "cat/2.png", "dog/1.png", "stray.png"]:
        gray(tmp_path / name)
    data = load(str(tmp_path))
    assert data.spec.class_counts == (2, 1)
    assert data.notes[0].startswith("1 image is in none of the 2 class folders and left out (the first: stray.png)")


@pytest.mark.parametrize("train", ["train", "Training"])
def test_splits_are_no_classes(tmp_path: Path, train: str) -> None:
    for name in [f"{train}/cat/1.png", f"{train}/dog/1.png", f"{train}/dog/2.png", "test/dog/1.png", "val/cat/1.png"]:
        gray(tmp_path / name)
    data = load(str(tmp_path))
    assert data.spec.class_names == ("cat", "dog")
    assert data.spec.class_counts == (1, 2)
    assert data.notes[0].startswith(f"'{train}' is the training part and is read; 'test' and 'val' (2 images)")


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    for name in ["test/1.png", "train/1.png", "plane/1.png"]:
        gray(tmp_path / name)
    assert load(str(tmp_path)).spec.class_names == ("plane", "test", "train")


def test_every_ending_of_jpeg_is_read(tmp_path: Path) -> None:
    for i, ending in enumerate(("jpg", "jpeg", "jpe", "jfif", "JPE")):
        Image.new("L", (4, 3), 50 * i).save(tmp_path / f"{i}.{ending}", format="JPEG")
    assert load(str(tmp_path)).values[:, 0, 0, 0].tolist() == [0, 50, 100, 150, 200]


def test_a_class_of_which_nothing_can_be_read_is_no_class(tmp_path: Path) -> None:
    for name in ["a", "b", "c"]:
        gray(tmp_path / name / "1.png")
    (tmp_path / "b" / "1.png").write_bytes(b"")
    data = load(str(tmp_path))
    assert data.spec.class_names == ("a", "c")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1]


def test_other_and_hidden_files_are_passed_over_and_counted(tmp_path: Path) -> None:
    gray(tmp_path / "a.png")
    gray(tmp_path / "._a.png")
    gray(tmp_path / ".cache" / "b.png")
    for name in ["x.txt", "y.txt", "Thumbs.db", "LICENSE"]:
        (tmp_path / name).write_text("not an image")
    data = load(str(tmp_path))
    assert len(data.values) == 1
    assert "4 files that are not PNG, JPEG, WebP or TIFF were ignored (2 .txt, 1 .db, 1 no extension)" in data.notes
    assert "2 hidden files and folders were ignored" in data.notes


@pytest.mark.parametrize(
    ("name", "content", "ours"),
    [
        ("config.json", '{"format": 1, "recipe": {}, "data": {}}', True),
        ("run.json", '{"source": "digits", "goal": null}', True),
        ("comparison.json", '{"source": "a", "recipes": [], "goal": {}}', True),
        ("config.json", '{"format": "png"}', False),
        ("config.json", "[" * 100_000, False),
        ("run.json", "not JSON", False),
    ],
)
def test_folders_that_we_wrote_are_not_read(tmp_path: Path, name: str, content: str, ours: bool) -> None:
    for path in ("a.png", "runs/x/a.png", "runs/x/samples/b.png"):
        gray(tmp_path / path)
    (tmp_path / "runs" / "x" / name).write_text(content)
    data = load(str(tmp_path))
    assert len(data) == (1 if ours else 3)
    assert ("not read as data, because Sfumato wrote it: runs/x" in data.notes) == ours
    assert len(load(str(tmp_path / "runs/x/samples"))) == 1  # unless it is asked for
    if ours:
        assert "holds only runs of Sfumato" in refused(tmp_path / "runs")
        assert "is a run or model of Sfumato; give the folder of the data" in refused(tmp_path / "runs" / "x")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    gray(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "data" / "one").mkdir(parents=True)
    (tmp_path / "data" / "one" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(load(str(tmp_path / "data")).values) == 1


def damaged(folder: Path) -> dict[str, str]:
    """One file for each way in which an image can be unreadable, and a word of what is to be said of it."""
    whole = gray(folder / "good.png", size=(64, 64)).read_bytes()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / "t.jpg")
    jpeg = (folder / "t.jpg").read_bytes()
    (folder / "t.jpg").unlink()
    tifffile.imwrite(folder / "t.tif", np.zeros((64, 64, 3), np.uint16), photometric="rgb")
    tiff = (folder / "t.tif").read_bytes()
    (folder / "t.tif").unlink()
    flipped = bytearray(whole)
    flipped[45] ^= 0xFF  # in the compressed pixels
    files = {
        "cut.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut.png": (whole[:60], ""),
        "cut.tif": (tiff[: len(tiff) // 2], ""),
        "cut-header.tif": (tiff[:6], ""),
        "empty.png": (b"", "the file is empty"),
        "flipped.png": (bytes(flipped), ""),
        "text.jpeg": (b"<html>404</html>", "it is not a PNG, JPEG, WebP or TIFF image"),
        "gif.png": (b"GIF89a" + bytes(20), "it is not a PNG, JPEG, WebP or TIFF image"),
        # A header that claims 60,000 x 60,000 pixels.
        "bomb.png": (bomb(), "it has more than 178,956,970 pixels; set data.size"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    return {name: word for name, (_, word) in files.items()}


def bomb() -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_files_that_cannot_be_read_are_skipped_with_the_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = damaged(tmp_path)
    data = load(str(tmp_path))
    assert len(data.values) == data.spec.count == 1
    assert [name for name, _ in data.skipped] == sorted(words)
    for name, told in data.skipped:
        assert words[name] in told
        assert told
        assert "\n" not in told
    assert any(
        note.startswith(f"9 of 10 images in '{tmp_path}' cannot be read and are left out") for note in data.notes
    )
    assert capfd.readouterr() == ("", "")  # what decoders have to say is in the reasons


def test_or_stop_the_reading(tmp_path: Path) -> None:
    damaged(tmp_path)
    message = refused(tmp_path, unreadable="stop")
    assert message.startswith(f"9 of 10 images in '{tmp_path}' cannot be read; the first: 'bomb.png', ")
    assert message.endswith("; replace or remove them, or set data.unreadable=skip")
    (tmp_path / "good.png").unlink()
    assert refused(tmp_path).startswith(f"9 of 9 images in '{tmp_path}' cannot be read; the first: 'bomb.png', ")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    assert "has no images: it holds no files; give a folder of PNG" in refused(tmp_path)
    (tmp_path / "a.csv").write_text("1,2")
    assert "it holds only other files (1 .csv)" in refused(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    gray(tmp_path / "shut" / "a.png")
    (tmp_path / "shut").chmod(0)
    try:
        assert "shut' cannot be opened: Permission denied; make it readable" in refused(tmp_path)
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_mixed_sizes_name_the_commonest_and_the_mend(tmp_path: Path) -> None:
    for i in range(3):
        gray(tmp_path / f"a{i}.png", size=(8, 6))
    for i in range(2):
        gray(tmp_path / f"b{i}.png", size=(6, 8))
    gray(tmp_path / "c.png", size=(9, 9))
    (tmp_path / "damaged.png").write_bytes(b"no")
    assert refused(tmp_path) == (
        f"images in '{tmp_path}' have 3 sizes (height x width): 6x8 (3 files, such as 'a0.png') and 8x6 (2 files, such "
        "as 'b0.png'); set data.size=6x8 or another size to crop and resize them"
    )
    data = load(str(tmp_path), DataOptions(size=(4, 2)))
    assert data.values.shape == (6, 1, 4, 2)
    assert any("in some direction" in note for note in data.notes) is False
    assert (
        "6 images are smaller than data.size in some direction and are enlarged"
        in load(str(tmp_path), DataOptions(size=(4, 10))).notes
    )


def test_mixed_channels_name_an_example_of_each(tmp_path: Path) -> None:
    for i in range(3):
        Image.new("RGB", (4, 3)).save(tmp_path / f"c{i}.png")
    gray(tmp_path / "a.png")
    for size in (None, (2, 2)):
        assert refused(tmp_path, size=size) == (
            f"images in '{tmp_path}' differ in channels: red+green+blue (3 files, such as 'c0.png') and gray (1 files, "
            "such as 'a.png'); set data.convert=rgb or data.convert=gray, or move each kind to its own folder"
        )


def test_mixed_depths_likewise(tmp_path: Path) -> None:
    gray(tmp_path / "a.png")
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(tmp_path / "b.png")
    gray(tmp_path / "c.png")
    message = refused(tmp_path)
    assert "differ in depth: uint8 (2 files, such as 'a.png') and uint16 (1 files, such as 'b.png'); convert" in message


def test_resized_images_keep_their_depth_and_values(tmp_path: Path) -> None:
    # A ramp in 16 bits: means over pairs of columns and rows are known exactly.
    ramp = (np.arange(8, dtype=np.uint16) * 1000)[None, :].repeat(4, axis=0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    data = load(str(tmp_path), DataOptions(size=(2, 4)))
    assert data.spec.dtype == "uint16"
    assert data.values[0, 0].tolist() == [[500, 2500, 4500, 6500]] * 2
    cropped = load(str(tmp_path), DataOptions(size=(2, 2)))
    assert cropped.values[0, 0].tolist() == [[2500, 4500]] * 2


def test_progress_is_told(tmp_path: Path) -> None:
    for i in range(3):
        gray(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"")
    calls: list[tuple[int, int]] = []
    load(str(tmp_path), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_limit_is_a_fixed_choice_over_the_whole_folder(tmp_path: Path) -> None:
    for i in range(40):
        gray(tmp_path / f"{i // 20}" / f"{i:02}.png", level=i)
    first, again = (load(str(tmp_path), DataOptions(limit=12)) for _ in range(2))
    assert torch.equal(first.values, again.values)
    assert first.spec == again.spec
    levels = first.values[:, 0, 0, 0].tolist()
    assert len(set(levels)) == 12
    assert levels == sorted(levels)
    assert max(levels) >= 20 > min(levels)
    assert first.labels is not None
    assert first.labels.tolist() == [level // 20 for level in levels]
    assert "12 of 40 files are used (data.limit)" in first.notes
    assert set(load(str(tmp_path), DataOptions(limit=5)).values[:, 0, 0, 0].tolist()) < set(levels)
    assert len(load(str(tmp_path), DataOptions(limit=50)).values) == 40


def test_several_frames_are_told_of(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), (level, 0, 0)) for level in (200, 0)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.jpg", format="MPO", save_all=True, append_images=frames[1:], quality=100)
    data = load(str(tmp_path))
    assert "2 files have several frames or pages; only the first is read" in data.notes
    assert (data.values[:, 0] > 195).all()


def test_options_of_arrays_do_not_apply(tmp_path: Path) -> None:
    gray(tmp_path / "a.png")
    assert ", which is a folder of images; leave it out" in refused(tmp_path, key="x")
    assert refused(tmp_path, labels="y").startswith("data.labels: ")
    message = refused(tmp_path, layout="signal")
    assert "holds images and cannot be read as signals; give image, vector or auto" in message
    assert load(str(tmp_path), DataOptions(layout="vector")).values.shape == (1, 12)


@pytest.mark.parametrize("size", [None, (3, 4)])
def test_gray_and_colours_with_alpha_become_one_kind(tmp_path: Path, size: tuple[int, int] | None) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (3, 4, 4), dtype=np.uint8)
    level = rng.integers(0, 256, (3, 4), dtype=np.uint8)
    bits = rng.random((3, 4)) < 0.5
    pictures = (colours[..., :3], colours, level, np.stack((level, level // 2), -1), bits)
    for i, values in enumerate(pictures):
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    assert "set data.convert=rgb or data.convert=gray" in refused(tmp_path)
    rgb = load(str(tmp_path), DataOptions(convert="rgb", size=size))
    assert (rgb.spec.channels, rgb.spec.dtype) == (("red", "green", "blue"), "uint8")
    flat = [np.stack([x] * 3, -1) for x in (level, level, bits * np.uint8(255))]
    expected = np.stack([colours[..., :3], colours[..., :3], *flat]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(rgb.values.numpy(), expected)
    # Pillow computes the same luma in fixed point, so it can differ in the last bit.
    gray_ = load(str(tmp_path), DataOptions(convert="gray", size=size)).values.numpy()[:, 0]
    luma = np.asarray(Image.fromarray(colours[..., :3]).convert("L"))
    np.testing.assert_allclose(gray_[:2].astype(int), np.stack([luma, luma]).astype(int), atol=1)
    np.testing.assert_array_equal(gray_[2:], np.stack([level, level, bits * np.uint8(255)]))


def test_very_large_images_are_read_where_they_are_made_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small limits: Pillow's own, ours, and the rows that are resized at once."""
    values = np.random.default_rng(0).integers(0, 256, (60, 40), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    whole = load(str(tmp_path), DataOptions(size=(6, 4))).values
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "it has more than 2,000 pixels; set data.size, which allows more" in refused(tmp_path)
    monkeypatch.setattr("sfumato.data.images._CHUNK", 280)  # seven rows
    in_pieces = load(str(tmp_path), DataOptions(size=(6, 4))).values
    assert (in_pieces.int() - whole.int()).abs().max() <= 1  # sums in another order
    means = values.reshape(6, 10, 4, 10).mean((1, 3))
    np.testing.assert_allclose(in_pieces[0, 0].numpy(), means, atol=0.51)
    assert Image.MAX_IMAGE_PIXELS == 1000
    monkeypatch.setattr("sfumato.data.images._MOST_RESIZED", 2000)
    assert "it has more than 2,000 pixels; make it smaller" in refused(tmp_path, size=(6, 4))
