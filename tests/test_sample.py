"""`python -m ddpm_jax.sample`: what it makes, and what it says of a bad request."""

import csv

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

from ddpm_jax import sources
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.outputs.requests import read_conditions

PROMPT = "AP pelvis, both hips, right hip prosthesis, 67-year-old woman, BMI 31"


def manifest(out):
    with open(out / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def pixels(out):
    images = []
    for row in manifest(out):
        with Image.open(out / row["file"]) as image:
            assert image.mode == "I;16" and image.size == (16, 16)
            images.append(np.asarray(image).copy())
    return images


def test_prompt_to_files(command, tiny_run, tmp_path):
    out = tmp_path / "images"
    result = command(
        "sample",
        *(f"--workdir={tiny_run}", f"--out={out}", f"--prompt={PROMPT}"),
        *("--count=3", "--seed=5"),
    )
    assert result.status == 0, result.err
    assert "prosthesis_right = yes ('right hip prosthesis')" in result.out
    assert str(out / "contact_sheet.png") in result.out
    names = [f"{i:06d}.png" for i in range(3)]
    assert sorted(p.name for p in out.iterdir()) == sorted(
        [*names, "contact_sheet.png", "manifest.csv", "request.json"]
    )
    rows = manifest(out)
    assert [row["file"] for row in rows] == names
    assert [row["seed"] for row in rows] == ["5", "6", "7"]
    assert {row["prompt"] for row in rows} == {PROMPT}
    assert {(row["view"], row["side"], row["sex"]) for row in rows} == {
        ("AP", "both", "F")
    }
    assert {(row["age"], row["bmi"], row["prosthesis_left"]) for row in rows} == {
        ("67.0", "31.0", "")
    }
    assert {len(row["model_sha256"]) for row in rows} == {64}
    images = pixels(out)
    assert not np.array_equal(images[0], images[1])
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 3 * 200 or sheet.height > 2 * 200


def test_run_and_its_export_make_the_same_images(
    command, tiny_run, tiny_export, tmp_path
):
    """And an image does not change with the number that is asked for."""
    sources = {"run": f"--workdir={tiny_run}", "export": f"--sampler={tiny_export}"}
    for name, source in sources.items():
        result = command(
            "sample", source, f"--out={tmp_path / name}", "--prompt=AP", "--count=3"
        )
        assert result.status == 0, result.err
    for one, other in zip(*(pixels(tmp_path / n) for n in sources), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1  # two compilations
    hashes = {manifest(tmp_path / name)[0]["model_sha256"] for name in sources}
    assert len(hashes) == 1


def test_conditions_with_seeds(command, tiny_export, tmp_path):
    """Each line has its seed, or goes on from --seed; prompt and columns combine."""
    table = tmp_path / "conditions.csv"
    table.write_text(
        "view,age,seed,prompt\nAP,67,7,\nlateral,,7,\n,,,oblique left hip\nAP,67,7,\n"
    )
    out = tmp_path / "images"
    result = command(
        "sample",
        *(f"--sampler={tiny_export}", f"--out={out}", f"--conditions={table}"),
        "--seed=100",
    )
    assert result.status == 0, result.err
    rows = manifest(out)
    assert [row["seed"] for row in rows] == ["7", "7", "102", "7"]
    assert [row["view"] for row in rows] == ["AP", "lateral", "oblique", "AP"]
    assert [row["side"] for row in rows] == ["", "", "left", ""]
    assert [row["age"] for row in rows] == ["67.0", "", "", "67.0"]
    first, other, _, again = pixels(out)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "text, message",
    [
        ("view,age\nAP,67\nPA,60\n", "line 3: view = 'PA': expected one of AP"),
        ("view,age\nAP,sixty\n", "line 2: age = 'sixty': expected a number from 0"),
        ("seed\n-1\n", "line 2: seed = '-1': expected a whole number from 0"),
        ("seed\n1.5\n", "line 2: seed = '1.5'"),
        ("prompt\nAP\nblue\n", "line 3: prompt: cannot read 'blue'"),
        ("view,weight\nAP,80\n", "columns weight: expected some of view, side"),
        ("view,age\n", "no rows; expected one an image"),
        ("", "empty; expected a CSV or Parquet"),
    ],
)
def test_conditions_that_cannot_be_read(tmp_path, text, message):
    table = tmp_path / "conditions.csv"
    table.write_text(text)
    with pytest.raises(ValueError) as raised:
        read_conditions(str(table), PELVIS)
    assert message in str(raised.value) and str(table) in str(raised.value)


def test_conditions_that_are_not_there(command, tiny_export, tmp_path):
    result = command(
        "sample",
        *(f"--sampler={tiny_export}", f"--out={tmp_path / 'out'}"),
        f"--conditions={tmp_path / 'none.csv'}",
    )
    assert result.status == 1 and "none.csv" in result.err
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_columns_add_to_the_prompt(tmp_path):
    table = tmp_path / "conditions.csv"
    table.write_text("prompt,age\nAP pelvis,50\n")
    ((row, seed, prompt),) = read_conditions(str(table), PELVIS)
    assert (row["view"], row["age"], seed, prompt) == ("AP", 50, None, "AP pelvis")


CSV_FAULTS = {
    "an unquoted comma": ("prompt\nAP pelvis, both hips\n", "line 2: 2 cells for 1"),
    "a short row": ("view,side\nAP\n", "line 2: 1 cells for 2"),
    "a column twice": ("view,view\nAP,AP\n", "each once"),
    "a contradiction": ("prompt,view\nAP pelvis,lateral\n", "says view = AP"),
    "a seed that is no number": ("view,seed\nAP,\u00b2\n", "expected a whole number"),
}


@pytest.mark.parametrize("fault", CSV_FAULTS)
def test_conditions_that_would_lose_something_are_refused(tmp_path, fault):
    content, message = CSV_FAULTS[fault]
    path = tmp_path / "conditions.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_conditions(str(path), PELVIS)


def test_conditions_with_a_byte_order_mark_and_of_a_manifest_are_read(tmp_path):
    path = tmp_path / "conditions.csv"
    path.write_text("\ufefffile,seed,view,model_sha256\n000000.png,7,AP,ab\n")
    [(row, seed, prompt)] = read_conditions(str(path), PELVIS)
    assert (row["view"], seed, prompt) == ("AP", 7, "")


def test_a_run_and_its_export_have_one_hash(tiny_run, tiny_export):
    trained = sources.open_source(str(tiny_run), None)
    exported = sources.open_source(None, str(tiny_export))
    assert trained.model_hash == exported.model_hash
    assert trained.size == exported.size


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_guidance_that_is_not_finite_is_refused(tiny_export, weight):
    source = sources.open_source(None, str(tiny_export))
    with pytest.raises(ValueError, match="expected a finite number"):
        sources.images(source, [{}], [0], guidance=weight)


def test_the_same_images_by_condition_by_table_and_by_manifest(
    command, tiny_export, tmp_path
):
    def sample(name, *arguments):
        result = command(
            "sample", f"--sampler={tiny_export}", f"--out={tmp_path / name}", *arguments
        )
        assert result.status == 0, result.err
        return pixels(tmp_path / name)

    pairs = ["--condition=view=AP", "--condition=age=70", "--seed=3"]
    expected = sample("pairs", *pairs, "--guidance=3")
    table = pd.DataFrame({"view": ["AP"], "age": [70], "seed": [3]})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    others = {
        "csv": [f"--conditions={tmp_path / 'a.csv'}", "--guidance=3"],
        "parquet": [f"--conditions={tmp_path / 'a.parquet'}", "--guidance=3"],
        "prompt": ["--prompt=AP pelvis", "--condition=age=70", "--seed=3"]
        + ["--guidance=3"],
        "again": [f"--conditions={tmp_path / 'pairs' / 'manifest.csv'}"],
    }
    for name, arguments in others.items():
        np.testing.assert_array_equal(sample(name, *arguments), expected)
    (row,) = manifest(tmp_path / "again")
    (before,) = manifest(tmp_path / "pairs")
    assert row == before and (row["guidance"], row["steps"]) == ("3.0", "4")


def test_dicom_files_hold_the_pixels_of_the_pngs(command, tiny_export, tmp_path):
    result = command(
        "sample",
        *(f"--sampler={tiny_export}", f"--out={tmp_path / 'out'}", "--count=3"),
        *("--condition=sex=F", "--format=dicom", "--format=png", "--uid_root=1.2.3"),
    )
    assert result.status == 0, result.err
    rows = manifest(tmp_path / "out")
    for row, image in zip(rows, pixels(tmp_path / "out"), strict=True):
        path = tmp_path / "out" / row["file"].replace(".png", ".dcm")
        found = pydicom.dcmread(path)
        np.testing.assert_array_equal(found.pixel_array, image)
        assert found.SOPInstanceUID == row["sop_instance_uid"]
        assert found.PatientSex == "F" and row["model_sha256"] in str(found)
    assert len({row["sop_instance_uid"] for row in rows}) == 3


@pytest.mark.parametrize("chosen", ["dicom", "records"])
def test_a_contact_sheet_without_pngs(command, tiny_export, tmp_path, chosen):
    def sheet(name, *arguments):
        out = tmp_path / name
        result = command(
            "sample",
            *(f"--sampler={tiny_export}", f"--out={out}", "--condition=view=AP"),
            *("--count=3", *arguments),
        )
        assert result.status == 0, result.err
        return (out / "contact_sheet.png").read_bytes()

    assert sheet("png") == sheet(chosen, f"--format={chosen}")
    assert not list((tmp_path / chosen).glob("0*.png"))


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["--format=png,jpeg"], "--format jpeg: expected some of png, dicom, records"),
        (["--format="], "--format : expected some of"),
        (
            ["--uid_root=1.02", "--format=dicom"],
            "--uid_root = '1.02': expected",
        ),
        (["--splits=train=2", "--format=records"], "expected a share above 0"),
        (["--burn_in"], "--burn_in: no room for a mark in images of 16 x 16 px"),
        (["--condition=weight=80"], "'weight=80': field 'weight' is not in the schema"),
        (["--prompt=lateral"], "the prompt says view = lateral, --condition AP"),
        (["--conditions=view=AP"], "field=value is for --condition"),
    ],
)
def test_flags_that_say_nothing_of_use(command, tiny_export, tmp_path, arguments, part):
    result = command(
        "sample",
        *(f"--sampler={tiny_export}", f"--out={tmp_path / 'out'}"),
        *("--condition=view=AP", *arguments),
    )
    assert result.status == 1 and part in result.err, result.err
    assert len(result.err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_manifest_of_another_model_or_of_other_steps(command, tiny_export, tmp_path):
    table = tmp_path / "manifest.csv"
    table.write_text("view,steps,model_sha256\nAP,4,ab\n")
    arguments = [f"--sampler={tiny_export}", f"--conditions={table}"]
    result = command("sample", *arguments, f"--out={tmp_path / 'out'}")
    assert result.status == 0 and "made by another model (ab" in result.out
    table.write_text("view,steps\nAP,9\n")
    result = command("sample", *arguments, f"--out={tmp_path / 'other'}")
    assert result.status == 1 and "steps = 9: this sampler has 4, 8, 16" in result.err
    table.write_text("view,steps\nAP,8\n")
    result = command("sample", *arguments, f"--out={tmp_path / 'eight'}")
    assert result.status == 0
    assert (tmp_path / "eight" / "manifest.csv").read_text().endswith(",8\n")


@pytest.mark.parametrize("steps", ["inf", "nan", "8.7"])
def test_a_number_of_steps_that_is_none(command, tiny_export, tmp_path, steps):
    (tmp_path / "asked.csv").write_text(f"view,steps\nAP,{steps}\n")
    result = command(
        "sample",
        *(f"--sampler={tiny_export}", f"--out={tmp_path / 'out'}"),
        f"--conditions={tmp_path / 'asked.csv'}",
    )
    assert result.status == 1
    assert "column steps: expected a whole number" in result.err
