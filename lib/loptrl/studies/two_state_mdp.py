"""Study 0: why Adam with unequal betas takes a huge step after a quiet period.

Everything here is NumPy and runs in seconds: Adam written out by hand, the largest step it can
take, and an actor-critic on a Markov decision process with two states. The paper that names the
mechanism (Dohare, Lan and Mahmood, 2023) uses a two-state process whose exact definition we did
not find, so the process below is our own design.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from loptrl.errors import LoptrlError
from loptrl.studies.adam_by_hand import (
    Moments,
    adam_ratios,
    check_beta,
    check_count,
    largest_ratio,
    optax_ratios,
    quiet_then_loud,
    single_spike_bound,
)

__all__ = [
    "ARMS",
    "Arm",
    "Disturbance",
    "Histories",
    "Summary",
    "TwoStateMDP",
    "adam_ratios",
    "arms",
    "largest_ratio",
    "largest_step",
    "optax_ratios",
    "quiet_then_loud",
    "single_spike_bound",
    "summarise",
    "train",
]

# --- The Markov decision process and its actor-critic -------------------------------------------


@dataclass(frozen=True)
class TwoStateMDP:
    """Two states, one of which pays 1 for every visit; the actions are to stay and to go.

    An action does the opposite of what it says with probability `slip`. The policy has one logit
    per state, log(p(go) / p(stay)); the critic has one value per state.

    Attributes:
        slip: probability that an action is reversed, in [0, 0.5).
        discount: weight of the next state's value, in [0, 1).
    """

    slip: float = 0.1
    discount: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.slip < 0.5:
            raise LoptrlError(f"slip must lie in [0, 0.5), got {self.slip}: use for example 0.1.")
        if not 0.0 <= self.discount < 1.0:
            raise LoptrlError(f"discount must lie in [0, 1), got {self.discount}.")

    def share_paid(self, logits: np.ndarray, paying: int = 0) -> np.ndarray:
        """Long-run share of updates a policy spends in the paying state, exactly.

        With q_s the probability of leaving state s, the stationary share of state 0 is
        q_1 / (q_0 + q_1).

        Args:
            logits: policy logits, [..., 2].
            paying: the state that pays, 0 or 1.

        Returns:
            The share, [...], between `slip` (always wrong) and 1 - `slip` (always right).
        """
        leave = self.slip + (1 - 2 * self.slip) * _sigmoid(np.asarray(logits, dtype=np.float64))
        in_zero = leave[..., 1] / (leave[..., 0] + leave[..., 1])
        return in_zero if paying == 0 else 1 - in_zero


@dataclass(frozen=True)
class Disturbance:
    """After `quiet_updates` the other state pays, for `length` updates or, with None, for good."""

    quiet_updates: int = 3_000
    length: int | None = 50

    def __post_init__(self) -> None:
        check_count("quiet_updates", self.quiet_updates)
        if self.length is not None:
            check_count("length", self.length)

    def paying(self, update: int) -> int:
        """The state that pays at an update, counted from 1."""
        end = math.inf if self.length is None else self.quiet_updates + self.length
        return int(self.quiet_updates < update <= end)

    @property
    def final_paying(self) -> int:
        """The state that pays in the end: 0 unless the change is for good."""
        return 1 if self.length is None else 0


@dataclass(frozen=True)
class Arm:
    """One way to train: Adam's two betas and an L2 weight added to the gradient."""

    label: str
    color_key: str
    beta1: float
    beta2: float
    l2: float = 0.0

    def __post_init__(self) -> None:
        check_beta("beta1", self.beta1)
        check_beta("beta2", self.beta2)
        if not (math.isfinite(self.l2) and self.l2 >= 0):
            raise LoptrlError(f"l2 must be zero or positive, got {self.l2}: use for example 0.001.")


