"""Update rules as optax transformations: `make` builds one from its configuration.

The learned ones are each a `LearnedOptimizer`: `open_optimizer("multi")` is the transformation
with trained weights, `open_optimizer.init_theta(key)` and `open_optimizer.build(theta)` are its
parts.
"""

from loptrl.optimizers.classic import adam, annealed, rmsprop, with_hyperparameters
from loptrl.optimizers.flat import Split
from loptrl.optimizers.learned import LEARNED, LearnedOptimizer
from loptrl.optimizers.registry import make, split_state
from loptrl.optimizers.weight_decay import (
    coupled_weight_decay,
    decoupled_weight_decay,
    l2_in_loss,
)

optim4rl = LEARNED["optim4rl"]
open_optimizer = LEARNED["open"]
velo = LEARNED["velo"]

__all__ = [
    "LEARNED",
    "LearnedOptimizer",
    "Split",
    "adam",
    "annealed",
    "coupled_weight_decay",
    "decoupled_weight_decay",
    "l2_in_loss",
    "make",
    "open_optimizer",
    "optim4rl",
    "rmsprop",
    "split_state",
    "velo",
    "with_hyperparameters",
]
