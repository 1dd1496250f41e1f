"""What synthetic images are good for: labellers trained with and without them, tested
on held-out real images, in each subgroup."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ddpm_jax.conditions.schema import Conditions, Schema
from ddpm_jax.evaluation import agreement, labeller, statistics
from ddpm_jax.evaluation.groups import Group
from ddpm_jax.evaluation.images import Images


def compare(
    arms: Mapping[str, Images],
    test: Images,
    asked: Conditions,
    schema: Schema,
    subgroups: Sequence[Group],
    *,
    steps: int,
    kept: Callable[[str, Images, Callable[[], dict]], dict],
    report: Callable[[float], object],
) -> dict:
    """Each arm's labeller, all trained for the same number of `steps`, on `test`.

    `asked` [n] a field are the labels of `test` that count. `kept(name, images, make)`
    is what `make` returned, now or before. A difference is that to the first arm, image
    by image, with its bootstrap interval.
    """
    codes = {}
    for name, images in arms.items():

        def make(images=images):
            found = labeller.train(images, schema, steps=steps, report=report)
            return found.read(test).codes()

        codes[name] = kept(name, images, make)
    first = codes[next(iter(codes))]
    result = {"steps": steps, "test": len(test), "arms": {}}
    for name, found in codes.items():
        result["arms"][name] = {
            "images": len(arms[name]),
            **agreement.agreement(found, asked, schema.names),
            "right": mean(right(found, asked, schema)),
            "difference": difference(found, first, asked, schema),
            "groups": [_group(g, found, first, asked, schema) for g in subgroups],
        }
    return result


def right(found: Mapping, asked: Conditions, schema: Schema) -> np.ndarray:
    """[n]: the share of an image's known fields that were read rightly; NaN of none."""
    known = np.stack([asked[n] > 0 for n in schema.names], 1)
    good = np.stack([found[n] == asked[n] for n in schema.names], 1) & known
    total = known.sum(1)
    return np.where(total > 0, good.sum(1) / np.maximum(total, 1), np.nan)


def mean(values: np.ndarray) -> dict:
    """Of what is not NaN, with its bootstrap interval over images."""
    values = values[~np.isnan(values)]
    rng = np.random.default_rng(0)
    interval = statistics.bootstrap(
        lambda i: float(values[i].mean()), len(values), rng, 1000
    )
    found = float(values.mean()) if len(values) else None
    return {"value": found, **interval._asdict()}


def difference(
    found: Mapping, first: Mapping, asked: Conditions, schema: Schema
) -> dict:
    """Of the mean share of fields read rightly, `found` less `first`."""
    return mean(right(found, asked, schema) - right(first, asked, schema))


def _group(group: Group, found, first, asked: Conditions, schema: Schema) -> dict:
    parts = [{n: c[n][group.mask] for n in schema.names} for c in (found, first, asked)]
    return {
        "field": group.field,
        "name": group.name,
        "images": group.count,
        "right": mean(right(parts[0], parts[2], schema)),
        "difference": difference(*parts, schema),
    }


def balanced(images: Images, names: Sequence[str], count: int) -> np.ndarray:
    """int: up to `count` images, as many of each combination of values of `names` as
    there are, always the same ones."""
    joint = np.stack([images.cond[name] for name in names], 1)
    known = np.flatnonzero((joint > 0).all(1))
    different, place = np.unique(joint[known], axis=0, return_inverse=True)
    rng, order = np.random.default_rng(0), []
    for cell in range(len(different)):
        members = rng.permutation(known[place.reshape(-1) == cell])
        order += [(turn, cell, i) for turn, i in enumerate(members)]
    return np.sort([i for _, _, i in sorted(order)[:count]]).astype(int)