def arms(
    beta1: float = 0.9, beta2: float = 0.999, equal_beta: float = 0.99, l2: float = 1e-3
) -> dict[str, Arm]:
    """The three arms of the study: Adam, Adam with equal betas, and the first with L2."""
    return {
        "adam": Arm(f"Adam ({beta1:g}, {beta2:g})", "adam", beta1, beta2),
        "equal_betas": Arm(
            f"equal betas ({equal_beta:g})", "adam_equal_betas", equal_beta, equal_beta
        ),
        "l2": Arm(f"Adam ({beta1:g}, {beta2:g}) + L2 {l2:g}", "adam:l2", beta1, beta2, l2),
    }


ARMS: Mapping[str, Arm] = arms()


@dataclass(frozen=True)
class Histories:
    """What `train` recorded; T updates, S seeds. Row t is the state after update t + 1.

    Attributes:
        logits: policy logits, [T, S, 2].
        values: critic values, [T, S, 2].
        gradients: gradients given to Adam, two logits then two values, [T, S, 4].
        ratios: steps in units of the learning rate, same order, [T, S, 4].
        paying: the state that paid, [T].
    """

    mdp: TwoStateMDP
    arm: Arm
    disturbance: Disturbance
    logits: np.ndarray
    values: np.ndarray
    gradients: np.ndarray
    ratios: np.ndarray
    paying: np.ndarray = field(repr=False)

    def share_of_best(self, paying: int) -> np.ndarray:
        """What each update's policy earns when `paying` pays, over the best possible, [T, S]."""
        return self.mdp.share_paid(self.logits, paying) / (1 - self.mdp.slip)


def train(
    arm: Arm,
    disturbance: Disturbance,
    *,
    seeds: int = 10,
    after: int = 1_000,
    learning_rate: float = 0.02,
    batch: int = 128,
    entropy_weight: float = 0.2,
    mdp: TwoStateMDP | None = None,
) -> Histories:
    """Train a tabular actor-critic with Adam on sampled transitions, through a disturbance.

    Each update takes one step in each of `batch` parallel copies of the process. With
    delta = r + discount V(s') - V(s), p = sigmoid(logit(s)) the probability of going and a the
    action, the gradients (to descend) are averages over the batch of

        logit(s):  -delta (a - p) + entropy_weight p (1 - p) logit(s),     V(s):  -delta,

    plus `arm.l2` times the parameter. Every seed has its own stream of random numbers, the same
    for every arm, so seed k is the same experiment whatever the number of seeds.

    Args:
        arm: the optimizer.
        disturbance: when the other state pays.
        seeds: number of independent repetitions.
        after: updates that follow the quiet period.
        learning_rate: Adam's learning rate.
        batch: transitions per update and seed.
        entropy_weight: weight of the entropy bonus; keeps the policy from becoming deterministic.
        mdp: the process; the default has slip 0.1 and discount 0.9.

    Returns:
        Every update's parameters, gradients and steps.

    Raises:
        LoptrlError: a size below one, or a rate or weight that is negative or not finite.
    """
    for name, count in (("seeds", seeds), ("after", after), ("batch", batch)):
        check_count(name, count)
    for name, value in (("learning_rate", learning_rate), ("entropy_weight", entropy_weight)):
        if not (math.isfinite(value) and value >= 0):
            raise LoptrlError(f"{name} must be zero or positive, got {value}.")
    mdp = mdp or TwoStateMDP()
    updates = disturbance.quiet_updates + after
    parameters = np.zeros((seeds, 4))
    moments = Moments(np.zeros((seeds, 4)), np.zeros((seeds, 4)))
    history = {
        name: np.empty((updates, seeds, 4)) for name in ("parameters", "gradients", "ratios")
    }
    paying = np.array([disturbance.paying(update) for update in range(1, updates + 1)])
    state = np.tile(np.arange(batch) % 2, (seeds, 1))
    draws = _Draws(seeds, batch)
    for t in range(updates):
        gradient, state = _actor_critic_gradient(
            parameters, state, draws.next(), int(paying[t]), mdp, entropy_weight
        )
        gradient += arm.l2 * parameters
        ratio = moments.ratio(gradient, arm.beta1, arm.beta2)
        parameters = parameters - learning_rate * ratio
        history["parameters"][t] = parameters
        history["gradients"][t] = gradient
        history["ratios"][t] = ratio
    return Histories(
        mdp=mdp,
        arm=arm,
        disturbance=disturbance,
        logits=history["parameters"][..., :2],
        values=history["parameters"][..., 2:],
        gradients=history["gradients"],
        ratios=history["ratios"],
        paying=paying,
    )


