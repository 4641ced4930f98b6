"""Is each row simulated as if alone, on the model of its task, and paid for its goal?"""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from envs.core import EnvFailure
from envs.mujoco.batch import MujocoBatch
from envs.mujoco.models import actuated_joints, changed, pristine
from envs.mujoco.robots import ROBOTS, Array
from envs.mujoco.simulator import Simulator
from tests.envs.mujoco_families import batch, family, random_actions

FACTORED = {"mass": 1.3, "inertia": 1.3, "damping": 1.2, "friction": 0.7}


def played(rows: MujocoBatch, actions: Tensor) -> Tensor:
    """States, observations and rewards after each step, whatever ends: (T, B, n)."""
    results = [rows.step(action) for action in actions]
    return torch.stack([torch.cat((r.state, r.obs.flatten(1), r.reward), dim=1) for r in results])


# --- the simulator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Ant", "Hopper"])  # with external forces, and without
@pytest.mark.parametrize("n_threads", [1, 3])
def test_each_row_goes_as_mujoco_takes_the_model_of_its_task_by_any_number_of_threads(
    name: str, n_threads: int
) -> None:
    robot, chance = ROBOTS[name], np.random.default_rng(0)
    model = pristine(robot, robot.partitions[0])
    models, tasks = [model, changed(model, FACTORED)], [0, 1, 1, 0, 1]
    qpos, qvel = chance.uniform(-0.1, 0.1, (5, model.nq)) + model.qpos0, chance.uniform(-1, 1, (5, model.nv))
    controls = chance.uniform(-1, 1, (30, 5, model.nu))
    simulator = Simulator(models, 5, robot.n_substeps, n_threads, feels_forces=robot.feels_forces)
    fields = [simulator.field(field.name) for field in robot.fields]
    simulator.reset(np.arange(5, dtype=np.int32), tasks, qpos, qvel)
    alone = [mujoco.MjData(models[task]) for task in tasks]
    for row, data in enumerate(alone):
        data.qpos[:], data.qvel[:] = qpos[row], qvel[row]
    for control in controls:
        simulator.step(control)
        for row, data in enumerate(alone):
            data.ctrl[:] = control[row]
            mujoco.mj_step(models[tasks[row]], data, robot.n_substeps)
            mujoco.mj_rnePostConstraint(models[tasks[row]], data)
            for field, values in zip(robot.fields, fields, strict=True):
                assert np.array_equal(values[row], getattr(data, field.name))
    assert all(values.any() for values in fields)


@pytest.mark.parametrize("name", ["mujoco-ant-4x2", "mujoco-humanoid-17x1", "mujoco-hopper-param"])
def test_a_row_goes_as_if_alone(name: str) -> None:
    made = family(name)
    rows, tasks = batch(made, 5), torch.arange(5) % len(made.tasks)
    rows.reset(tasks)
    qpos, qvel = rows.simulator.qpos.copy(), rows.simulator.qvel.copy()
    actions = random_actions(rows, 5, 40)
    together = played(rows, actions)
    for row in (1, 4):
        alone = batch(made, 1)
        alone.reset(tasks[row : row + 1])
        alone.place(np.array([0]), qpos[row : row + 1], qvel[row : row + 1])
        assert torch.equal(played(alone, actions[:, row : row + 1])[:, 0], together[:, row])


def test_after_any_number_of_resets_a_row_is_its_tasks_and_nothing_else() -> None:
    """Another task may be given at each, to some rows: twice equals once, factors do not add up."""
    made = family("mujoco-hopper-param")
    rows, fresh, chance = batch(made, 3), batch(made, 3), torch.Generator().manual_seed(0)
    rows.reset(torch.tensor([0, 1, 2]))
    for _ in range(200):
        where = torch.rand(3, generator=chance) < 0.5
        rows.reset(torch.randint(len(made.tasks), (3,), generator=chance), where)
    rows.step(random_actions(rows, 3, 1)[0])
    tasks = torch.tensor([4, 0, 4])
    fresh.reset(tasks)
    for _ in range(2):
        rows.reset(tasks)
    for each in (rows, fresh):
        each.place(np.arange(3), fresh.simulator.qpos.copy(), fresh.simulator.qvel.copy())
    for row, task in enumerate(tasks.tolist()):
        mass = rows.simulator.now(row)[0].body_mass
        assert np.array_equal(mass, made.team.model.body_mass * made.tasks[task].params["mass"])
    actions = random_actions(rows, 3, 20)
    assert torch.equal(played(rows, actions), played(fresh, actions))


