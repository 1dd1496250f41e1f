"""What a model makes while it trains, in `WORKDIR/samples`."""

from pathlib import Path

import jax
import numpy as np

from ddpm_jax import build, pictures
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import pipeline
from ddpm_jax.ema import Tracks
from ddpm_jax.models.functional import Network
from ddpm_jax.training import distributed, monitoring, sharding


class SampleGrid:
    """The same seeds and conditions at every step: a grid of what the average makes."""

    def __init__(
        self,
        config,
        schema: Schema,
        network: Network,
        folder: Path,
        writer: monitoring.Writer,
        mesh: jax.sharding.Mesh,
    ):
        count = config.train.sample_count
        drawn = pipeline.read_all(config.data.folder, config.data.split, schema, count)
        rows = [schema.coarse(row) for row in schema.decode(drawn["cond"])]
        self.captions = [schema.caption(row) for row in rows]
        whole = sharding.replicated(mesh)
        where = whole if len(rows) % mesh.size else sharding.split_batch(mesh)
        seeds = np.arange(len(rows), dtype=np.uint32)
        self.asked = sharding.put_whole((seeds, schema.encode(rows)), where)
        self.guidance = sharding.put_whole(np.float32(config.sampler.guidance), whole)
        sample = build.sampler(config, network, schema)
        self.run = jax.jit(sample, out_shardings=whole)
        self.ema = f"{config.sampler.ema:g}"
        self.folder, self.writer = folder, writer
        folder.mkdir(exist_ok=True)

    def __call__(self, number: int, tracks: Tracks) -> None:
        images = np.asarray(self.run(tracks[self.ema], *self.asked, self.guidance))
        if distributed.leads():
            sheet = pictures.contact_sheet(images, self.captions)
            sheet.save(self.folder / f"step_{number:07d}.png")
            self.writer.write_images(number, {"samples": np.asarray(sheet)[..., None]})
