"""What synthetic images are good for: labellers trained with and without them, tested
on held-out real images, in each subgroup."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ddpm_jax.conditions.schema import Conditions, Schema
from ddpm_jax.evaluation import agreement, labeller, statistics
from ddpm_jax.evaluation.groups import Group
from ddpm_jax.evaluation.images import Images
from ddpm_jax.evaluation.statistics import proportion


def compare(
    arms: Mapping[str, Images],
    test: Images,
    schema: Schema,
    subgroups: Sequence[Group],
    *,
    steps: int,
    kept: Callable[[str, Images, Callable[[], dict]], dict],
    report: Callable[[float], object],
) -> dict:
    """Each arm's labeller, all trained for the same number of `steps`, on `test`.

    `kept(name, images, make)` is what `make` returned, now or before. A difference is
    that to the first arm, image by image, with its bootstrap interval.
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
            **agreement.agreement(found, test.cond, schema.names),
            "difference": difference(found, first, test.cond, schema),
            "groups": [_group(g, found, first, test.cond, schema) for g in subgroups],
        }
    return result


def right(found: Mapping, asked: Conditions, schema: Schema) -> np.ndarray:
    """[n]: the share of an image's known fields that were read rightly; NaN of none."""
    known = np.stack([asked[n] > 0 for n in schema.names], 1)
    good = np.stack([found[n] == asked[n] for n in schema.names], 1) & known
    total = known.sum(1)
    return np.where(total > 0, good.sum(1) / np.maximum(total, 1), np.nan)


def difference(
    found: Mapping, first: Mapping, asked: Conditions, schema: Schema
) -> dict:
    """Of the mean share of fields read rightly, `found` less `first`."""
    gained = right(found, asked, schema) - right(first, asked, schema)
    gained = gained[~np.isnan(gained)]
    rng = np.random.default_rng(0)
    interval = statistics.bootstrap(
        lambda i: float(gained[i].mean()), len(gained), rng, 1000
    )
    mean = float(gained.mean()) if len(gained) else None
    return {"value": mean, **interval._asdict()}


def _group(group: Group, found, first, asked: Conditions, schema: Schema) -> dict:
    parts = [{n: c[n][group.mask] for n in schema.names} for c in (found, first, asked)]
    good = right(parts[0], parts[2], schema)
    known = np.stack([parts[2][n] > 0 for n in schema.names], 1).sum(1)
    return {
        "field": group.field,
        "name": group.name,
        "images": group.count,
        "difference": difference(*parts, schema),
    } | proportion(int(round(np.nansum(good * known))), int(known.sum()))


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
