"""Turns of English that ask the same, and the one that stands for them: the distance to X for "how far is X".

A turn is known only where it can say nothing else, which is why most name what they are about. "How high is
the ISS" is not "how tall", "how far is a marathon" not the distance to one, "the age of the dinosaurs" not
how old they are, "how might I die" not "how do I die", "why don't we go" a wish, "what state is he in" not
"which state", "the benefits of employees" not those that they have, the king's murder not always a murder of
the king; and who says "do you know how to play chess" may look for a partner.
"""

import re

from sidecar.cache.canonical import canonical
from sidecar.cache.wordlists import listed

_Turns = dict[str, list[tuple[re.Pattern[str], str]]]


def _turns(*table: tuple[str, str, str]) -> _Turns:
    """By the first word: how a text begins (`|` between two ways), what follows, and what stands for both.

    The first letter may be large, as not every first word loses its capital in a canonical form.
    """
    turns: _Turns = {}
    for begins, turn, stands_for in table:
        for begin in begins.split("|"):
            pattern = re.compile(f"[{begin[0]}{begin[0].upper()}]{begin[1:]} {turn}")
            turns.setdefault(begin.partition(" ")[0], []).append((pattern, stands_for))
    return turns


# --- to be brought into canonical form again ----------------------------------------------------------------

_ASKING = "(?:what|which|who|where|when|why|how)"
_PLAINLY = "(?:how (?:do|can) [iI]|where can [iI]|(?:what|where|when|why) (?:is|are) (?:the|my))"
_LEADS = _turns(
    ("hi|hello|hey", f"(?={_PLAINLY} )", ""),
    ("any", "idea (?=how to )", ""),
    # Not "do you know what to do".
    ("do", "you know (?=(?:what|who|where|why|how (?:many|much)) (?!to |you |we |[iI] ))", ""),
    ("i", f"(?:wonder|am wondering|(?:would like|need) to know) (?={_ASKING} )", ""),
    ("i'd", f"like to know (?={_ASKING} )", ""),
    ("may", f"[iI] know (?={_ASKING} )", ""),
    ("kindly", f"(?:tell me|explain) (?={_ASKING} )", ""),
    # Not "tell me when to stop".
    ("tell", "me (?=(?:which|who|where|why) )", ""),
    ("show|teach", "me (?=how (?:to|[iI] can) )", ""),
    ("explain", "(?:to me )?(?=why )", ""),
)
_BE = "(is|are|was|were)"
# "Where the bank is", "why the sky is blue".
_VERB_LAST = re.compile(rf"((?:what|which) [a-z]+(?= (?:it|he|she) )|what|who|where|when) (.+) {_BE}")
_VERB_LATE = re.compile(rf"why ((?:(?:the|an?|my|this) )?[A-Za-z-]+) {_BE} (.+)")
# Verbs that are written like nouns, or as one that stands for them.
_VERBS = _turns(
    *(
        (f"how {how}", turn, f"how {how} {verb}\\1")
        for how in ("to", "do i", "can i")
        for turn, verb in (
            ("(?:login|sign in)($| to my account$)", "log in"),
            ("setup( an? | my | the )", "set up"),
            ("purchase( an? )", "buy"),
        )
    )
)

# --- frames -------------------------------------------------------------------------------------------------

_BUILT = "tower|building|statue|pyramid|skyscraper|monument"
_IN_THE_SKY = (
    "the (?:moon|sun|nearest star|nearest galaxy)|[Mm]ercury|[Vv]enus|[Mm]ars|[Jj]upiter|[Ss]aturn|[Uu]ranus"
    "|[Nn]eptune|[Pp]luto"
)
_PAID = "(shipping|delivery|membership|an? (?:visa|passport|ticket|subscription|membership))"
_OWNER = "((?:[A-Za-z]+ ){0,2}[A-Za-z]+)"
_HELD = "(capital|population|currency|president|prime minister|ceo|CEO)"
_LISTED = "the ((?:symptoms|side effects|ingredients|planets) of )"
_NAMED = "the ((?:capital|population|currency|boiling point|melting point) of )"
_FRAMES = _turns(
    ("how", "tall is ([Mm]ount [A-Za-z]+)$", r"what is the height of \1"),
    ("how", f"tall is (the (?:[A-Za-z]+ ){{0,3}}(?:{_BUILT}))$", r"what is the height of \1"),
    ("how", f"far (?:away )?is ({_IN_THE_SKY})$", r"what is the distance to \1"),
    ("how", r"far is it to (?!go\b)", "what is the distance to "),
    ("how", "many people live in ", "what is the population of "),
    ("what", f"does {_PAID} cost$", r"how much does \1 cost"),
    ("what", f"(is|was) {_OWNER}'s {_HELD}$", r"what \1 the \3 of \2"),
    ("who", f"(is|was) {_OWNER}'s {_HELD}$", r"who \1 the \3 of \2"),
    ("list|name|give me|tell me", _LISTED, r"what are the \1"),
    ("name|give me|tell me", _NAMED, r"what is the \1"),
    ("compose", r"(an? (?:poem|haiku|limerick)\b)", r"write \1"),
)
_PHRASES = (
    (" the capital city of ", " the capital of "),
    ("'s capital city", "'s capital"),
    (" two-factor authentication", " two factor authentication"),
)
_BEFORE_PLEASE = listed("how what which where when why can could do does is are")
# One of which comes next, or who asks after it: not "how does a good waiter please".
_THEN_PLEASE = listed("to is are was were much many long i I you")
# "Whom do I have to please", "please, please me".
_NOT_BEFORE_PLEASE = listed(
    "a an the and of or to for with in on at by not i I you he she we they me is are was were please"
)
# In texts about words too.
_COMPARED = _turns(("explain|describe|tell me", "(?=the difference between )", "what is "))