def test_factors_reach_the_model_and_all_that_follows_from_it(elsewhere: Path) -> None:
    """As if the XML had been written so, for MuJoCo's compiler."""
    text = (resources.files("gymnasium") / "envs" / "mujoco" / "assets" / "hopper.xml").read_text()
    written = mujoco.MjSpec.from_string(text)
    for geom in written.geoms:
        geom.density *= FACTORED["mass"]  # and with it the inertia
        geom.friction = FACTORED["friction"] * np.array(geom.friction)
    for joint in written.joints:
        joint.damping = FACTORED["damping"] * np.array(joint.damping)
    compiled, model = written.compile(), pristine(ROBOTS["Hopper"], "3x1")
    ours = changed(model, FACTORED)
    differing = set()
    for name, values in numbers(ours).items():
        np.testing.assert_allclose(values, numbers(compiled)[name], rtol=1e-12, err_msg=name)
        if not np.array_equal(values, numbers(model)[name]):
            differing.add(name)
    direct = {"body_mass", "body_inertia", "dof_damping", "geom_friction"}
    assert differing > direct | {"dof_invweight0", "body_invweight0", "body_subtreemass", "actuator_acc0", "mean"}


def test_mass_and_inertia_have_factors_of_their_own() -> None:
    model = pristine(ROBOTS["Hopper"], "3x1")
    ours = changed(model, {"mass": 1.3, "inertia": 0.8})
    np.testing.assert_allclose(ours.body_mass, 1.3 * model.body_mass)
    np.testing.assert_allclose(ours.body_inertia, 0.8 * model.body_inertia)


def numbers(model: Any) -> dict[str, Array]:
    """All arrays of a model, and its statistics."""
    fields = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    arrays = {name: field.copy() for name, field in fields.items() if isinstance(field, np.ndarray)}
    return {**arrays, "mean": np.array([model.stat.meanmass, model.stat.meaninertia])}


def test_the_pristine_model_stays_as_it_is() -> None:
    made = family("mujoco-walker-param")
    before = numbers(made.team.model)
    for seed in range(2):
        rows = batch(made, 2, seed)
        rows.reset(torch.tensor([3, 5]))
        rows.step(random_actions(rows, 2, 1)[0])
    assert all(np.array_equal(values, before[name]) for name, values in numbers(made.team.model).items())


def test_the_weak_joint_alone_is_weak() -> None:
    made = family("mujoco-cheetah-cripple", strength=0.25)
    rows, joints = batch(made, len(made.tasks)), actuated_joints(made.team.model)
    rows.reset(torch.arange(len(made.tasks)))
    moments = rows.simulator.field("qfrc_actuator")
    rows.step(torch.ones(len(made.tasks), 2, 3))
    usual = made.team.model.actuator_gear[:, 0]
    for row, task in enumerate(made.tasks):
        strengths = [0.25 if joint == task.params["joint"] else 1.0 for joint in joints]
        np.testing.assert_allclose(moments[row, 3:], usual * strengths)


def test_wider_actions_are_clamped() -> None:
    rows, twin = batch(family("mujoco-humanoid-17x1"), 2), batch(family("mujoco-humanoid-17x1"), 2)
    tasks = torch.zeros(2, dtype=torch.int64)
    actions = 3 * random_actions(rows, 2, 5)
    rows.reset(tasks), twin.reset(tasks)
    assert torch.equal(played(rows, actions), played(twin, actions.clamp(-1, 1)))


@pytest.mark.parametrize(("velocity", "action"), [(1e12, 0.0), (0.0, math.nan)])
def test_an_unstable_simulation_and_an_action_that_is_no_number_fail_and_name_family_and_task(
    velocity: float, action: float, elsewhere: Path
) -> None:
    rows = batch(family("mujoco-cheetah-vel"), 2)
    rows.reset(torch.tensor([0, 3]))
    rows.simulator.qvel[1] += velocity
    actions = torch.zeros(2, 2, 3)
    actions[1, 0, 0] = action
    message = "the simulation became unstable, or was given no numbers, in train-3"
    with pytest.raises(EnvFailure, match=rf"^mujoco-cheetah-vel \(2x3, partial-0\): {message}$"):
        rows.step(actions)


