"""A model of phantom pelves that two CPU cores train in minutes: `make quickstart`.

Command   python -m ddpm_jax.train --config configs/quickstart.py --workdir DIR
              --config.data.folder=DATA
Hardware  2 CPU cores
Time      4 min 16 s to 9 min, as busy as the cores are
Result    label agreement of 200 images: view 97.5 %, side 100.0 %, right prosthesis
          94.5 %, left prosthesis 95.0 %, all four 87.5 % (`make agreement`)
"""

from configs import pelvis_1024


def get_config():
    config = pelvis_1024.get_config()
    config.image_size = 64
    config.data.batch = 32
    config.data.workers = 0

    config.model.patch = 4
    config.model.channels = (48, 96)
    config.model.down = (1,)
    config.model.up = (1,)
    config.model.middle = 3
    config.model.heads = 3
    config.model.emb = 128
    config.model.dropout = 0.0
    config.model.dtype = "float32"

    config.diffusion.weight.bias = 2.0
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup = 100
    config.optimizer.decay = "cosine"
    config.ema.widths = (0.10,)
    config.ema.snapshot_every = 0

    config.sampler.low = -11.0
    config.sampler.guidance = 2.5
    config.sampler.high = 10.0
    config.sampler.ema = 0.10

    config.train.steps = 1800
    config.train.log_every = 25
    config.train.save_every = 200
    config.train.keep = 2
    config.train.sample_every = 450
    config.evaluation.every = 0
    return config
