"""An explanation as text for a terminal: who, which way, a table of targets, what was left out and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.tables import columns, printable

_HEADINGS = ("", "MODEL", "PROVIDER", "ENDPOINT", "REGION", "FIRST", "$/M IN", "$/M OUT", "WORST $", "WHY")
_RIGHT = frozenset((0, 5, 6, 7, 8))  # columns of figures


def table(shown: Mapping[str, Any]) -> str:
    """The text; KeyError, TypeError or AttributeError for what is no explanation."""
    error = shown["error"]
    facts = [
        ("model", shown["model"]),
        ("caller", _caller(shown["caller"])),
        ("route", _route(shown)),
        ("limits", _limits(shown["limits"]) if shown["targets"] else ""),
        *(("budget", _budget(budget)) for budget in shown["budgets"]),
        ("cache", _cache(shown["cache"])),
        ("would", shown["would"] if error is None else f"{shown['would']}: {error['message']}"),
    ]
    lines = [f"{name:<8}{text}" for name, text in facts if text]
    if shown["targets"]:
        lines += ["", *columns([_HEADINGS, *_rows(shown["targets"])], _RIGHT)]
    if shown["left_out"]:
        lines += [""]
    for one in shown["left_out"]:
        provider = f" ({one['provider']})" if one["provider"] else ""
        lines.append(f"left out: {one['model']}{provider}: {one['why']}")
    lines += [f"note: {note}" for note in shown["notes"]]
    return "".join(f"{printable(line)}\n" for line in lines)


def _caller(caller: Mapping[str, Any] | None) -> str:
    if caller is None:
        return ""
    parts = [f"key {caller['key']}" if caller["key"] else "no listed key", f"team {caller['team']}"]
    if caller["tier"]:
        parts.append(f"tier {caller['tier']}")
    if caller["regions"]:
        parts.append(f"regions {', '.join(caller['regions'])}")
    return ", ".join(parts)


def _route(shown: Mapping[str, Any]) -> str:
    if not shown["route"]:
        return ""
    arms = ", ".join(f"{arm['model']} weight {arm['weight']:g}" for arm in shown["arms"])
    return f"{shown['route']} by {shown['reason']}" + (f": {arms}" if arms else "")


def _limits(limits: Mapping[str, Any] | None) -> str:
    if limits is None:
        return "none"
    return "; ".join(
        f"{one['remaining']} of {one['limit']} {kind} left, full again in {one['reset_s']} s"
        for kind, one in limits.items()
        if one is not None
    )


def _budget(one: Mapping[str, Any]) -> str:
    whose = f"{one['per']} {one['whom']}".strip()
    ends = "" if one["resets_in_s"] is None else f", begins anew in {one['resets_in_s']} s"
    spent, reserved, limit = one["spent_usd"], one["reserved_usd"], one["limit_usd"]
    return f"{one['name']} of {whose}: ${spent:.2f} spent, ${reserved:.2f} reserved of ${limit:.2f}{ends}"


def _cache(cache: Mapping[str, Any]) -> str:
    would = f", {cache['would']}" if cache["would"] else ""
    reason = f" ({cache['reason']})" if cache["reason"] else ""
    return f"{cache['class']}{would}{reason}"


def _rows(targets: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    place = 0
    for one in targets:
        place += one["in"]
        price, worst = one["price"], one["worst_case_usd"]
        rows.append(
            (
                str(place) if one["in"] else "out",
                one["model"],
                one["provider"],
                one["endpoint"],
                one["region"] or "-",
                f"{one['share']:.0%}" if one["share"] else "-",
                "-" if price is None else f"{price['input']:g}",
                "-" if price is None else f"{price['output']:g}",
                "-" if worst is None else f"{worst:.6f}",
                one["why"],
            )
        )
    return rows
