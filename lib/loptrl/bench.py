"""Throughput of any arm of a study, of both kinds of meta-training, and of others' trainers.

Each measurement has a process of its own, so that neither warms the other's caches or takes its
memory; the first is measured again at the end, since machines are noisy.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loptrl import devices, provenance
from loptrl.errors import LoptrlError, StoreError
from loptrl.files import write_together

__all__ = [
    "BRAX",
    "BRAX_ALL",
    "EVOLUTION",
    "EVOLUTION_ALL",
    "META",
    "OURS",
    "THEIRS",
    "Checkouts",
    "measure_arm",
    "measure_brax",
    "measure_evolution",
    "measure_meta",
    "report",
]

OURS = "adam_collapse/adam"
"""Study 1's agent: PPO with Adam on the spring Ant."""

BRAX = "brax"
"""Brax's own trainer in the place of an arm, as it comes: a CPU is one device to it."""

BRAX_ALL = "brax:all"
"""The same with one host device per core, which is how our agent runs."""

EVOLUTION = "evolution"
"""Trainings of a generation's members, OPEN's evolution on Breakout, on one device of one core."""

EVOLUTION_ALL = "evolution:all"
"""The same with one host device per core."""

META = "meta"
"""The main meta-training of Optim4RL: eight agents, 2048 environments in all, on all devices."""

THEIRS: Mapping[str, str] = {
    "official:open": "open_multitask/breakout.open",
    "official:open_multi": "open_multitask/breakout.open_multi",
    "purejaxrl": "open_multitask/breakout.adam",
}
"""Others' code on Breakout -> the same here: OPEN, both sizes of the rule, and PPO with Adam."""

_SHORT_TRAINING = 32_768
"""Env steps of a member's training in such a measurement: four PPO iterations."""


@dataclasses.dataclass(frozen=True)
class Checkouts:
    """Where other people's trainers are.

    Attributes:
        official: a checkout of github.com/AlexGoldie/rl-learned-optimization.
        purejaxrl: a checkout of github.com/luchris429/purejaxrl.
        python: the interpreter that has what they import, which ours has not.
    """

    official: Path | None = None
    purejaxrl: Path | None = None
    python: Path | None = None

    def arms(self) -> list[str]:
        """What is measured where nothing is named: each of theirs beside ours."""
        given = [name for name in THEIRS if getattr(self, _field(name)) is not None]
        return [name for theirs in given for name in (THEIRS[theirs], theirs)]

    def folder(self, name: str) -> Path:
        """The checkout that a name is measured in.

        Raises:
            LoptrlError: it was not given, or is none.
        """
        field = _field(name)
        file = "purejaxrl/ppo.py" if field == "purejaxrl" else "rl_optimizer/train.py"
        folder = getattr(self, field)
        if folder is None:
            raise LoptrlError(f"{name} needs a checkout of that code; name it with --{field} DIR")
        if not (folder / file).is_file():
            raise LoptrlError(
                f"expected {file} in {folder}, found none; --{field} takes a checkout"
            )
        if self.python is None:
            raise LoptrlError(
                f"{name} needs an interpreter that has what that code imports, older versions than "
                "ours; name it with --their-python PATH"
            )
        return folder


def _field(name: str) -> str:
    """The field of `Checkouts` that one of `THEIRS` is in."""
    return name.partition(":")[0]


def measure_arm(name: str, seconds: float) -> dict[str, float]:
    """Env steps per second of an arm's agent, evaluations left out, after compilation.

    Args:
        name: STUDY/ARM, at the laptop budget's sizes.
        seconds: about how long to measure; at least two slices are timed.

    Returns:
        `env_steps_per_s`, `peak_memory_gib` (of the whole process), `devices`.

    Raises:
        LoptrlError: there is no such study or arm, or its weights are not here.
    """
    spec = _spec(name)
    count = devices.prepare()
    import jax

    from loptrl.studies.training import make_program

    program = make_program(spec)
    state, _ = program.advance(program.init())
    rate = _rate(lambda s: jax.block_until_ready(program.train(s))[0], state, program, seconds)
    return _measured(rate, count)


def _rate(step: Callable[[Any], Any], state: Any, program: Any, seconds: float) -> float:
    """Env steps per second of at least two slices."""
    done, started = 0, time.perf_counter()
    while done < 2 or time.perf_counter() - started < seconds:
        state = step(state)
        done += 1
    return done * program.env_steps_per_slice / (time.perf_counter() - started)


