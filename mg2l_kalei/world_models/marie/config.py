"""Settings of MARIE's model. Defaults are for a CPU; ``config/algo/marie_published.yaml`` has the published ones."""

from __future__ import annotations

from dataclasses import dataclass

from envs.core import setting
from mg2l_kalei.world_models.base import ImaginationConfig

TOKENIZERS = ("bins", "vq", "fsq")


@dataclass(frozen=True)
class MarieConfig(ImaginationConfig):
    tokenizer: str = setting(
        "bins",
        "what makes observations tokens: bins of each dimension's symlog; an autoencoder with a codebook (vq) or with "
        "rounded codes (fsq)",
        choices=TOKENIZERS,
    )
    normalise_obs: bool = setting(True, "standardise observations before they become tokens")
    n_bins: int = setting(256, "bins of a dimension of observations", low=2)
    bin_limit: float = setting(3.0, "symlog of the largest size in a bin of its own: exp(3) - 1 is 19", above=0)
    bin_spread: float = setting(0.75, "bins over which a target bin is smoothed; 0: not at all", low=0)
    n_tokens: int = setting(16, "vq, fsq: tokens of an observation", low=1)
    n_codes: int = setting(512, "vq: entries of the codebook", low=2)
    code_dim: int = setting(128, "vq: width of a code", low=1)
    levels: tuple[int, ...] = setting((8, 8, 8), "fsq: values that each number of a code may have", low=2)
    tokenizer_hidden: int = setting(256, "vq, fsq: width of the encoder's and decoder's two hidden layers", low=1)
    commitment_coef: float = setting(10.0, "vq: weight of the distance from codes", low=0)
    code_decay: float = setting(0.8, "vq: of the running means that codes are", low=0, high=1)
    revive_below: float = setting(
        0.1, "vq: codes used less often than this in a batch, in the running mean, are drawn anew; 0: none", low=0
    )
    tokenizer_updates: int = setting(500, "vq, fsq: updates of the tokenizer alone before the model's first", low=0)
    action_bins: int = setting(256, "bins of a continuous action's dimension", low=2)

    width: int = setting(64, "of the transformer, a multiple of 2 n_heads", low=2)
    n_layers: int = setting(2, "layers of the transformer", low=1)
    n_heads: int = setting(4, "heads of its attention", low=1)
    dropout: float = setting(0.0, "share of what layers add that is left out in training", low=0, high=0.9)
    slot_codes: bool = setting(
        True, "code places of tokens as block + slot, the slot for the aggregation too; false: one code for each place"
    )
    code_embedding: bool = setting(True, "begin with embeddings of tokens that are alike where what they stand for is")
    aggregation: bool = setting(True, "let agents know of each other, by the aggregated token")
    aggregator_layers: int = setting(2, "layers of self-attention after the aggregator's cross-attention", low=0)
    aggregator_heads: int = setting(2, "heads of its attention", low=1)
    aggregator_head_dim: int = setting(32, "width of each of these", low=1)
    task_latent: bool = setting(True, "condition on the task's global latent, if there is one")
    reward_head: str = setting(
        "hl_gauss",
        "how rewards are predicted: as a class of their symlog, or directly",
        choices=("hl_gauss", "smooth_l1"),
    )
    reward_bins: int = setting(128, "hl_gauss: classes", low=2)
    reward_limit: float = setting(4.0, "hl_gauss: symlog of the largest reward: exp(4) - 1 is 54", above=0)

    context_steps: int = setting(4, "steps of a training sequence, and remembered when imagining", low=2)
    batch: int = setting(16, "sequences in an update of the model", low=1)
    tokenizer_batch: int = setting(256, "vq, fsq: steps in an update of the tokenizer", low=1)
    lr: float = setting(1e-3, "of the model", above=0)
    tokenizer_lr: float = setting(3e-4, "of the tokenizer", above=0)
    weight_decay: float = setting(0.01, "of both, on weights of linear layers", low=0)
    max_grad_norm: float = setting(10.0, "of each's gradient", above=0)
    temperature: float = setting(1.0, "of sampled tokens; 0: the likeliest ones", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % (2 * self.n_heads):
            raise ValueError(f"width={self.width} is no multiple of 2 n_heads={2 * self.n_heads}")
        if self.burn_in + 1 >= self.context_steps:
            raise ValueError(
                f"burn_in={self.burn_in} with context_steps={self.context_steps}: the first steps are forgotten before "
                f"an observation is predicted; expected context_steps of {self.burn_in + 2} or more"
            )
