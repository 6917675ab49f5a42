"""Verbs of English in requests: what one asks how to do, and what one asks somebody to do.

"How do I boil an egg", "how can I boil an egg" and "how to boil an egg" ask the same, since boiling is done
on purpose and needs to be known. It is not so with most verbs:

    state, looks      how do I look in a suit, how do I compare, sound, rank, feel
    habit             how do I spend my money, sleep, dance: what I do; how can I: what I might do
    ideas             how can I use a potato, help, support: for what, with what
    accident          how can I get fired, lose my job, test positive: what brings it about
    body and mind     how do I see colours, digest milk, remember: how it works
    chance            how can I be wrong, have a fever: how is it possible

So only the verbs that are listed, and only with something after them ("how do I change": in what way?).
"""

from collections.abc import Mapping

from sidecar.cache.wordlists import listed

# Done on purpose only.
_PURPOSEFUL = listed(
    """activate add adjust apply archive arrange assemble attach authenticate automate avoid bake blanch block
    bleach boil book brew build buy bypass calculate calibrate cancel center centre change check choose clean
    clear clone close collect combine commit compile compress compute concatenate configure connect contact
    convert cook copy create crop customize deactivate debug declare decline decode decorate decrypt defrost
    delete deploy descale design detach disable disconnect display dispute divide download draw drill dry
    duplicate edit eject embed enable encode encrypt enroll erase escape estimate evaluate exit export extract
    factor file finance fix fold format fry generate grill hash hide hire host implement import improve
    increase initialize insert install insulate integrate invert invest invite invoke iron iterate join knit
    launch learn lint list load lock log lower mail map marinate merge migrate minimize mock modify monitor
    multiply mute negotiate normalize open optimize order organise organize overwrite pack paint pair parse
    patch pause pay peel pin plan plant plot plug poach prepare prevent print program prune publish purchase
    query reactivate rebase reboot rebuild recharge recycle redeem redirect reduce refactor refill reformat
    refresh refund register reinstall remove rename render renew rent request reschedule reset resize resolve
    restart restore resume retrieve return reverse revert revoke roast rotate scan schedule scrape screenshot
    seal search select sell send serialize set sew sharpen ship shuffle silence simplify slice sort split
    squash start steam stop stream style submit subscribe subtract summarise summarize swap switch sync tag
    toggle trace track transpose trim troubleshoot tune unblock uncompress undo unfreeze uninstall unlock
    unmute unsubscribe unzip update upgrade upload validate verify wash water wire wrap write zip"""
)
# Only before one of these words: a body stores fat, replaces cells and repairs itself.
_PURPOSEFUL_BEFORE = {
    "access": "my the",
    "back": "up",
    "become": "a an",
    "burn": "my the",
    "claim": "a my",
    "deposit": "money cash my a",
    "filter": "my the",
    "find": "my a an out",
    "freeze": "a the",
    "get": "rid",
    "grow": "tomatoes potatoes herbs vegetables basil",
    "locate": "my the",
    "lose": "weight",
    "make": "a an some bread pancakes",
    "mount": "a an my the",
    "protect": "my",
    "quit": "smoking drinking",
    "read": "my the",
    "recover": "my a deleted",
    "repair": "my the",
    "replace": "my the",
    "report": "a an the my",
    "run": "a the",
    "save": "money a my the",
    "sign": "up in out",
    "solve": "a an the this",
    "speed": "up",
    "store": "my the",
    "test": "a an the my if whether",
    "tie": "a my",
    "train": "a the",
    "transfer": "my the money",
    "turn": "on off",
    "view": "my",
    "withdraw": "money cash my",
}
# "How do I pay my rent" may ask what I do. So not before "my".
HABITS = listed(
    """bake boil brew buy choose clean collect cook dry fry grill invest iron learn order organise organize
    pack paint pay peel plan prepare read roast save schedule sharpen store style tie track wash water
    write"""
)
# Things do these by themselves too.
OF_THINGS = listed(
    """change clear close connect disconnect escape exit increase iterate launch load open pause reset restart
    resume return reverse rotate run scan start stop switch sync toggle transfer turn update"""
)
# What one does: by verb the words that it stands before, or None for any.
TO_DO: Mapping[str, frozenset[str] | None] = {
    **dict.fromkeys(_PURPOSEFUL),
    **{verb: listed(words) for verb, words in _PURPOSEFUL_BEFORE.items()},
}
# After the verb they tell how it is done, not what: how do I improve when I am tired, plan so badly.
OF_MANNER = listed(
    """when whenever if while as like so too than compared versus around because every each most usually
    often always best better well badly much more less differently either or and then again"""
)
# What follows "how to" in the names of films, books and songs, and what is more than one thing to ask.
OTHER_THINGS = tuple(
    """avoid a climate disaster, avoid huge ships, become a cult leader, become a mob boss, become a tyrant,
    build a better boy, build a car, build a girl, build a sex room, build a time machine, change the world,
    cook a wolf, cook everything, cook that, create a mind, fix a broken heart, fix a drug scandal,
    hide an empire, make a killing, make a living, make a mistake, make a monster, make a sound,
    make an american quilt, prevent the next pandemic, read a book, read donald duck, read literature,
    save a life, save the cat, save the world, sell a haunted house, sell drugs online, sharpen pencils,
    start a revolution, stop time, stop worrying, write a sentence, write one song""".replace(
        ",\n    ", ", "
    ).split(", ")
)

# What one asks somebody to do, and what is left when a "please" before it is taken away is still asked.
# A word that is a noun too (list, name, show) only before a word that begins its object: "please show dogs"
# pleases them.
ASKED = listed(
    """analyze analyse calculate classify compute create delete describe explain generate give
    implement provide recommend remove send suggest summarise summarize tell write"""
)
ASKED_BEFORE = listed(
    "add change check compare convert cook draw find fix help list make name outline show solve sort"
)
OBJECTS = listed(
    """a an the me my us our your this that these those some all any each every it them how what which one
    two three four five six seven eight nine ten"""
)
