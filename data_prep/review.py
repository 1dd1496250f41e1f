"""The review sheet: a random sample of what was written, for a person to sign.

It shows patients' radiographs and stays in the private folder, readable by its owner
alone.
"""

import base64
import html
import io
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_prep.codes import ACTIONS, MEANINGS
from ddpm_jax.data import records
from ddpm_jax.data.shards import read_entries

FILE = "review.html"
COUNT = 64
SIDE = 512
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;
padding:0 1rem}
.warning{background:#7a1f1f;color:#fff;padding:.6rem 1rem;border-radius:.4rem}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(280px,1fr));
gap:.6rem}
figure{margin:0}img{width:100%;background:#000;display:block}
figcaption{font-size:11px;color:#666}
td,th{padding:.15rem .8rem .15rem 0;text-align:left}td.n{text-align:right}
.sign{margin-top:2rem;border-top:1px solid #999;padding-top:1rem}
"""


class Shown(NamedTuple):
    """An image uint16 [h, w] of `bits` bits and whose it is, in hex."""

    pixels: np.ndarray
    bits: int
    record_id: str


def image_of(entry: bytes) -> Shown:
    """The image of a record's bytes."""
    from tensorflow_datasets.proto import tf_example_pb2

    found = tf_example_pb2.Example.FromString(entry).features.feature
    image, codec, record_id = (
        found[name].bytes_list.value[0] for name in ("image", "codec", "record_id")
    )
    pixels = records.decode_image(image, codec.decode())
    return Shown(pixels, found["bits"].int64_list.value[0], record_id.hex())


def write(path: Path, manifest: records.Manifest, out: Path) -> None:
    """The sheet of a data set: which images is decided by its fingerprint."""
    rows = "".join(
        f"<tr><td>{code}<td>{ACTIONS[code]}<td class=n>{count}<td>"
        f"{html.escape(MEANINGS[code])}"
        for code, count in manifest.ledger["codes"].items()
    )
    settings = "".join(
        f"<tr><td>{html.escape(name)}<td>{html.escape(_plain(value))}"
        for name, value in manifest.settings.items()
    )
    pictures = "".join(map(_figure, _sample(manifest, out)))
    written = sum(map(manifest.count, manifest.splits))
    shown = min(COUNT, written)
    content = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Review sheet</title>"
        f"<style>{STYLE}</style><h1>Review sheet</h1><p class=warning>Radiographs of "
        "patients: keep this file with the archive, do not share it.</p>"
        f"<p>Data set {html.escape(manifest.name)}, fingerprint "
        f"{manifest.fingerprint()}.</p><h2>Where every file ended</h2><table><tr>"
        f"<th>code<th>action<th>files<th>meaning</tr>{rows}</table>"
        f"<h2>Settings and versions</h2><table>{settings}</table>"
        f"<h2>{shown} of {written} written images, at random</h2>"
        f"<div class=sheet>{pictures}</div>"
        "<div class=sign><p>No name, number, date or other text that identifies a "
        "patient is visible in these images.</p><p>Images objected to: "
        "____________________________</p><p>Name: ____________________________</p>"
        "<p>Date: ____________________________</p>"
        "<p>Signature: ____________________________</p></div></html>"
    )
    partial = path.with_name(path.name + ".tmp")
    partial.unlink(missing_ok=True)
    number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w") as file:
        file.write(content)
    partial.replace(path)


def _plain(value) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def _sample(manifest, out):
    """(shard, index) at random, then read in order."""
    places = [
        (shard.file, i)
        for shards in manifest.splits.values()
        for shard in shards
        for i in range(shard.records)
    ]
    chosen = random.Random(manifest.fingerprint()).sample(
        places, min(COUNT, len(places))
    )
    wanted = {}
    for file, i in chosen:
        wanted.setdefault(file, set()).add(i)
    for file in sorted(wanted):
        for i, entry in enumerate(read_entries(out / file)):
            if i in wanted[file]:
                yield image_of(entry)


def _figure(shown: Shown) -> str:
    eight = shown.pixels >> max(shown.bits - 8, 0)
    image = Image.fromarray(eight.astype(np.uint8))
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "png")
    coded = base64.b64encode(data.getvalue()).decode()
    return (
        f'<figure><img alt="" src="data:image/png;base64,{coded}">'
        f"<figcaption>{shown.record_id}</figcaption></figure>"
    )
