"""Words and turns of English that say the same, for the comparison of two questions (sameness.py).

Only what holds wherever the word may stand: "big" is not "large", as "big data" is a name, nor is "min" a
minute, as it is a minimum too. What is missing here costs a hit, what is wrong costs a wrong answer.
"""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


_DIGITS = "one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
# "Twenty five" is 25.
DIGITS = _words(_DIGITS)
TENS = _words(_TENS)

# A word by the one that stands for it, or the two.
SAME = {
    **{word: str(value) for value, word in enumerate(f"zero {_DIGITS} {_TEENS}".split())},
    **{word: str(value * 10) for value, word in enumerate(_TENS.split(), 2)},
    **_pairs(
        """1st=first 2nd=second 3rd=third 4th=fourth 5th=fifth 6th=sixth 7th=seventh 8th=eighth 9th=ninth
        10th=tenth which=what versus=vs timezone=time+zone website=web+site login=log+in setup=set+up
        e-mail=email wi-fi=wifi cellphone=phone kid=child photograph=photo automobile=car bicycle=bike
        television=tv fridge=refrigerator physician=doctor purchase=buy repair=fix mend=fix begin=start
        obtain=get compose=write maths=math mathematics=math information=info configuration=config
        documentation=docs repository=repo database=db administrator=admin
        javascript=js postgresql=postgres kubernetes=k8s
        kilometer=km kilometre=km kilometers=km kilometres=km kilogram=kg kilograms=kg
        centimeter=cm centimetre=cm centimeters=cm centimetres=cm
        millimeter=mm millimetre=mm millimeters=mm millimetres=mm
        colour=color favourite=favorite behaviour=behavior licence=license centre=center theatre=theater
        litre=liter grey=gray fibre=fiber labour=labor neighbour=neighbor jewellery=jewelry catalogue=catalog
        defence=defense aluminium=aluminum travelling=traveling cancelled=canceled organisation=organization
        organise=organize analyse=analyze optimise=optimize summarise=summarize customise=customize
        recognise=recognize visualise=visualize"""
    ),
}
SINGULARS = _pairs(
    """children=child men=man women=woman feet=foot teeth=tooth mice=mouse people=person knives=knife
    wolves=wolf leaves=leaf"""
)
# Their s is no plural, or with it they are another thing: arms, customs, Windows.
NO_PLURALS = _words(
    """news goods customs arms glasses means times works savings aids brains terms minutes damages manners
    grounds forces looks windows teams pages numbers maps shorts scales spectacles stocks bonds physics
    politics economics series species always perhaps lens gas has does was its his hers ours theirs yours
    less lots sales securities effects contents airs heads odds blues spirits quarters papers drops clothes
    irons chips moors mains pains rights states"""
)

# What says nothing by itself.
LIGHT = _words("the of an really actually exactly basically kindly")
# Where they stand matters little, but which of them: "what is Mary like", "what does Mary like".
AUXILIARIES = _pairs("is=be are=be am=be was=was were=was do=do does=do did=did")
MODALS = _words("can could will would shall should may might must")
PLACES = _words("in at on")
# After one of these "a" is a letter: vitamin A, plan A.
LETTERED = _words(
    """vitamin hepatitis plan type group option grade class team part section series player side influenza
    variant appendix model level category gate terminal zone unit answer choice variable column row node"""
)
# "Give me a list" is "give a list".
TELLING = _words("give tell show write find send make teach recommend suggest")

# What a guard is called by: the first of these that a word in one of the texts only belongs to.
NUMBERS = _words(
    """half double triple twice thrice once dozen dozens both single pair couple hundred thousand million
    billion first second third fourth fifth sixth seventh eighth ninth tenth last"""
)
NEGATIONS = _words(
    """not no never none nothing nobody nowhere neither nor without cannot except hardly barely unless
    instead"""
)
SCOPE = _words(
    """before after more less most least fewer by from to in at on for with about over under between into
    through during against than as up down off out since until above below near inside outside within
    and or vs all any some each every only other same first last next best worst used use using a
    me my mine you your yours he him his she her hers it its we us our they them their this that these those
    need want have if because while"""
)

