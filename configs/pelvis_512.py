"""Pelvis radiographs at 512 x 512: pelvis_1024 with fewer pixels.

Command   python -m ddpm_jax.train --config configs/pelvis_512.py --workdir DIR
              --config.data.folder=DATA
Hardware  8 x A100 80 GB, or a TPU slice
Time      not measured
Result    not measured
"""

from configs import pelvis_1024


def get_config():
    config = pelvis_1024.get_config()
    config.image_size = 512
    return config