def _measured(rate: float, count: int) -> dict[str, float]:
    return {
        "env_steps_per_s": rate,
        "peak_memory_gib": provenance.peak_memory_bytes() / 2**30,
        "devices": count,
    }


def _spec(name: str) -> Any:
    from loptrl import studies

    study, slash, arm = name.partition("/")
    if not slash:
        raise LoptrlError(
            f"expected an arm as STUDY/ARM, such as {OURS}, got {name!r}; `loptrl status` lists "
            "studies and arms"
        )
    (spec,) = studies.get(study).specs("laptop", [arm], seeds=1)
    return spec


def measure_brax(seconds: float, host_devices: int | None = None) -> dict[str, float]:
    """The same for `brax.training.agents.ppo`: its own loop, the same task, networks and batches.

    Its own timer is read (evaluations and compilation left out). `jax.device_put_replicated`,
    which it calls and jax no longer has, is put back for this measurement only.

    Args:
        seconds: about how long to measure.
        host_devices: devices to make of a CPU; None for one per core.
    """
    count = devices.prepare(host_devices)
    import jax

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from brax import envs
        from brax.training.agents.ppo import networks, train

    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = _device_put_replicated
    from loptrl.studies.adam_collapse import STUDY

    config = STUDY.config("stationary")
    epochs: list[float] = []

    def note(_: int, metrics: dict[str, Any]) -> None:
        epochs.append(float(metrics["training/sps"]))

    # The first epoch compiles. About 6,000 env steps/s on two cores make it last that long.
    iterations, evals = max(2, round(seconds * 6_000 / config.batch_size / 2)), 3
    train.train(
        environment=envs.get_environment(config.world, backend=config.backend),
        num_timesteps=config.batch_size * iterations * evals,
        episode_length=1000,
        num_envs=config.num_envs,
        unroll_length=config.rollout_length,
        batch_size=config.num_envs // config.minibatches,
        num_minibatches=config.minibatches,
        num_updates_per_batch=config.epochs,
        learning_rate=config.optimizer.learning_rate,
        discounting=config.discount,
        entropy_cost=config.entropy_coef,
        clipping_epsilon=config.clip_ratio,
        max_grad_norm=config.max_grad_norm,
        normalize_observations=True,
        network_factory=lambda *args, **kwargs: networks.make_ppo_networks(
            *args,
            **kwargs,
            policy_hidden_layer_sizes=config.hidden,
            value_hidden_layer_sizes=config.hidden,
        ),
        num_evals=evals,
        run_evals=False,
        progress_fn=note,
    )
    timed = epochs[1:] or epochs
    return _measured(len(timed) / sum(1.0 / rate for rate in timed), count)


def _device_put_replicated(tree: Any, to: list[Any]) -> Any:
    import jax
    import jax.numpy as jnp

    mesh = jax.sharding.Mesh(to, "d")
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    return jax.tree.map(lambda x: jax.device_put(jnp.stack([x] * len(to)), sharding), tree)


def measure_evolution(seconds: float, host_devices: int | None = None) -> dict[str, float]:
    """The same for generations of the recipe `open/evolved_breakout`, with shorter trainings.

    Args:
        seconds: about how long to measure; at least two generations are timed.
        host_devices: devices to make of a CPU, of a core each, over which members are shared out;
            None for one per core.
    """
    if host_devices is not None:
        # Otherwise XLA's threads would lend few devices the other cores.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:host_devices])
    count = devices.prepare(host_devices)
    from loptrl.studies import meta_recipes, meta_runs
    from loptrl.studies.meta_training import make_evolution_program

    config = meta_recipes.recipe("open", "evolved_breakout").config
    config = dataclasses.replace(config, env_steps=_SHORT_TRAINING)
    program = make_evolution_program(meta_runs.meta_spec("evolved_breakout", config))
    state, _ = program.advance(program.init())
    return _measured(_rate(lambda s: program.advance(s)[0], state, program, seconds), count)


def measure_meta(seconds: float) -> dict[str, float]:
    """The same for meta-iterations of the recipe `optim4rl/stationary`.

    Args:
        seconds: about how long to measure; at least two meta-iterations are timed.
    """
    count = devices.prepare()
    from loptrl.studies import meta_recipes, meta_runs
    from loptrl.studies.meta_training import make_meta_program

    config = meta_recipes.recipe("optim4rl", "stationary").config
    program = make_meta_program(meta_runs.meta_spec("stationary", config))
    state, _ = program.advance(program.init())
    return _measured(_rate(lambda s: program.advance(s)[0], state, program, seconds), count)


