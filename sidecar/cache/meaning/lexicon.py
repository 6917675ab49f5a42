"""Words of English for the comparison of two questions (sameness.py): which texts are about words, and what
kinds of words there are.

No synonyms: none is one wherever it stands. A kid is a goat too, a repo a loan, a bike may have an engine, a
date is fixed and not repaired, and a purchase order is no buy order.
"""

from sidecar.cache.wordlists import listed

# --- texts about words ------------------------------------------------------------------------------------

# Who says one of these may ask about a word or its form, and each may be the one: the text counts as it is.
OF_WORDS = listed(
    """mean means meaning meanings meant word words wording sentence sentences tense tenses pronoun pronouns
    plural singular spell spelt spelling spellings say says said saying synonym synonyms antonym antonyms
    opposite rhyme rhymes phrase phrases idiom term abbreviate abbreviated abbreviation acronym initials stand
    stands letter letters syllable syllables character characters noun nouns verb verbs adjective
    adverb preposition conjunction article articles grammar grammatical vocabulary pronounce pronounced
    pronunciation accent etymology slang formal informal hyphen hyphens hyphenated apostrophe contraction
    comma commas punctuation language english german french spanish italian portuguese latin greek dutch
    russian chinese mandarin japanese korean arabic hebrew hindi turkish swedish polish called quote translate
    difference differ differs same versus vs"""
)
# In these a frame is still a frame, but how a word or a number is written may be the matter, or a title's or
# an identifier's: the column colour is not the column color.
OF_WRITING = listed(
    """write writes writing written type typed types typing print prints format formatted parse parsed enter
    display read reads string strings regex digit digits number numbers numeral decimal decimals convert round
    split use used uses using usage british american americans america britain england short answer answers
    reply respond ask call name names named title titled song songs sing sings sang sung film films movie
    movies book books album albums band bands show shows series game games novel novels brand brands lyrics
    artist singer wrote directed starred stars star played plays about
    argument attribute branch bucket class column command constant database directory element endpoint enum
    env field file folder function header hostname identifier key keyword label method module
    package parameter path process property queue repository route schema script selector table tag
    topic variable"""
)

# --- names for what was in the way -------------------------------------------------------------------------

# What a guard is called by: the first of these that a word in one of the texts only belongs to.
NUMBERS = listed(
    """zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty
    seventy eighty ninety hundred thousand million billion half double triple twice thrice once dozen dozens
    both single pair couple first second third fourth fifth sixth seventh eighth ninth tenth last"""
)
NEGATIONS = listed(
    """not no never none nothing nobody nowhere neither nor without cannot except hardly barely unless
    instead"""
)
ARTICLES = listed("a an the")
ASKING = listed("what who whom which where when why how")
SCOPE = listed(
    """is are am was were be been being do does did has had can could will would shall should may might must
    before after more less most least fewer by from to in at on for of with about over under between into
    through during against than as up down off out since until above below near inside outside within
    and or vs all any some each every only other same first last next best worst used use using also
    me my mine you your yours he him his she her hers it its we us our they them their this that these those
    need want have if because while still yet already again too even just"""
)
