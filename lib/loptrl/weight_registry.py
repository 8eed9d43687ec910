"""Trained optimizers that others published: where they are, and how to know that they are they."""

from __future__ import annotations

import dataclasses

from loptrl.errors import WeightsError

__all__ = ["REGISTRY", "Published", "known"]

_OPEN = "https://raw.githubusercontent.com/AlexGoldie/rl-learned-optimization"
_OPEN_COMMIT = "b65037bd89c09f31e80c5d49f1d78cc9c6dc43e0"
_OPTIM4RL = "https://raw.githubusercontent.com/arseniykan/meta-optim-eval"
_OPTIM4RL_COMMIT = "bcc9b10679b6693f6ee876d2825d57ec1bfe3668"
_VELO = "https://storage.googleapis.com/gresearch/learned_optimization/pretrained_lopts"
_VELO_NAME = "aug12_continue_on_bigger_2xbs_200kstep_bigproblem_v2_5620"


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that others published.

    Attributes:
        name: how they are asked for, `family/short name`.
        file: the official file, as it lies below its folder.
        address: where it is.
        commit: the repository's commit; None where there is no repository.
        sha256: of the official file; None where it was never seen.
        numbers_sha256: of the numbers in it, whatever file they are in
            (`plain_arrays.numbers_sha256`); None where they were never seen.
        licence: SPDX identifier, or None where the repository names none.
        values: how many numbers it holds.
        size: bytes; of the conversion where only that was seen, estimated for VeLO.
        trained_on: in words.
        converted: the file's conversion to an .npz of plain arrays, or None.
        converted_sha256: of that conversion.
    """

    name: str
    file: str
    address: str
    commit: str | None
    sha256: str | None
    numbers_sha256: str | None
    licence: str | None
    values: int
    size: int
    trained_on: str
    converted: str | None = None
    converted_sha256: str | None = None

    @property
    def family(self) -> str:
        """The rule they are for."""
        return self.name.partition("/")[0]

    @property
    def can_be_checked(self) -> bool:
        """Whether a download can be told from another file."""
        return self.sha256 is not None or self.numbers_sha256 is not None


def _open(
    name: str, trained_on: str, digest: str, numbers: str, values: int = 1211, size: int = 4972
) -> Published:
    file = f"{name}_OPEN.npy"
    return Published(
        name=f"open/{name}",
        file=file,
        address=f"{_OPEN}/{_OPEN_COMMIT}/rl_optimizer/pretrained/{file}",
        commit=_OPEN_COMMIT,
        sha256=digest,
        numbers_sha256=numbers,
        licence="Apache-2.0",
        values=values,
        size=size,
        trained_on=trained_on,
    )


def _optim4rl(name: str, folder: str, trained_on: str, converted: str, numbers: str) -> Published:
    file = f"{folder}/param.pickle"
    return Published(
        name=f"optim4rl/{name}",
        file=file,
        address=f"{_OPTIM4RL}/{_OPTIM4RL_COMMIT}/optim4rl/logs/{file}",
        commit=_OPTIM4RL_COMMIT,
        sha256=None,
        numbers_sha256=numbers,
        licence=None,
        values=514,
        size=8662,
        trained_on=trained_on,
        converted=f"{folder.replace('/', '_')}.npz",
        converted_sha256=converted,
    )


_ENTRIES = (
    _open(
        "ant",
        "Brax Ant",
        "e1901cafe323d1c5619b84e5178b3075c95a7cde920777e2c15e58c812c3e725",
        "a57db050f5fc613288316c51979c91944f26d201b79c9f3979ca15657413b327",
    ),
    _open(
        "asterix",
        "MinAtar Asterix",
        "55d96c80dca70e4a308352798daec00fc962d7a3faacc24f612e1b437c1893aa",
        "f5e6ba47b391752c07f8efb405110464fb19e31ae931d796f81b6eec94589294",
    ),
    _open(
        "breakout",
        "MinAtar Breakout",
        "d7f0876c78736a0e354f8837e2a549dc7f45ff4d01f952ba9d547d8afc6f7926",
        "c96eefa13c3dc6eeeb7072486da20cd496b555b3769abecb23ce04ce13d8ee22",
    ),
    _open(
        "freeway",
        "MinAtar Freeway",
        "97ea3f8f9a6e34523dd50c138a1538b33fbd2b1c3a5ee05a31014460825ea9f0",
        "18963bb98abb811eca6d119304defb111ae1ef81dbefbc1dc4b1c1af300dcb54",
    ),
    _open(
        "gridworld",
        "a family of gridworlds",
        "16ebb93a79adbcbfdb3e6019986109ee374764cb9cc8b0ad65f69bdcaedd9bb5",
        "c2960155886d5263627f3221bb5afe0b136cd91f459e2f18d2021e8ad9840c45",
    ),
    _open(
        "multi",
        "MinAtar Asterix, Freeway, Breakout and SpaceInvaders together",
        "9ba2dea70b0b308a365516dab092808b7b9211c70072bca934d83affaee5f60c",
        "267fa041bbb78e2909100d385808310321d152793e4a2e3490734b963fd82d6d",
        values=3571,
        size=14412,
    ),
    _open(
        "spaceinvaders",
        "MinAtar SpaceInvaders",
        "42845f4c0b6b460789afffb1788f806e676b27acafa0febf34e86bd63d3e362f",
        "940bb367a42f7efc60013bac76b47f1e422f24c8a01ad0715e74bea90c8df113",
    ),
    _optim4rl(
        "ant",
        "meta_rl_ant/5",
        "Brax Ant, reset interval 512, meta-learning rate 1e-5",
        "8d77fb8254eae634e5f503b69467abd930809a188a6b90777713de1e0611f2f8",
        "753914da9f0be089abd5ccb0f8ea5c0c09d0aef9f523158f44966ad9cdcdcce8",
    ),
    _optim4rl(
        "ant_1",
        "meta_rl_ant/1",
        "Brax Ant, reset interval 32, meta-learning rate 1e-5",
        "330b336fb06a884c514512d92069bd821a246fe152e70f6be8304e9fea4dac90",
        "ab181ede4f1c49ab01dc95a62208dc04608bf7b5e6619b832dc3eeb0eebd9320",
    ),
    _optim4rl(
        "ant_22",
        "meta_rl_ant/22",
        "Brax Ant, reset interval 64, meta-learning rate 1e-3",
        "4c14885823f3b0498bfba33eceef9ac621a28b1f04d1a74ee7a453c05b0d8108",
        "91fc9cde9e5cb0fb698ba1e09a2e807ae5a955464120c10a0142faf2f8346fa5",
    ),
    _optim4rl(
        "humanoid",
        "meta_rl_humanoid/1",
        "Brax Humanoid, reset interval 32, meta-learning rate 1e-5",
        "de3226299294cc2872dc81015a6498108809e0724488b2fac4dea9fa59de9249",
        "2418e9825f17acd6e33ace37873bb1d7c53de5e60ce766f7927bfcf2642392bf",
    ),
    _optim4rl(
        "catch",
        "meta_rl_catch/1",
        "Catch, reset interval 32",
        "55b4251f753d25b2115d4a04bb48b3fb019ae320a240bad1fd344988246f4c79",
        "f0fe6f1fb981216d7ab4691019c6dadcf9927e0437d465f2df290fcbc54db7f3",
    ),
    Published(
        name="velo/released",
        file="params",
        address=f"{_VELO}/{_VELO_NAME}/params",
        commit=None,
        sha256=None,
        numbers_sha256=None,
        licence="Apache-2.0",
        values=2_320_385,
        size=9_300_000,
        trained_on="a mixture of tasks of supervised learning; 4,000 TPU months",
    ),
)

REGISTRY: dict[str, Published] = {entry.name: entry for entry in _ENTRIES}
"""The published weights by name."""


def known(name: str) -> Published:
    """The entry of that name.

    Raises:
        WeightsError: there is none.
    """
    if name not in REGISTRY:
        raise WeightsError(f"no published weights {name!r}; known are {', '.join(REGISTRY)}")
    return REGISTRY[name]
