import builtins
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from sfumato import files
from sfumato.errors import DiskFullError, InputError, NoPermissionError
from sfumato.training import checkpoint, integrity
from sfumato.training.keep import Keep

PARTS = {
    "weights": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.int64)},
    "optimizer": {"0.step": torch.tensor(3.0)},
}
STATE = {"seconds": 1.5}


LAST_TWO = Keep()


def save(folder: Path, images: int, keep: Keep = LAST_TWO, **state: Any) -> Path:
    return checkpoint.save(folder, images, PARTS, {**STATE, **state}, keep)


def fail(message: str) -> None:
    raise AssertionError(message)


def counts(folder: Path) -> list[int]:
    return [int(place.name) for place in checkpoint.checkpoints(folder)]


def stumps(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def assert_holds(place: Path | None, expected: int) -> None:
    assert place is not None
    assert place.name == f"{expected:012d}"
    parts, state = checkpoint.load(place)
    assert state["images"] == expected
    for name, tensors in PARTS.items():
        assert parts[name].keys() == tensors.keys()
        assert all(torch.equal(parts[name][key], value) for key, value in tensors.items())


# ------------------------------------------------------------------------------------------------ what is written


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    place = save(tmp_path, 128, score=None)
    assert checkpoint.newest(tmp_path, fail) == place
    assert_holds(place, 128)
    assert checkpoint.load(place)[1] == {"images": 128, "seconds": 1.5, "score": None}
    assert json.loads((place / "state.json").read_text())["format"] == checkpoint.FORMAT


def test_the_manifest_lists_every_file(tmp_path: Path) -> None:
    place = save(tmp_path, 1)
    listed = set(json.loads((place / "manifest.json").read_text()))
    assert listed == {file.name for file in place.iterdir()} - {"manifest.json"}
    (place / "extra").write_text("x")
    assert checkpoint.damage(place) == "extra is not in the manifest"


def test_none_to_find(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "nowhere", fail) is None


def test_a_whole_one_is_not_written_again_and_what_follows_it_is(tmp_path: Path) -> None:
    place = save(tmp_path, 1)
    stamp = (place / "manifest.json").stat().st_mtime_ns
    calls: list[bool] = []
    assert checkpoint.save(tmp_path, 1, PARTS, STATE, then=lambda: calls.append(place.is_dir())) == place
    assert (place / "manifest.json").stat().st_mtime_ns == stamp
    assert checkpoint.finish(checkpoint.begin(tmp_path, 1), STATE, {}) == place
    assert (place / "manifest.json").stat().st_mtime_ns == stamp
    assert checkpoint.save(tmp_path, 2, PARTS, STATE, then=lambda: calls.append((tmp_path / f"{2:012d}").is_dir()))
    assert calls == [True, True]
    assert stumps(tmp_path) == []


@pytest.mark.parametrize(("number", "remedy"), [(3, "upgrade"), (1, "train again with another --out")])
def test_another_format_is_refused_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    save(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "FORMAT", number)
    place = save(tmp_path, 2)
    monkeypatch.undo()
    said = rf"state\.json: a checkpoint of format {number}, .* reads 2; {remedy}"
    for read in (lambda: checkpoint.newest(tmp_path, fail), lambda: checkpoint.load(place)):
        with pytest.raises(InputError, match=said) as caught:
            read()
        assert "\n" not in str(caught.value)
    assert place.is_dir()


# ------------------------------------------------------------------------------------------------ what is kept


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    for images in (5, 40, 300, 2000):
        save(tmp_path, images)
    assert counts(tmp_path) == [300, 2000]


@pytest.mark.parametrize("every", [7, 100])
def test_which_are_kept_when_saved_one_after_the_other(tmp_path: Path, every: int) -> None:
    generator = torch.Generator().manual_seed(every)
    at = sorted({int(i) for i in torch.randint(0, 700, (25,), generator=generator)})
    scores = [None if i % 5 == 0 else float("nan") if i % 7 == 0 else -abs(i - 333) // 50 for i in at]
    for images, score in zip(at, scores, strict=True):
        save(tmp_path, images, Keep(last=3, every=every), score=score)
    # By the definition, of all at once.
    first = {min(i for i in at if i >= m) for m in range(every, at[-1] + 1, every)}
    best = min((s, i) for i, s in zip(at, scores, strict=True) if s is not None and s == s)[1]
    assert counts(tmp_path) == sorted(first | {best} | set(at[-3:]))


def test_the_best_is_kept_only_where_asked(tmp_path: Path) -> None:
    for images, score in ((1, 0.5), (2, 0.1), (3, 0.3), (4, 0.2)):
        save(tmp_path / "a", images, Keep(last=1), score=score)
        save(tmp_path / "b", images, Keep(last=1, best=False), score=score)
    assert counts(tmp_path / "a") == [2, 4]
    assert counts(tmp_path / "b") == [4]


@pytest.mark.parametrize("text", ["", "[]", "\xff", '{"images": 1, "score": "low"}', '{"images": 1, "score": true}'])
def test_an_old_one_without_a_readable_score_is_no_best(tmp_path: Path, text: str) -> None:
    old = save(tmp_path, 1, score=0.1)
    (old / "state.json").write_bytes(text.encode("latin-1"))
    save(tmp_path, 2, Keep(last=1), score=0.2)
    assert counts(tmp_path) == [2]


@pytest.mark.parametrize("wrong", [{"last": 0}, {"every": 0}])
def test_a_policy_that_keeps_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"give a whole number of at least 1$"):
        Keep(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_one_is_passed_over_with_a_message(tmp_path: Path, name: str, harm: str) -> None:
    older = save(tmp_path, 100)
    newer = save(tmp_path, 200)
    file = newer / name
    data = bytearray(file.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
    elif harm == "truncate":
        file.write_bytes(data[:-1])
    elif harm == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    # Saving the same count again moves the damaged one aside and leaves a whole one.
    other = shutil.copytree(tmp_path, tmp_path.with_name(tmp_path.name + "-other"))
    assert_holds(save(other, 200), 200)
    assert (other / f"{200:012d}.damaged").is_dir()
    said: list[str] = []
    assert checkpoint.newest(tmp_path, said.append) == older
    assert len(said) == 1
    assert str(newer) in said[0]
    assert newer.with_name(newer.name + ".damaged").is_dir()


def test_every_single_bit_counts(tmp_path: Path) -> None:
    place = save(tmp_path, 1)
    generator = torch.Generator().manual_seed(0)
    data = {file: file.read_bytes() for file in sorted(place.iterdir())}
    bits = [(file, bit) for file, content in data.items() for bit in range(8 * len(content))]
    for i in torch.randperm(len(bits), generator=generator)[:200].tolist():
        file, bit = bits[i]
        flipped = bytearray(data[file])
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        assert checkpoint.damage(place) is not None, (file.name, bit)
        file.write_bytes(data[file])
    assert checkpoint.damage(place) is None


def forge(place: Path, manifest: Any = None, **contents: bytes) -> None:
    """Replace files and make the manifest agree, as one who means harm would."""
    for name, content in contents.items():
        (place / name.replace("__", ".")).write_bytes(content)
    agreeing = {file.name: files.digest(file) for file in sorted(place.iterdir()) if file.name != "manifest.json"}
    (place / "manifest.json").write_text(json.dumps(manifest if manifest else agreeing, indent=2) + "\n")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        '"images"',
        "{}",
        '{\n  "images": "1"\n}\n',
        '{\n  "images": true\n}\n',
        '{\n  "images": 2\n}\n',
        '{\n  "images": 1,\n  "format": "1"\n}\n',
        "{" * 100_000,
        "[" * 100_000,
    ],
)
def test_a_state_that_is_none_is_damage(tmp_path: Path, text: str) -> None:
    place = save(tmp_path, 1)
    forge(place, state__json=text.encode())
    assert str(checkpoint.damage(place)).startswith("state.json")


@pytest.mark.parametrize("manifest", [["state.json"], [["state.json"]], 5, "state.json", {"../x": "0"}, {"/etc/x": 1}])
def test_a_manifest_that_is_none_is_damage(tmp_path: Path, manifest: Any) -> None:
    place = save(tmp_path, 1)
    (tmp_path / "x").write_text("x")
    forge(place, manifest)
    assert checkpoint.damage(place) is not None


def test_a_file_outside_of_the_folder_is_never_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = save(tmp_path, 1)
    outside = tmp_path / "x"
    outside.write_text("x")
    manifest = json.loads((place / "manifest.json").read_text())
    forge(place, {"../x": files.digest(outside), **manifest})
    monkeypatch.setattr(integrity, "digest", lambda file: fail(f"{file} was read"))
    assert checkpoint.damage(place) == "../x is missing"


@pytest.mark.skipif(sys.platform == "win32", reason="no links and pipes")
def test_a_link_or_a_pipe_is_damage(tmp_path: Path) -> None:
    place = save(tmp_path, 1)
    weights = place / "weights.safetensors"
    weights.rename(tmp_path / "w")
    weights.symlink_to(tmp_path / "w")
    assert checkpoint.damage(place) == "weights.safetensors is not a plain file"
    weights.unlink()
    os.mkfifo(weights)
    assert checkpoint.damage(place) == "weights.safetensors is not a plain file"
    for name in ("manifest.json", "weights.safetensors"):
        (place / name).unlink()
    os.mkfifo(place / "manifest.json")
    assert checkpoint.damage(place) == "manifest.json is missing"


def without_permission(monkeypatch: pytest.MonkeyPatch, place: Path, *names: str) -> None:
    for name in names:
        original = getattr(os, name)

        def guarded(path: Any, *rest: Any, original: Callable[..., Any] = original) -> Any:
            if str(path) == str(place):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return original(path, *rest)

        monkeypatch.setattr(os, name, guarded)


def test_one_without_permissions_is_no_damage_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    newer = save(tmp_path, 2)
    without_permission(monkeypatch, newer, "scandir", "listdir")
    with pytest.raises(NoPermissionError, match=rf"^{newer}: no permission to read"):
        checkpoint.newest(tmp_path, fail)
    assert counts(tmp_path) == [1, 2]


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "weights.safetensors"])
def test_a_file_in_it_without_permissions_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    save(tmp_path, 1)
    newer = save(tmp_path, 2)
    forbid_opening(monkeypatch, newer / name)
    with pytest.raises(NoPermissionError, match=rf"^{newer / name}: no permission to read"):
        checkpoint.newest(tmp_path, fail)
    assert counts(tmp_path) == [1, 2]
    assert_holds(save(tmp_path, 3), 3)  # an older one that may not be read is no reason not to save
    if name != "manifest.json":
        with pytest.raises(NoPermissionError, match=rf"^{newer / name}: no permission to read"):
            checkpoint.load(newer)