@dataclass(frozen=True)
class Summary:
    """What a change did to one arm, means over seeds.

    Attributes:
        largest_step: of any parameter within 200 updates of the change, in learning rates.
        steps_over_rate: share of those updates in which some step exceeds the learning rate.
        before: share of the best return just before the change, on the task that stays.
        lowest: the lowest such share after it.
        recovery: updates from the change until the share is back at 90 % of the best for good, or
            the whole time that was simulated when it is not.
    """

    largest_step: float
    steps_over_rate: float
    before: float
    lowest: float
    recovery: float


def summarise(histories: Histories) -> Summary:
    """Reduce one arm's histories to the numbers under the figures."""
    start = histories.disturbance.quiet_updates
    share = histories.share_of_best(histories.disturbance.final_paying)
    poor = share[start:] < 0.9
    # One past the last poor update; zero where there is none.
    back = np.where(poor.any(axis=0), len(poor) - np.argmax(poor[::-1], axis=0), 0)
    steps = np.abs(histories.ratios[start : start + 200]).max(axis=2)
    return Summary(
        largest_step=float(steps.max(axis=0).mean()),
        steps_over_rate=float((steps > 1.0 + 1e-9).mean()),
        before=float(share[start - 1].mean()),
        lowest=float(share[start:].min(axis=0).mean()),
        recovery=float(back.mean()),
    )


def largest_step(histories: Histories, window: int = 200) -> np.ndarray:
    """Largest step of any parameter soon after the change, in learning rates, [S].

    Args:
        histories: one arm.
        window: updates after the change that count as soon.
    """
    check_count("window", window)
    start = histories.disturbance.quiet_updates
    return np.abs(histories.ratios[start : start + window]).max(axis=(0, 2))


class _Draws:
    """Uniform numbers [2, seeds, batch] per update, one stream per seed, drawn in blocks."""

    BLOCK = 256

    def __init__(self, seeds: int, batch: int) -> None:
        self._streams = [np.random.default_rng([20231, seed]) for seed in range(seeds)]
        self._batch = batch
        self._block = np.empty((0, 2, seeds, batch), np.float32)
        self._used = 0

    def next(self) -> np.ndarray:
        if self._used == len(self._block):
            shape = (self.BLOCK, 2, self._batch)
            drawn = [stream.random(shape, dtype=np.float32) for stream in self._streams]
            self._block, self._used = np.stack(drawn, axis=2), 0
        self._used += 1
        return self._block[self._used - 1]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _actor_critic_gradient(
    parameters: np.ndarray,
    state: np.ndarray,
    draws: np.ndarray,
    paying: int,
    mdp: TwoStateMDP,
    entropy_weight: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient [seeds, 4] from one transition of each copy, and the states reached."""
    logits, values = parameters[:, :2], parameters[:, 2:]
    logit = np.take_along_axis(logits, state, axis=1)
    go_probability = _sigmoid(logit)
    go = draws[0] < go_probability
    following = np.where(go ^ (draws[1] < mdp.slip), 1 - state, state)
    value = np.take_along_axis(values, state, axis=1)
    next_value = np.take_along_axis(values, following, axis=1)
    delta = (following == paying) + mdp.discount * next_value - value
    bonus = entropy_weight * go_probability * (1 - go_probability) * logit
    for_logit = -delta * (go - go_probability) + bonus
    gradient = np.empty_like(parameters)
    for s in (0, 1):
        here = state == s
        gradient[:, s] = np.where(here, for_logit, 0.0).mean(axis=1)
        gradient[:, 2 + s] = np.where(here, -delta, 0.0).mean(axis=1)
    return gradient, following
