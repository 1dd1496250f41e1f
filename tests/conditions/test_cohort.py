"""Laws of a cohort: it is distributed like the data, and copies nobody."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ddpm_jax.conditions import bootstrap, own
from ddpm_jax.conditions.cells import Cells
from ddpm_jax.conditions.cohort import Joint
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.conditions.schema import Categorical, Continuous, Schema
from ddpm_jax.conditions.small_cells import LEAST

AGE = PELVIS["age"]
KNEE = Schema(
    (
        Continuous("space", "mm", 0, 10, 4, 1, "joint space"),
        Categorical("grade", ("0", "1", "2"), "grade"),
        Categorical("spur", ("no", "yes"), "spur"),
        Continuous("angle", "degrees", -20, 20, 0, 5, "angle"),
    )
)
LABELS = Schema(tuple(f for f in KNEE if f.kind == "categorical"))


def clinic(n: int, seed: int = 0, missing: float = 0.0) -> list[dict]:
    """Rows in which a side excludes the other's prosthesis, and prostheses are old."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        side = rng.choice(["right", "left", "both"], p=[0.2, 0.3, 0.5])
        worn = {
            s: side in (s, "both") and rng.random() < 0.4 for s in ("right", "left")
        }
        age = rng.normal(72 if any(worn.values()) else 50, 9)
        row = {
            "view": rng.choice(["AP", "lateral"], p=[0.8, 0.2]),
            "side": str(side),
            "sex": rng.choice(["F", "M"]),
            "age": float(np.clip(round(age), 18, 90)),
            "bmi": round(float(np.clip(20 + age / 8 + rng.normal(0, 2), 15, 50)), 1),
        }
        for s in ("right", "left"):
            here = side in (s, "both")
            row[f"prosthesis_{s}"] = (
                "yes" if worn[s] else "no" if here else "not in view"
            )
        rows.append({k: v for k, v in row.items() if rng.random() >= missing})
    return rows


def joint(rows, schema=PELVIS, known=(), patients=None) -> Joint:
    conditions = schema.encode(rows)
    whose = np.arange(len(rows)) if patients is None else patients
    return Joint.make(schema, conditions, whose, known)


def keys(conditions, names) -> list[tuple]:
    """The codes of categorical fields of each row."""
    return list(zip(*(conditions[name].tolist() for name in names), strict=True))


def close(found: Counter, expected: Counter) -> None:
    """Both distributions of the same thing: within 5 standard errors of the draw."""
    n, whole = found.total(), expected.total()
    for key in {*found, *expected}:
        p = expected[key] / whole
        assert abs(found[key] / n - p) <= 5 * np.sqrt(p * (1 - p) / n), key


# ---- Like the data ----


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_single_fields_and_pairs_are_distributed_as_in_the_data(missing):
    rows = clinic(3000, missing=missing)
    drawn = joint(rows).draw(np.random.default_rng(1), [20_000])
    real = PELVIS.encode(rows)
    names = [f.name for f in PELVIS if f.kind == "categorical"]
    for two in [(a, b) for a in names for b in names]:
        found, expected = (Counter(keys(c, two)) for c in (drawn, real))
        close(found, expected)
    for name in ("age", "bmi"):
        found, expected = (Counter(np.isnan(c[name]).tolist()) for c in (drawn, real))
        close(found, expected)


def test_numbers_keep_mean_spread_and_what_they_depend_on():
    rows = clinic(3000)
    real, drawn = (
        PELVIS.encode(rows),
        joint(rows).draw(np.random.default_rng(1), [9000]),
    )
    yes = 1 + PELVIS["prosthesis_right"].values.index("yes")
    for name in ("age", "bmi"):
        for where in ("all", "yes"):
            there = [
                c[name][c["prosthesis_right"] == yes] if where == "yes" else c[name]
                for c in (real, drawn)
            ]
            (mean, sd), (mean_drawn, sd_drawn) = ((x.mean(), x.std()) for x in there)
            assert abs(mean - mean_drawn) < 0.05 * sd, (name, where)
            assert abs(sd_drawn / sd - 1) < 0.05, (name, where)
    correlations = [np.corrcoef(c["age"], c["bmi"])[0, 1] for c in (real, drawn)]
    assert abs(correlations[0] - correlations[1]) < 0.05


