"""Do recurrent actors and critics learn on the sequences that they lived through, and remember what they must?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec, Observation, StepResult
from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.learners.mappo import Mappo
from mg2l_kalei.learners.samples import counting, in_chunks
from mg2l_kalei.networks import Memory, NetworkConfig
from tests.representatives import MAIN_SHARINGS
from tests.small_systems import CONTINUOUS, at, draw, generator, make_encoder, make_learner, update, with_steps

RECALL = EnvSpec(n_agents=2, obs_dim=3, state_dim=6, action_dim=2, is_discrete=True, episode_steps=4)


class Recollection:
    """Each agent is shown 0 or 1 as an episode starts, nothing after that, and must say it at the end.

    obs: (is 0, is 1, time). An agent's reward at the last step is 1 for the right answer; no other step pays.
    """

    spec = RECALL

    def __init__(self, n_rows: int, seed: int = 0) -> None:
        self.shown = torch.zeros(n_rows, RECALL.n_agents, dtype=torch.int64)
        self.t = torch.zeros(n_rows, dtype=torch.int64)
        self.generator = generator(seed)

    def reset(self, tasks: Tensor, where: Tensor | None = None) -> Observation:
        where = torch.ones_like(tasks, dtype=torch.bool) if where is None else where
        drawn = torch.randint(2, self.shown.shape, generator=self.generator)
        self.shown = torch.where(where[:, None], drawn, self.shown)
        self.t = torch.where(where, 0, self.t)
        return self._seen()

    def step(self, action: Tensor) -> StepResult:
        self.t = self.t + 1
        is_over = self.t == RECALL.episode_steps
        reward = (action == self.shown).float() * is_over[:, None]
        obs, state, legal, alive = self._seen()
        return StepResult(obs, state, reward, is_over, torch.zeros_like(is_over), legal, alive)

    def scene(self, row: int) -> None:
        return None

    def _seen(self) -> Observation:
        shown = torch.nn.functional.one_hot(self.shown, 2).float() * (self.t == 0)[:, None, None]
        time = (self.t / RECALL.episode_steps)[:, None, None].expand(-1, RECALL.n_agents, 1)
        obs = torch.cat([shown, time], dim=-1)
        return Observation(obs, obs.flatten(1), None, torch.ones(obs.shape[:2], dtype=torch.bool))


OF_THE_TRIAL: dict[str, Any] = {"memory": "trial", "inputs": ("action", "reward", "episode_start")}
MEMORIES = {"episode": {"memory": "episode"}, "trial, told everything": OF_THE_TRIAL}
every_memory = pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)


def recurrent(encoder: TaskEncoder, spec: EnvSpec = RECALL, **settings: Any) -> Mappo:
    own: dict[str, Any] = {"memory": "episode", "hidden": (16, 8)} | settings
    learner = make_learner(encoder, spec, kind="mappo", **own)
    assert isinstance(learner, Mappo)
    return learner


def play(learner: Mappo, encoder: TaskEncoder, n_steps: int, *, n_rows: int = 6, seed: int = 0) -> Any:
    team = Team(learner, encoder, generator(seed))
    return collect(Recollection(n_rows, seed), team, torch.arange(n_rows) % 3, n_steps, explore=at(0))


@pytest.mark.parametrize("sharing", MAIN_SHARINGS)
@pytest.mark.parametrize("chunk_length", [1, 4, 5, 40])
@pytest.mark.parametrize("kind", ["none", "mg2l"])
def test_the_first_ratio_is_one(kind: str, chunk_length: int, sharing: str) -> None:
    """Chunks that begin within an episode, end with it, do not divide the trial, or are longer than it."""
    encoder = make_encoder(kind, RECALL)
    learner = recurrent(encoder, sharing=sharing, chunk_length=chunk_length, actor_lr=1e-2)
    for i in range(2):
        rollout = play(learner, encoder, 10, seed=i)
        if encoder.learns:
            encoder.fit_normaliser(rollout.transition)
        metrics = update(learner, encoder, rollout, 60 * (i + 1), seed=i)
        assert float(metrics["train/first_ratio_error"]) <= 1e-5
        assert float(metrics["train/ratio_error"]) > 1e-4


@pytest.mark.parametrize("sharing", MAIN_SHARINGS)
@pytest.mark.parametrize("chunk_length", [1, 3, 4, 10, 40])
def test_the_first_ratio_is_one_of_a_memory_of_the_whole_trial_that_is_told_everything(
    chunk_length: int, sharing: str
) -> None:
    """Chunks begin within the trial with what was remembered from episodes before."""
    encoder = make_encoder("none", RECALL)
    learner = recurrent(encoder, sharing=sharing, chunk_length=chunk_length, actor_lr=1e-2, **OF_THE_TRIAL)
    for i in range(2):
        metrics = update(learner, encoder, play(learner, encoder, 10, seed=i), 60 * (i + 1), seed=i)
        assert float(metrics["train/first_ratio_error"]) <= 1e-5
        assert float(metrics["train/ratio_error"]) > 1e-4


@every_memory
def test_what_the_learner_replays_is_what_was_acted_with(memory: dict[str, Any]) -> None:
    """A pass over the whole trial makes the states, distributions and latents of the steps one by one."""
    encoder = make_encoder("mg2l", RECALL)
    learner = recurrent(encoder, **memory)
    rollout = play(learner, encoder, 10)
    state, seen = learner.initial_memory(6), learner.recall.extend(rollout.steps)
    forgets = learner.recall.forgets(rollout.steps.episode_start)
    assert state is not None and rollout.memory.shape == (10, 6, 2, 16)
    with torch.no_grad():
        distribution, states = learner.actor_network(seen.obs, rollout.latent, None, Memory(state, forgets))
    torch.testing.assert_close(distribution.log_prob(rollout.steps.action), rollout.log_prob)
    before = torch.cat([state[None], states[:-1]]) * ~forgets[:, :, None, None]
    torch.testing.assert_close(before, rollout.memory)


def test_a_memory_of_the_trial_crosses_its_episodes_and_never_trials() -> None:
    encoder = make_encoder("none", RECALL)
    for memory, is_kept in (("trial", True), ("episode", False)):
        learner = recurrent(encoder, memory=memory)
        team = Team(learner, encoder, generator())
        for _ in range(2):
            rollout = collect(Recollection(6), team, torch.zeros(6, dtype=torch.int64), 10, explore=at(0))
            assert rollout.memory is not None
            starts = rollout.steps.episode_start
            assert (rollout.memory[0] == 0).all() and starts.sum(0).tolist() == [3] * 6
            at_starts = rollout.memory[1:][starts[1:]]
            assert bool((at_starts == 0).all()) != is_kept and bool((at_starts != 0).any()) == is_kept


@pytest.mark.parametrize("chunk_length", [3, 4, 10, 40])
@pytest.mark.parametrize("per_agent", [False, True], ids=["one critic", "critic per agent"])
@every_memory
def test_values_are_those_of_the_critic_step_by_step(
    memory: dict[str, Any], per_agent: bool, chunk_length: int
) -> None:
    """Over the whole trial, over its successors, and again over chunks of it, with episodes of four steps."""
    encoder = make_encoder("mg2l", RECALL)
    learner = recurrent(encoder, critic_per_agent=per_agent, chunk_length=chunk_length, **memory)
    rollout = play(learner, encoder, 10)
    rollout = with_steps(rollout, terminated=rollout.steps.truncated, truncated=rollout.steps.terminated)
    latent = draw(11, 6, encoder.global_dim)
    seen, forgets = learner.recall.extend(rollout.steps), learner.recall.forgets(rollout.steps.episode_start)
    value, next_value, _ = learner._values(seen, latent)
    state = torch.zeros(6, 2 if per_agent else 1, 16)
    for t in range(10):
        state = state * ~forgets[t, :, None, None]
        expected, (state,) = learner.critic(seen.state[None, t], latent[None, t], Memory(state))
        torch.testing.assert_close(value[t], expected[0])
        expected, _ = learner.critic(seen.next_state[None, t], latent[None, t + 1], Memory(state))
        torch.testing.assert_close(next_value[t], expected[0])
    samples, _ = learner._prepare(rollout, seen, latent)
    again, _ = learner.critic(samples.state, samples.global_latent, samples.critic_memory)
    counts = torch.ones_like(again, dtype=torch.bool) if samples.alive is None else samples.alive
    assert counts.sum() == 10 * 6 * 2
    torch.testing.assert_close(again[counts], samples.old_value[counts])


def test_an_update_with_a_recurrent_critic_for_each_agent_explains_what_is_paid() -> None:
    encoder = make_encoder("none", RECALL)
    learner = recurrent(encoder, critic_per_agent=True, critic_lr=1e-2, n_epochs=8, chunk_length=3)
    losses = [float(update(learner, encoder, play(learner, encoder, 8), 0)["train/value_loss"]) for _ in range(9)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_gru_needs_a_layer_to_stand_after() -> None:
    with pytest.raises(ValueError, match=r"memory=episode with hidden=\[\]"):
        NetworkConfig(memory="episode", hidden=())
    encoder = make_encoder("none", RECALL)
    linear = recurrent(encoder, memory="none", hidden=())
    update(linear, encoder, play(linear, encoder, 8), 0)


def test_repeated_steps_of_the_last_chunk_do_not_count() -> None:
    x = torch.arange(10)[:, None].expand(10, 3) + 100 * torch.arange(3)
    chunks, counts = in_chunks(x, 4), counting(torch.ones(10, 3, 2, dtype=torch.bool), 4)
    assert chunks.shape == (4, 9) and chunks[:, 1].tolist() == [100, 101, 102, 103]
    assert counts is not None and counts.shape == (4, 9, 2)
    assert chunks[counts[..., 0]].sort().values.tolist() == x.flatten().sort().values.tolist()
    assert counting(torch.ones(8, 3, 2, dtype=torch.bool), 4) is None


def test_feed_forward_learners_have_no_memory() -> None:
    learner = make_learner(make_encoder("none"), CONTINUOUS)
    assert learner.initial_memory(4) is None
    assert learner.act(draw(4, 3, 4), None, draw(4, 3, 0), None, generator(), explore=at(0)).memory is None


@pytest.mark.parametrize("sharing", MAIN_SHARINGS)
@pytest.mark.parametrize("remembers", [False, True], ids=["feed-forward", "recurrent"])
def test_only_recurrent_teams_recall_what_they_were_shown(remembers: bool, sharing: str) -> None:
    encoder = make_encoder("none", RECALL)
    settings: dict[str, Any] = {"actor_lr": 1e-2, "critic_lr": 1e-2, "lr_decay": "none", "n_epochs": 4}
    settings |= {"memory": "episode" if remembers else "none", "chunk_length": 5, "entropy_coef": 0.003}
    learner = recurrent(encoder, sharing=sharing, **settings)
    for i in range(40):
        update(learner, encoder, play(learner, encoder, 8, n_rows=32, seed=i), 0, seed=i)
    rollout = play(learner, encoder, 4, n_rows=256, seed=1000)
    right = float(rollout.steps.reward[-1].mean())
    assert right > 0.95 if remembers else 0.4 < right < 0.6
