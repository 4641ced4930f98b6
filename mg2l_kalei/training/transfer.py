"""A trained run on another family's tasks, where its networks fit."""

from __future__ import annotations

from collections.abc import Sequence

from envs.core import Refusal
from mg2l_kalei.config import ConfigError, load
from mg2l_kalei.encoders.references import GivenEncoder
from mg2l_kalei.evaluation.adaptation import refuse_overlap
from mg2l_kalei.training.lineage import ancestors_of, refuse_trained_on
from mg2l_kalei.training.saved_run import LoadedRun, agents_of
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, family_of

SIZES = (
    "n_agents",
    "obs_dim",
    "state_dim",
    "action_dim",
    "is_discrete",
    "obs_sizes",
    "action_sizes",
    "agent_types",
    "type_columns",
)


def transferred(run: LoadedRun, env: str, settings: Sequence[str]) -> LoadedRun:
    """``run`` with the tasks of the family ``env``, as its seed draws them with ``settings`` (``env.KEY=VALUE``).

    Raises ConfigError where there is no such family, and Refusal where sizes differ, where the run is given the task,
    which are numbers and features of its own family, or where a held-out task was trained on.
    """
    config = load([f"--env={env}", f"seed={run.config.seed}", *settings], SCHEMA, CONFIG_DIR).config
    family = family_of(config)
    own, other = run.family.spec, family.spec
    differing = [name for name in SIZES if getattr(own, name) != getattr(other, name)]
    if differing:
        sizes = [" ".join(f"{name}={getattr(spec, name)}" for name in differing) for spec in (own, other)]
        raise Refusal(f"{run.folder.path} was trained on {run.family.name} with {sizes[0]}; {env} has {sizes[1]}")
    encoder = run.system.encoder
    if encoder.is_told_task:
        raise Refusal(f"{run.folder.path} is given the tasks of {run.family.name}: it has no answer to those of {env}")
    family = family.ordered(agents_of(run.folder.path))
    for split in family.splits:
        refuse_overlap(family, split)
    try:
        refuse_trained_on(family, ancestors_of(run.folder))
    except Refusal as error:
        raise ConfigError([f"env={env}: {error}"]) from error
    if isinstance(encoder, GivenEncoder):
        encoder.table = encoder.table.new_zeros(len(family.tasks), 0)  # says nothing, of more or fewer tasks
    return run._replace(system=run.system._replace(family=family))
