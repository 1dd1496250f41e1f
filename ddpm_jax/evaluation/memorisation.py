"""Does the model repeat its training images?

The threshold is one that real images, which no model has seen, set: with confidence
95 %, at most 1 % of new ones fall below it (`statistics.lower_limit`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ddpm_jax.conditions.schema import Conditions, Schema
from ddpm_jax.conditions.small_cells import LEAST
from ddpm_jax.evaluation import statistics
from ddpm_jax.evaluation.copies import Nearest
from ddpm_jax.evaluation.groups import Group
from ddpm_jax.evaluation.statistics import Limit, proportion

SHARE = 0.01
"""Of new real images, the most that may be flagged."""
RARITY = (LEAST, 50, 200)


class Verdict(NamedTuple):
    """`flagged` bool [n] of synthetic images, and the limit their ratios are below."""

    flagged: np.ndarray
    limit: Limit


def judge(synthetic: Nearest, held_out: Nearest) -> Verdict:
    limit = statistics.lower_limit(held_out.ratio, SHARE)
    return Verdict(synthetic.ratio < limit.value, limit)


def summary(
    synthetic: Nearest,
    held_out: Nearest,
    verdict: Verdict,
    subgroups: Sequence[Group],
    rarity: Sequence[Group],
) -> dict:
    """What metrics.json says: shares with intervals, of all and by subgroup, and how
    often synthetic images are nearer to training images than held-out real ones are."""
    nearer = np.concatenate([synthetic.ratio, held_out.ratio])
    of_synthetic = np.arange(len(nearer)) < len(synthetic.ratio)
    rng = np.random.default_rng(0)

    def area(i):
        return statistics.auc(-nearer[i], of_synthetic[i])

    flagged = int(verdict.flagged.sum())
    return {
        "held_out": len(held_out.ratio),
        "threshold": verdict.limit.value,
        "expected_at_most": verdict.limit.share,
        "flagged": proportion(flagged, len(verdict.flagged))
        | {"exact": statistics.exact(flagged, len(verdict.flagged))},
        "nearer_than_held_out": {
            "auc": area(np.arange(len(nearer))),
            **statistics.bootstrap(area, len(nearer), rng, 500)._asdict(),
        },
        "groups": [_group(g, verdict.flagged) for g in subgroups],
        "rarity": [_group(g, verdict.flagged) for g in rarity],
        "ratios": {
            "synthetic": np.round(synthetic.ratio, 4),
            "held_out": np.sort(np.round(held_out.ratio, 4)),  # of no record
        },
    }


def _group(group: Group, flagged: np.ndarray) -> dict:
    found = proportion(int(flagged[group.mask].sum()), group.count)
    return {"field": group.field, "name": group.name} | found


def rarity_groups(
    schema: Schema, training: Conditions, asked: Conditions
) -> list[Group]:
    """Synthetic images by how many training images share every categorical value that
    was asked of them; values are not named."""
    names = [field.name for field in schema if field.kind == "categorical"]
    real = np.stack([training[name] for name in names], 1)
    rows = np.stack([asked[name] for name in names], 1)
    different, place = np.unique(rows, axis=0, return_inverse=True)
    like = [((real == row) | (row == 0)).all(1).sum() for row in different]
    counts = np.array(like)[place.reshape(-1)]
    edges = (0, *RARITY, np.inf)
    found = []
    for low, high in zip(edges, edges[1:], strict=False):
        mask = (counts >= low) & (counts < high)
        name = f"{low} and more" if high == np.inf else f"{low} to {high - 1}"
        name = f"under {high}" if low == 0 else name
        if mask.any():
            found.append(Group("like them in training", name, mask))
    return found


def membership(scores: Mapping[str, np.ndarray]) -> dict:
    """How well training images ("members") can be told from held-out ones by a score
    that is larger for members: the area under the ROC curve with its interval, and the
    share of members found at 1 % of false alarms (Carlini et al., 2022)."""
    members, others = scores["members"], scores["others"]
    joint = np.concatenate([members, others])
    positive = np.arange(len(joint)) < len(members)
    rng = np.random.default_rng(0)

    def area(i):
        return statistics.auc(joint[i], positive[i])

    bound = np.quantile(others, 0.99, method="higher")
    found = int((members > bound).sum())
    return {
        "members": len(members),
        "others": len(others),
        "auc": area(np.arange(len(joint))),
        **statistics.bootstrap(area, len(joint), rng, 500)._asdict(),
        "found_at_1_percent": proportion(found, len(members)),
    }