def forbid_opening(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Opening ``file`` fails as it does without the permission; root has all of them, so modes would not do."""
    original = io.open

    def guarded(path: Any, *rest: Any, **named: Any) -> Any:
        if str(path) == str(file):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path, *rest, **named)

    monkeypatch.setattr(builtins, "open", guarded)
    monkeypatch.setattr(io, "open", guarded)


def test_one_that_cannot_even_be_moved_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older, newer = save(tmp_path, 10), save(tmp_path, 20)
    later = save(tmp_path, 30)
    for place in (newer, later):
        (place / "state.json").unlink(missing_ok=True)
    without_permission(monkeypatch, newer, "rename")
    without_permission(monkeypatch, later, "rename")
    # Python 3.10 binds os.rename when pathlib is imported.
    monkeypatch.setattr(Path, "rename", lambda path, target: os.rename(path, target) or target)  # type: ignore[func-returns-value]
    older = save(tmp_path, 12)
    said: list[str] = []
    assert checkpoint.newest(tmp_path, said.append) == older
    assert [line.count("passed over, because it cannot be moved aside: Permission denied") for line in said] == [1, 1]
    # What is written next is neither deleted for them nor counts after them.
    assert_holds(save(tmp_path, 15, Keep(last=1)), 15)
    assert counts(tmp_path) == [15, 20, 30]
    with pytest.raises(InputError, match=r"cannot write \(Permission denied\); make it writable, then continue with"):
        save(tmp_path, 20)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may do everything")
def test_folders_that_forbid(tmp_path: Path) -> None:
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    newer.chmod(0)
    with pytest.raises(NoPermissionError, match=rf"^{newer}: no permission to read"):
        checkpoint.newest(tmp_path, fail)
    newer.chmod(0o755)
    assert older.is_dir()
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match=r"cannot write \(Permission denied\); make it writable"):
        save(tmp_path, 3)
    tmp_path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint.newest(tmp_path, fail)
    tmp_path.chmod(0o755)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(InputError, match="checkpoints: cannot be read"):
        checkpoint.newest(tmp_path / "checkpoints", fail)
    with pytest.raises(InputError, match=r"checkpoints: cannot write .*, then start again"):
        save(tmp_path / "checkpoints", 1)


def test_what_is_no_tensors_under_an_agreeing_manifest_is_refused_in_one_line(tmp_path: Path) -> None:
    place = save(tmp_path, 1)
    forge(place, optimizer__safetensors=b"not tensors at all, but long enough")
    assert checkpoint.damage(place) is None
    with pytest.raises(InputError, match=r"optimizer\.safetensors: damaged or not safetensors") as caught:
        checkpoint.load(place)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ failures


class Faults:
    """Counts what is done to the disk, and calls ``strike`` before or after the one that is number ``at``."""

    NAMES = ("mkdir", "open", "fsync", "rename", "unlink", "rmdir")

    def __init__(self, at: int, after: bool, strike: Callable[[], None], watch: Callable[[], None] = lambda: None):
        self.done: list[tuple[str, tuple[Any, ...]]] = []
        self.at, self.after, self.strike, self.watch = at, after, strike, watch
        self.names: list[str] = []

    @property
    def count(self) -> int:
        return len(self.names)

    def wrap(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            number = self.count
            self.names.append(name)
            if number == self.at and not self.after:
                self.strike()
            try:
                result = original(*args, **kwargs)
            finally:
                if number == self.at and name == "mkdir":  # also of a folder that was there
                    self.strike()
            self.done.append((name, args))
            self.watch()
            if number == self.at:
                if name in ("save_file", "write_bytes"):  # the disk was full in the midst of it
                    path = Path(args[1] if name == "save_file" else args[0])
                    os.truncate(path, path.stat().st_size // 2)
                self.strike()
            return result

        return call

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in self.NAMES:
            patch.setattr(os, name, self.wrap(name, getattr(os, name)))
        patch.setattr(checkpoint, "save_file", self.wrap("save_file", checkpoint.save_file))
        patch.setattr(Path, "write_bytes", self.wrap("write_bytes", Path.write_bytes))

    def in_place(self, place: Path) -> bool:
        return any(name == "rename" and Path(args[1]) == place for name, args in self.done)


def two(folder: Path) -> Path:
    """A folder with checkpoints at 50 and 100, so that saving 200 deletes one."""
    save(folder, 50)
    save(folder, 100)
    return folder


def assert_goes_on(folder: Path, expected: int) -> None:
    assert [checkpoint.damage(place) for place in checkpoint.checkpoints(folder)].count(None) == len(counts(folder))
    assert_holds(checkpoint.newest(folder, fail), expected)
    assert_holds(save(folder, 300), 300)
    assert counts(folder) == [expected, 300]
    assert stumps(folder) == []


ONE_LINE = (
    "{folder}: cannot write (Input/output error); check the disk, then continue with: sfumato train --resume {run}"
)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_an_error_at_any_moment_leaves_the_right_one_to_go_on_from(
    tmp_path: Path, after: bool, kind: type[BaseException]
) -> None:
    def strike() -> None:
        raise kind(errno.EIO, "Input/output error") if kind is OSError else kind()

    template = two(tmp_path / "template")
    at, struck = 0, True
    seen: set[str] = set()
    while struck:
        folder = shutil.copytree(template, tmp_path / f"{at}")
        faults = Faults(at, after, strike)
        with pytest.MonkeyPatch.context() as patch:
            faults.install(patch)
            said = None
            try:
                save(folder, 200)
            except (InputError, KeyboardInterrupt) as error:
                said = str(error)
        assert said in (None, ONE_LINE.format(folder=folder, run=tmp_path) if kind is OSError else "")
        struck = faults.count > at
        done = faults.in_place(folder / f"{200:012d}")
        assert done or said is not None
        if said is not None:
            seen.add(faults.names[at])
        assert_goes_on(folder, 200 if done else 100)
        at += 1
    assert at > 20
    assert seen >= {"mkdir", "save_file", "write_bytes", "fsync", "rename"}


def test_a_failed_save_leaves_no_stump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two(tmp_path)
    for stage in ("save_file", "write_json", "flush_folder"):
        monkeypatch.setattr(checkpoint, stage, lambda *args: fail("struck"))
        with pytest.raises(AssertionError, match="struck"):
            save(tmp_path, 200)
        monkeypatch.undo()
        assert stumps(tmp_path) == []
        assert counts(tmp_path) == [50, 100]


KILLS = """
import os, shutil, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import pytest
from test_checkpoint import Faults, save
folder = Path(sys.argv[1])
at = 0
while True:
    for after in (False, True):
        copy = shutil.copytree(folder / "template", folder / f"{{at}}-{{after}}")
        child = os.fork()
        if child == 0:
            faults = Faults(at, after, lambda: os._exit(9))
            faults.install(pytest.MonkeyPatch())
            save(copy, 200)
            os._exit(0 if faults.count <= at else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 9), status
    if status == 0:
        break
    at += 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_the_end_of_the_process_at_any_moment_leaves_the_right_one_to_go_on_from(tmp_path: Path) -> None:
    two(tmp_path / "template")
    script = KILLS.format(here=str(Path(__file__).parent))
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    shutil.rmtree(tmp_path / "template")
    folders = sorted(tmp_path.iterdir())
    assert len(folders) > 40
    found = []
    for folder in folders:
        found.append(200 if (folder / f"{200:012d}").exists() else 100)
        assert_goes_on(folder, found[-1])
    assert {100, 200} == set(found)


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be flushed")
def test_what_a_power_failure_at_any_moment_leaves_is_whole(tmp_path: Path) -> None:
    """Of a disk that keeps at once what is deleted, and of the rest only what was flushed."""
    folder = two(tmp_path / "run")
    names = {folder.stat().st_ino: set(os.listdir(folder))}
    for place in folder.iterdir():
        names[place.stat().st_ino] = set(os.listdir(place))
    contents = {file.stat().st_ino: file.read_bytes() for file in folder.glob("*/*")}
    fsync = os.fsync
    expected = []

    def flushed(descriptor: int) -> None:
        fsync(descriptor)
        inode = os.fstat(descriptor).st_ino
        for path in [folder, *folder.glob("**/*")]:
            if path.stat().st_ino == inode:
                if path.is_dir():
                    names[inode] = set(os.listdir(path))
                else:
                    contents[inode] = path.read_bytes()

    def check() -> None:
        after = tmp_path / "after"
        after.mkdir()
        for place in folder.iterdir():
            if place.name not in names[folder.stat().st_ino]:
                continue
            (after / place.name).mkdir()
            for file in place.iterdir():
                if file.name in names.get(place.stat().st_ino, ()):
                    (after / place.name / file.name).write_bytes(contents.get(file.stat().st_ino, b""))
        found = checkpoint.newest(after, lambda line: None)
        expected.append(0 if found is None else int(found.name))
        shutil.rmtree(after)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", flushed)
        stages = Faults(-1, True, lambda: None)
        stages.install(patch)

        def pause() -> None:
            with pytest.MonkeyPatch.context() as inner:
                for name in Faults.NAMES:
                    inner.setattr(os, name, plain[name])
                inner.setattr(Path, "write_bytes", plain["write_bytes"])
                check()

        stages.watch = pause
        save(folder, 200)
    check()
    assert expected == sorted(expected)
    assert expected[0] == 100
    assert expected[-1] == 200


plain = {**{name: getattr(os, name) for name in Faults.NAMES}, "write_bytes": Path.write_bytes}


def test_the_manifest_is_written_last(tmp_path: Path) -> None:
    faults = Faults(-1, True, lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        faults.install(patch)
        save(tmp_path, 1)
    written = [Path(args[1 if name == "save_file" else 0]).name for name, args in faults.done if name in WRITES]
    assert sorted(written[:-1]) == ["optimizer.safetensors", "state.json", "weights.safetensors"]
    assert written[-1] == "manifest.json"


WRITES = ("save_file", "write_bytes")


@pytest.mark.parametrize("limit", [0, 100, 300, 2_000, 40_000])
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, limit: int) -> None:
    resource = pytest.importorskip("resource")
    folder = tmp_path / "run" / "checkpoints"
    parts = {"weights": {"a": torch.zeros(100)}, "optimizer": {"0.step": torch.zeros(20_000)}}
    older = checkpoint.save(folder, 1, {}, STATE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(InputError) as caught:
            checkpoint.save(folder, 2, parts, STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value) == (
        f"{folder}: cannot write (File too large); raise the limit on the size of a file (ulimit -f), then continue "
        f"with: sfumato train --resume {folder.parent}"
    )
    assert checkpoint.newest(folder, fail) == older
    assert stumps(folder) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        SafetensorError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space" })'),
    ],
)
def test_every_way_of_saying_that_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*args: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    message = rf"cannot write \({os.strerror(errno.ENOSPC)}\); free some, then start again$"
    with pytest.raises(DiskFullError, match=message):
        save(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "save_file", lambda *args: (_ for _ in ()).throw(SafetensorError("other")))
    with pytest.raises(SafetensorError, match="other"):
        save(tmp_path, 1)


