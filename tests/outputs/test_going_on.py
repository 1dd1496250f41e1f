"""A cohort that is interrupted is the cohort that never was; another is refused."""

import json
import os
import resource
import signal
import subprocess
import sys

import pytest

from ddpm_jax.data import records

ARGUMENTS = ("--condition=view=AP", "--count=20", "--format=png,dicom")


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_killed_three_times_it_is_the_uninterrupted_one(tiny_export, tmp_path):
    command = [sys.executable, "-m", "tests.outputs.kills"]
    result = subprocess.run(
        [*command, *map(str, (tiny_export, tmp_path, 150, 3, 1))],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    said = (tmp_path / "log").read_text()
    assert result.returncode == 0, result.stderr + said
    *killed, last = json.loads(result.stdout.splitlines()[-1])
    assert killed == [-signal.SIGKILL] * 3 and last == 0, said
    assert "Traceback" not in said, said
    whole, again = content(tmp_path / "whole"), content(tmp_path / "killed")
    assert whole.keys() == again.keys()
    assert [name for name in whole if whole[name] != again[name]] == []
    kinds = ["000150.png", "000150.dcm", "manifest.csv", "records/manifest.json"]
    assert whole.keys() >= set(kinds)
    manifest = records.load_manifest(tmp_path / "killed" / "records")
    assert manifest.count("train") + manifest.count("test") == 151


@pytest.fixture
def sample(command, tiny_export):
    def run(out, *arguments):
        return command("sample", f"--sampler={tiny_export}", f"--out={out}", *arguments)

    return run


def test_only_what_is_missing_is_made(sample, tmp_path):
    assert sample(tmp_path / "out", *ARGUMENTS).status == 0
    before = content(tmp_path / "out")
    for name in ("000003.png", "000007.dcm", "000007.png", "manifest.csv"):
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / "000007.png.1f-2e.tmp").write_bytes(b"half")
    kept = (tmp_path / "out" / "000004.png").stat().st_mtime_ns
    result = sample(tmp_path / "out", *ARGUMENTS)
    assert result.status == 0 and "2 images in" in result.out
    assert content(tmp_path / "out") == before
    assert (tmp_path / "out" / "000004.png").stat().st_mtime_ns == kept


def test_a_finished_folder_is_left_alone(sample, tmp_path):
    assert sample(tmp_path / "out", *ARGUMENTS).status == 0
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    result = sample(tmp_path / "out", *ARGUMENTS)
    assert result.status == 0 and "there already" in result.out
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == times


@pytest.mark.parametrize(
    "change, said",
    [
        ("--guidance=3", "--guidance: 2.5 -> 3.0"),
        ("--batch=4", "--batch: 8 -> 4"),
        ("--seed=1", "rows, seeds and prompts"),
        ("--count=21", "number of images: 20 -> 21"),
        ("--uid_root=1.2", "--uid_root: '' -> '1.2'"),
        ("--format=dicom", "--format: ['png', 'dicom'] -> ['png', 'dicom', 'records']"),
    ],
)
def test_another_command_is_refused(sample, tmp_path, change, said):
    assert sample(tmp_path / "out", *ARGUMENTS).status == 0
    before = content(tmp_path / "out")
    extra = ["--format=records"] if "format" in change else []
    result = sample(tmp_path / "out", *ARGUMENTS, change, *extra)
    assert result.status == 1 and said in result.err
    assert len(result.err.splitlines()) == 1
    assert content(tmp_path / "out") == before


def test_overwrite_makes_it_anew_and_keeps_what_is_not_ours(sample, tmp_path):
    out = tmp_path / "out"
    assert sample(out, *ARGUMENTS).status == 0
    (out / "notes.txt").write_text("mine")
    result = sample(out, "--condition=view=AP", "--count=2", "--overwrite")
    assert result.status == 0, result.err
    assert sorted(p.name for p in out.iterdir()) == [
        *("000000.png", "000001.png", "contact_sheet.png", "manifest.csv"),
        *("notes.txt", "request.json"),
    ]
    # an unfinished one goes on, --overwrite or not: the same command
    (out / "manifest.csv").unlink()
    (out / "000001.png").unlink()
    result = sample(out, "--condition=view=AP", "--count=2", "--overwrite")
    assert result.status == 0 and "1 images in" in result.out


@pytest.mark.parametrize(
    "name", ["000001.png", "manifest.csv", "request.json", "records/manifest.json"]
)
def test_overwrite_never_takes_the_files_of_another_for_its_own(sample, tmp_path, name):
    """A folder of real images is numbered as ours is."""
    out = tmp_path / "out"
    for other in (name, "100234.dcm", "notes.txt"):
        (out / other).parent.mkdir(parents=True, exist_ok=True)
        (out / other).write_text('{"mine": 1}')
    before = content(out)
    result = sample(out, *ARGUMENTS, "--format=records", "--overwrite")
    assert result.status == 1 and name.split("/")[0] in result.err
    assert len(result.err.splitlines()) == 1
    assert content(out) == before


def test_overwrite_removes_what_the_command_before_asked_for_alone(sample, tmp_path):
    out = tmp_path / "out"
    assert sample(out, *ARGUMENTS).status == 0
    (out / "records").mkdir()
    mine = ("000020.png", "100234.dcm", "00000000.png", "records/manifest.json")
    for name in mine:
        (out / name).write_text("mine")
    result = sample(out, "--condition=view=AP", "--count=2", "--overwrite")
    assert result.status == 0, result.err
    assert all((out / name).read_text() == "mine" for name in mine)
    assert len(content(out)) == len(mine) + 5
    result = sample(out, "--condition=view=AP", "--count=21", "--overwrite")
    assert result.status == 1 and "000020.png" in result.err
    assert (out / "000001.png").exists()


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(sample, tmp_path):
    """A limit on the size of a file stands in for the disk: DICOM files are over it."""
    out = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
    try:
        result = sample(out, *ARGUMENTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.status == 1 and "cannot be written (File too large)" in result.err
    assert result.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.err
    assert not list(out.glob("*.tmp")) and not (out / "manifest.csv").exists()
    assert sample(out, *ARGUMENTS).status == 0
    assert sample(tmp_path / "other", *ARGUMENTS).status == 0
    assert content(out) == content(tmp_path / "other")
