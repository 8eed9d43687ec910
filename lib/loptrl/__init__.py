"""loptrl: learned optimizers for reinforcement learning that keeps changing."""

__version__ = "0.1.0"
