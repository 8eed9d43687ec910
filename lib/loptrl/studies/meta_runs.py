"""Meta-trainings as stored runs, and the weights they end with."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loptrl import drive, paths, provenance, style, weights
from loptrl.errors import LoptrlError, MissingRun
from loptrl.files import write_together
from loptrl.meta.config import RULES, MetaConfig
from loptrl.meta.es_config import EvolutionConfig
from loptrl.meta.supervised_config import SupervisedConfig
from loptrl.runs import Run, RunSpec, Store
from loptrl.studies.meta_recipes import LICENCE, recipe

__all__ = [
    "Trained",
    "meta_spec",
    "picture",
    "save_untrained",
    "small_print",
    "stored",
    "train",
    "weights_path",
]

VERSION = 1
_DRAW_EVERY_S = 20.0
# Of a training by gradients and of one by evolution.
_PANELS = (
    ("meta_loss", "meta_grad_norm", "meta_agreement", "skipped", "train_return"),
    ("fitness_mean", "fitness_center", "fitness_best", "theta_norm"),
)

Config = MetaConfig | EvolutionConfig | SupervisedConfig


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished meta-training: its run, and where its weights are."""

    run: Run
    path: Path


def meta_spec(name: str, config: Config, seed: int = 0, budget: str = "laptop") -> RunSpec:
    """The run of a meta-training; a name such as "drift" makes the arm "optim4rl.drift"."""
    return RunSpec("meta", f"{config.rule}.{name}", budget, VERSION, seed, config.to_dict())


def weights_path(name: str, rule: str) -> Path:
    """Where the weights of that name are kept."""
    return paths.weights_dir() / rule / f"{name}.npz"


def stored(rule: str, names: Iterable[str], store: Store) -> dict[str, Run]:
    """Recipe -> its run, a row for each generation or meta-iteration; only those that are stored.

    Raises:
        DamagedRun: one is stored and damaged.
    """
    found = {}
    for name in names:
        spec = meta_spec(name, recipe(rule, name).config)
        with contextlib.suppress(MissingRun):
            found[name] = store.read(spec)
    return found


def small_print(runs: Sequence[Run], *, env_steps: bool = True) -> str:
    """The small print of a figure of meta-trainings.

    Args:
        runs: at least one.
        env_steps: whether env steps are their length.
    """
    return style.provenance(
        keys=[run.spec.key for run in runs],
        seeds=[1] * len(runs),
        env_steps=max(int(run.frame["env_steps"].iloc[-1]) for run in runs) if env_steps else None,
        budget=runs[0].spec.budget,
        device=" and ".join(sorted({run.manifest["device"] for run in runs})),
        command="; ".join(
            "loptrl meta {} --recipe {}".format(*run.spec.arm.split(".", 1)) for run in runs
        ),
    )


def train(
    name: str,
    config: Config,
    trained_on: str,
    *,
    seed: int = 0,
    budget: str = "laptop",
    command: str | None = None,
    licence: str | None = None,
    store: Store | None = None,
    time_limit: str | float | None = None,
    agents_at_once: int | None = None,
    progress: Any = "auto",
) -> Trained:
    """Meta-train, or find it done: a stored run, and weights of that name with a card.

    Stopped at any moment, the same call goes on. While it runs, a picture of the meta-loss or of
    the fitness is kept at `picture(spec)`.

    Args:
        name: of the weights, such as "drift"; `optim4rl("drift")` finds them then.
        config: the numbers; their kind says whether by gradients or by evolution, and on what.
        trained_on: in words, for the card.
        seed: seeds everything.
        budget: the label of the run.
        command: the command that does this, for messages and the card.
        licence: of the weights, an SPDX identifier for the card; None names none.
        store: default the committed results.
        time_limit: see `loptrl.drive.load_or_run`.
        agents_at_once: `together` of a `meta.pipeline.Pipeline`, for a training by gradients.
        progress: see `loptrl.progress.Progress`.

    Raises:
        LoptrlError: the name is that of published weights, or of others that were trained here.
        Stopped: by the time limit or a signal.
        StoreError: the disk refuses.
    """
    store = Store() if store is None else store
    spec, target = meta_spec(name, config, seed, budget), weights_path(name, config.rule)
    if f"{config.rule}/{name}" in weights.REGISTRY:
        raise LoptrlError(f"{config.rule}/{name} are published weights; choose another name")
    made, commit = _is_made(target, spec, config.rule), provenance.commit()
    length = "examples" if isinstance(config, SupervisedConfig) else "env_steps"

    def finished(theta: Any, slices: int) -> None:
        from loptrl.optimizers import LEARNED

        # Another meta-training may have taken the name since.
        _is_made(target, spec, config.rule)
        card = {
            "name": f"{config.rule}/{name}",
            "trained_on": trained_on,
            **({"licence": licence} if licence else {}),
            "run": spec.key,
            "seed": seed,
            "budget": budget,
            length: slices * config.env_steps_per_slice,
            "command": command,
            "config": config.to_dict(),
            "commit": commit,
            "versions": provenance.versions(),
            "options": {"learning_rate": config.learning_rate} if config.learning_rate else {},
        }
        LEARNED[config.rule].save(target, theta, **card)

    def make(spec: RunSpec) -> Any:
        from loptrl.studies import meta_training

        if isinstance(config, MetaConfig):
            return meta_training.make_meta_program(spec, finished, together=agents_at_once)
        if isinstance(config, EvolutionConfig):
            return meta_training.make_evolution_program(spec, finished)
        return meta_training.make_supervised_program(spec, finished)

    results = drive.load_or_run(
        [spec],
        make,
        # A run without its weights is of no use.
        compute="missing" if made else "always",
        store=store,
        time_limit=time_limit,
        progress=progress,
        command=command,
        watch=_painter(),
    )
    return Trained(results.runs[0], target)


