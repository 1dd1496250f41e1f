"""Progressive resolution: a training in phases, each of which is a config.

`config.phases` has one entry a phase but the last, which is the config itself:

    config.phases = (
        {"until": 20_000, "image_size": 256, "data.folder": "shards_256"},
        {"until": 40_000, "image_size": 512, "data.batch": 256},
    )

Parameters, moments and averages go on from one phase to the next (Karras et al., 2018,
grow a network; here one set of weights runs at every resolution).
"""

from typing import NamedTuple

import ml_collections

KEYS = (
    "image_size",
    "data.folder",
    "data.batch",
    "model.dropout",
    "model.remat",
    "optimizer.learning_rate",
    "sampler.low",
    "sampler.high",
    "train.accumulate",
)
"""What a phase may change."""


class Phase(NamedTuple):
    """Steps `first` to `last`, trained as `config` says, from `position` in the order
    of examples on."""

    config: ml_collections.ConfigDict
    first: int
    last: int
    position: int


def of(config) -> list[Phase]:
    """The phases of `config`, in order; their configs have none of their own.

    Each goes on in the order of examples where the one before it stopped, at the next
    multiple of its batch. ValueError for a phase that cannot be.
    """
    phases, before, position, steps = [], 0, 0, config.train.steps
    for index, entry in enumerate(config.get("phases", ())):
        where = f"config.phases[{index}]"
        until, changed = _checked(where, entry)
        if until <= before:
            raise ValueError(
                f"{where}: until = {until}: expected a step after {before}."
            )
        part = _changed(config, changed, where)
        if before < steps:
            phases.append(_phase(part, before, min(until, steps), position))
            position = phases[-1].position + (until - before) * part.data.batch
        before = until
    if before < steps or not phases:
        phases.append(_phase(_changed(config, {}, "config"), before, steps, position))
    return phases


def at(config, step: int):
    """The config that step `step` was trained as; of 0, the first phase's."""
    found = of(config)
    return next(
        (phase.config for phase in found if phase.last >= step), found[-1].config
    )


def resolve(config, samplers: list) -> None:
    """Take into `config` the range that each phase's sampler was given; `samplers`
    holds the `sampler` part of each phase's config."""
    entries = [dict(entry.items()) for entry in config.get("phases", ())]
    for entry, found in zip(entries, samplers, strict=False):
        entry |= {f"sampler.{name}": found[name] for name in ("low", "high")}
    if entries:
        config.phases = tuple(entries)
    if len(samplers) > len(entries):
        config.sampler.update({n: samplers[-1][n] for n in ("low", "high")})


def _phase(config, before: int, last: int, position: int) -> Phase:
    batch = max(1, config.data.batch)
    return Phase(config, before + 1, last, -(-position // batch) * batch)


def _checked(where: str, entry) -> tuple[int, dict]:
    """(its last step, what it changes)."""
    if not hasattr(entry, "items"):
        raise ValueError(f"{where} = {entry!r}: expected {{'until': step, ...}}.")
    changed = dict(entry.items())
    until = changed.pop("until", None)
    if not isinstance(until, int) or isinstance(until, bool):
        raise ValueError(f"{where}: until = {until!r}: expected its last step.")
    for key, value in changed.items():
        if key not in KEYS:
            raise ValueError(
                f"{where}: {key!r} is not to be changed by a phase; expected some of "
                f"{', '.join(KEYS)}."
            )
        if value is None and not key.startswith("sampler."):
            raise ValueError(f"{where}: {key} = None: expected a value.")
    return until, changed


def _changed(config, changed: dict, where: str):
    copy = ml_collections.ConfigDict(config.copy_and_resolve_references())
    try:
        with copy.unlocked():
            copy.update_from_flattened_dict(changed)
            if "phases" in copy:
                del copy["phases"]
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{where}: {error}.") from None
    return copy
