"""What could betray the truth: pixels, names, order. Laws of the path and the draw."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import ndimage, stats
from statsmodels.stats.multitest import multipletests

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.reader_study import blinding, draw, pixels, selection, study, writing
from ddpm_jax.reader_study.material import Candidate

NOT = "not in view"
PLAIN = pixels.Path(bits=8, floor=0.02, frame=0.0, corners=0.0, cover=False)


def texture(rng, count=20, size=48, level=0.4) -> list[np.ndarray]:
    """Smooth images in [0, 1] with noise."""
    noise = rng.normal(size=(count, size, size))
    smooth = ndimage.gaussian_filter(noise, (0, 4, 4))
    return list(np.clip(level + smooth + 0.02 * rng.normal(size=noise.shape), 0, 1))


def stored(images, bits) -> list[np.ndarray]:
    return [np.round(i * (2**bits - 1)).astype(np.uint16) for i in images]


def betrays(real, synthetic, path) -> set[str]:
    """What the audit finds of (images, bits) on each side."""
    sides = ([path(i, bits) for i in images] for images, bits in (real, synthetic))
    return {one.name for one in blinding.audit(*sides, path.levels) if one.betrays}


# ---- the pixel path ----


@given(
    some.integers(8, 12),
    some.integers(12, 16),
    some.integers(0, 2**32 - 1),
    some.floats(0, 0.2),
)
def test_stored_depth_cannot_be_seen(bits, more, seed, floor):
    """The same picture stored with more bits, whatever they are, is shown alike."""
    rng = np.random.default_rng(seed)
    path = dataclasses.replace(PLAIN, bits=8, floor=floor)
    image = rng.integers(2**bits, size=(9, 7)).astype(np.uint16)
    low = rng.integers(2 ** (more - bits), size=image.shape)
    deeper = (image.astype(int) << (more - bits) | low).astype(np.uint16)
    np.testing.assert_array_equal(path(image, bits).image, path(deeper, more).image)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_every_level_stands_for_equally_many(bits):
    """No comb of the path's own: a flat histogram stays flat between the ends."""
    every = np.arange(2**bits).astype(np.uint16).reshape(16, -1)
    counts = np.bincount(PLAIN(every, bits).image.ravel(), minlength=PLAIN.levels)
    assert len(counts) == PLAIN.levels
    assert set(counts[1:-1]) == {2 ** (bits - 8)}


def test_near_zero_and_zero_are_one():
    image = np.array([[0, 3, 60, 4000, 4090, 4095]] * 2, np.uint16)
    path = dataclasses.replace(PLAIN, bits=12)
    shown = path(image, 12).image
    assert shown[0, :3].tolist() == [0, 0, 0]
    assert set(shown[0, 4:].tolist()) == {path.levels - 1}


@given(some.integers(16, 60), some.integers(16, 60), some.floats(0, 0.3))
def test_frame_and_corners_are_the_same_for_all(height, width, frame):
    path = dataclasses.replace(PLAIN, frame=frame, corners=0.2)
    image = np.full((height, width), 255, np.uint16)
    shown = path(image, 8).image
    assert shown.shape == path.shape(height, width)
    np.testing.assert_array_equal(shown == 0, ~pixels.rounded(*shown.shape, 0.2))
    np.testing.assert_array_equal(shown, shown[::-1, ::-1])


@pytest.mark.parametrize("top, left", [(6, 6), (6, 150), (150, 8), (150, 150)])
def test_a_marker_is_covered_and_anatomy_is_not(top, left):
    rng = np.random.default_rng(0)
    image = stored(texture(rng, 1, 192, 0.3), 8)[0]
    marked = image.copy()
    marked[top : top + 30, left : left + 8] = 255
    marked[top + 22 : top + 30, left : left + 24] = 255
    assert pixels.find_markers(image, 256) == []
    found = pixels.find_markers(marked, 256)
    assert len(found) == 1
    covered = pixels.cover(marked, found)
    assert (covered[marked != image] == 0).all()
    assert np.mean(covered != image) < 0.06


def test_a_large_bright_implant_is_no_marker():
    image = np.full((192, 192), 60, np.uint16)
    image[40:150, 90:130] = 255
    assert pixels.find_markers(image, 256) == []


# ---- the audit ----


def test_two_halves_of_one_set_do_not_betray():
    """Over many draws as often as the level says, which is hardly ever."""
    alarms = 0
    for seed in range(20):
        images = stored(texture(np.random.default_rng(seed), 40), 12)
        alarms += bool(betrays((images[::2], 12), (images[1::2], 12), PLAIN))
    assert alarms <= 1


