"""pelvis_1024 by way of 256 and 512 px: 2.5 times less computing for as many images.

Command   python -m ddpm_jax.train --config configs/pelvis_1024_progressive.py
              --workdir DIR --config.data.folder=DATA
Hardware  8 x A100 80 GB, or a TPU slice
Time      not measured
Result    not measured; of phantoms, docs/training.md says how it compares
"""

from configs import pelvis_1024


def get_config():
    config = pelvis_1024.get_config()
    config.phases = (
        {"until": 30_000, "image_size": 256},
        {"until": 55_000, "image_size": 512},
    )
    return config
