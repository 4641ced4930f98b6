"""The published dynamics on small sizes, with the weights that the arrays hold."""

from __future__ import annotations

import torch
from torch import Tensor

from mg2l_kalei.world_models.marie.config import MarieConfig
from mg2l_kalei.world_models.marie.network import Blocks, Dynamics, Sizes
from tests.world_models.marie_arrays import arrays

CONFIG = MarieConfig(
    width=32,
    slot_codes=False,
    aggregator_head_dim=8,
    context_steps=3,
    burn_in=0,
    reward_head="smooth_l1",
    temperature=0.0,
    code_embedding=False,
    bin_spread=0.0,
)
TABLES = {"observation": "obs", "action": "action", "position": "position"}
HEADS = {"observation": "obs", "end": "goes_on", "reward": "reward", "legal": "legal"}
RENAMED = (
    ("cross.norm_context", "context_norm"),
    ("cross.norm", "cross_norm"),
    ("cross_mlp.norm", "cross_mlp_norm"),
    ("mlp.in.", "mlp.inside."),
    (".attention.norm", ".attention_norm"),
    (".mlp.norm", ".mlp_norm"),
)


def own_name(name: str) -> str | None:
    """What a published weight is called here; None: the dynamics have none."""
    part, _, rest = name.partition(".")
    if part == "embed":
        return f"{TABLES[rest]}.weight" if rest in TABLES else None
    if part == "head":
        kind, layer, which = rest.split(".")
        return f"heads.{HEADS[kind]}.{2 * int(layer)}.{which}" if kind in HEADS else None
    for old, new in RENAMED:
        name = name.replace(old, new)
    return name


def published(*, is_continuous: bool = False) -> Dynamics:
    """For 2 agents, 4 tokens of 16 codes, and 5 actions or two action tokens of 8 bins."""
    stored = {**arrays("wm_weights_aggregator"), **arrays("wm_weights_rest")}
    if is_continuous:
        stored |= {name.removesuffix("_continuous"): x for name, x in stored.items() if name.endswith("_continuous")}
    sizes = Sizes(2, 4, 16, 2, 8, 5, 0) if is_continuous else Sizes(2, 4, 16, 1, 5, 5, 0)
    dynamics = Dynamics(sizes, CONFIG, torch.Generator())
    own: dict[str, Tensor] = {}
    for name, x in stored.items():
        if "attention.value" in name:
            continue
        if "attention.key." in name:  # here keys and values are one product
            x, name = torch.cat([x, stored[name.replace(".key.", ".value.")]]), name.replace(".key.", ".key_value.")
        if (found := own_name(name)) is not None:
            own[found] = x
    own |= {name: x for name, x in dynamics.state_dict().items() if name.startswith("heads.alive")}
    own |= {"action.weight": own["action.weight"][: sizes.n_action_codes]}
    dynamics.load_state_dict(own)
    return dynamics


def blocks_of(action: Tensor, done: Tensor | None = None) -> Blocks:
    """The arrays' observations, with actions (B, L, N, A) and ends (B, L, N)."""
    obs = arrays("wm_forward")["obs_tokens"].transpose(0, 1)
    alive = torch.ones(obs.shape[:3], dtype=torch.bool)
    episode = torch.zeros(obs.shape[:2], dtype=torch.int64)
    if done is not None:
        episode[1:] = done[..., 0].T.cumsum(0)[:-1].long()
    return Blocks(obs, action.transpose(0, 1), alive, episode, torch.zeros(2, 0))


def as_sequence(x: Tensor) -> Tensor:
    """(L, B, N, S, *) -> (B, N, L S, *), as the arrays have it."""
    return x.movedim(0, 2).flatten(2, 3)
