"""The card of an exported sampler: what a reader must know before using it."""

import time
from collections.abc import Mapping

from ddpm_jax.conditions.schema import Field, Schema


def card(description: Mapping) -> str:
    """Markdown from sampler.json."""
    schema = Schema.from_json(description["schema"])
    config, versions = description["config"], description["versions"]
    fields = "\n".join(f"| {f.title} (`{f.name}`) | {_allowed(f)} |" for f in schema)
    records = description["data"]["records"].items()
    images = description["trained_steps"] * config["data"]["batch"]
    default = str(description["steps"])
    first, stop = description["guided"][default]
    others = ", ".join(sorted(set(description["guided"]) - {default}, key=int))
    report, best = description["evaluation"], description.get("best")
    return f"""# Sampler of synthetic radiographs

Images from this sampler are synthetic. They show no patient and are **not for
diagnosis**.

| | |
|---|---|
| data set | {description["data"]["name"]}: {_listed(records)} |
| data fingerprint | `{description["data"]["fingerprint"]}` |
| training | {description["trained_steps"]:,} steps, {images:,} images seen\
{f"; {selected(best)}" if best else ""} |
| network | {config["model"]["name"]}, {description["parameters"]:,} parameters |
| weights | average of width {description["ema"]}, sha256 \
`{description["model_sha256"]}` |
| image | {description["height"]} x {description["width"]}, 16 bits |
| sampler | {default} steps, {stop - first} of them guided, weight \
{description["guidance"]:g}{f"; also {others} steps" if others else ""} |
| exported | {time.strftime("%Y-%m-%d")}, ddpm_jax {versions["ddpm_jax"]}, jax \
{versions["jax"]} |

The whole config is in `sampler.json`.

## What can be asked

Each may be left open:

| field | allowed |
|---|---|
{fields}

## Evaluation

{evaluation(report) if report else "None in this folder."}

## Intended use

Research and teaching with synthetic radiographs: studying a classifier's failures,
adding rare cases to a training set, showing what a condition looks like. Not for
diagnosis, nor as evidence of what a patient's image would show, nor mixed unmarked into
clinical archives.

## Limits

- The model knows what its data set held. Conditions that were rare there, and rare
  combinations, are drawn less reliably; outside the ranges above nothing is drawn.
- Conditions are statistical companions in the data, not causes: an image asked for at
  another age is another image, not the same patient older.
- A stated condition is usually, not always, visible. An image may hold details that
  nobody asked for and that no anatomy has.
- A generative model can repeat training images. Nothing here rules that out.

## Versions

The programs are StableHLO of `jax.export`, made under jax {versions["jax"]}. jax
promises that its releases up to six months newer, and up to three weeks older, run
them, on {", ".join(description["platforms"])}. Another version of jax or another device
may round differently. The folder's format is version {description["format"]}, its
schema's {description["schema_version"]}; another version of either is refused.
"""


def selected(best: Mapping) -> str:
    """Why this step, where it is not simply the last."""
    return (
        f"the best by Fréchet distance to held-out images, {best['fd']:.3g} of "
        f"{best['images']:,} images (real ones: {best['fd_real']:.3g}); the "
        "choice makes it too small"
    )


def evaluation(report: Mapping) -> str:
    """Label agreement of `ddpm_jax.evaluate`'s metrics.json, as Markdown."""
    rows = "\n".join(
        f"| {name} | {_share(report['real'][name])} | {_share(found)} |"
        for name, found in report["synthetic"].items()
    )
    return f"""A classifier trained on real images read the labels of \
{report["count"]} synthetic ones
and of held-out real ones. Agreement with what was asked, or labelled (Wilson 95 %):

| field | held-out real | synthetic |
|---|---|---|
{rows}"""


def _share(found: Mapping) -> str:
    if found["share"] is None:
        return "none asked"
    return f"{found['share']:.1%} ({found['low']:.1%}–{found['high']:.1%})"


def _listed(records) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in records)


def _allowed(field: Field) -> str:
    if field.kind == "categorical":
        return ", ".join(field.values)
    return f"{field.low:g} to {field.high:g} {field.unit}".strip()
