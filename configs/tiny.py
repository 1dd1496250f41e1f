"""The smallest model that goes the whole way: for tests, seconds on one core.

Command   python -m ddpm_jax.train --config configs/tiny.py --workdir DIR
              --config.data.folder=DATA
Hardware  1 CPU core
Time      seconds, most of them compilation
Result    none: it learns nothing of use
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.image_size = 16
    config.model.patch = 2
    config.data.batch = 8
    config.model.channels = (16, 32)
    config.model.middle = 1
    config.model.heads = 2
    config.model.emb = 32
    config.optimizer.warmup = 2
    config.sampler.steps = 4
    config.train.steps = 4
    config.train.log_every = 1
    config.train.save_every = 2
    config.train.sample_every = 4
    config.train.sample_count = 4
    return config