def test_what_never_occurs_is_never_drawn():
    """right with a left prosthesis, and any other cell that the data lack."""
    rows = clinic(800, missing=0.05)
    drawn = joint(rows).draw(np.random.default_rng(2), [20_000])
    names = [f.name for f in PELVIS if f.kind == "categorical"]
    real = set(keys(PELVIS.encode(rows), names))
    assert set(keys(drawn, names)) <= real
    for row in PELVIS.decode(drawn):
        assert (row["side"], row["prosthesis_left"]) != ("right", "yes")


def test_known_rows_are_distributed_as_if_nothing_were_missing():
    """Labels missing at random, sex more often of AP: complete records alone would
    have too few of AP."""
    rows = clinic(6000)
    rng = np.random.default_rng(3)
    part = [
        row | {"sex": None} if row["view"] == "AP" and rng.random() < 0.7 else row
        for row in rows
    ]
    drawn = joint(part, known=PELVIS.names).draw(np.random.default_rng(1), [20_000])
    assert all(None not in row.values() for row in PELVIS.decode(drawn))
    for name in ("view", "side", "prosthesis_right"):
        close(
            Counter(keys(drawn, [name])),
            Counter(keys(PELVIS.encode(part), [name])),
        )


def test_draws_follow_from_the_seed_and_the_order_is_random():
    one = joint(clinic(300))
    group = one.group(["view"], np.array([[1], [2]]))
    a, b, c = (
        one.draw(np.random.default_rng(seed), [50, 50], group) for seed in (4, 4, 5)
    )
    for name in PELVIS.names:
        np.testing.assert_array_equal(a[name], b[name])
    assert any((a[name] != c[name]).any() for name in ("age", "bmi"))
    assert 10 < (a["view"][:50] == 1).sum() < 40
    assert (a["view"] == 1).sum() == (a["view"] == 2).sum() == 50


# ---- Nobody's row ----


CASES = st.fixed_dictionaries(
    {
        "n": st.integers(1, 90),
        "people": st.integers(1, 90),
        "seed": st.integers(0, 2**32 - 1),
        "spread": st.integers(1, 60),
        "missing": st.sampled_from([0.0, 0.2, 0.8]),
        "step": st.sampled_from([0.01, 0.1, 0.5, 1.0]),
        "known": st.integers(0, 15),
    }
)
"""Of few distinct values, so that rows are rare, shared or in between."""


def random_rows(schema, *, n, people, seed, spread, missing, step, known):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        row = {}
        for field in schema:
            if field.kind == "categorical":
                value = field.values[int(rng.integers(len(field.values)) ** 0.5)]
            else:
                most = min(spread, round((field.high - field.low) / step))
                value = field.low + step * int(rng.integers(most))
            if rng.random() >= missing:
                row[field.name] = value
        rows.append(row)
    needed = [name for i, name in enumerate(schema.names) if known >> i & 1]
    return rows, rng.integers(people, size=n), needed


def check_nobody_is_copied(schema, case):
    rows, patients, known = random_rows(schema, **case)
    full = [tuple(row.values()) for row in schema.decode(schema.encode(rows))]
    owners = {}
    for row, patient in zip(full, patients, strict=True):
        owners.setdefault(row, set()).add(patient)
    try:
        one = joint(rows, schema, known, patients)
        drawn = one.draw(np.random.default_rng(0), [60])
    except ValueError as error:
        assert "\n" not in str(error) and "expected" in str(error)
        event("refused")
        return
    event("drawn")
    labels = [f.name for f in schema if f.kind == "categorical"]
    cells = set(keys(schema.encode(rows), labels))
    assert set(keys(drawn, labels)) <= cells
    for row in schema.decode(drawn):
        held = owners.get(tuple(row.values()), ())
        assert not held or len(held) >= LEAST
        assert all(row[name] is not None for name in known)
        assert schema.parse(row) == row  # in range, and spelt as the schema does


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_no_row_is_what_few_patients_have(case):
    check_nobody_is_copied(KNEE, case)


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_no_row_of_categories_alone_is_what_few_patients_have(case):
    check_nobody_is_copied(LABELS, case)


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_no_row_is_what_few_patients_have_where_all_steps_are_taken(case):
    check_nobody_is_copied(Schema((KNEE["grade"], KNEE["space"])), case)


def test_a_year_that_is_taken_gives_way_to_half_a_year():
    """300 patients of 18 to 77 years, 5 of each: every whole year is somebody's."""
    schema = Schema((AGE,))
    rows = [{"age": float(18 + i % 60)} for i in range(300)]
    drawn = joint(rows, schema).draw(np.random.default_rng(0), [400])["age"]
    assert (drawn % 1 == 0.5).all()
    ages = np.array([row["age"] for row in rows])
    assert abs(drawn.mean() - ages.mean()) < 3 and abs(drawn.std() - ages.std()) < 2


