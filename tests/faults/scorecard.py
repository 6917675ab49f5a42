"""Tries every fault and prints how it went: one entry per fault, what was measured, what it should have been.

FailoverBench's sixteen   one call at a time, through the OpenAI SDK
fourteen under load       a steady load, the fault in the middle of it
"""

import time
import traceback
from collections.abc import Callable

from tests.faults import before_first_token, mid_stream, one_by_one, under_load
from tests.faults.case import Case, Check, Trial, title_of
from tests.faults.load import LoadTrial, Profile

SINGLE = "single"
LOADED = "load"
_SHOWN_FAILURES = 4


def trials(profile: Profile) -> dict[str, Trial]:
    """Every fault by its name in the scorecard: `single-1` to `single-16`, `load-1` to `load-14`."""
    singles = {**before_first_token.TRIALS, **mid_stream.TRIALS}
    loads = {**under_load.TRIALS, **one_by_one.TRIALS}
    named: dict[str, Trial] = {f"{SINGLE}-{number}": singles[number] for number in sorted(singles)}
    for number in sorted(loads):
        named[f"{LOADED}-{number}"] = _with_profile(loads[number], profile)
    return named


def _with_profile(trial: LoadTrial, profile: Profile) -> Trial:
    async def run(case: Case) -> None:
        await trial(case, profile)

    run.__doc__ = trial.__doc__
    return run


async def judge(trial: Trial) -> Case:
    """Try one fault. What it raises is a failure of its own."""
    case = Case(title_of(trial))
    try:
        await trial(case)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
        case.checks.append(
            Check("raised", f"{type(error).__name__}: {error} ({where})", "no exception", False)
        )
    return case


async def run(profile: Profile, wanted: Callable[[str], bool], say: Callable[[str], None]) -> bool:
    """Try all wanted faults; returns whether every one was passed."""
    load = f"{profile.requests_per_s:g} requests/s and {profile.streams} streams of {profile.tokens} tokens"
    say(f"Faults, {profile.name} profile; cut streams are resumed. Under load: {load}.\n")
    cases: list[Case] = []
    for name, trial in trials(profile).items():
        if wanted(name):
            started_s = time.monotonic()
            case = await judge(trial)
            cases.append(case)
            say(entry(name, case, time.monotonic() - started_s))
    tried = [case for case in cases if not case.skipped]
    passed = sum(case.is_passed for case in tried)
    skipped = f", {len(cases) - len(tried)} skipped" if len(tried) < len(cases) else ""
    say(f"\n{passed} of {len(tried)}{skipped}")
    return passed == len(tried)


def entry(name: str, case: Case, seconds: float) -> str:
    """One fault of the scorecard."""
    if case.skipped:
        return f"- {name:<10} {case.title}\n{'':13}skipped: {case.skipped}"
    mark = "✓" if case.is_passed else "✗"
    lines = [f"{mark} {name:<10} {case.title} [{seconds:.1f} s]"]
    figures = {check.name: check for check in case.checks if check.is_met and _is_figure(check)}
    if figures:
        shown = [f"{check.name} {check.measured} ({check.target})" for check in figures.values()]
        lines.append(f"{'':13}{'; '.join(shown)}")
    exact = sum(check.is_met and not _is_figure(check) for check in case.checks)
    if exact:
        lines.append(f"{'':13}{exact} exact checks met")
    missed = list(dict.fromkeys(str(check) for check in case.checks if not check.is_met))
    lines += [f"{'':11}✗ {line}" for line in missed[:_SHOWN_FAILURES]]
    if len(missed) > _SHOWN_FAILURES:
        lines.append(f"{'':11}✗ and {len(missed) - _SHOWN_FAILURES} more")
    return "\n".join(lines)


def _is_figure(check: Check) -> bool:
    return check.target[0] in "≤≥"
