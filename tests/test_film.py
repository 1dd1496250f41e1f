"""Films: what they show, how long, and what is said of a bad request."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from ddpm_jax import film
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.sampler import load_sampler

ROWS = [{"view": "AP", "age": 67}, {"view": "lateral"}]
SEEDS = [3, 5]


@pytest.fixture(scope="module")
def sampler(tiny_export):
    return load_sampler(tiny_export)


def frames_of(path):
    with Image.open(path) as picture:
        frames = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            frames.append((np.asarray(picture.convert("L")), picture.info["duration"]))
    return frames


def test_a_film_of_the_reverse_process(sampler, tmp_path):
    """A frame a step; its last shows the image that is sampled, beside z."""
    path = tmp_path / "new" / "film.gif"
    film.make(path, sampler, ROWS[:1], SEEDS[:1], steps=8)
    frames = frames_of(path)
    assert len(frames) == 8
    assert [pause for _, pause in frames] == 7 * [440] + [1500]
    final = sampler.sample(ROWS[0], SEEDS[:1], steps=8, batch=1)[0]
    enlarged = np.kron(final >> 8, np.ones((20, 20), int))
    left, top = 10 + 320 + 10, 15 + 10
    shown = frames[-1][0][top : top + 320, left : left + 320]
    np.testing.assert_array_equal(shown, enlarged)
    assert path.parent.exists() and len(list(path.parent.iterdir())) == 1


def test_what_is_shown_of_z():
    """Pure noise to two standard deviations, a clean image as it is."""
    z = np.array([[[-3.0, -2.0, 0.0, 1.0, 2.0]]], np.float32)
    moment = film.Moment(1, 2, -30.0, False, z, z, np.zeros(()), False)
    assert film.shown(moment).tolist() == [[[0, 0, 32768, 49151, 65535]]]
    x = np.array([[[-1.0, -0.5, 1.0]]], np.float32)
    clean = moment._replace(logsnr=40.0, z=x)
    assert film.shown(clean).tolist() == [[[0, 16384, 65535]]]


def test_films_of_many_steps_are_thinned(sampler, tmp_path, monkeypatch):
    monkeypatch.setattr(film, "MOST_MOMENTS", 10)
    film.make(tmp_path / "film.gif", sampler, ROWS[:1], [0], steps=64)
    assert len(frames_of(tmp_path / "film.gif")) == 10  # 7, 14, …, 63, 64


def test_a_strip_has_a_column_a_moment(sampler, tmp_path):
    film.make(tmp_path / "strip.png", sampler, ROWS, SEEDS)
    with Image.open(tmp_path / "strip.png") as strip:
        assert strip.width == 4 * (128 + 10) + 10
        assert strip.height > 4 * (128 + 10)  # z and x_hat of two images
    film.make(tmp_path / "long.png", sampler, ROWS[:1], [0], steps=64)
    with Image.open(tmp_path / "long.png") as strip:
        assert strip.width == 8 * (128 + 10) + 10


@pytest.mark.parametrize(
    "text, name, values",
    [
        ("age=40:90", "age", [40, 50, 60, 70, 80, 90]),
        ("bmi=45:20", "bmi", [45, 40, 35, 30, 25, 20]),
        ("age=40,67.5", "age", [40, 67.5]),
        ("prosthesis_right=no,YES", "prosthesis_right", ["no", "yes"]),
        ("sex=unknown,F,M", "sex", [None, "F", "M"]),
    ],
)
def test_sweeps(text, name, values):
    field, found = film.read_sweep(text, PELVIS, 6)
    assert (field.name, found) == (name, values)


@pytest.mark.parametrize(
    "text, message",
    [
        ("age", "expected e.g. age=40:90 or sex=F,M"),
        ("age=", "expected e.g. age=40:90"),
        ("age=40", "expected 2 to 26 values"),
        ("age=:90", "expected two numbers"),
        ("age=50:50", "--sweep age=50:50: .* expected different values"),
        ("age=50:50.0000001", "expected different values"),
        ("age=50,50.0", "expected different values"),
        ("sex=,unknown", "expected different values"),
        ("sex=F,f,F", "expected different values"),
        ("age=40:900", "age = '900': expected a number from 0 to 120 years"),
        ("view=AP:lateral", "view = 'AP:lateral': expected one of AP"),
        ("weight=40:90", "field 'weight' is not in the schema"),
    ],
)
def test_sweeps_that_cannot_be(text, message):
    with pytest.raises(ValueError, match=message):
        film.read_sweep(text, PELVIS, 6)


def test_a_sweep_changes_one_condition_and_no_seed(sampler):
    values = [40.0, 65.0, 90.0]
    images = film.sweep_images(sampler, ROWS, SEEDS, "age", values)
    assert images.shape == (3, 2, 16, 16)
    for value, made in zip(values, images, strict=True):
        asked = [row | {"age": value} for row in ROWS]
        np.testing.assert_array_equal(made, sampler.sample(asked, SEEDS, batch=2))
    assert not np.array_equal(images[0], images[2])


def test_a_swept_film_goes_there_and_back(sampler, tmp_path):
    film.make(tmp_path / "age.gif", sampler, ROWS, SEEDS, sweep="age=40:90")
    frames = [frame for frame, _ in frames_of(tmp_path / "age.gif")]
    assert len(frames) == 2 * 26 - 2
    np.testing.assert_array_equal(frames[1], frames[-1])
    film.make(tmp_path / "view.gif", sampler, ROWS, SEEDS, sweep="view=AP,lateral")
    assert [pause for _, pause in frames_of(tmp_path / "view.gif")] == [1000, 1000]


def test_a_swept_strip_has_a_column_a_value(sampler, tmp_path):
    film.make(tmp_path / "age.png", sampler, ROWS, SEEDS, sweep="age=40:90")
    with Image.open(tmp_path / "age.png") as strip:
        assert strip.width == 6 * (160 + 10) + 10


def test_mp4(sampler, tmp_path):
    av = pytest.importorskip("av")
    film.make(tmp_path / "film.mp4", sampler, ROWS, SEEDS)
    film.make(tmp_path / "film.gif", sampler, ROWS, SEEDS)
    with av.open(str(tmp_path / "film.mp4")) as container:
        (stream,) = container.streams.video
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 25)
        found = [
            f.to_ndarray(format="gray").astype(int) for f in container.decode(stream)
        ]
    shown = [round(film.FRAME / 4 * 25)] * 3 + [round(film.HOLD * 25)]
    assert len(found) == sum(shown)
    for place, (frame, _) in enumerate(frames_of(tmp_path / "film.gif")):
        moving = found[sum(shown[: place + 1]) - 1][: frame.shape[0], : frame.shape[1]]
        assert np.abs(moving - frame).mean() < 6  # as the GIF, but compressed


def test_mp4_without_its_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="mp4 needs `pip install av`"):
        film.check(str(tmp_path / "film.mp4"))
    assert film.check(str(tmp_path / "film.gif")).name == "film.gif"


FILM = "--film=never_made.gif"


def test_the_command(command, tiny_run, tiny_export, tmp_path):
    """From a run as from its export; refused before anything is loaded."""
    made = []
    for name, source in (("run", tiny_run), ("export", tiny_export)):
        flag = "--workdir" if name == "run" else "--sampler"
        out = tmp_path / f"{name}.png"
        result = command("sample", f"{flag}={source}", f"--film={out}", "--prompt=AP")
        assert result.status == 0, result.err
        assert f"see {out}" in result.out
        made.append(out.read_bytes())
    assert made[0] == made[1]
    for flags, message in (
        ([f"--film={out}"], "exists; expected a new file or --overwrite"),
        (["--film=film.avi"], "--film film.avi: expected a name that ends in .gif,"),
        (["--film=film"], "--film film: expected a name that ends in .gif, .mp4, .png"),
        (["--film=.gif"], "--film .gif: expected a name that ends in .gif, .mp4, .png"),
        (["--film=a.gif.zip"], "--film a.gif.zip: expected a name that ends in .gif"),
        (["--film="], "--film : expected a name that ends in .gif, .mp4, .png"),
        ([f"--film={tmp_path / 'run.png' / 'a.gif'}"], "run.png: not a folder"),
        (["--sweep=age=40:90"], "--film: needed with --sweep"),
        ([FILM, "--format=png"], "--format: not of a film; expected --out instead of"),
        ([FILM, "--burn_in"], "--burn_in: not of a film"),
        ([FILM, "--batch=4", "--uid_root=1.2"], "--batch, --uid_root: not of a film"),
        ([FILM, "--splits=train=1"], "--splits: not of a film"),
        ([FILM, "--records_per_shard=5"], "--records_per_shard: not of a film"),
        ([FILM, "--distributed"], "--distributed: not of a film"),
        ([f"--film={tmp_path / 'a.gif'}", "--out=a"], "expected one of --film and"),
        ([f"--film={tmp_path / 'a.gif'}", "--count=17"], "at most 16"),
    ):
        result = command("sample", f"--sampler={tiny_export}", "--prompt=AP", *flags)
        assert result.status == 1 and message in result.err
        assert len(result.err.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export.png", "run.png"]


def test_a_folder_is_no_film(tmp_path):
    (tmp_path / "a.gif").mkdir()
    with pytest.raises(ValueError, match="a.gif: a folder; expected a file"):
        film.check(str(tmp_path / "a.gif"), overwrite=True)


@pytest.mark.parametrize("suffix", [".GIF", ".Png", ".MP4"])
def test_a_suffix_in_any_spelling(sampler, tmp_path, suffix):
    if suffix == ".MP4":
        pytest.importorskip("av")
    paths = [tmp_path / f"film{each}" for each in (suffix, f"_{suffix}".lower()[1:])]
    paths[1] = paths[1].with_stem("lower")
    for path in paths:
        film.make(film.check(str(path)), sampler, ROWS[:1], [0])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_manifest_is_filmed_as_its_images_were_made(command, tiny_export, tmp_path):
    (tmp_path / "manifest.csv").write_text("view,guidance\nAP,7\n")
    made = []
    for i, flags in enumerate(
        (
            [f"--conditions={tmp_path / 'manifest.csv'}"],
            ["--condition=view=AP", "--guidance=7"],
        )
    ):
        out = tmp_path / f"{i}.png"
        result = command("sample", f"--sampler={tiny_export}", f"--film={out}", *flags)
        assert result.status == 0, result.err
        made.append(out.read_bytes())
    assert made[0] == made[1]
