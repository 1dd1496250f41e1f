"""The exported sampler: what it checks, and what an image of it depends on."""

import hashlib
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export

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


FILES = sorted(
    ["card.md", "sampler.json", "tables.safetensors", "weights.safetensors"]
    + [f"{part}.jax" for part in ("start", "plain", "guided", "composed", "finish")]
)


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


@pytest.mark.parametrize("content", ["{", "null", '["sampler.json"]'])
def test_checksums_that_are_no_json(folder, content):
    (folder / "checksums.json").write_text(content)
    with pytest.raises(ValueError, match="checksums.json: not readable JSON"):
        load_sampler(folder)


def rewrite(folder, name, change):
    """Change a JSON file, checksum included."""
    content = json.loads((folder / name).read_text())
    change(content)
    data = json.dumps(content).encode()
    if name == "checksums.json":
        (folder / name).write_bytes(data)
    else:
        rewrite_bytes(folder, name, data)


def rewrite_bytes(folder, name, data):
    """Replace a file, checksum included."""
    (folder / name).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    rewrite(folder, "checksums.json", lambda sums: sums.update({name: digest}))


@pytest.mark.parametrize(
    "key, version, message",
    [
        ("format", 1, "sampler format 1, but this program reads 2; export it again"),
        ("format", 3, "sampler format 3, but"),
        ("format", None, "sampler format None, but"),
        ("schema_version", 2, "schema version 2, but this program reads 1; export it"),
    ],
)
def test_another_version(folder, key, version, message):
    rewrite(folder, "sampler.json", lambda content: content.update({key: version}))
    with pytest.raises(ValueError, match=message):
        load_sampler(folder)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
def test_a_description_that_is_none(folder, content):
    rewrite_bytes(folder, "sampler.json", content)
    with pytest.raises(ValueError, match="sampler.json: not readable JSON"):
        load_sampler(folder)


def test_a_schema_that_is_none(folder):
    rewrite(folder, "sampler.json", lambda content: content.update(schema=None))
    with pytest.raises(ValueError, match="sampler.json"):
        load_sampler(folder)


def test_checksums_that_lack_a_file(folder):
    rewrite(folder, "checksums.json", lambda sums: sums.pop("plain.jax"))
    with pytest.raises(ValueError, match="lists no plain.jax"):
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


def test_steps(sampler):
    """Those it has, its own by default; all of them from one compilation a part."""
    assert sampler.steps == 4 and sampler.step_counts == (4, 8, 16, 32, 64)
    default, stated = sampler.sample(ROW), sampler.sample(ROW, steps=4)
    np.testing.assert_array_equal(default, stated)
    images = np.stack([sampler.sample(ROW, steps=n).astype(int) for n in (16, 32, 64)])
    first, second = np.abs(np.diff(images, axis=0)).mean((1, 2, 3))
    assert 0 < second < first  # all approach one solution
    with pytest.raises(
        ValueError, match="steps = 5: this sampler has 4, 8, 16, 32, 64"
    ):
        sampler.sample(ROW, steps=5)


def test_stream(sampler):
    seeds = [3, 1]
    moments = list(sampler.stream([PROMPT, {}], seeds, steps=8))
    assert [m.step for m in moments] == list(range(1, 9))
    assert [m.done for m in moments] == 7 * [False] + [True]
    assert {m.steps for m in moments} == {8}
    logsnr = [m.logsnr for m in moments]
    assert logsnr == sorted(logsnr) and any(m.guided for m in moments)
    for moment in moments:
        assert moment.preview.shape == (2, 16, 16)
        assert moment.preview.dtype == np.uint16
        assert moment.z.shape == moment.x_hat.shape == (2, 16, 16)
    final = sampler.sample([PROMPT, {}], seeds, steps=8, batch=2)
    np.testing.assert_array_equal(moments[-1].preview, final)
    # From pure noise towards the image.
    assert abs(np.asarray(moments[0].z).std() - 1) < 0.1
    errors = [np.abs(m.preview.astype(int) - final).mean() for m in moments]
    assert errors[-2] < errors[0]


@pytest.mark.parametrize("every", [3, 8, 100])
def test_stream_every_few_steps(sampler, every):
    """The same moments, only fewer: which steps are shown changes no image."""
    all_of_them = {m.step: m for m in sampler.stream(ROW, [5], steps=8)}
    some = list(sampler.stream(ROW, [5], steps=8, every=every))
    assert [m.step for m in some] == [*range(every, 8, every), 8]
    for moment in some:
        same = all_of_them[moment.step]
        np.testing.assert_array_equal(moment.preview, same.preview)
        np.testing.assert_array_equal(moment.z, same.z)
        assert moment.guided == same.guided and moment.logsnr == same.logsnr


def test_stream_refuses_at_once(sampler):
    for options in ({"every": 0}, {"steps": 5}, {"guidance": float("nan")}):
        with pytest.raises(ValueError, match="expected|this sampler has"):
            sampler.stream(ROW, [0], **options)
    with pytest.raises(ValueError, match="cannot read 'blue'"):
        sampler.stream("blue", [0])