_OTHERS: Mapping[str, Callable[[float], dict[str, float]]] = {
    BRAX: functools.partial(measure_brax, host_devices=1),
    BRAX_ALL: measure_brax,
    EVOLUTION: functools.partial(measure_evolution, host_devices=1),
    EVOLUTION_ALL: measure_evolution,
    META: measure_meta,
}
"""What stands in the place of an arm."""


def _in_process(name: str, seconds: float, checkouts: Checkouts) -> dict[str, float]:
    command, folder = [sys.executable, "-m", "loptrl.bench", name, "--seconds", str(seconds)], None
    if name in THEIRS:
        script = Path(__file__).with_name("bench_others.py").read_text(encoding="utf-8")
        folder = checkouts.folder(name)
        # Absolute, for it starts in the checkout, and not resolved: a venv is found by its link.
        command = [os.path.abspath(str(checkouts.python)), "-c", script, name, str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except OSError as error:
        raise LoptrlError(
            f"could not run {command[0]}: {error.strerror}; check the path"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LoptrlError(f"the measurement of {name} failed: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(
    seconds: float,
    names: Sequence[str],
    checkouts: Checkouts | None = None,
    to: Path | None = None,
) -> str:
    """The table that `loptrl bench` prints, with each rate's ratio to the first one's mean.

    Where others' code and its counterpart here were measured, their ratio stands beneath.

    Args:
        seconds: about how long each measurement takes.
        names: arms as STUDY/ARM, `BRAX`, `EVOLUTION` and the like, and of `THEIRS`; the first is
            measured again at the end.
        checkouts: of the others' code, which their names need.
        to: a file that gets the table too, as `status_page.speed` reads it.

    Raises:
        StoreError: the file cannot be written; the measurements are in its words.
        LoptrlError: `seconds` is not above 0, an arm is unknown, a checkout is none, or a
            measurement failed.
    """
    checkouts = Checkouts() if checkouts is None else checkouts
    if not seconds > 0:
        raise LoptrlError(f"seconds must be above 0, got {seconds}")
    for name in names:
        if name in THEIRS:
            checkouts.folder(name)
        elif name not in _OTHERS:
            _spec(name)
    order = [*names, names[0]] if len(names) > 1 else list(names)
    results = [(name, _in_process(name, seconds, checkouts)) for name in order]
    first = [r["env_steps_per_s"] for name, r in results if name == names[0]]
    level = sum(first) / len(first)
    width = max(len(name) for name in names)
    lines = []
    for name, r in results:
        rate = r["env_steps_per_s"]
        lines.append(
            f"{name:<{width}} {rate:>10,.0f} env steps/s on {r['devices']:.0f} devices, "
            f"peak {r['peak_memory_gib']:.2f} GiB, {rate / level:.2f} of {names[0]}"
        )
    rates = {name: r["env_steps_per_s"] for name, r in results} | {names[0]: level}
    lines += [
        f"{ours} makes {rates[ours] / rates[theirs]:.2f} times the env steps/s of {theirs}"
        for theirs, ours in THEIRS.items()
        if ours in rates and theirs in rates
    ]
    told = "\n".join(lines)
    if to is not None:
        try:
            _keep(to, seconds, results, level)
        except StoreError as error:
            raise StoreError(f"{error}; what was measured:\n{told}") from error
    return told


def _keep(
    to: Path, seconds: float, results: Sequence[tuple[str, Mapping[str, float]]], level: float
) -> None:
    """The measurements as a CSV file, whose first line says when and on what they were made."""
    rows = [
        f"{name},{r['env_steps_per_s']:.0f},{r['env_steps_per_s'] / level:.3f},"
        f"{r['devices']:.0f},{r['peak_memory_gib']:.2f}"
        for name, r in results
    ]
    made = datetime.date.today().isoformat()
    head = (
        f"# {made}, {provenance.processor()}, jax {provenance.versions()['jax']}, "
        f"{seconds:g} s each, one after another"
    )
    columns = "what,env_steps_per_s,of_first,devices,peak_memory_gib"
    write_together({to: "\n".join([head, columns, *rows, ""]).encode()})


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    measure = _OTHERS.get(arguments.name, functools.partial(measure_arm, arguments.name))
    print(json.dumps(measure(arguments.seconds)))


if __name__ == "__main__":
    _main()
