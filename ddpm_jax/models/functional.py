"""A Flax module as a pair of pure functions over one flat dict of parameters."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from flax import nnx

from ddpm_jax.types import Key, Params


class Network(NamedTuple):
    """`init(key)` gives {"path/of/parameter": float32 array}.

    `apply(params, *inputs)` is the module called on `inputs`. Nothing outside `models`
    sees Flax: losses, samplers, optimisers, checkpoints and exports get this dict.
    """

    init: Callable[[Key], Params]
    apply: Callable


def network(make: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """The pure pair of the module that `make(rngs)` constructs.

    `make` runs abstractly first, so its errors surface here, before any data is read.
    """
    graph, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    paths = {_name(path): path for path, _ in nnx.to_flat_state(state)}

    def init(key: Key) -> Params:
        module = make(nnx.Rngs(key))
        flat = nnx.to_flat_state(nnx.state(module))
        return {_name(path): leaf[...] for path, leaf in flat}

    def apply(params: Params, *inputs):
        pure: dict = {}
        for name, path in paths.items():
            *parents, last = path
            node = pure
            for part in parents:
                node = node.setdefault(part, {})
            node[last] = params[name]
        return nnx.merge(graph, pure)(*inputs)

    return Network(jax.jit(init), apply)


def _name(path) -> str:
    return "/".join(map(str, path))
