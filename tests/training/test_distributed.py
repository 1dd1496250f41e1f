"""How several processes are found, without starting any."""

import pytest

from ddpm_jax.training import distributed

ALL = {
    "JAX_COORDINATOR_ADDRESS": "host:1",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        (ALL, "explicit"),
        (ALL | {"SLURM_STEP_NUM_TASKS": "4"}, "explicit"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "found"),
        ({"SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "found"),
        ({"TPU_WORKER_HOSTNAMES": "a"}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
    ],
)
def test_what_starts_a_process(environment, expected):
    assert distributed.kind(environment) == expected


@pytest.mark.parametrize(
    "change, message",
    [
        ({"JAX_PROCESS_ID": ""}, "expected JAX_PROCESS_ID as well"),
        ({"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID = '2'"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES = 'two'"),
    ],
)
def test_variables_that_do_not_belong_together(change, message):
    with pytest.raises(ValueError, match=message):
        distributed.kind(ALL | change)


def test_alone_there_is_nothing_to_wait_for():
    distributed.initialize(environment={})
    distributed.wait("nobody")
    assert distributed.leads() and distributed.agree(7) == 7
    assert distributed.count(True) == 1 and distributed.count(False) == 0