def test_planted_tells_are_found_and_cured():
    rng = np.random.default_rng(3)
    real, synthetic = texture(rng), texture(rng)
    deep = dataclasses.replace(PLAIN, bits=12)

    combed = [i * 16 + (i >> 4) for i in stored(real, 8)]  # 8 bits stretched to 12
    smooth = (stored(synthetic, 16), 16)
    assert "comb" in betrays((combed, 12), smooth, deep)
    assert betrays((combed, 12), smooth, PLAIN) == set()

    padded, near = stored(real, 12), stored(synthetic, 16)
    for image in padded:
        image[:, :12] = 0
    for image in near:
        image[:, :12] = rng.integers(100, 600, size=(48, 12))  # a model's zeros
    bare = dataclasses.replace(PLAIN, floor=0.0)
    assert {"zeros", "edge"} <= betrays((padded, 12), (near, 16), bare)
    assert betrays((padded, 12), (near, 16), PLAIN) == set()


def test_markers_on_one_side_betray_though_they_are_covered():
    rng = np.random.default_rng(4)
    real, synthetic = stored(texture(rng, 20, 96, 0.3), 12), texture(rng, 20, 96, 0.3)
    for image in real:
        image[6:22, 8:12] = image[18:22, 8:20] = 4095
    path = dataclasses.replace(PLAIN, cover=True)
    assert "markers" in betrays((real, 12), (stored(synthetic, 16), 16), path)


def test_markers_that_are_found_on_one_side_only_betray():
    """Crisp letters are covered, smeared ones are not, and both sides have as many."""
    rng = np.random.default_rng(6)
    real, smeared = texture(rng, 20, 96, 0.3), texture(rng, 20, 96, 0.3)
    for image in real:
        image[8:24, 8:12] = image[20:24, 8:20] = 1.0
    for image in smeared:
        image[4:24, 4:24] = 0.85 + 0.05 * rng.normal(size=(20, 20))
    path = dataclasses.replace(PLAIN, cover=True)
    found = betrays((stored(real, 12), 12), (stored(smeared, 16), 16), path)
    assert "corners" in found


def test_the_path_goes_down_to_bits_that_do_not_tell():
    class Images:
        height = width = 48
        candidates = ()

        def __init__(self, images, bits):
            self.images, self.bits = images, bits

        def read(self, index):
            return self.images[index]

    rng = np.random.default_rng(5)
    combed = [i * 16 + (i >> 4) for i in stored(texture(rng), 8)]
    sides = {
        study.REAL: Images(combed, 12),
        study.SYNTHETIC: Images(stored(texture(rng), 16), 16),
    }
    shown = [
        writing.Shown(side, Candidate(i, "", {}, None))
        for i in range(20)
        for side in study.TRUTHS
    ]
    deep = dataclasses.replace(PLAIN, bits=12)
    path, lines = selection.choose_path(deep, 8, sides, shown)
    assert 8 <= path.bits < 12
    assert not [one.name for one in lines if one.betrays]


@pytest.mark.parametrize("count", range(1, 10))
def test_holm_is_that_of_statsmodels(count):
    p = (np.random.default_rng(count).uniform(size=count) ** 4).tolist()
    found = blinding.holm({str(i): value for i, value in enumerate(p)})
    expected = multipletests(p, method="holm")[1]
    np.testing.assert_allclose([found[str(i)] for i in range(len(p))], expected)


# ---- names, order, repeats ----


def plan(sides: list[str], repeats: int = 0) -> writing.Plan:
    shown = [
        writing.Shown(side, Candidate(i, str(i), {}, None))
        for i, side in enumerate(sides)
    ]
    protocol, readers = study.REAL_OR_SYNTHETIC, ["a", "b"]
    return writing.Plan(
        protocol, readers, shown[:4], shown[4:], repeats, Schema(()), PLAIN
    )


def drawn(seed: int, one: writing.Plan) -> tuple[list[str], study.Study]:
    rng = np.random.default_rng(seed)
    count = len(one.training) + len(one.counted)
    order = rng.permutation(count).tolist()
    ids = dict(zip(order, draw.new_ids(rng, count), strict=True))
    names = [ids[i] for i in range(count)]
    return names, writing.new_study(rng, one, names, (8, 8))