def test_restarted_rows_start_as_all_do() -> None:
    made, tasks = family("mujoco-cheetah-dir"), torch.tensor([0, 1, 0])
    all_anew, chosen = batch(made, 3), batch(made, 3)
    for rows in (all_anew, chosen):
        rows.reset(tasks)
    expected = all_anew.reset(tasks).obs
    where = torch.tensor([True, False, True])
    assert torch.equal(chosen.reset(tasks, where).obs[where], expected[where])


def test_a_batch_takes_as_many_threads_as_torch_has() -> None:
    usual = torch.get_num_threads()
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            assert batch(family("mujoco-cheetah-dir"), 4).simulator.n_threads == n_threads
    finally:
        torch.set_num_threads(usual)


def test_what_contacts_cost_has_a_limit() -> None:
    rows = batch(family("mujoco-humanoid-17x1"), 2)
    rows.reset(torch.zeros(2, dtype=torch.int64))
    forces = rows.simulator.field("cfrc_ext")
    forces[0, 1, 0], forces[1, 1, 0] = 1e3, 1e6
    assert rows._contact_cost().tolist() == pytest.approx([0.5, 10.0])


# --- rewards of goals -------------------------------------------------------------------------------------------------


def place_of(rows: MujocoBatch, name: str) -> Array:
    """Where the robots are in the plane [m], as Gymnasium has it: (B, 2)."""
    if name == "mujoco-ant-dir":
        return rows.simulator.field("xpos")[:, 1, :2].copy()
    return rows.simulator.qpos[:, :2].copy()


@pytest.mark.parametrize("name", ["mujoco-ant-dir", "mujoco-cheetah-dir", "mujoco-cheetah-vel"])
def test_rewards_are_those_of_the_goal_by_hand(name: str) -> None:
    made = family(name)
    n_rows = min(len(made.tasks), 16)
    rows = batch(made, n_rows)
    rows.reset(torch.arange(n_rows))
    for action in random_actions(rows, n_rows, 30):
        before = place_of(rows, name)
        result = rows.step(action)
        velocity = (place_of(rows, name) - before) / 0.05  # s
        squares = action.square().sum(dim=(1, 2)).numpy()
        for row, task in enumerate(made.tasks[:n_rows]):
            if name == "mujoco-cheetah-vel":
                expected = -abs(velocity[row, 0] - task.params["speed"]) - 0.1 * squares[row]
            elif name == "mujoco-cheetah-dir":
                sign = {"forwards": 1, "backwards": -1}[task.name]
                expected = sign * velocity[row, 0] - 0.1 * squares[row]
            else:
                x, y = task.params["direction"]
                forces = rows.simulator.field("cfrc_ext")[row].clip(-1, 1)
                expected = x * velocity[row, 0] + y * velocity[row, 1] - 0.5 * squares[row]
                expected += (not result.terminated[row]) - 5e-4 * (forces**2).sum()
            assert result.reward[row].tolist() == pytest.approx([expected] * rows.spec.n_agents, abs=1e-9)


@pytest.mark.parametrize(("name", "n_axes"), [("mujoco-cheetah-dir", 1), ("mujoco-ant-dir", 2)])
def test_who_moves_as_asked_is_paid_more_than_who_moves_otherwise(name: str, n_axes: int) -> None:
    made = family(name)
    n_tasks = len(made.tasks)
    rows, everyone, tasks = batch(made, n_tasks), np.arange(n_tasks), torch.arange(n_tasks)
    rows.reset(tasks)
    qpos, qvel = rows.simulator.qpos[[0] * n_tasks].copy(), rows.simulator.qvel[[0] * n_tasks].copy()
    for task in made.tasks:
        qvel[:, :n_axes] = np.array(task.params["direction"][:n_axes]) * 3  # m/s
        rows.place(everyone, qpos, qvel)
        reward = rows.step(torch.zeros(n_tasks, rows.spec.n_agents, rows.spec.action_dim)).reward[:, 0]
        assert made.tasks[int(reward.argmax())] is task and reward.max() > 0 > reward.min()