# --- parts --------------------------------------------------------------------------------------------------

_KINDS = "time zone|country|countries|city|cities|continent|year|month|payment methods?"
_AUXILIARIES = "is|are|was|were|do|does|did|has|have|should|will"
_PLACES = "mountain|river|lake|ocean|desert|island|country|state|city|continent|planet|animal|building"
_BEST = (
    "best|worst|largest|biggest|smallest|tallest|highest|lowest|longest|shortest|fastest|slowest|cheapest"
    "|oldest|newest|youngest|deepest|hottest|coldest|richest|nearest|closest"
)
_WHEREIN = "city|country|continent|time zone"
_SOME = "(?:an?|some|[0-9]+)"
_MADE = "jokes?|poems?|story|stories|haikus?|limericks?|riddles?|songs?|recipes?"
_PARTS = _turns(
    ("what", "(symptoms|side effects) (?:do|does) (.+) have$", r"what are the \1 of \2"),
    ("what", "color is ((?:the (?!new )|an? |my ))", r"what is the color of \1"),
    ("in which|in what", f"({_WHEREIN}) {_BE} (.+)", r"what \1 \2 \3 in"),
    ("what|which", f"({_WHEREIN}) {_BE} (.+) in$", r"what \1 \2 \3 in"),
    ("which", f"({_PLACES}) is the ({_BEST})($| in )", r"what is the \2 \1\3"),
    ("which", f"((?:{_KINDS}) (?:{_AUXILIARIES}) )", r"what \1"),
    ("which", "(company (?:owns|makes) |team won )", r"what \1"),
    ("which", rf"((?:is|was) the (?:{_BEST}) (?:{_PLACES})\b)", r"what \1"),
    ("how", "many ([a-z].*? (?:is|are)) there (in|on) ", r"how many \1 \2 "),
    ("where", "do [iI] (find|buy|download) (?!myself)", r"where can i \1 "),
    ("where", "can [iI] ", "where can i "),
    ("why", "(do|does|did|is|are|was|were)(?: not|n't) (it|(?:the|my|this) [a-z-]+) ", r"why \1 \2 not "),
    *((verb, f"(?:me )?({_SOME} )", rf"{verb} \1") for verb in ("suggest", "recommend")),
    *(
        (verb, rf"(?:me )?({_SOME} (?:short |funny |simple |easy )?(?:{_MADE})\b)", rf"{verb} \1")
        for verb in ("write", "tell", "give")
    ),
)


def framed(form: str) -> str:
    """A canonical form without what leads to it, in the frame that stands for it."""
    if (asked := _stands_for(form, _LEADS)) is not form:
        form = _in_order(canonical(asked) or asked)
    if (asked := _stands_for(form, _VERBS)) is not form:
        form = canonical(asked) or asked
    for old, new in _PHRASES:
        if old in form:
            form = form.replace(old, new)
    return _stands_for(form, _FRAMES)


def without_please(form: str) -> str:
    """A form of a question without the courtesy at its end."""
    bare = form.removesuffix("?")
    if not bare.endswith(" please") or form.partition(" ")[0] not in _BEFORE_PLEASE:
        return form
    asked = bare[:-7]
    if _THEN_PLEASE.isdisjoint(asked.split(" ")[1:3]):
        return form
    if asked[asked.rfind(" ") + 1 :] in _NOT_BEFORE_PLEASE:
        return form
    asked += form[len(bare) :]
    return canonical(asked) or asked


def parted(form: str) -> str:
    """A framed form with its parts in the order that stands for it."""
    form = _stands_for(form, _PARTS)
    return form[:-7] + "flu" if form.endswith(" the flu") else form


def compared(form: str) -> str:
    """A canonical form that begins with the difference between two things as the question for it."""
    return _stands_for(form, _COMPARED)


def _stands_for(form: str, turns: _Turns) -> str:
    """The turn that stands for a form, or the form. Turns are questions: the mark says nothing after one."""
    first = form.partition(" ")[0]
    for turn, stands_for in turns.get(first[:1].lower() + first[1:], ()):
        bare = form.removesuffix("?")
        if (found := turn.match(bare)) is not None:
            return found.expand(stands_for) + bare[found.end() :]
    return form


def _in_order(form: str) -> str:
    """The question of what was embedded: its verb comes before who or what does it."""
    if (last := _VERB_LAST.fullmatch(form)) is not None:
        return f"{last.group(1)} {last.group(3)} {last.group(2)}"
    if (late := _VERB_LATE.fullmatch(form)) is not None:
        return f"why {late.group(2)} {late.group(1)} {late.group(3)}"
    return form
