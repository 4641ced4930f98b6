"""One setting of a frozen config dataclass: what it may be, and how it is read from YAML values and from text."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from envs.settings import is_in_range

_NOUNS = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    str: ("text", "texts"),
}


class Rule(NamedTuple):
    """What a setting may be: its type and the legal range that ``envs.core.setting`` declared."""

    scalar: type  # bool, int, float or str
    default: Any = None
    meaning: str = ""
    is_list: bool = False
    length: int | None = None  # of the list; None: any
    is_optional: bool = False  # may be null
    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    extends: bool = False
    is_code: bool = False
    from_file: Callable[[str], Any] | None = None


def rules(config: Any) -> dict[str, Rule]:
    """Rules of a config's settings, by name; defaults are those of the given instance or class.

    Raises ValueError for a default that is not legal, TypeError for a type that no setting can have.
    """
    hints = get_type_hints(config if isinstance(config, type) else type(config))
    settings = [field for field in dataclasses.fields(config) if "meaning" in field.metadata]
    return {field.name: _rule(field, hints[field.name], getattr(config, field.name)) for field in settings}


def read(value: Any, rule: Rule) -> Any:
    """``value`` as its rule has it: integral floats become ints, lists tuples.

    Raises ValueError saying what was expected.
    """
    if value is None and rule.is_optional:
        return None
    items = value if rule.is_list else [value]
    fits = isinstance(items, (list, tuple)) and rule.length in (None, len(items))
    scalars = [_scalar(item, rule.scalar) for item in items] if fits else [None]
    if not all(_is_legal(scalar, rule) for scalar in scalars):
        words = [value] if isinstance(value, str) else items if fits else []
        strange = [word for word in words if isinstance(word, str) and word not in (rule.choices or ())]
        suggestion = nearest(strange[0], rule.choices) if rule.choices and strange else ""
        raise ValueError(f"expected {describe(rule)}{suggestion}")
    return tuple(scalars) if rule.is_list else scalars[0]


def from_text(text: str, rule: Rule) -> Any:
    """What ``text`` says to a setting of this rule; unreadable text is returned as it is, for ``read`` to refuse."""
    if rule.is_optional and text.lower() in ("null", "none"):
        return None
    if not rule.is_list:
        return _scalar_from_text(text, rule.scalar)
    bare = text[1:-1] if text[:1] + text[-1:] in ("[]", "()") else text
    return [_scalar_from_text(part.strip(), rule.scalar) for part in comma_parts(bare) if part.strip()]


def comma_parts(text: str) -> list[str]:
    """What commas separate that stand inside no brackets."""
    depth, parts = 0, [""]
    for sign in text:
        depth += (sign in "[{(") - (sign in "]})")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def to_text(value: Any) -> str:
    """A value as one would write it on the command line."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(to_text(item) for item in value)}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe(rule: Rule) -> str:
    """What is expected of a setting, in words."""
    noun = _NOUNS[rule.scalar][rule.is_list]
    if rule.choices is not None:
        noun = f"{'any' if rule.is_list else 'one'} of {', '.join(to_text(choice) for choice in rule.choices)}"
    if rule.is_list:
        noun = f"a list of {'' if rule.length is None else f'{rule.length} '}{noun}"
    bounds = [(">=", rule.low), (">", rule.above), ("<=", rule.high)]
    limits = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
    return " ".join(part for part in (noun, limits, "or null" if rule.is_optional else "") if part)


def problem(source: str, key: str, value: Any, reason: object) -> str:
    """The one line that says what is wrong with a setting, and where it was set."""
    return " ".join(f"{source}: {key}={to_text(value)}: {reason}".split())


def nearest(word: str, choices: Iterable[str]) -> str:
    """``" (did you mean X?)"``: what is ``near``; empty where nothing is."""
    return did_you_mean(near(word, choices))


def did_you_mean(matches: Sequence[str]) -> str:
    """``" (did you mean X or Y?)"``; empty without matches."""
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def near(word: str, choices: Iterable[str]) -> list[str]:
    """Choices of which ``word`` is a part, or the one most like it, if one is like it. Sections are left aside."""
    section, _, name = word.rpartition(".")
    names = list(choices)
    holders = [choice for choice in names if choice.startswith(section) and name in re.split("[-_.]", choice)]
    if holders:
        return holders[:3]
    of_section = [choice for choice in names if section and choice.startswith(f"{section}.")]
    if of_section:
        matches = get_close_matches(name, [choice.removeprefix(f"{section}.") for choice in of_section], n=1)
        return [f"{section}.{match}" for match in matches]
    return get_close_matches(word, names, n=1)


def _rule(field: dataclasses.Field[Any], hint: Any, default: Any) -> Rule:
    """Take ``tuple[int, ...] | None`` and the like apart."""
    shape: dict[str, Any] = {}
    choices = field.metadata["choices"]
    if get_origin(hint) in (Union, UnionType):
        shape["is_optional"] = True
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is tuple:
        hint, *others = get_args(hint)
        shape |= {"is_list": True, "length": None if others == [...] else 1 + len(others)}
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        hint = type(choices[0])
    if hint not in _NOUNS:
        raise TypeError(f"{field.name}: a setting is bool, int, float, str, or a tuple or option of these, not {hint}")
    shape["choices"] = None if choices is None else tuple(choices)
    names = ("meaning", "low", "above", "high", "extends", "is_code", "from_file")
    declared = {name: field.metadata[name] for name in names}
    rule = Rule(hint, **declared, **shape)
    try:
        return rule._replace(default=read(default, rule))
    except ValueError as error:
        raise ValueError(problem("default", field.name, default, error)) from error


def _scalar(value: Any, scalar: type) -> Any:
    """``value`` as the scalar type; None if it is no such thing."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if scalar is float and is_number:
        return float(value) if abs(value) <= sys.float_info.max else None
    if scalar is int and isinstance(value, float):
        return int(value) if value.is_integer() else None
    if scalar is str and is_number and isinstance(value, int):
        return str(value)
    return value if type(value) is scalar else None


def _scalar_from_text(text: str, scalar: type) -> Any:
    if scalar is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    for number in {int: (int, float), float: (float,)}.get(scalar, ()):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _is_legal(scalar: Any, rule: Rule) -> bool:
    if scalar is None:
        return False
    return is_in_range(scalar, low=rule.low, above=rule.above, high=rule.high, choices=rule.choices)