def test_guidance_by_field(sampler):
    """A field of weight 0, or of none, is not known where guidance acts."""
    weights = {"view": 2.0}
    one = sampler.sample([ROW], [3], guidance=weights)
    stated = sampler.sample([ROW], [3], guidance=weights | {"age": 0.0})
    np.testing.assert_array_equal(one, stated)
    other = sampler.sample([ROW], [3], guidance=weights | {"age": 2.0})
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "guidance, message",
    [
        ({"hip": 1.0}, "guidance of 'hip': expected some of view, side"),
        ({"view": float("inf")}, "guidance of view = inf: expected a finite number"),
        (float("nan"), "guidance = nan: expected a finite number"),
        (1e300, "guidance = 1e.300: expected a finite number"),
    ],
)
def test_guidance_that_cannot_be(sampler, guidance, message):
    with pytest.raises(ValueError, match=message):
        sampler.sample(ROW, guidance=guidance)


def test_a_program_that_calls_out_of_stablehlo_is_refused(folder):
    """Checksums are as they should be; what it would call is code all the same."""
    shape = jax.ShapeDtypeStruct((4, 4), np.float32)
    program = export.export(jax.jit(jax.numpy.linalg.cholesky))(shape)
    rewrite_bytes(folder, "finish.jax", program.serialize())
    with pytest.raises(ValueError, match="finish.jax calls lapack_spotrf_ffi"):
        load_sampler(folder)


def test_programs_that_are_none(folder):
    rewrite_bytes(folder, "finish.jax", b"nothing of use")
    with pytest.raises(ValueError, match="cannot be read under jax .* made under jax"):
        load_sampler(folder)


@pytest.mark.parametrize(
    "seeds, message",
    [
        ([-1], "seed = -1: expected a whole number from 0 to 4294967295"),
        ([0, 2**32], "seed = 4294967296: expected a whole number from 0 to 42949672"),
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
    with pytest.raises(
        ValueError, match="batch = 0: expected a whole number from 1 to 65536"
    ):
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
WRONG = """
import sys
import jax
import numpy as np
import ddpm_jax
from ddpm_jax.conditions.numeric import shown
sampler = ddpm_jax.load_sampler(sys.argv[1])
nan, large = float("nan"), 10**5000
seeds = [5, [1.7], [1.0], [nan], [True], [np.True_], ["1"], "12", b"12", [None], [[1]]]
seeds += [{1}, {1: 2}, None, np.array(3), np.array([1.5]), np.array([[1, 2]]), -1]
seeds += [[large]]
numbers = ["2", True, 1.5, nan, [2], b"2", None, np.array([2]), 1j, large]
guidance = [{}, "2", b"2", True, [2.0], {"view": "2"}, {"view": True}, {1: 2.0}, 1j]
guidance += [{"view": None}, np.array([2.0]), large, nan]
requests = [5, None, b"AP", {"AP"}, [5], [None], [b"AP"], iter(["AP"]), [["AP"]]]
requests += [{"age": [1]}, {1: 2}, {"age": True}, {"view": "x" * 10**5}]
cases = [("seeds", value, {"seeds": value}) for value in seeds]
cases += [("guidance", value, {"guidance": value}) for value in guidance]
cases += [(n, v, {n: v}) for n in ("steps", "batch") for v in numbers]
cases += [("", value, {"request": value}) for value in requests]
for name, value, given in cases:
    for act in (sampler.sample, sampler.stream):
        if "batch" in given and act == sampler.stream:
            name, given = "every", {"every": value}
        if given in ({"steps": None}, {"every": large}):
            continue
        try:
            act(**({"request": "AP"} | given))
            said = "nothing"
        except ValueError as error:
            said = str(error)
        except Exception as error:
            said = repr(error)
        fine = "expected" in said or "this sampler has" in said
        if not fine or name[:4] not in said or len(said) > 250 or chr(10) in said:
            print(act.__name__, name, shown(value), ":", said[:300])
same = sampler.sample("AP", seeds=[3], steps=8, batch=2, guidance=2)
for kind in (np.int8, np.uint32, np.int64, jax.numpy.int32):
    options = {"steps": kind(8), "batch": kind(2), "guidance": kind(2)}
    number = sampler.sample("AP", [kind(3)], **options)
    many = sampler.sample("AP", np.array([3], kind), steps=8, batch=2, guidance=2.0)
    assert (number == same).all() and (many == same).all(), kind
"""


def test_what_is_no_number_is_refused_by_what_is_allowed(tiny_export):
    """In a process without the tests' own checks of types, as users have it."""
    ran = subprocess.run(
        [sys.executable, "-c", WRONG, tiny_export],
        capture_output=True,
        text=True,
    )
    assert (ran.stdout, ran.stderr) == ("", "")


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
