"""Study 3: Optim4RL meta-trained on the stationary Ant, evaluated on the changing one."""

from __future__ import annotations

from loptrl.studies.changing_ant import learned_arm, of

__all__ = ["STILL", "STUDY"]

_SOURCES = (
    ("transferred", "trained without change", "optim4rl:transferred", "stationary"),
    ("published", "authors', reset 512", "optim4rl:published", "ant"),
    ("published_1", "authors', reset 32", "optim4rl:published", "ant_1"),
    ("published_22", "authors', reset 64", "optim4rl:published", "ant_22"),
    ("curriculum", "curriculum", "optim4rl:curriculum", "curriculum"),
    ("untrained", "untrained", "optim4rl:untrained", "untrained"),
)

STILL = {name: f"{name}_still" for name, *_ in _SOURCES if name != "curriculum"}
"""Arms on the changing Ant, and those of the same weights on the stationary one."""

STUDY = of(
    "transfer",
    "Optim4RL from the stationary to the changing Ant",
    1,
    [
        *(
            learned_arm(
                name,
                f"Optim4RL ({words})",
                look,
                f"optim4rl/{weights}",
            )
            for name, words, look, weights in _SOURCES
        ),
        *(
            learned_arm(
                STILL[name],
                f"Optim4RL ({words}), no change",
                look,
                f"optim4rl/{weights}",
                changing=False,
                seeds={},
            )
            for name, words, look, weights in _SOURCES
            if name in STILL
        ),
    ],
)
"""The weights of the source's authors differ in their reset interval, named, and their rate."""
