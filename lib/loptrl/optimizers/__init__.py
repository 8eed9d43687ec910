"""Update rules as optax transformations: `make` builds one from its configuration."""

from loptrl.optimizers.classic import adam, make, rmsprop, with_hyperparameters

__all__ = ["adam", "make", "rmsprop", "with_hyperparameters"]
