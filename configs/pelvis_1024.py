"""Pelvis radiographs at 1024 x 1024: the parent of every other config.

Command   python -m ddpm_jax.train --config configs/pelvis_1024.py --workdir DIR
              --config.data.folder=DATA
Hardware  8 x A100 80 GB, or a TPU slice
Time      40M images in 45 device-hours at the speed of one H100 80 GB with 64 images
          a step (249 images/s; docs/scaling.md); A100 and TPU not measured
Result    not measured
"""

import ml_collections
from ml_collections import config_dict


def get_config():
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.image_size = 1024
    config.phases = ()  # smaller images first; docs/training.md

    config.data = ml_collections.ConfigDict()
    config.data.folder = ""
    config.data.split = "train"
    config.data.batch = 512
    config.data.workers = 8
    config.data.verify = True  # hash the shards first: seconds a 10 GB
    config.data.flip = 0.0  # probability of a mirror, which swaps sides; docs/input.md
    config.data.balance = ()  # fields whose rare values come as often as frequent ones
    config.data.balance_power = 1.0  # 1 all alike, 0 as in the data

    config.conditioning = ml_collections.ConfigDict()
    config.conditioning.schema = "pelvis"
    config.conditioning.fields = (
        "view",
        "side",
        "prosthesis_right",
        "prosthesis_left",
        "sex",
        "age",
        "bmi",
    )
    config.conditioning.own_fields = ()  # a lab's own; docs/conditions.md
    config.conditioning.drop_all = 0.10
    config.conditioning.drop_each = 0.05

    config.model = ml_collections.ConfigDict()
    config.model.name = "ruvit"
    config.model.patch = 4
    config.model.channels = (128, 256, 512, 768)
    config.model.down = (1, 1, 1)
    config.model.up = (1, 2, 1)
    config.model.middle = 12
    config.model.heads = 12
    config.model.emb = 768
    config.model.dropout = 0.1
    config.model.dtype = "bfloat16"
    config.model.remat = False
    config.model.attention_kernel = "auto"  # cudnn on NVIDIA GPUs, else xla

    config.diffusion = ml_collections.ConfigDict()
    config.diffusion.parameterisation = "v"
    config.diffusion.schedule = ml_collections.ConfigDict()
    config.diffusion.schedule.name = "interpolated"
    config.diffusion.schedule.noise_size = 32
    config.diffusion.schedule.low = -20.0
    config.diffusion.schedule.high = 14.0
    config.diffusion.weight = ml_collections.ConfigDict()
    config.diffusion.weight.name = "sigmoid"
    config.diffusion.weight.bias = -2.0

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 2e-4
    config.optimizer.warmup = 2000
    config.optimizer.decay = "rsqrt"
    config.optimizer.decay_from = 40_000
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip = 1.0
    config.optimizer.skip_above = 0.0  # e.g. 10: skip gradients of 10 x the median

    config.ema = ml_collections.ConfigDict()
    config.ema.name = "power"
    config.ema.widths = (0.05, 0.10)
    config.ema.snapshot_every = 5000  # for --ema of any width; 0: none

    config.sampler = ml_collections.ConfigDict()
    config.sampler.grid = "uniform_logsnr"
    config.sampler.steps = 16
    config.sampler.low = config_dict.placeholder(float)  # the data's spectrum says
    config.sampler.high = config_dict.placeholder(float)
    config.sampler.order = 2
    config.sampler.eta = 0.0
    config.sampler.large_variance = False
    config.sampler.guidance = 1.5
    config.sampler.guidance_interval = (-3.0, 2.0)
    config.sampler.shares = ml_collections.ConfigDict()  # e.g. {"view": 1.0}
    config.sampler.clip = False
    config.sampler.ema = 0.05

    config.train = ml_collections.ConfigDict()
    config.train.steps = 78_125
    config.train.accumulate = 1  # parts of a batch, one after the other
    config.train.fsdp = 1  # devices that share one copy of the state
    config.train.log_every = 100
    config.train.save_every = 2000
    config.train.keep = 3
    config.train.sample_every = 2000
    config.train.sample_count = 16
    config.train.wandb = ""  # a project of Weights & Biases; only scalars are sent

    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.every = 2000  # steps; 0: no distance, no best; docs/training.md
    config.evaluation.split = "validation"  # held out
    config.evaluation.count = 1000  # synthetic images
    config.evaluation.epochs = config_dict.placeholder(int)  # of the labeller
    return config
