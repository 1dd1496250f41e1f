"""Label agreement: does an image show what was asked of it?

A labeller trained on real radiographs reads synthetic ones; its error on held-out real
radiographs bounds what the figures can mean.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ddpm_jax.conditions.schema import Continuous, Schema
from ddpm_jax.evaluation import groups, statistics
from ddpm_jax.evaluation.labeller import Reading
from ddpm_jax.evaluation.statistics import proportion


def agreement(
    found: Mapping[str, np.ndarray],
    asked: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> dict[str, dict]:
    """Share of images whose found code is the asked one, by field, with its interval.

    Images of which a field was not asked (code 0) do not count there; "all" counts an
    image where every asked field of `names` agrees.
    """
    result = {}
    for name in names:
        known = asked[name] > 0
        right = found[name] == asked[name]
        result[name] = proportion(int(right[known].sum()), int(known.sum()))
    every = all_agree(found, asked, names)
    result["all"] = proportion(int(every.sum()), len(every))
    return result


def all_agree(found: Mapping, asked: Mapping, names: Sequence[str]) -> np.ndarray:
    """bool [n]: whether every field of `names` that was asked is what was found."""
    every = np.ones(len(next(iter(asked.values()))), bool)
    for name in names:
        every &= (found[name] == asked[name]) | (asked[name] == 0)
    return every


def macro_auc(probabilities: np.ndarray, asked: np.ndarray) -> float:
    """The mean over values of the area of one against the rest (Hand & Till, 2001, have
    pairs instead); values that no image was asked for do not count."""
    known = asked > 0
    areas = [
        statistics.auc(probabilities[known, i], asked[known] == i + 1)
        for i in range(probabilities.shape[1])
    ]
    areas = [area for area in areas if not np.isnan(area)]
    return float(np.mean(areas)) if areas else float("nan")


def confusion(found: np.ndarray, asked: np.ndarray, values: int) -> np.ndarray:
    """int [values, values]: images asked for row + 1 and read as column + 1."""
    table = np.zeros((values, values), int)
    known = asked > 0
    np.add.at(table, (asked[known] - 1, found[known] - 1), 1)
    return table


def regression(found: np.ndarray, asked: np.ndarray, rng: np.random.Generator) -> dict:
    """Mean absolute error, the slope of what was read on what was asked, and the
    correlation, each with its bootstrap interval over images; none of fewer than 2."""
    known = ~np.isnan(asked)
    x, y = np.float64(asked[known]), np.float64(found[known])

    def mae(i):
        return float(np.abs(y[i] - x[i]).mean())

    def slope(i):
        spread = x[i].var()
        moved = np.mean((x[i] - x[i].mean()) * (y[i] - y[i].mean()))
        return float(moved / spread) if spread > 0 else float("nan")

    def correlation(i):
        return slope(i) * float(x[i].std() / y[i].std()) if y[i].std() else float("nan")

    every, result = np.arange(len(x)), {"total": len(x)}
    for function in (mae, slope, correlation):
        interval = statistics.bootstrap(function, len(x), rng, 500)
        value = function(every) if len(x) > 1 else None
        result[function.__name__] = {
            "value": value,
            "low": interval.low,
            "high": interval.high,
        }
    return result


def auc(probabilities: np.ndarray, asked: np.ndarray, rng) -> dict:
    """`macro_auc` with its bootstrap interval over images."""
    p, code = probabilities[asked > 0], asked[asked > 0]
    low, high = statistics.bootstrap(
        lambda i: macro_auc(p[i], code[i]), len(code), rng, 300
    )
    return {"value": macro_auc(p, code), "low": low, "high": high}


def fields(
    reading: Reading,
    asked: Mapping[str, np.ndarray],
    schema: Schema,
    rng: np.random.Generator,
    real: Mapping[str, np.ndarray] | None = None,
) -> dict[str, dict]:
    """All that is said of each field of `schema`; in its confusion table, values that 1
    to 10 of the `real` images (default: `asked`) have are put together with others."""
    real = asked if real is None else real
    codes, result = reading.codes(), {}
    for field in schema:
        if isinstance(field, Continuous):
            found = regression(reading.numbers[field.name], asked[field.name], rng)
            result[field.name] = found | {"unit": field.unit}
            continue
        code = asked[field.name]
        known = code > 0
        right = (codes[field.name] == code)[known]
        names, places = groups.merged(field, real[field.name])
        whole = confusion(codes[field.name], code, len(field.values))
        table = np.zeros((len(names), len(names)), int)
        np.add.at(table, (places[:, None], places[None]), whole)
        result[field.name] = proportion(int(right.sum()), int(known.sum())) | {
            "auc": auc(reading.probabilities[field.name], code, rng),
            "values": names,
            "confusion": table.tolist(),
        }
    return result


def surprise(
    reading: Reading, asked: Mapping[str, np.ndarray], schema: Schema
) -> np.ndarray:
    """[n, fields]: how far what was read is from what was asked: -ln of the probability
    of the asked value, or the squared standardised error / 2; 0 where nothing was."""
    every = []
    for field in schema:
        code = asked[field.name]
        if isinstance(field, Continuous):
            off = (reading.numbers[field.name] - code) / field.std
            found = np.where(np.isnan(code), 0, off**2 / 2)
        else:
            place = np.maximum(code - 1, 0)[:, None]
            likely = np.take_along_axis(reading.probabilities[field.name], place, 1)
            found = np.where(code > 0, -np.log(np.maximum(likely[:, 0], 1e-12)), 0)
        every.append(found)
    return np.stack(every, 1)
