"""Are tokens, losses, gradients and codes those of MARIE's published code, and is what it fails on clamped?"""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mg2l_kalei.losses.symlog import Bins
from mg2l_kalei.world_models.marie.config import MarieConfig
from mg2l_kalei.world_models.marie.quantisers import FiniteScalars
from mg2l_kalei.world_models.marie.tokenizers import AutoEncoder, make_tokenizer
from tests.world_models.marie_arrays import arrays, close, of_part

PUBLISHED = MarieConfig(tokenizer="vq", n_tokens=4, code_dim=8, n_codes=16, tokenizer_hidden=32, revive_below=0.0)


def published_vq(tensors: dict[str, Tensor]) -> AutoEncoder:
    tokenizer = make_tokenizer(6, PUBLISHED, torch.Generator())
    assert isinstance(tokenizer, AutoEncoder)
    for part in ("encoder", "decoder"):
        weights = of_part(tensors, f"{part}.")
        getattr(tokenizer, part).load_state_dict(
            {f"{2 * j}.{kind}": weights[f"{j}.{kind}"] for j in range(3) for kind in ("weight", "bias")}
        )
    codes = {"codebook": tensors["codebook"], "code_sum": tensors["codebook"], "code_count": torch.zeros(16)}
    tokenizer.quantiser.load_state_dict(codes)
    return tokenizer


def test_the_codebooks_tokens_are_the_published_ones() -> None:
    tensors = arrays("tokenizer_vq")
    tokenizer = published_vq(tensors)
    close(tokenizer.before_codes(tensors["x"]), tensors["z"])
    tokens = tokenizer.encode(tensors["x"])
    assert tokens.equal(tensors["indices"])
    close(tokenizer.quantiser.codes(tokens), tensors["z_quantized"])
    close(tokenizer.decode(tokens), tensors["reconstruction"])


def test_losses_gradients_and_three_updates_of_the_codes_are_the_published_ones() -> None:
    tensors = arrays("tokenizer_vq")
    tokenizer = published_vq(tensors)
    for update, x in enumerate((tensors["x"], tensors["ema2.x"], tensors["ema3.x"]), start=1):
        if update > 1:
            assert tokenizer.encode(x).equal(tensors[f"ema{update}.indices"])
        loss, metrics = tokenizer.loss(x.flatten(0, 2), torch.Generator())
        if update == 1:
            close(loss, tensors["train.loss"])
            close(torch.as_tensor(metrics["world_model/token_error"]), tensors["train.loss_reconstruction"])
            loss.backward()
            for part in ("encoder", "decoder"):
                for j in range(3):
                    gradient = getattr(tokenizer, part)[2 * j].weight.grad
                    close(gradient, tensors[f"grad.{part}.{j}.weight"])
        commitment = "train.loss_commitment" if update == 1 else f"ema{update}.loss_commitment"
        close(torch.as_tensor(metrics["world_model/commitment"]), tensors[commitment])
        codes = of_part(tensors, f"ema{update}.")
        state = tokenizer.quantiser.state_dict()
        close(state["code_count"], codes["cluster_size"])
        close(state["code_sum"], codes["embed_avg"])
        close(state["codebook"], codes["codebook"])


@pytest.mark.parametrize("name", ["888", "865"])
def test_rounded_codes_are_the_published_ones(name: str) -> None:
    tensors = of_part(arrays("tokenizer_fsq_bins"), f"{name}.")
    quantiser = FiniteScalars(tensors["levels"].tolist())
    assert quantiser.basis.equal(tensors["basis"].long())
    z = tensors["z"].requires_grad_()
    close(quantiser.bounded(z), tensors["bound"])
    quantised = quantiser(z)
    close(quantised.code, tensors["codes"])
    assert quantised.token.equal(tensors["indices"].long())
    close(quantiser.codes(quantised.token), tensors["codes_of_indices"])
    (quantised.code * tensors["weight"]).sum().backward()
    assert z.grad is not None
    close(z.grad, tensors["grad_z"])


def test_bins_are_the_published_ones_and_what_they_fail_on_is_clamped_with_one_warning() -> None:
    tensors = arrays("tokenizer_fsq_bins")
    bins = Bins("an observation", 256, 3.0)
    with pytest.warns(RuntimeWarning, match="an observation: .* is beyond 19.0855, and clamped") as told:
        tokens = bins.index(tensors["bins.x"])
        bins.index(tensors["bins.x"])
    assert len(told) == 1
    assert tokens.equal(tensors["bins.tokens"].clamp(0, 255))
    is_valid = tensors["bins.valid"]
    assert not is_valid.all()
    close(bins.value(tokens)[is_valid], tensors["bins.decoded"][is_valid])


def test_actions_bins_are_the_published_ones() -> None:
    tensors = of_part(arrays("tokenizer_fsq_bins"), "action.")
    assert Bins("an action", 256, 1.0, is_log=False).index(tensors["x"]).equal(tensors["tokens"])


@pytest.mark.parametrize(("name", "limit"), [("smac", 3.0), ("mpe", 4.0)])
def test_rewards_as_classes_are_the_published_ones(name: str, limit: float) -> None:
    tensors = of_part(arrays("returns"), f"hlgauss_{name}.")
    bins = Bins("a reward", 128, limit)
    target = bins.probabilities(tensors["reward"], 0.75)
    close(target, tensors["probs"])
    close(bins.mean(target.log()), tensors["round_trip"])
    close(F.cross_entropy(tensors["logits"], target), tensors["loss"])
    close(bins.mean(tensors["logits"]), tensors["decoded"])


def test_rewards_out_of_range_have_finite_targets_and_one_warning() -> None:
    bins = Bins("a reward", 128, 3.0)
    with pytest.warns(RuntimeWarning, match="a reward: 1000 is beyond 19.0855"):
        target = bins.probabilities(torch.tensor([-1000.0, 0.0, 30.0]), 0.75)
    close(target.sum(-1), torch.ones(3))
    assert target.argmax(-1)[[0, 2]].tolist() == [0, 127]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bins.probabilities(torch.tensor([-1000.0]), 0.75)


def test_what_is_not_a_number_is_refused_after_a_warning_too() -> None:
    bins = Bins("a reward", 8, 3.0)
    for has_warned in (False, True):
        with pytest.raises(ValueError, match="a reward is NaN"):
            bins.index(torch.tensor([float("nan")]))
        if not has_warned:
            with pytest.warns(RuntimeWarning, match="is beyond"):
                bins.index(torch.tensor([1e9]))


def test_revived_codes_are_all_used_and_dead_ones_of_the_published_code_are_not() -> None:
    used = {}
    for revive_below in (0.0, 0.1):
        generator = torch.Generator().manual_seed(0)
        tokenizer = make_tokenizer(6, replace(PUBLISHED, revive_below=revive_below), generator)
        optimiser = torch.optim.AdamW(tokenizer.parameters(), lr=1e-3)
        for _ in range(100):
            loss, metrics = tokenizer.loss(torch.randn(64, 6, generator=generator), generator)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        used[revive_below] = float(metrics["world_model/codes_used"])
    assert used[0.1] == 1.0
    assert used[0.0] < 0.9
