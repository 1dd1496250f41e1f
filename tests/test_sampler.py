"""The exported sampler: what it checks, and what an image of it depends on."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import ddpm_jax
from ddpm_jax.sampler import in_batches, load_sampler

PROMPT = "AP pelvis, both hips, 67-year-old woman"
ROW = {"view": "AP", "side": "both", "age": 67, "sex": "F"}


@pytest.fixture(scope="module")
def sampler(tiny_export):
    return load_sampler(tiny_export)


@pytest.fixture
def folder(tiny_export, tmp_path):
    return shutil.copytree(tiny_export, tmp_path / "exported")


FILES = ["card.md", "program.jax", "sampler.json", "weights.safetensors"]


def test_an_export_is_these_files(tiny_export):
    assert sorted(p.name for p in tiny_export.iterdir()) == sorted(
        [*FILES, "checksums.json"]
    )


@pytest.mark.parametrize("name", FILES)
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: missing; export it again"):
        load_sampler(folder)


@pytest.mark.parametrize("name", FILES)
def test_flipped_byte(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    message = f"{name}: not as it was exported \\(sha256 differs\\)"
    with pytest.raises(ValueError, match=message):
        load_sampler(folder)


@pytest.mark.parametrize("exists", [True, False])
def test_folder_that_is_no_sampler(tmp_path, exists):
    folder = tmp_path if exists else tmp_path / "none"
    with pytest.raises(ValueError, match="no checksums.json here; expected the --out"):
        load_sampler(folder)


def test_checksums_that_are_no_json(folder):
    (folder / "checksums.json").write_text("{")
    with pytest.raises(ValueError, match="checksums.json: not readable JSON"):
        load_sampler(folder)


def rewrite(folder, name, change):
    """Change a JSON file, checksum included."""
    import hashlib

    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    if name != "checksums.json":
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        rewrite(folder, "checksums.json", lambda sums: sums.update({name: digest}))


@pytest.mark.parametrize("version", [0, 2, None])
def test_another_format_version(folder, version):
    rewrite(folder, "sampler.json", lambda content: content.update(format=version))
    message = f"sampler format {version}, but this program reads format 1; export it"
    with pytest.raises(ValueError, match=message):
        load_sampler(folder)


def test_checksums_that_lack_a_file(folder):
    rewrite(folder, "checksums.json", lambda sums: sums.pop("program.jax"))
    with pytest.raises(ValueError, match="lists no program.jax"):
        load_sampler(folder)


def test_checksums_cannot_name_files_elsewhere(folder, tmp_path):
    (tmp_path / "secret").write_text("x")
    rewrite(folder, "checksums.json", lambda sums: sums.update({"../secret": "0"}))
    with pytest.raises(ValueError, match="secret: missing"):
        load_sampler(folder)


def test_a_prompt_is_its_row(sampler):
    by_prompt, by_row = (sampler.sample(r, range(2)) for r in (PROMPT, ROW))
    np.testing.assert_array_equal(by_prompt, by_row)
    assert by_prompt.shape == (2, 16, 16) and by_prompt.dtype == np.uint16


def test_an_image_depends_on_its_request_and_seed_alone(sampler):
    """Alone, in company, in any order; padded parts of one size are one program."""
    seeds = [5, 0, 2**32 - 1, 7, 5]
    requests = [ROW, "lateral right hip", {}, "oblique", "AP"]
    together = sampler.sample(requests, seeds, batch=4)
    for index, (request, seed) in enumerate(zip(requests, seeds, strict=True)):
        alone = sampler.sample(request, [seed], batch=4)
        np.testing.assert_array_equal(alone[0], together[index])
    assert not np.array_equal(together[0], together[4])  # one seed, two requests
    other = sampler.sample(ROW, [6], batch=4)
    assert not np.array_equal(other[0], together[0])  # one request, two seeds


def test_another_batch_size_moves_no_pixel_by_more_than_rounding(sampler):
    one, five = (sampler.sample(ROW, range(5), batch=b).astype(int) for b in (1, 5))
    assert np.abs(one - five).max() <= 1


def test_guidance(sampler):
    default = sampler.sample(ROW, [0])
    stated = sampler.sample(ROW, [0], guidance=sampler.guidance)
    np.testing.assert_array_equal(default, stated)
    # Guidance 0 forgets the request.
    forgotten = sampler.sample([ROW, {}], [3, 3], guidance=0.0)
    plain = sampler.sample([ROW, {}], [3, 3], guidance=1.0)
    differences = [np.abs(np.diff(a.astype(int), axis=0)) for a in (forgotten, plain)]
    assert differences[0].mean() < differences[1].mean()


@pytest.mark.parametrize(
    "seeds, message",
    [
        ([-1], "seed -1: expected 0 to 4294967295"),
        ([0, 2**32], "seed 4294967296: expected 0 to 4294967295"),
        ([], "seeds: expected at least one"),
    ],
)
def test_seeds_out_of_range(sampler, seeds, message):
    with pytest.raises(ValueError, match=message):
        sampler.sample(PROMPT, seeds)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_requests_as_seeds(sampler, count):
    message = f"{count} requests for 2 seeds: expected one for all, or one each"
    with pytest.raises(ValueError, match=message):
        sampler.sample([PROMPT] * count, [0, 1])


@pytest.mark.parametrize(
    "request_, message",
    [
        ("AP pelvis, blue", "cannot read 'blue'"),
        ({"view": "PA"}, "view = 'PA': expected one of AP, lateral, oblique"),
        ({"age": 200}, "age = 200: expected a number from 0 to 120 years"),
        ({"weight": 80}, "field 'weight' is not in the schema"),
    ],
)
def test_requests_that_the_model_does_not_know(sampler, request_, message):
    with pytest.raises(ValueError, match=message):
        sampler.sample(request_, [0])
    with pytest.raises(ValueError, match=message):
        sampler.sample([request_], [0])


def test_batch_of_none(sampler):
    with pytest.raises(ValueError, match="batch = 0: expected 1 or more"):
        sampler.sample(PROMPT, [0], batch=0)


@pytest.mark.parametrize("count, batch", [(1, 4), (4, 4), (9, 4), (3, 1)])
def test_batches_are_full_and_complete(count, batch):
    sizes = []

    def run(seeds, cond):
        sizes.append((len(seeds), len(cond["c"])))
        return seeds * 10 + cond["c"]

    seeds, c = np.arange(count, dtype=np.uint32), np.arange(count) % 3
    made = np.concatenate(list(in_batches(run, seeds, {"c": c}, batch)))
    np.testing.assert_array_equal(made, seeds * 10 + c)
    assert set(sizes) == {(batch, batch)}


def test_the_package_offers_it(tiny_export):
    assert ddpm_jax.load_sampler is load_sampler
    with pytest.raises(AttributeError, match="no attribute 'load_model'"):
        _ = ddpm_jax.load_model


TRAINING_ONLY = (
    *("flax", "optax", "orbax", "ml_collections", "grain", "tensorflow_datasets"),
    *("jaxtyping", "array_record", "clu", "PIL", "absl.app", "tensorflow"),
)
FRESH = f"""
import sys
import ddpm_jax
sampler = ddpm_jax.load_sampler(sys.argv[1])
images = sampler.sample({PROMPT!r}, seeds=range(2))
found = [name for name in {TRAINING_ONLY!r} if name in sys.modules]
assert not found, found
images.tofile(sys.argv[2])
"""


def test_a_fresh_process_needs_no_training_code(sampler, tiny_export, tmp_path):
    """Nor are its images others than this process's."""
    out = tmp_path / "images"
    subprocess.run([sys.executable, "-c", FRESH, tiny_export, out], check=True)
    found = np.fromfile(out, np.uint16).reshape(2, 16, 16)
    np.testing.assert_array_equal(found, sampler.sample(PROMPT, range(2)))
