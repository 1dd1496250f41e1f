"""Conditional diffusion models of radiographs, in JAX."""

__version__ = "0.1.0"


def __getattr__(name):
    if name == "load_sampler":
        from ddpm_jax.sampler import load_sampler

        return load_sampler
    raise AttributeError(f"module 'ddpm_jax' has no attribute {name!r}")