def test_what_follows_fails_in_one_line_and_the_checkpoint_stays(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "run" / "checkpoints"
    with pytest.raises(
        InputError, match=r"run: cannot write \(No space left on device\); free some, then continue with: "
    ):
        checkpoint.save(folder, 1, PARTS, STATE, then=full)
    assert_holds(checkpoint.newest(folder, fail), 1)


def test_stumps_of_killed_processes_are_swept_even_where_their_numbers_were_given_again(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (ended.pid, os.getpid(), os.getppid()):
        (tmp_path / f".writing-000000000100-{process}").mkdir()
        (tmp_path / f".writing-000000000100-{process}" / "x").write_text("x")
    (tmp_path / ".writing-000000000100-99999999999999999999").mkdir()
    save(tmp_path, 200)
    assert stumps(tmp_path) == []


def test_write_with_leaves_the_old_or_the_new_and_nothing_beside(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = tmp_path / "a[1].txt"
    files.write_text(path, "old")

    def half(beside: Path) -> None:
        assert beside.name == path.name
        beside.write_text("ne")
        beside.with_name("scratch").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write_with(path, half)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {path.name: "old"}
    (tmp_path / f".writing-{path.name}-{ended.pid}").mkdir()
    alive = f".writing-{path.name}-{os.getppid()}"
    (tmp_path / alive).mkdir()
    (tmp_path / f".writing-other-{ended.pid}").mkdir()
    files.write_text(path, "new")
    assert {p.name for p in tmp_path.iterdir()} == {alive, f".writing-other-{ended.pid}", path.name}
    assert path.read_text() == "new"


# ------------------------------------------------------------------------------------------------ several processes


@pytest.mark.parametrize("size", [2, 3])
def test_slices_of_several_processes_are_put_together(tmp_path: Path, size: int) -> None:
    whole = {"a": torch.arange(14.0).reshape(7, 2), "b": torch.arange(5), "empty": torch.zeros(0, 3)}
    alone = {"only": torch.arange(3.0), "step": torch.tensor(4.0)}
    slices = {key: torch.tensor_split(value, size) for key, value in whole.items()}
    stump = checkpoint.begin(tmp_path, 64)
    digests: dict[str, str] = {}
    for rank in reversed(range(size)):
        part = {key: value[rank] for key, value in slices.items()} | {"step": alone["step"]}
        digests |= checkpoint.write_tensors(stump, {"weights": part | (alone if rank == 0 else {})}, rank, size)
    place = checkpoint.finish(stump, STATE, digests)
    assert checkpoint.newest(tmp_path, fail) == place
    names = {f"weights-{rank}-of-{size}.safetensors" for rank in range(size)}
    assert {file.name for file in place.iterdir()} == names | {"state.json", "manifest.json"}
    parts, _ = checkpoint.load(place)
    expected = whole | alone
    assert parts.keys() == {"weights"}
    assert parts["weights"].keys() == expected.keys()
    assert all(torch.equal(parts["weights"][key], value) for key, value in expected.items())
    assert all(parts["weights"][key].dtype == value.dtype for key, value in expected.items())


def test_more_than_nine_processes_are_in_order(tmp_path: Path) -> None:
    stump = checkpoint.begin(tmp_path, 1)
    digests: dict[str, str] = {}
    for rank in range(11):
        digests |= checkpoint.write_tensors(stump, {"w": {"a": torch.tensor([rank])}}, rank, 11)
    parts, _ = checkpoint.load(checkpoint.finish(stump, STATE, digests))
    assert parts["w"]["a"].tolist() == list(range(11))


@pytest.mark.parametrize(
    "ranks", [[(0, 3), (2, 3)], [(1, 2)], [(0, 2), (1, 2), (0, 1)], [(0, 2), (1, 3)], [(0, 99_999_999_999)]]
)
def test_a_missing_slice_is_damage(tmp_path: Path, ranks: list[tuple[int, int]]) -> None:
    stump = checkpoint.begin(tmp_path, 1)
    digests: dict[str, str] = {}
    for rank, size in ranks:
        digests |= checkpoint.write_tensors(stump, {"w": {"a": torch.ones(1)}}, rank, size)
    place = checkpoint.finish(stump, STATE, digests)
    assert str(checkpoint.damage(place)).startswith("w is incomplete: it has slices")
