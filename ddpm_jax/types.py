"""The types that the rooms of the house meet in; docs/notation.md names the letters."""

from collections.abc import Callable, Mapping

import jaxtyping
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree

Image = Float[Array, "b h w c"]
PerExample = Float[Array, " b"]
Scalar = Float[Array, ""]
Conditions = Mapping[str, Num[Array, " b"]]
Params = PyTree[Array]
Key = PRNGKeyArray
Keys = jaxtyping.Key[Array, " b"]

Schedule = Callable[[PerExample], PerExample]
"""t in [0, 1] (0 clean) to logsnr, decreasing."""

Weight = Callable[[PerExample, PerExample], PerExample]
"""(t, logsnr) to the weight on the squared error of x."""

Denoiser = Callable[[Image, PerExample, Conditions], Image]
"""(z, logsnr, cond) to x_hat, float32, x in [-1, 1]."""
