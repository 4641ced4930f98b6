"""Settings by dotted key, set layer by layer, the weakest layer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mg2l_kalei.config.command_line import Assignment
from mg2l_kalei.config.files import File
from mg2l_kalei.config.settings import Rule, from_text, nearest, problem, read, to_text

DEFAULT = "default"
COMMAND_LINE = "command line"
RETIRED = ("exact_times",)  # settings of earlier releases that decided nothing: their runs' configs still name them
Sections = Mapping[str, Mapping[str, Mapping[str, Rule]]]  # section ("": the run) -> kind ("": has none) -> setting


class Layers:
    """The settings of a run whose kinds are chosen, where each came from, and a line for everything that is wrong."""

    def __init__(self, sections: Sections, kinds: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self._sections = sections
        self.kinds = kinds
        self._rules = {
            dotted(section, name): rule
            for section in sections
            for kind in self._possible_kinds(section)
            for name, rule in sections[section][kind].items()
        }
        self.values = {key: rule.default for key, rule in self._rules.items()}
        self.sources = dict.fromkeys(self._rules, DEFAULT)

    def section(self, name: str) -> dict[str, Any]:
        """The values of one section, by setting."""
        (kind,) = self._possible_kinds(name)
        return {setting: self.values[dotted(name, setting)] for setting in self._sections[name][kind]}

    def chosen_sections(self) -> Sections:
        """The sections with their chosen kinds alone; all of them must be. The values stand as defaults."""
        chosen: dict[str, dict[str, dict[str, Rule]]] = {}
        for section in self._sections:
            (kind,) = self._possible_kinds(section)
            rules = self._sections[section][kind]
            values = self.section(section)
            chosen[section] = {kind: {name: rule._replace(default=values[name]) for name, rule in rules.items()}}
        return chosen

    def add_file(self, file: File) -> None:
        """Set what a file says, where it speaks to the chosen kinds; everything in it is checked."""
        run_rules = self._sections[""][""]
        for name, content in file.content.items():
            if name in RETIRED:
                continue
            if name in run_rules:
                self._set(file.source, name, content, [run_rules[name]], speaks=file.speaks)
            elif name == "" or name not in self._sections:
                suggestion = nearest(str(name), [*filter(None, self._sections), *run_rules])
                self.problems.append(problem(file.source, name, content, f"no such setting{suggestion}"))
            elif not isinstance(content, dict):
                self.problems.append(problem(file.source, name, content, "expected a mapping of settings"))
            else:
                self._add_block(file, name, content)

    def add_command_line(self, assignments: Sequence[Assignment]) -> None:
        """Set what the command line says; a key need only be as long as it takes to be unique."""
        given: dict[str, Any] = {}
        for key, text in assignments:
            full_key = self._full_key(key, text)
            if full_key is None:
                continue
            value = from_text(text, self._rules[full_key])
            if to_text(given.setdefault(full_key, value)) != to_text(value):
                reason = f"given before as {to_text(given[full_key])}"
                self.problems.append(problem(COMMAND_LINE, full_key, value, reason))
            self._set(COMMAND_LINE, full_key, value, [self._rules[full_key]], speaks=True)

    def read_files(self, but_of: str | None = None) -> None:
        """Put what files hold in the place of their names. Not of a stored config, ``but_of``, which holds it."""
        for key, rule in self._rules.items():
            if rule.from_file and self.sources[key] not in (DEFAULT, but_of):
                try:
                    self.values[key] = rule.from_file(self.values[key])
                except ValueError as error:
                    self.problems.append(problem(self.sources[key], key, self.values[key], error))
                    self.values[key] = rule.default  # which has no problem of its own

    def _possible_kinds(self, section: str) -> list[str]:
        """The chosen kind; all of them where the choice was wrong; ``""`` where there are no kinds."""
        return [self.kinds[section]] if section in self.kinds else list(self._sections[section])

    def _add_block(self, file: File, section: str, block: Mapping[str, Any]) -> None:
        kinds = self._sections[section]
        has_guard = "kind" in block and "" not in kinds
        candidates = self._possible_kinds(section) if file.speaks else list(kinds)
        speaks = file.speaks
        if has_guard:
            try:
                candidates = [read(block["kind"], Rule(str, choices=tuple(kinds)))]
            except ValueError as error:
                self.problems.append(problem(file.source, f"{section}.kind", block["kind"], error))
                return
            speaks = speaks and candidates == [self.kinds.get(section)]
        for name, value in block.items():
            if name == "kind" and has_guard:
                continue
            rules = [kinds[kind][name] for kind in candidates if name in kinds[kind]]
            if rules:
                self._set(file.source, dotted(section, name), value, rules, speaks=speaks)
            else:
                self._refuse(file.source, dotted(section, name), value)

    def _set(self, source: str, key: str, value: Any, rules: Sequence[Rule], *, speaks: bool) -> None:
        """Check a value against rules, of which one must allow it, and keep it if this layer speaks to the run."""
        if "${" in to_text(value):
            self.problems.append(problem(source, key, value, "expected a plain value, interpolations are refused"))
            return
        try:
            result = _read_any(value, rules)
        except ValueError as error:
            self.problems.append(problem(source, key, value, error))
            return
        if speaks:
            self.values[key] = result
            self.sources[key] = source

    def _full_key(self, key: str, text: str) -> str | None:
        """The dotted key that ``key`` is, or is the end of; None, and a problem, unless it is exactly one."""
        if key in self._rules:
            return key
        matches = [full_key for full_key in self._rules if full_key.endswith(f".{key}")]
        if len(matches) == 1:
            return matches[0]
        if matches:
            self.problems.append(problem(COMMAND_LINE, key, text, f"which of {', '.join(matches)}?"))
        else:
            self._refuse(COMMAND_LINE, key, text)
        return None

    def _refuse(self, source: str, key: str, value: Any) -> None:
        """Say why there is no such setting: another kind's, or a misspelling."""
        section, _, name = key.rpartition(".")
        owners = [
            f"{owner}.kind={kind}"
            for owner, registry in self._sections.items()
            for kind, settings in registry.items()
            if name in settings and section in ("", owner)
        ]
        if owners:
            reason = f"a setting of {' or '.join(owners)} only"
        else:
            names = self._rules if section else {full_key.rpartition(".")[2] for full_key in self._rules}
            choices = ["expt", "algo", *filter(None, self._sections)]
            elsewhere = [full_key for full_key in self._rules if section and full_key.endswith(f".{name}")]
            meant = (
                f" (did you mean {' or '.join(elsewhere)}?)" if elsewhere else nearest(key, [*sorted(names), *choices])
            )
            reason = f"no such setting{meant}"
        self.problems.append(problem(source, key, value, reason))


def dotted(section: str, name: str) -> str:
    """``learner.lr``; the run's own settings are bare."""
    return f"{section}.{name}" if section else name


def _read_any(value: Any, rules: Sequence[Rule]) -> Any:
    """The value by the first rule that allows it. Raises ValueError when none does."""
    for rule in rules[:-1]:
        with suppress(ValueError):
            return read(value, rule)
    return read(value, rules[-1])
