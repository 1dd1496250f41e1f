"""A global batch is the same array however many processes read it."""

import grain
import numpy as np
import pytest
from grain.experimental import ElasticIterator

from ddpm_jax.data.pipeline import Contiguous


def batches(count, start=0):
    """Two global batches of 8 of the numbers 0 ... 23, put together from `count`."""
    parts = []
    for process in range(count):
        source = Contiguous(grain.MapDataset.range(24), 8, count)
        shard = grain.sharding.ShardOptions(process, count)
        iterator = ElasticIterator(source, 8, shard)
        iterator.set_state({"global_next_index": start})
        parts.append([next(iterator) for _ in range(2)])
        iterator.close()
    return [np.concatenate(blocks) for blocks in zip(*parts, strict=True)]


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_processes_hold_blocks_of_one_batch(count):
    first, second = batches(count)
    assert first.tolist() == list(range(8)) and second.tolist() == list(range(8, 16))
    assert batches(count, start=8)[0].tolist() == second.tolist()
