"""The folders that `design` writes, and how it refuses."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as Pil

from ddpm_jax.reader_study import study
from tests.reader_study.conftest import FORMS, arguments, write_synthetic
from tests.test_command_line import assert_refused


@pytest.mark.parametrize("protocol", FORMS)
def test_files_tell_nothing(designed, protocol):
    """One length, one time, one mode; names that say nothing; no truth beside them."""
    out = designed / protocol
    files = sorted((out / study.IMAGES).iterdir())
    assert len(files) == (26 if protocol == FORMS[0] else 17)
    facts = {(f.stat().st_size, f.stat().st_mtime, f.stat().st_mode) for f in files}
    assert len(facts) == 1
    assert all(len(f.stem) == 16 and int(f.stem, 16) >= 0 for f in files)
    assert {p.name for p in out.iterdir()} == {"images", "study.json", "readers.json"}
    key = json.loads((designed / f"{protocol}.private" / study.KEY).read_text())
    served = (out / study.STUDY).read_text()
    for one in key["truth"].values():
        assert one["source"] not in served
    practice = set(study.load(out).feedback)
    content = json.loads(served)
    content.pop("feedback")
    content.pop("protocol")
    if protocol == FORMS[0]:
        assert len(practice) == 2
        assert not {"real", "synthetic"} & set(json.dumps(content).split('"'))


def test_the_set_is_balanced_matched_and_disjoint(designed):
    truth = study.load_key(designed / FORMS[0], designed / f"{FORMS[0]}.private")
    made = study.load(designed / FORMS[0])
    for reader in ("anna", "ben"):
        members = made.sequences[reader]
        by_kind = {
            kind: [truth[s.image].truth for s in members if s.kind == kind]
            for kind in (study.TRAINING, study.COUNTED, study.REPEAT)
        }
        expected = {study.TRAINING: 1, study.COUNTED: 12, study.REPEAT: 2}
        for kind, count in expected.items():
            assert [by_kind[kind].count(t) for t in study.TRUTHS] == [count, count]
    assert made.sequences["anna"] != made.sequences["ben"]
    assert len({(t.truth, t.source) for t in truth.values()}) == len(truth)


def test_planted_claims_are_wrong_and_others_right(designed, synthetic):
    folder = designed / FORMS[1]
    truth = study.load_key(folder, f"{folder}.private")
    claims = study.load(folder).claims
    with open(synthetic / "manifest.csv", newline="") as file:
        asked = {line["file"]: line for line in csv.DictReader(file)}
    planted = 0
    for image, said in claims.items():
        line = asked[truth[image].source]
        names = ("view", "side", "prosthesis_right", "prosthesis_left", "sex")
        wrong = [n for n in names if n in said and said[n] != line[n]]
        assert wrong == ([truth[image].planted] if truth[image].planted else [])
        assert set(said) == {n for n in line if line[n] and n not in ("file", "seed")}
        planted += bool(wrong)
    assert planted == 3 + 1  # one of the two practice images


def test_a_seed_makes_it_again_with_other_links(designed, real, synthetic, tmp_path):
    again = tmp_path / FORMS[0]
    flags = arguments(FORMS[0], real, synthetic, again)
    subprocess.run(
        [sys.executable, "-m", "ddpm_jax.reader_study", "design", *flags],
        check=True,
        capture_output=True,
    )
    first = designed / FORMS[0]
    assert (again / study.STUDY).read_bytes() == (first / study.STUDY).read_bytes()
    for file in (first / study.IMAGES).iterdir():
        same = again / study.IMAGES / file.name
        assert same.read_bytes() == file.read_bytes()
    tokens = [json.loads((f / study.READERS).read_text()) for f in (first, again)]
    assert set(tokens[0]) == set(tokens[1]) == {"anna", "ben"}
    assert not set(tokens[0].values()) & set(tokens[1].values())


def test_without_a_seed_nobody_can_make_it_again_but_who_has_the_key(design, tmp_path):
    """Seed 0 would give names and orders, and so the truth, to who reads this code."""
    studies, seeds = [], []
    for i in range(2):
        made = design(f"--out={tmp_path / str(i)}", seeded=False)
        assert made.status == 0, made.err
        assert "guessed" not in made.out
        studies.append((tmp_path / str(i) / study.STUDY).read_bytes())
        key = json.loads((tmp_path / f"{i}.private" / study.KEY).read_text())
        seeds.append(key["settings"]["seed"])
    assert studies[0] != studies[1] and min(seeds) > 2**64
    again = design(f"--out={tmp_path / 'again'}", f"--seed={seeds[0]}")
    assert again.status == 0 and "guessed" not in again.out
    assert (tmp_path / "again" / study.STUDY).read_bytes() == studies[0]


def test_a_seed_that_can_be_guessed_is_said_to_be(design):
    assert "can be guessed" in design("--seed=7").out


def test_a_design_that_ends_early_leaves_what_was_there(design, tmp_path, monkeypatch):
    """A full disk after the images: the older study stands, and no half new one."""
    assert design().status == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ddpm_jax.reader_study.writing.write_sheet", full)
    result = design("--seed=6", "--overwrite")
    last = result.err.strip().splitlines()[-1]
    assert result.status == 1 and last.startswith("error: ")
    assert f"{tmp_path / 'out'}: not written (No space left" in last
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    monkeypatch.undo()
    assert design("--seed=6", "--overwrite").status == 0


def test_what_nobody_else_may_read(designed):
    private = designed / f"{FORMS[0]}.private"
    assert private.stat().st_mode & 0o777 == 0o700
    assert (private / study.KEY).stat().st_mode & 0o777 == 0o600
    assert (designed / FORMS[0] / study.READERS).stat().st_mode & 0o777 == 0o600
    with Pil.open(private / "real.png") as sheet:
        assert sheet.size[0] > 100


# ---- refusals ----


@pytest.fixture
def design(command, real, synthetic, tmp_path):
    def run(*flags, protocol=FORMS[0], folder=None, seeded=True):
        given = arguments(protocol, real, folder or synthetic, tmp_path / "out")
        given = [f for f in given if seeded or not f.startswith("--seed")]
        return command("ddpm_jax.reader_study.design", *given, *flags)

    return run


@pytest.mark.parametrize(
    "flags, parts",
    [
        (["--synthetic=nowhere"], ["--synthetic nowhere", "no such folder"]),
        (["--real=nowhere"], ["nowhere", "manifest.json"]),
        (["--split=dev"], ["'dev'", "train, test"]),
        (["--readers=a,a"], ["--readers", "each once"]),
        (["--repeats=13"], ["--repeats 13", "at most 12"]),
        (["--match=age"], ["--match age", "view, side"]),
        (["--accept_tells=smell"], ["--accept_tells smell", "comb"]),
        (["--count=95", "--repeats=0"], ["pairs of a real and", "96 are needed"]),
    ],
)
def test_flags_that_cannot_be(design, tmp_path, flags, parts):
    result = design(*flags)
    assert result.status == 1
    last = result.err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    for part in parts:
        assert part in last
    assert not (tmp_path / "out").exists()


def broken(folder, kind):
    first = folder / "000000.png"
    if kind == "size":
        for file in folder.glob("*.png"):
            Pil.fromarray(np.zeros((8, 8), np.uint16)).save(file)
    elif kind == "mixed":
        Pil.fromarray(np.zeros((8, 8), np.uint16)).save(first)
    elif kind == "colour":
        Pil.fromarray(np.zeros((16, 16, 3), np.uint8)).save(first)
    elif kind == "cut":
        first.write_bytes(first.read_bytes()[:10])
    elif kind == "gone":
        first.unlink()
    elif kind == "twice":
        path = folder / "manifest.csv"
        path.write_text(path.read_text().replace("000001.png", "000000.png"))
    elif kind == "value":
        path = folder / "manifest.csv"
        path.write_text(path.read_text().replace("lateral", "sideways"))
    elif kind == "column":
        path = folder / "manifest.csv"
        path.write_text(path.read_text().replace("file,", "name,"))
    elif kind == "unlabelled":
        (folder / "manifest.csv").unlink()
    else:
        shutil.rmtree(folder)
        folder.mkdir()


@pytest.mark.parametrize(
    "kind, parts",
    [
        ("size", ["16 x 16 px", "8 x 8 px", "expected one size"]),
        ("mixed", ["expected one size and depth", "8 x 8 px, 16 bits"]),
        ("colour", ["000000.png", "mode RGB", "greyscale"]),
        ("cut", ["000000.png", "not readable"]),
        ("gone", ["000000.png", "expected a PNG or TIFF that is there"]),
        ("twice", ["manifest.csv", "a file is there twice"]),
        ("value", ["manifest.csv, line", "'sideways'", "AP, lateral, oblique"]),
        ("column", ["manifest.csv", "column `file`"]),
        ("unlabelled", ["no manifest.csv", "--match none"]),
        ("empty", ["no PNG or TIFF images"]),
    ],
)
def test_folders_that_cannot_be_used(design, tmp_path, kind, parts):
    folder = write_synthetic(tmp_path / "synthetic", 20)
    broken(folder, kind)
    result = design(folder=folder)
    assert_refused(result._replace(err=result.err), 1, *parts)
    assert not (tmp_path / "out").exists()


def test_labels_need_a_manifest(design, tmp_path):
    folder = write_synthetic(tmp_path / "synthetic", 20)
    (folder / "manifest.csv").unlink()
    result = design(protocol=FORMS[1], folder=folder)
    assert_refused(result, 1, "no manifest.csv", "ddpm_jax.sample")


def test_a_comb_that_fixed_bits_would_show_is_refused(design, tmp_path, real):
    """Every second grey level is missing on one side, and --bits insists."""
    folder = write_synthetic(tmp_path / "synthetic", 60)
    for file in folder.glob("*.png"):
        with Pil.open(file) as image:
            pixels = np.asarray(image, np.uint16)
        Pil.fromarray((pixels // 8192 * 8192).astype(np.uint16)).save(file)
    result = design("--bits=12", folder=folder)
    last = result.err.strip().splitlines()[-1]
    assert result.status == 1 and "would betray real or synthetic" in last
    assert "--accept_tells" in last and not (tmp_path / "out").exists()


def test_answers_are_never_overwritten(design, tmp_path):
    assert design().status == 0
    assert_refused(design(), 1, "not empty", "--overwrite")
    assert design("--overwrite").status == 0
    (tmp_path / "out" / study.ANSWERS).write_bytes(b"")
    assert_refused(design("--overwrite"), 1, "answers of readers")


def test_overwrite_leaves_other_folders_alone(design, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert_refused(design("--overwrite"), 1, "no study")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_power_before_anything_is_read(command):
    result = command("ddpm_jax.reader_study.design", "--power_only")
    assert result.status == 0
    assert "115 right on" in result.out and "92%" in result.out
    labels = ("--power_only", "--protocol=label_discrepancy")
    assert "at most 2.95%" in command("ddpm_jax.reader_study.design", *labels).out


def test_the_command_has_three_parts():
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "ddpm_jax.reader_study", *arguments],
            capture_output=True,
            text=True,
        )

    assert run("--help").stdout.startswith("Let readers tell real from synthetic")
    wrong = run("read")
    assert_refused((wrong.returncode, "", wrong.stderr), 2, "'read'", "design, serve")
    assert "--power_only" in run("design", "--help").stdout


def test_no_jax_is_imported():
    code = (
        "import sys\nfrom ddpm_jax.reader_study import design, serve, analyse, server\n"
        "assert not {'jax', 'flax', 'tensorflow'} & set(sys.modules), 'JAX'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
