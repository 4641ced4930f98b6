"""What all agents see and do in a step, summed up for each of them by a Perceiver (Jaegle et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mg2l_kalei.world_models.marie.attention import Attention, Block, FeedForward
from mg2l_kalei.world_models.marie.config import MarieConfig


class Aggregator(nn.Module):
    """One latent per agent asks all agents' tokens, which carry their agent's number; then latents ask each other."""

    agent_code: Tensor  # (N, width)

    def __init__(self, n_agents: int, config: MarieConfig, generator: torch.Generator) -> None:
        super().__init__()
        width, heads = config.width, (config.aggregator_heads, config.aggregator_head_dim)
        self.register_buffer("agent_code", sinusoids(n_agents, width), persistent=False)
        self.latents = nn.Parameter(torch.randn(n_agents, width, generator=generator))
        self.cross = Attention(width, *heads, generator)
        self.cross_norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.cross_mlp, self.cross_mlp_norm = FeedForward(width, generator, is_gated=True), nn.LayerNorm(width)
        attentions = [Attention(width, *heads, generator) for _ in range(config.aggregator_layers)]
        self.layers = nn.ModuleList(Block(width, attention, generator, is_gated=True) for attention in attentions)

    def forward(self, tokens: Tensor, alive: Tensor) -> Tensor:
        """Tokens of a step (R, N, K + A, width), alive (R, N) bool -> (R, N, width). Nobody looks at who has left."""
        context = (tokens + self.agent_code.unsqueeze(1)).flatten(1, 2)  # (R, N (K + A), width)
        seen = alive | ~alive.any(-1, keepdim=True)  # where all have left, nothing is asked of what is found
        mask = seen.repeat_interleave(tokens.shape[2], dim=1)[:, None, None]  # (R, 1, 1, N (K + A))
        x = self.latents.expand(len(tokens), -1, -1)
        x = x + self.cross(self.cross_norm(x), self.context_norm(context), mask=mask)
        x = x + self.cross_mlp(self.cross_mlp_norm(x))
        for layer in self.layers:
            x = layer(x)
        return x


def sinusoids(n: int, width: int) -> Tensor:
    """Sines and cosines of the numbers from 0 to n - 1, by turns (Vaswani et al. 2017, 3.5): (n, width)."""
    rate = 10_000 ** (-torch.arange(0, width, 2) / width)
    phase = torch.arange(n).unsqueeze(-1) * rate
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(-2)
