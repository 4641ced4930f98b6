"""Settings of the encoder ``mg2l``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from envs.core import setting
from mg2l_kalei.encoders.base import EncoderUse
from mg2l_kalei.encoders.objectives import OBJECTIVES
from mg2l_kalei.encoders.objectives.local import LOCAL_OBJECTIVES
from mg2l_kalei.encoders.poolings import POOLINGS

BY_VALUES = "learner.trains_encoder=true (of mappo, encoder_epochs above 0)"
ALL, APART = "encoder.local_gradient=all_layers", "encoder.tells_agents_apart=true"


@dataclass(frozen=True)
class Mg2lConfig:
    latent_dim: int = setting(16, "width of z and of each z^i", low=1)
    hidden: tuple[int, ...] = setting(
        (128, 128, 64), "widths of the transition encoder; the reward joins at the last", low=1
    )
    second_order: bool = setting(
        False,
        "see changes of observations, in this step and the one before it: where observations hide velocities",
    )
    tells_agents_apart: bool = setting(
        False,
        "tell agents apart: predict what each is paid in each task, and map what each lived through by weights of its "
        "own before z is made of it; for tasks that differ in who is paid for what",
        is_late=True,
    )
    pooling: str = setting(
        "attention_head",
        "aggregation over time; regression: of rewards on features learned by predicting them, for tasks that pay "
        "differently and are otherwise alike",
        choices=POOLINGS,
    )
    n_reward_features: int = setting(8, "regression: features in which what tasks pay is linear", low=1)
    n_heads: int = setting(4, "attention heads of the pooling", low=1)
    window: int = setting(32, "attention_blocks, transformer: transitions that are remembered", low=1)
    posterior: str = setting("gaussian", "what the layers put out", choices=("gaussian", "deterministic"))
    temperature: float = setting(0.5, "of the contrast's cosine similarities", above=0)
    pairwise_coef: float = setting(1.0, "weight of InfoNCE between contexts", low=0)
    prototype_coef: float = setting(1.0, "weight of the contrast with a learned prototype per training task", low=0)
    kl_coef: float = setting(0.1, "weight of the KL divergence from the posteriors to N(0, I)", low=0)
    reward_prediction_coef: float = setting(
        1.0, "weight of predicting each training task's reward from what the transition encoder sees", low=0
    )
    prediction_coef: float = setting(
        0.0, "weight of predicting, from z and each z^i, what happens in another trial of the task", low=0
    )
    local_objective: str = setting(
        "conditional_information",
        "what z^i is trained by: contrast with z, to lower I(z; c | z^i), or KL(q(z|c) || q^i(z^i|c^i))",
        choices=LOCAL_OBJECTIVES,
    )
    local_gradient: str = setting(
        "local_layer", "what the local objective trains", choices=("local_layer", "all_layers")
    )
    nested_contexts: bool = setting(True, "train on contexts of 1, 2, 4, ... transitions too, not on whole ones alone")
    objectives: tuple[str, ...] = setting(
        ("contrast", "kl", "local", "reward_prediction", "prediction"),
        "what it is trained by, by its own loss: the terms' sum",
        choices=OBJECTIVES,
        is_late=True,
    )
    told: str = setting(
        "mean",
        "what actors and critics are told of a posterior: its mean, or mean and standard deviation",
        choices=("mean", "mean_std"),
        is_late=True,
    )
    actors_see: str = setting(
        "local",
        "global: z, inferred from all agents' transitions, in execution too, so that it is not decentralised",
        choices=("local", "global"),
        is_late=True,
    )
    read_at: str = setting(
        "step",
        "when beliefs are read: at every step, or when an episode begins, as in posterior sampling",
        choices=("step", "episode"),
        is_late=True,
    )
    sampled: bool = setting(
        False, "training acts on samples of posteriors, and values are learned on them; not on means", is_late=True
    )
    critic_kl_coef: float = setting(
        0.0, "weight of KL(q(z|c) || N(0, I)) within the loss of values, as in PEARL", low=0, is_late=True
    )
    encoder_lr: float = setting(2e-3, "AdamW's learning rate of the encoder's own loss, in early iterations", above=0)
    late_encoder_lr: float = setting(2e-4, "the same after them: actors rely on what latents mean", above=0)

    @property
    def trains_prototypes(self) -> bool:
        """Whether there is a learned key for each training task, which the contrast of z or of z^i moves."""
        return bool({"contrast", "local_contrast"} & set(self.objectives))

    def __post_init__(self) -> None:
        if not self.hidden:
            raise ValueError("hidden=[] has no layer: the reward needs one to join at")
        if self.hidden[-1] % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} does not divide the last of hidden, {self.hidden[-1]}")
        if self.sampled and self.told == "mean_std":
            raise ValueError("sampled=true with told=mean_std: what is told in full is not sampled")
        if self.posterior == "gaussian":
            return
        wanting = ["sampled=true"] * self.sampled + ["told=mean_std"] * (self.told == "mean_std")
        wanting += ["objectives=[trajectory]"] * ("trajectory" in self.objectives)
        wanting += [f"critic_kl_coef={self.critic_kl_coef:g}"] * bool(self.critic_kl_coef)
        if "local" in self.objectives and self.local_objective == "posterior_consistency":
            wanting.append("local_objective=posterior_consistency")
        if wanting:
            raise ValueError(f"posterior={self.posterior} has no deviation, and {wanting[0]} needs one")


def problems_of(config: Mg2lConfig, use: EncoderUse) -> Iterator[str]:
    """Why such an encoder cannot work where it is used like this, a line each."""
    context = use.context
    if context.batch % 2:
        yield f"context.batch={context.batch} is odd: contexts are drawn in pairs"
    yield from POOLINGS[config.pooling].problems(config, context.length)
    on = {name for name in config.objectives if OBJECTIVES[name].is_on(config)}
    if config.tells_agents_apart:
        if not POOLINGS[config.pooling].can_tell_agents_apart:
            yield f"{APART}: {config.pooling} is of agents that are alike; expected another encoder.pooling"
        for name in config.objectives:
            if name in on and not OBJECTIVES[name].can_tell_agents_apart:
                yield f"{APART}: {name} decodes what happens to all agents alike; leave it out of encoder.objectives"
    told = "[" + ",".join(config.objectives) + "]"
    if ordered := [name for name in ("trajectory", "mixture") if name in on]:
        if context.order != "trial":
            yield f"encoder.objectives={told}: {ordered[0]} takes contexts for trials; expected context.order=trial"
        if context.length < 2:
            yield f"context.length={context.length}: {ordered[0]} predicts a step from those before it"
    if not on and not use.trains_by_values:
        reason = f"trains nothing, nor does the learner's loss of values: expected others, or {BY_VALUES}"
        yield f"encoder.objectives={told} {reason}"
    if on == {"local"} and config.pooling == "gaussian_product" and config.local_gradient == "local_layer":
        yield f"encoder.objectives={told}: the local layer of a product of Gaussians learns nothing; expected {ALL}"
    if config.critic_kl_coef and not use.trains_by_values:
        reason = f"the learner's loss of values does not train the encoder; expected {BY_VALUES}"
        yield f"encoder.critic_kl_coef={config.critic_kl_coef}: {reason}"
    if config.told == "mean_std" and context.source == "replay":
        yield "encoder.told=mean_std: context.source=replay explores on latents; expected context.source=online"
