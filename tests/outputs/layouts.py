"""One process of several, or of several devices, as the environment says.

python -m tests.outputs.layouts SAMPLER TABLE OUT LIMIT

Process 1 can write no file larger than LIMIT bytes, unless that is 0.
"""

import os
import resource
import sys

from ddpm_jax import command_line, sample
from tests.outputs.kills import arguments

if __name__ == "__main__":
    sampler, table, out, limit = sys.argv[1:]
    if int(limit) and os.environ.get("JAX_PROCESS_ID") == "1":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    sys.argv = arguments(sampler, table, out)
    command_line.run(sample.main, sample.__doc__, sample.FLAGS)
