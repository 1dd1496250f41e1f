"""Every engine, slice and interruption gives the same bytes and loses no file."""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from data_prep import pipeline, planning, plans
from data_prep.job import Job, parse_slice
from data_prep.worker import Reading
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import records
from tests.dicoms import archive, noise, save, write_labels

KEY = b"a key for tests, sixteen or more"
SHARES = {"train": 0.7, "test": 0.3}


def make(folder: Path, out: Path, **options) -> Job:
    options = {"records_per_shard": 3, "workers": 2} | options
    return Job(
        folder / "archive",
        folder / "labels.csv",
        out,
        KEY,
        PELVIS,
        SHARES,
        reading=Reading(16),
        **options,
    )


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(a folder with an archive of 40 images, what a quiet run makes of it)."""
    folder = tmp_path_factory.mktemp("engine")
    archive(folder, count=40, patients=12)
    save(folder / "archive" / "twin.dcm", noise(3), PatientID="P3")
    save(folder / "archive" / "alien.dcm", noise(4), PatientID="X")
    lines = (folder / "labels.csv").read_text().splitlines()
    lines += [",twin.dcm,AP,,,,,,", ",alien.dcm,AP,,,,,,"]
    (folder / "labels.csv").write_text("\n".join(lines))
    manifest = pipeline.run(make(folder, folder / "out"))
    assert manifest.ledger["codes"] == {"DUP_CROSS": 2, "DUP_SAME": 1, "WRITTEN": 39}
    return folder, content(folder / "out")


def test_slices_and_steps_are_the_whole(whole, tmp_path):
    folder, expected = whole
    job = make(folder, tmp_path / "out")
    pipeline.run(dataclasses.replace(job, step="plan"))
    for i in (2, 0):
        pipeline.run(dataclasses.replace(job, step="write", shards=(i, 3)))
    with pytest.raises(ValueError, match="shards are not there .* --shards i/n"):
        pipeline.run(dataclasses.replace(job, step="finish"))
    assert not (tmp_path / "out" / records.MANIFEST).exists()
    pipeline.run(dataclasses.replace(job, step="write", shards=(1, 3)))
    pipeline.run(dataclasses.replace(job, step="finish"))
    assert content(tmp_path / "out") == expected


@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_beam_gives_the_same_bytes(whole, tmp_path, mode):
    pytest.importorskip("apache_beam", reason="needs the extra [beam]")
    folder, expected = whole
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(KEY)
    options = f"--direct_running_mode={mode} --direct_num_workers=2"
    arguments = [
        *("--dicom", folder / "archive", "--labels", folder / "labels.csv"),
        *("--out", tmp_path / "out", "--key_file", key, "--size=16"),
        *("--records_per_shard=3", "--splits=train=0.7,test=0.3"),
        *("--runner=DirectRunner", f"--beam_options={options}"),
    ]
    done = run(arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert content(tmp_path / "out") == expected


def run(arguments, **options):
    return subprocess.run(command(arguments), capture_output=True, text=True, **options)


def command(arguments) -> list[str]:
    return [sys.executable, "-m", "data_prep.convert", *map(str, arguments)]


def arguments_for(folder: Path, out: Path) -> list:
    return [
        *("--dicom", folder / "archive", "--labels", folder / "labels.csv"),
        *("--out", out, "--size=16", "--records_per_shard=3", "--workers=2"),
        "--splits=train=0.7,test=0.3",
    ]


@pytest.mark.slow
def test_twenty_kills_and_a_rerun_give_the_same_bytes(whole, tmp_path):
    folder, expected = whole
    out, rng, killed, longest = tmp_path / "out", random.Random(0), 0, 4.0
    environment = os.environ | {"DDPM_JAX_KEY": KEY.decode()}
    arguments = [*arguments_for(folder, out), "--overwrite"]
    while killed < 20:
        started = time.monotonic()
        process = subprocess.Popen(
            command(arguments),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        try:
            process.wait(rng.uniform(0.3, 1) * longest)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:  # it may have ended between the time and the signal
            assert process.returncode == 0
            longest = time.monotonic() - started
            shutil.rmtree(out)
    done = run(arguments, env=environment)
    assert done.returncode == 0, done.stderr
    assert content(out) == expected


def test_interrupt_is_quick_and_leaves_no_process(whole, tmp_path):
    folder, _ = whole
    process = subprocess.Popen(
        command(arguments_for(folder, tmp_path / "out")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"DDPM_JAX_KEY": KEY.decode()},
        start_new_session=True,
    )
    for _ in range(600):
        if (tmp_path / "out.private").exists():
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    assert process.returncode in (0, 130, -signal.SIGINT), err  # a shell says 130


def test_full_disk_is_one_line_and_no_data_set(whole, tmp_path):
    folder, _ = whole

    done = subprocess.run(
        [
            *("bash", "-c", 'ulimit -f 29; exec "$@"', "convert"),
            *command(arguments_for(folder, tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"DDPM_JAX_KEY": KEY.decode()},
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*.json"))


def test_write_under_other_packages_is_refused(whole, tmp_path, monkeypatch):
    job = make(whole[0], tmp_path / "out")
    pipeline.run(dataclasses.replace(job, step="plan"))
    monkeypatch.setattr(plans, "versions", lambda: {"numpy": "1.0"})
    with pytest.raises(ValueError, match="planned with .* here are numpy 1.0"):
        pipeline.run(dataclasses.replace(job, step="write"))


def test_two_conversions_of_one_folder_are_refused(whole, tmp_path):
    job = make(whole[0], tmp_path / "out")
    job.private_folder.mkdir()
    with pipeline._alone(job), pytest.raises(ValueError, match="another conversion"):
        pipeline.run(job)


def test_dry_run_tells_the_same_and_writes_nothing(whole, tmp_path):
    folder, _ = whole
    before = sorted(tmp_path.rglob("*"))
    job = make(folder, tmp_path / "out", dry_run=True)
    ledger = pipeline.run(job).ledger
    assert ledger == records.load_manifest(folder / "out").ledger
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "1", "1/1", "2/1", "-1/2", "a/b"])
def test_slices_that_are_none(text):
    with pytest.raises(ValueError, match="expected i/n"):
        parse_slice(text)


ENDINGS = {
    "WRITTEN": {},
    "MULTIFRAME": {"NumberOfFrames": 2},
    "FOR_PROCESSING": {"PresentationIntentType": "FOR PROCESSING"},
    "PHI_SUSPECT": {"BurnedInAnnotation": "YES"},
    "NO_PATIENT": {"PatientID": ""},
    "TRUNCATED": {"Rows": 99},
    "SOP_CLASS": {"Modality": "CT"},
    "BOMB": {"Rows": 20000, "Columns": 20000},
    "NO_PIXELS": {"Rows": 0},
}


def test_ledger_of_a_thousand_mixed_files_is_exact(tmp_path):
    rng, expected, rows = random.Random(1), Counter(), []
    for i in range(1000):
        code = rng.choice([*ENDINGS, "NOT_DICOM", "LABEL_MISSING", "NOT_REGULAR"])
        path = tmp_path / "archive" / f"{i:04d}.dcm"
        save(path, noise(i, (12, 12)), **ENDINGS.get(code, {}))
        if code == "NOT_DICOM":
            path.write_bytes(rng.randbytes(200))
        if code == "NOT_REGULAR":
            path.unlink()
            os.mkfifo(path)
        if code != "LABEL_MISSING":
            rows.append({"file": path.name, "view": "AP"})
        expected[code] += 1
    write_labels(tmp_path / "labels.csv", rows)
    job = make(tmp_path, tmp_path / "out", records_per_shard=0)
    ledger = pipeline.run(job).ledger
    assert ledger["codes"] == dict(expected)
    actions = ("written", "duplicate", "excluded", "quarantined", "dead")
    assert sum(ledger[action] for action in actions) == ledger["listed"] == 1000
    rejected = (tmp_path / "out" / "rejected.csv").read_text().splitlines()[1:]
    assert Counter(line.split(",")[2] for line in rejected) == expected - Counter(
        WRITTEN=expected["WRITTEN"]
    )
    assert len(planning.list_files(tmp_path / "archive")) == 1000
