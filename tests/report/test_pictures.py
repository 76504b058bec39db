"""One picture for every layout, and movies."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sfumato.data import Affine
from sfumato.errors import InputError
from sfumato.report import grid, movie, picture
from sfumato.report.pictures import animate

from .conftest import SPECS, gallery, values

WIDTH = 1080  # 720 units at 1.5 pixels each
HEIGHTS = {"signal": 510, "plane": 555, "line": 450, "table": 705}


def frames_of(path):
    """Durations in milliseconds, frames as RGB, and the count of loops (0: endless) of an animation."""
    durations, frames = [], []
    with Image.open(path) as file:
        for k in range(file.n_frames):
            file.seek(k)
            frames.append(np.asarray(file.convert("RGB")).astype(int))
            durations.append(file.info["duration"])
        return durations, frames, file.info["loop"]


@pytest.mark.parametrize("name", list(HEIGHTS))
def test_plots_have_their_size_and_show_the_data(name):
    spec = SPECS[name]
    some, other, real = (values(spec, 30, seed) for seed in (1, 2, 3))
    drawn = picture(some, spec, real)
    assert drawn.mode == "RGB"
    assert drawn.size == (WIDTH, HEIGHTS[name])
    pixels = np.asarray(drawn)
    assert not np.array_equal(pixels, np.asarray(picture(other, spec, real)))
    assert not np.array_equal(pixels, np.asarray(picture(some, spec, other)))
    # White paper, and both colours on it.
    assert np.all(pixels[:2] == 255)
    blue, orange = pixels[..., 2] - pixels[..., 0].astype(int), pixels[..., 0] - pixels[..., 2].astype(int)
    assert (blue > 60).sum() > 50
    assert (orange > 60).sum() > 50


@pytest.mark.parametrize("name", ["signal", "plane", "line", "table"])
@pytest.mark.filterwarnings("error")
def test_the_largest_numbers_of_float32_are_drawn(name):
    """Their differences do not fit into float32; the picture is that of the same data in other units."""
    spec = SPECS[name]
    some = values(spec, 30).astype(np.float32)
    large = some * np.float32(3e38 / np.abs(some).max())
    drawn = np.asarray(picture(large, spec)).astype(int)
    assert (drawn[..., 2] - drawn[..., 0] > 60).sum() > 50


def test_without_reference_nothing_is_orange():
    pixels = np.asarray(picture(values(SPECS["plane"], 30), SPECS["plane"])).astype(int)
    assert (pixels[..., 0] - pixels[..., 2] > 30).sum() == 0


def test_points_stand_where_they_should():
    """Three clusters in the corners of a triangle: the blue pixels' centres keep its proportions, y upwards."""
    corners = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], np.float32)
    pixels = np.asarray(picture(corners.repeat(5, 0), SPECS["plane"])).astype(int)
    y, x = np.nonzero(pixels[..., 2] - pixels[..., 0] > 60)
    left, low = x < (x.min() + x.max()) / 2, y > (y.min() + y.max()) / 2
    origin = np.array([x[left & low].mean(), y[left & low].mean()])
    right = np.array([x[~left & low].mean(), y[~left & low].mean()]) - origin
    up = np.array([x[left & ~low].mean(), y[left & ~low].mean()]) - origin
    assert right[0] == pytest.approx(-up[1], rel=0.01)  # equal axes
    assert abs(right[1]) < 1
    assert abs(up[0]) < 1


def test_a_picture_of_images_is_their_grid():
    spec = SPECS["image"]
    some = values(spec, 6)
    assert np.array_equal(np.asarray(picture(some, spec)), np.asarray(grid(some, spec)))


