"""The published setting: cosine T = 1000, eps-prediction, plain loss, U-Net.

Ancestral sampling over all 1000 steps, guidance at every step, a constant average of
0.9999, 40,000,000 images seen. The baseline beside pelvis_1024.py, not the advice.

Command   python -m ddpm_jax.train --config configs/paper.py --workdir DIR
              --config.data.folder=DATA
Hardware  8 x A100 80 GB
Time      not measured
Result    not measured
"""

from configs import pelvis_1024


def get_config():
    config = pelvis_1024.get_config()
    config.model = {
        "name": "unet",
        "channels": (64, 64, 128, 128, 256, 256),
        "blocks": 2,
        "attention": 32,
        "heads": 4,
        "emb": 256,
        "dropout": 0.0,
        "dtype": "bfloat16",
        "remat": True,
        "attention_kernel": "auto",
    }
    config.diffusion.parameterisation = "eps"
    config.diffusion.schedule = {"name": "discrete_cosine", "steps": 1000}
    config.diffusion.weight = {"name": "simple"}
    config.optimizer.learning_rate = 1e-4
    config.optimizer.decay = "constant"
    config.optimizer.weight_decay = 0.0

    config.ema = {"name": "constant", "widths": (0.9999,), "snapshot_every": 0}

    config.train.accumulate = 4  # 512 at once do not fit 8 x 80 GB

    config.sampler.grid = "discrete"
    config.sampler.steps = 1000
    config.sampler.order = 1
    config.sampler.eta = 1.0
    config.sampler.guidance_interval = (-100.0, 100.0)
    config.sampler.clip = True
    config.sampler.ema = 0.9999

    config.evaluation.every = 0  # 1000 steps an image
    return config