def _is_made(target: Path, spec: RunSpec, rule: str) -> bool:
    """Whether a file holds the weights of this meta-training; holding others is an error."""
    if not target.is_file():
        return False
    if weights.card(target, rule).get("run") == spec.key:
        return True
    name = target.name.removesuffix(".npz")
    raise LoptrlError(
        f"expected a free name, got {name!r}: {target} holds other weights; choose another name, "
        "or move them away"
    )


def save_untrained(rule: str, seed: int = 0) -> Path:
    """Keep the weights that meta-training starts from as RULE/untrained, for runs that compare.

    Raises:
        LoptrlError: no such rule, or other weights have that name.
        StoreError: the disk refuses.
    """
    import jax

    from loptrl.optimizers import LEARNED
    from loptrl.studies.meta_training import untrained_theta

    if rule not in RULES:
        raise LoptrlError(f"expected a rule of {', '.join(RULES)}, got {rule!r}")
    target, theta = weights_path("untrained", rule), untrained_theta(rule, seed)
    if target.is_file():
        kept = jax.tree.leaves(LEARNED[rule].theta(target))
        if all(map(np.array_equal, kept, jax.tree.leaves(theta))):
            return target
        raise LoptrlError(
            f"expected no other weights in {target}, found some, which stored runs may name; move "
            "them away"
        )
    card = {
        "name": f"{rule}/untrained",
        "trained_on": "nothing: random weights",
        "licence": LICENCE,
        "seed": seed,
        "env_steps": 0,
        "command": f"loptrl weights untrained {rule} --seed {seed}",
        "commit": provenance.commit(),
        "versions": provenance.versions(),
    }
    LEARNED[rule].save(target, theta, **card)
    return target


def picture(spec: RunSpec) -> Path:
    """Where the picture of a meta-training is kept while it runs."""
    return paths.cache_dir() / "meta" / f"{spec.arm}-{spec.key}.png"


def _painter() -> Callable[[RunSpec, Sequence[Mapping[str, float]]], None]:
    """Draws the rows so far, now and then."""
    drawn = 0.0

    def watch(spec: RunSpec, rows: Sequence[Mapping[str, float]]) -> None:
        nonlocal drawn
        if time.monotonic() - drawn < _DRAW_EVERY_S or len(rows) < 2:
            return
        import io

        from loptrl import plots

        drawn = time.monotonic()
        steps = np.array([row["env_steps"] for row in rows])
        panels = {}
        for name in next(names for names in _PANELS if names[0] in rows[0]):
            values = np.array([row[name] for row in rows])
            # Where no episode has ended there is no return, and one agent agrees with nobody.
            there = np.isfinite(values)
            if np.count_nonzero(there) > 1:
                panels[name] = {spec.arm: (steps[there], values[None, there])}
        rule = spec.arm.partition(".")[0]
        look = rule if rule in style.COLOURS else "optim4rl"
        buffer = io.BytesIO()
        style.save(plots.diagnostics(panels, looks={spec.arm: look}), buffer, fmt="png")
        picture(spec).parent.mkdir(parents=True, exist_ok=True)
        write_together({picture(spec): buffer.getvalue()})

    return watch
