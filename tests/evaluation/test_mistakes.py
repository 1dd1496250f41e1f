"""What is wrong with what is given is one line, and nothing is lost."""

import fcntl
import json
import shutil

import imagecodecs
import numpy as np
import pytest

from ddpm_jax.outputs import png
from tests.datasets import write_dataset
from tests.evaluation import made


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Of a test split alone: what `spectrum` needs."""
    folder = tmp_path_factory.mktemp("real")
    return write_dataset(folder, size=16, counts=(("test", 24),))


@pytest.fixture
def images(real, tmp_path):
    return made.write(tmp_path / "images", *made.of_split(real, "test"))


@pytest.fixture
def evaluate(command, real, images, tmp_path):
    """evaluate("--a=b") is of `images`, into `tmp_path/out`, by their spectrum."""

    def run(*flags, out=tmp_path / "out"):
        given = [f"--real={real}", f"--synthetic={images}", "--parts=spectrum"]
        return command("evaluate", *given, f"--out={out}", *flags)

    return run


def assert_refused(result, *said):
    assert result.status == 1
    line = result.err.strip().splitlines()[-1]
    assert line.startswith("error: ") and "Traceback" not in result.err
    for part in said:
        assert part in line, line


def zeros(*shape, dtype=np.uint16):
    return bytes(imagecodecs.png_encode(np.zeros(shape, dtype)))


@pytest.mark.parametrize(
    "content, said",
    [
        (zeros(8, 8), "8 x 8 px; expected 16 x 16"),
        (zeros(16, 16, dtype=np.uint8), "uint8 of shape (16, 16)"),
        (zeros(16, 16, 3), "uint16 of shape (16, 16, 3)"),
        (zeros(16, 16)[:50], "no readable image"),
        (b"", "no readable image"),
    ],
    ids=["size", "bits", "colour", "cut", "empty"],
)
def test_a_synthetic_file_that_is_no_such_image(evaluate, images, content, said):
    (images / "000007.png").write_bytes(content)
    assert_refused(evaluate(), "000007.png", said)


def test_an_image_that_is_missing_or_elsewhere(evaluate, images):
    table = (images / "manifest.csv").read_text()
    (images / "manifest.csv").write_text(table.replace("000002.png", "../000002.png"))
    shutil.copy(images / "000002.png", images.parent / "000002.png")
    assert_refused(evaluate(), "line 4", "no such image")
    (images / "manifest.csv").write_text(table)
    (images / "000003.png").unlink()
    assert_refused(evaluate(), "line 5", "no such image")


def test_an_image_that_was_changed_is_another_set(evaluate, images, tmp_path):
    assert evaluate().status == 0
    (images / "000003.png").write_bytes(png.encode(np.full((16, 16), 7, np.uint16)))
    before = (tmp_path / "out" / "metrics.json").read_bytes()
    assert_refused(evaluate(), "an evaluation of something else (synthetic images)")
    assert (tmp_path / "out" / "metrics.json").read_bytes() == before
    assert evaluate("--overwrite").status == 0
    assert (tmp_path / "out" / "metrics.json").read_bytes() != before


def test_another_number_of_images_is_another_evaluation(evaluate):
    assert evaluate("--count=20").status == 0
    assert_refused(evaluate(), "something else (--count)")


@pytest.mark.parametrize("name", ["request.json", "report.html"])
def test_other_commands_folders_are_not_overwritten(evaluate, tmp_path, name):
    place = tmp_path / "other"
    place.mkdir()
    (place / name).write_text('{"number of images": 3}')
    assert_refused(evaluate("--overwrite", out=place), "the folder of another command")
    assert (place / name).read_text() == '{"number of images": 3}'
    assert len(list(place.iterdir())) == 1


def test_a_file_as_out(evaluate, tmp_path):
    (tmp_path / "file").write_text("")
    assert_refused(evaluate(out=tmp_path / "file"), "a file; expected a folder")


def test_two_at_once_do_not_mix(evaluate, tmp_path):
    assert evaluate().status == 0
    with (tmp_path / "out.private" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_refused(evaluate(), "another evaluation is at work there")
    assert evaluate().status == 0


def test_what_a_killed_one_left_is_removed_and_a_damaged_result_is_said(
    evaluate, tmp_path
):
    assert evaluate().status == 0
    private = tmp_path / "out.private"
    (private / "spectrum.json.1f-7f00.tmp").write_text("{")
    assert evaluate().status == 0
    assert not list(private.glob("*.tmp"))
    (kept,) = private.glob("spectrum-*.json")
    kept.write_text("{")
    assert_refused(evaluate(), kept.name, "not readable JSON; remove it")


def test_a_disk_that_is_full(evaluate, tmp_path, monkeypatch):
    """The same command goes on afterwards."""
    import errno

    from ddpm_jax.data import shards

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards.os, "fsync", full)
        assert_refused(evaluate(), "cannot be written", "No space left")
    assert evaluate().status == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["parts"]


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--layer=x"], "of --features file.onnx alone"),
        (["--normalise=imagenet"], "of --features file.onnx alone"),
        (["--weights=x"], "of --features inception alone"),
        (["--steps=8"], "--guidance, --steps: of a model"),
        (["--features=inception", "--weights=none.pth"], "https://github.com/toshas"),
        (["--parts=spectrum,magic"], "--parts magic"),
        (["--parts=fidelity"], "no split 'train'"),
        (["--fields=colour"], "'colour' is not in the schema"),
    ],
)
def test_flags_that_do_not_go_together(evaluate, tmp_path, flags, said):
    assert_refused(evaluate(*flags), said)


@pytest.mark.parametrize("counts, said", [((("train", 30),), "no split 'test'")])
def test_a_data_set_without_held_out_images(evaluate, tmp_path, counts, said):
    data = tmp_path / "data"
    data.mkdir()
    write_dataset(data, size=16, counts=counts)
    assert_refused(evaluate(f"--real={data}"), said)


def test_five_held_out_images(evaluate, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write_dataset(data, size=16, counts=(("test", 5),))
    assert_refused(evaluate(f"--real={data}"), "5 images in split test; expected 20")


@pytest.mark.slow
@pytest.mark.parametrize("row", [{}, {"view": "AP", "side": "left", "age": 60.0}])
def test_labels_that_say_nothing(command, tmp_path, monkeypatch, row):
    """None is known, or all are the same: every part has something to say, or null."""
    from tests import datasets

    monkeypatch.setattr(datasets, "random_row", lambda rng: dict(row))
    data = tmp_path / "data"
    data.mkdir()
    write_dataset(data, size=16, counts=(("train", 70), ("test", 30)))
    folder = made.write(tmp_path / "images", *made.of_split(data, "test"))
    result = command(
        "evaluate",
        *(f"--real={data}", f"--synthetic={folder}", f"--out={tmp_path / 'out'}"),
        "--epochs=1",
    )
    assert result.status == 0, result.err
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(found["parts"]) == 6
    assert found["real"]["sex"] == {
        **{"count": 0, "total": 0},
        **dict.fromkeys(("share", "low", "high")),
    }
    assert found["parts"]["manifold"]["groups"] == []