# "How do I say please"
_MENTIONING = _words("say says said saying write type word words mean means of or and to")
_PHRASES = (
    (" get rid of ", " remove "),
    (" sign in ", " log in "),
    (" united states ", " usa "),
    (" united kingdom ", " uk "),
    (" capital city", " capital"),
)
_HOW = re.compile(
    r"how (?:(?:could|would|might) i|(?:do|does|can|could|would|might) one) "
    r"|(?:show|teach|help) me (?:understand |learn )?how (?:to|i can) "
    r"|(?:i (?:want|need|would like) to (?:learn|know)|do you know|any idea) how to "
    r"|what is (?:a|the) (?:good|right|correct|proper) way to "
    r"|is there (?:a|any) way (?:for me )?to "
    r"|what (?:do i need|do i have) to do to "
)
_TELL = re.compile(
    r"(?:do you know|i (?:want|need|would like) to know|i am wondering|i wonder"
    r"|(?:tell|explain to|show) me) (?=(?:what|which|who|where|when|why|how) )"
)
# "Name the baby" is another matter, and so is "define the schema of a table for users".
_TOLD = re.compile(
    r"(?:(?:tell|give) me|list|name(?= the [a-z]+ of )|define(?= the [a-z]+(?: of)?(?: [a-z]+)?$)) the "
    r"(?!following)([a-z]*)"
)
# Not "what time": who asks when may want the day.
_YEAR = re.compile(r"(?:in )?(?:what|which) year (?=(?:did|was|were) )")
_WHERE = re.compile(r"where do i (?=(?:find|get|buy|see|check|change|download) )")
_LIVING = re.compile(r"how many people live in ")
_MEASURES = _pairs("tall=height high=height old=age heavy=weight deep=depth wide=width big=size")
_MEASURE = re.compile(rf"how ({'|'.join(_MEASURES)}) (?=(?:is|are|was|were) )")
_FAR = re.compile(r"how far (?:away )?(is|are) (?:(it )|(?!from ))")
_WEIGHS = re.compile(r"how much (?:do|does) ([a-z ]+) weigh")
# What any of the turns below begins with.
_OPENINGS = (
    *("how ", "what ", "which ", "where ", "in ", "is ", "do ", "i ", "any ", "show ", "teach "),
    *("explain ", "give ", "help ", "list ", "name ", "define ", "tell "),
)


def reframed(form: str) -> str:
    """A canonical form in the turn that stands for it: of "how tall is X" "what is the height of X"."""
    for old, new in _PHRASES:
        if old in form:
            form = form.replace(old, new)
    if form.endswith(" please") and form[:-7].rpartition(" ")[2] not in _MENTIONING:
        form = form[:-7]
    if not form.startswith(_OPENINGS):
        return form
    if (telling := _TELL.match(form)) is not None:
        form = form[telling.end() :]
    if (how := _HOW.match(form)) is not None:
        return "how to " + form[how.end() :]
    if (told := _TOLD.match(form)) is not None:
        verb = "are" if told.group(1).endswith("s") else "is"
        return f"what {verb} the {form[told.start(1) :]}"
    if (year := _YEAR.match(form)) is not None:
        return "when " + form[year.end() :]
    if (where := _WHERE.match(form)) is not None:
        return "where can i " + form[where.end() :]
    return _measured(form) if form.startswith("how ") else form


def _measured(form: str) -> str:
    """ "How tall" and its like as the measure that they ask for."""
    if (measure := _MEASURE.match(form)) is not None:
        verb, _, rest = form[measure.end() :].partition(" ")
        return f"what {verb} the {_MEASURES[measure.group(1)]} of {rest}"
    if (far := _FAR.match(form)) is not None:
        return f"what {far.group(1)} the distance {'' if far.group(2) else 'to '}{form[far.end() :]}"
    if (weighs := _WEIGHS.fullmatch(form)) is not None:
        return f"what is the weight of {weighs.group(1)}"
    if (living := _LIVING.match(form)) is not None:
        return "what is the population of " + form[living.end() :]
    return form
