"""Host devices, the compile cache and the precision of products, set before jax starts."""

from __future__ import annotations

import os
import warnings

from loptrl import paths

__all__ = ["available_cores", "prepare"]


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare(host_devices: int | None = None) -> int:
    """One host device per core, the persistent compile cache, and the number of devices.

    Call it before jax is first used: the number of host devices is read when it starts. A number
    chosen by XLA_FLAGS or JAX_NUM_CPU_DEVICES stays. On an accelerator float32 matrices are
    multiplied in full precision, as on a CPU, unless JAX's default_matmul_precision is set, such as
    by JAX_DEFAULT_MATMUL_PRECISION.

    Args:
        host_devices: devices to make of the CPU; None for one per available core.

    Returns:
        The number of devices that jax now has.
    """
    import jax

    wanted = host_devices or available_cores()
    flag = "--xla_force_host_platform_device_count"
    if flag not in os.environ.get("XLA_FLAGS", "") and jax.config.jax_num_cpu_devices < 0:
        try:
            jax.config.update("jax_num_cpu_devices", wanted)
        except RuntimeError:  # jax has started
            if jax.default_backend() == "cpu" and jax.device_count() < wanted:
                warnings.warn(
                    f"Expected {wanted} host devices, got {jax.device_count()}, which changes a "
                    "run's numbers: jax had started already; call loptrl.devices.prepare() before "
                    "anything is computed.",
                    RuntimeWarning,
                    stacklevel=1,  # always this line, so that Python shows it once
                )
    cache = paths.cache_dir() / "xla"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    if jax.default_backend() != "cpu" and jax.config.jax_default_matmul_precision is None:
        jax.config.update("jax_default_matmul_precision", "highest")
    return jax.device_count()
