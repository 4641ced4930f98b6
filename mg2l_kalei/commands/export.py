"""``mg2l-kalei export``: a trained team as one program that torch alone can load, and as ONNX."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from envs.core import Refusal, one_line, setting
from envs.extras import require
from mg2l_kalei.acting.program import TeamProgram
from mg2l_kalei.config import ConfigError
from mg2l_kalei.config.options import file_named, only_run, read_options
from mg2l_kalei.disk.durable import replacing
from mg2l_kalei.disk.output import say
from mg2l_kalei.training.saved_run import LoadedRun, load_run


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    rows: int = setting(1, "environments that it acts in at once", low=1)
    onnx: bool = setting(False, "write ONNX beside it, for other runtimes than PyTorch")
    best: bool = setting(False, "take the best checkpoint instead of the latest")
    factory: str | None = setting(None, "the run's env.factory, if it names one: it is run only if it is named here")
    plugins: tuple[str, ...] = setting((), "the run's plugins, if it names some: none is run that is not named here")
    out: str | None = setting(None, "the program's file, *.pt2; null: export/team.pt2 in the run's folder")


def export(words: Sequence[str]) -> int:
    """Actor, normaliser and belief update as one program."""
    folders, options = read_options(words, ExportOptions())
    path, named = only_run("export", folders), file_named(options.out, ".pt2")
    run = load_run(path, best=options.best, factory=options.factory, plugins=options.plugins)
    if options.onnx:
        require("onnxscript")
    if named is None:
        run.folder.refuse_links()
    out = named or run.folder.export / "team.pt2"
    program = program_of(run, options.rows)
    with replacing(out) as temporary:
        temporary.write_bytes(as_bytes(program, run.family.spec._asdict()))
    say(str(out))
    if options.onnx:
        say(str(write_onnx(program, out.with_suffix(".onnx"))))
    return 0


def program_of(run: LoadedRun, n_rows: int) -> TeamProgram:
    """The run's team in ``n_rows`` rows. Raises ConfigError of one that is told tasks, or holds latents."""
    encoder, learner = run.system.encoder, run.system.learner
    if encoder.is_told_task:
        raise ConfigError([f"export: {run.folder.path} is an oracle, which acts by a task that it is told"])
    if encoder.is_read_at_episodes:
        raise ConfigError([f"export: {run.folder.path} holds latents through an episode, which programs do not"])
    return TeamProgram(learner, learner.networks, encoder, run.family.spec, n_rows)


def as_bytes(program: TeamProgram, spec: dict[str, Any]) -> bytes:
    """A file for ``torch.export.load``, with ``team.json`` in it: shape and type of the state's parts, and the spec."""
    with torch.no_grad():
        exported = torch.export.export(program, (), program.example(), strict=False)
    state = [[list(x.shape), str(x.dtype).removeprefix("torch.")] for x in program.initial_state]
    about = {"state": state, "n_rows": program.n_rows, "spec": spec}
    file = io.BytesIO()
    torch.export.save(exported, file, extra_files={"team.json": json.dumps(about)})
    return file.getvalue()


def write_onnx(program: TeamProgram, path: Path) -> Path:
    """The program as ONNX. Raises Refusal where an operator of it has no form there."""
    with torch.no_grad(), replacing(path) as temporary:
        try:
            onnx = torch.onnx.export(program, (), kwargs=program.example(), dynamo=True, verbose=False)
        except torch.onnx.errors.OnnxExporterError as error:
            raise Refusal(f"ONNX cannot say what this team does: {one_line(error.__cause__ or error)}") from error
        assert onnx is not None
        onnx.save(str(temporary))
    return path