def test_images_of_one_patient_do_not_hide_it():
    schema = Schema((PELVIS["sex"],))
    rows = [{"sex": "F"}] * 40 + [{"sex": "M"}] * 40
    whose = np.array([*range(40), *([40] * 40)])
    drawn = joint(rows, schema, patients=whose).draw(np.random.default_rng(0), [50])
    assert set(keys(drawn, ["sex"])) == {(1,)}


def test_numbers_stay_within_what_eleven_patients_reach():
    rows = [{"age": float(a)} for a in [*[100] * 10, *range(30, 70), *[0] * 10] * 1]
    one = joint(rows, Schema((AGE,)))
    drawn = one.draw(np.random.default_rng(0), [2000])["age"]
    assert drawn.min() >= 29.5 and drawn.max() <= 69.5


def test_too_few_to_draw_from_is_refused():
    with pytest.raises(ValueError, match="no combination of values can be drawn"):
        joint(clinic(10))
    with pytest.raises(ValueError, match="fewer that must be known"):
        joint([{"view": "AP"}] * 50, known=["sex"])


def test_a_value_that_one_patient_has_alone_gives_way():
    schema = Schema((Continuous("x", "", 0, 1, 0, 1, "x"),))
    one = joint([{"x": 0.0}] * 11, schema, patients=np.zeros(11, int))
    drawn = one.draw(np.random.default_rng(0), [30])["x"]
    assert (0 < drawn).all() and (drawn < 0.01).all()


# ---- The parts ----


@pytest.mark.parametrize(
    "values, step",
    [
        ([40, 41, 57, 63, 78, 90], 1),
        ([40, 45, 60, 65, 80, 90], 5),
        ([22.1, 28.4, 31.7, 35.2, 24.9], 0.1),
        ([22.5, 28, 31.5, 35, 24.5], 0.5),
    ],
)
def test_numbers_are_as_fine_as_in_the_data(values, step):
    assert bootstrap.resolution(AGE, np.array(values, float)) == step


def test_one_odd_value_does_not_make_numbers_finer():
    ages = np.append(np.arange(20.0, 80), 33.3)
    assert bootstrap.resolution(AGE, ages) == 1


@given(st.integers(2, 200), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_smoothing_keeps_mean_and_covariance(n, d, seed):
    rng = np.random.default_rng(seed)
    donors = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 50
    drawn = bootstrap.smoothed(rng, donors, 20_000)
    scale = np.sqrt(np.trace(np.cov(donors.T, bias=True).reshape(d, d)))
    assert np.abs(drawn.mean(0) - donors.mean(0)).max() < 0.05 * scale
    covariances = [np.cov(x.T, bias=True).reshape(d, d) for x in (donors, drawn)]
    assert np.abs(covariances[0] - covariances[1]).max() < 0.1 * scale**2


def test_a_small_cell_borrows_from_those_that_matter_least():
    """Numbers depend on grade alone: a small cell takes them from its grade, not from
    its spur."""
    rng = np.random.default_rng(0)
    rows = [
        {"grade": grade, "spur": spur, "space": round(float(rng.normal(mean, 0.3)), 1)}
        for grade, mean in (("0", 8), ("1", 5), ("2", 2))
        for spur, n in (("no", 200), ("yes", 5))
        for _ in range(n)
    ]
    one = joint(rows, KNEE)
    cells = Cells.count(KNEE, KNEE.encode(rows), np.arange(len(rows)), ["spur"])
    group = one.group(cells.names, cells.codes)
    drawn = one.draw(np.random.default_rng(1), [0, 900], group)
    for grade, mean in ((1, 8), (2, 5), (3, 2)):
        there = drawn["space"][drawn["grade"] == grade]
        assert len(there) > 200 and abs(there.mean() - mean) < 0.15


def test_own_fields_are_fields_like_others():
    declared = [{"kind": "categorical", "name": "kl", "values": (0, 1, 2)}]
    schema = own.extend(PELVIS, declared, "here")
    rng = np.random.default_rng(0)
    rows = [row | {"kl": str(rng.integers(3))} for row in clinic(2000)]
    drawn = joint(rows, schema).draw(np.random.default_rng(0), [5000])
    close(
        Counter(keys(drawn, ["kl", "side"])),
        Counter(keys(schema.encode(rows), ["kl", "side"])),
    )
