"""The conversion as an Apache Beam pipeline, for clusters that have a runner.

Only names of shards travel through it: one call of the DoFn owns one shard from its
first row to its name in the folder, so that no image is ever shuffled. Folders, plan
and key file must be at the same paths on every worker.
"""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from data_prep import runners


class WriteShard(beam.DoFn):
    """A shard's name to the number of its rows, when it is in the folder."""

    def __init__(self, private: str):
        self.private = private

    def process(self, file: str):
        yield runners.write_one(self.private, file)


def write(private: Path, files: Sequence[str], runner: str, options: str) -> None:
    """Write the shards `files` of the plan in `private` on a Beam runner.

    `options` are Beam's own, as on a command line. What a worker raises ends the run.
    """
    arguments = [f"--runner={runner}", *shlex.split(options)]
    if "--default_sdk_harness_log_level" not in options:
        arguments.append("--default_sdk_harness_log_level=ERROR")
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    pipeline = beam.Pipeline(options=PipelineOptions(arguments))
    _ = (
        pipeline
        | "shards" >> beam.Create(list(files))
        | "spread" >> beam.Reshuffle()
        | "write" >> beam.ParDo(WriteShard(str(private.resolve())))
        | "rows" >> beam.CombineGlobally(sum)
    )
    try:
        pipeline.run().wait_until_finish()
    except RuntimeError as error:
        said = str(error).strip().splitlines()
        raise OSError(
            f"--runner = {runner}: {said[-1] if said else 'failed'}"
        ) from None