@given(some.integers(0, 2**32 - 1), some.permutations(["real"] * 8 + ["synthetic"] * 8))
@settings(max_examples=30)
def test_what_is_served_does_not_depend_on_the_truth(seed, sides):
    """Real and synthetic exchanged: the same names in the same order, to the letter;
    only what practice images are told to be is another."""
    other = [{"real": "synthetic", "synthetic": "real"}[side] for side in sides]
    one, two = (drawn(seed, plan(s))[1].to_json() for s in (sides, other))
    assert one.pop("feedback") != two.pop("feedback")
    assert one == two


def test_neither_names_nor_places_nor_repeats_lean():
    """200 designs: ranks of names and places are as chance has them, 4 sigma."""
    sides = ["real", "synthetic"] * 22
    names_rank, places, again = [], [], []
    for seed in range(200):
        one = plan(sides, repeats=10)
        names, made = drawn(seed, one)
        truth = dict(zip(names, sides, strict=True))
        ranked = sorted(names)
        names_rank.append(np.mean([truth[n] == "real" for n in ranked[:22]]))
        for members in made.sequences.values():
            counted = [truth[s.image] for s in members if s.kind == study.COUNTED]
            places.append(np.mean([t == "real" for t in counted[:20]]))
            repeated = [truth[s.image] for s in members if s.kind == study.REPEAT]
            again.append(repeated.count("real"))
    # Half of 44 or 40 drawn without replacement: variance of the hypergeometric mean.
    for found, total, half in ((names_rank, 44, 22), (places, 40, 20)):
        sigma = stats.hypergeom(total, total // 2, half).std() / half
        assert abs(np.mean(found) - 0.5) < 4 * sigma / len(found) ** 0.5
    assert set(again) == {5}


@given(some.integers(2, 60), some.floats(0, 1), some.integers(0, 2**32 - 1))
def test_a_sequence_shows_each_once_and_repeats_later(count, share, seed):
    rng = np.random.default_rng(seed)
    counted = [f"i{i}" for i in range(count)]
    repeats = counted[: int(share * (count // 2))]
    made = draw.sequence(rng, ["p0", "p1"], counted, repeats)
    kinds = [one.kind for one in made]
    assert kinds[:2] == [study.TRAINING] * 2 and study.TRAINING not in kinds[2:]
    first = {s.image: i for i, s in enumerate(made) if s.kind == study.COUNTED}
    again = {s.image: i for i, s in enumerate(made) if s.kind == study.REPEAT}
    assert sorted(first) == sorted(counted) and sorted(again) == sorted(repeats)
    for image, place in again.items():
        assert place > first[image] + (count - 1) // 3


# ---- pairs ----


@given(some.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_pairs_are_alike_and_of_different_patients(seed):
    rng = np.random.default_rng(seed)

    def side(patients):
        return [
            Candidate(i, "", {"view": "AB"[rng.integers(2)]}, patients and i // 3)
            for i in range(30)
        ]

    real, synthetic = side(True), side(None)
    clean = (lambda c: True, lambda c: bool(c.index % 2))
    made = list(draw.pairs(rng, real, synthetic, ["view"], clean))
    assert all(a.row == b.row and b.index % 2 for a, b in made)
    assert len({a.patient for a, _ in made}) == len(made)
    assert len({b.index for _, b in made}) == len(made)


def test_a_planted_label_is_another_value_of_a_known_field():
    row = {"view": "AP", "side": None, "age": 60.0}
    names = ("view", "side", "age")
    rng = np.random.default_rng(0)
    found = {draw.planted(rng, row, PELVIS, names, frozenset()) for _ in range(50)}
    assert found == {("view", "lateral"), ("view", "oblique")}
    assert draw.planted(rng, {"age": 60.0}, PELVIS, names, frozenset()) is None


def test_a_planted_label_does_not_contradict_the_others():
    """A claim that no image ever bears would be found with the eyes shut."""
    right = {"side": "right", "prosthesis_right": "yes", "prosthesis_left": NOT}
    left = {"side": "left", "prosthesis_right": NOT, "prosthesis_left": "no"}
    rows = [right, right | {"prosthesis_right": "no"}, left]
    seen = draw.seen_together(
        [Candidate(i, "", row, None) for i, row in enumerate(rows)]
    )
    rng = np.random.default_rng(0)
    found = {draw.planted(rng, right, PELVIS, PELVIS.names, seen) for _ in range(50)}
    assert found == {("prosthesis_right", "no")}
    assert draw.planted(rng, left, PELVIS, PELVIS.names, seen) is None
    assert draw.planted(rng, left, PELVIS, ["side"], seen) is not None
