"""Pelvis radiographs at 256 x 256: pelvis_1024 with fewer pixels.

Command   python -m ddpm_jax.train --config configs/pelvis_256.py --workdir DIR
              --config.data.folder=DATA
Hardware  8 x A100 80 GB, or a TPU slice
Time      not measured
Result    not measured
"""

from configs import pelvis_1024


def get_config():
    config = pelvis_1024.get_config()
    config.image_size = 256
    config.diffusion.weight.bias = -1.0
    return config