@pytest.mark.parametrize("ending", ["gif", "webp", "GIF"])
def test_a_movie_of_images_has_the_frames_and_loops(tmp_path, ending):
    spec = SPECS["image"]
    states = gallery(spec)["trajectory_x"]
    path = movie(states, spec, tmp_path / f"a.{ending}", fps=10)
    durations, drawn, loop = frames_of(path)
    assert path == tmp_path / f"a.{ending}"
    assert loop == 0
    assert durations == [100] * 3 + [1800]
    for frame, state in zip(drawn, states, strict=True):
        assert np.array_equal(frame, np.asarray(grid(state, spec).convert("RGB")))
    assert [file.name for file in tmp_path.iterdir()] == [f"a.{ending}"]


def test_a_movie_of_unbounded_images_has_one_window(tmp_path):
    """A value that does not change keeps its gray while everything around it does."""
    spec = replace(SPECS["image"], transform=Affine((8.0,), (8.0,)))
    frames = np.random.default_rng(0).standard_normal((4, 2, 1, 4, 6)) * np.array([9, 5, 3, 1]).reshape(4, 1, 1, 1, 1)
    frames[:, 0, 0, 2, 3] = 0.4
    _, drawn, _ = frames_of(movie(frames, spec, tmp_path / "a.webp"))
    # Two images one above the other, each pixel 42 wide: 6 of them fill the 256 of the largest cell.
    middle = {int(frame[2 * 42 + 21, 3 * 42 + 21, 0]) for frame in drawn}
    assert len(middle) == 1
    assert middle != {0, 255}


@pytest.mark.parametrize("name", ["signal", "plane", "line", "table"])
def test_movies_of_plots_move_and_keep_their_axes(tmp_path, name):
    spec = SPECS[name]
    frames = gallery(spec, j=20, frames=3)["trajectory_x_0"]
    durations, drawn, loop = frames_of(movie(frames, spec, tmp_path / "a.webp", reference=values(spec, 20)))
    assert loop == 0
    assert len(durations) == 3
    assert durations[-1] == 1800
    assert {frame.shape for frame in drawn} == {(*(round(side / 1.5) for side in (HEIGHTS[name], WIDTH)), 3)}
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])
    # Outside of the axes, where the tick labels are, nothing changes.
    assert np.array_equal(drawn[0][:, :30], drawn[2][:, :30])


def test_one_frame_is_a_movie_too(tmp_path):
    spec = SPECS["image"]
    path = movie(values(spec, 3)[None], spec, tmp_path / "a.gif")
    with Image.open(path) as file:
        assert file.n_frames == 1


@pytest.mark.parametrize(
    ("frames", "path", "fps", "message"),
    [
        (gallery(SPECS["image"])["trajectory_x"], "a.mp4", 12, "a.mp4.*gif or a .webp"),
        (gallery(SPECS["image"])["trajectory_x"], "a.gif", 0, "fps: 0"),
        (gallery(SPECS["image"])["trajectory_x"], "a.gif", float("nan"), "fps: nan"),
        (gallery(SPECS["image"])["trajectory_x"][:0], "a.gif", 12, "f >= 1"),
        (gallery(SPECS["plane"])["trajectory_x"], "a.gif", 12, r"\(n, 1, 4, 6\)"),
    ],
)
def test_what_is_no_movie_is_refused_and_leaves_no_file(tmp_path, frames, path, fps, message):
    with pytest.raises(InputError, match=message):
        movie(frames, SPECS["image"], tmp_path / path, fps)
    assert list(tmp_path.iterdir()) == []


def test_samples_of_another_shape_are_refused(any_spec):
    with pytest.raises(InputError, match="is not that of samples of this data"):
        picture(np.zeros((3, 9, 9, 9)), any_spec)


def test_a_lossy_movie_is_smaller_and_close():
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    frames = [Image.fromarray(frame) for frame in noise]
    exact, lossy = animate(frames, "WEBP"), animate(frames, "WEBP", lossless=False)
    assert len(lossy) < len(exact)
    for content, tolerance in ((exact, 0.0), (lossy, 40.0)):
        _, drawn, _ = frames_of(io.BytesIO(content))
        assert np.abs(np.array(drawn) - noise).mean() <= tolerance
