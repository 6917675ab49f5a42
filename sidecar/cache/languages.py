"""First words of questions in other languages than English, and what asks about marks and blanks there.

A capital at the beginning says nothing where a word is the same one with it and without: wie, où, где. Most
are not so: German nouns and "Sie", every name, and a word of one language that is a name in another. Where a
word may be another one (Dove soap), the next must belong to the question. Left out: como (the lake, whose
name begins a Spanish sentence), co (cobalt), wen (a cyst), як (a yak or an aeroplane).
"""

from collections.abc import Iterable

from sidecar.cache.wordlists import listed

_ANY: frozenset[str] = frozenset()
_ASKING = """wie was wo wann warum wer welche welcher welches welchen wieso weshalb woher wohin wieviel
    comment où pourquoi quand quel quelle quels quelles combien qui que qu'est-ce est-ce peut-on
    qué cómo dónde cuándo cuánto cuánta cuántos cuántas cuál cuáles quién quiénes por cuando donde cual quien
    perché quando quanto quanti quante quale quali onde qual quem quantos quantas
    hoe wat waar wanneer waarom welke hoeveel
    hur vad vem varför när hvordan hvad hvor hvem hvorfor hvornår hva
    jak gdzie kiedy dlaczego kto czy który która które kde kdy proč kdo kolik
    nasıl nerede neden hangi kaç bagaimana mengapa siapa berapa
    что как где когда почему кто кого сколько какой какая какое какие чем зачем откуда куда
    чому хто скільки"""
_WANTING = "nenne erkläre schreibe écris explique escribe explica назови напиши объясни"
_BEFORE = {
    "come": "si posso faccio è va funziona",
    "dove": "posso sono vivono trovo vanno",
    "chi": "è ha",
    "cosa": "è significa sono fa posso",
    "che": "cosa cos'è",
    "gib": "mir uns das den dem die der ein eine einen zwei drei vier fünf",
    "on": "a va peut",
    "no": "me se te lo hay puedo tengo quiero sé",
    "il": "a est y faut fait",
}
# By how it is written with a capital: in small letters, and the words of which one must come next, if any.
FIRST = {
    **{word[0].upper() + word[1:]: (word, _ANY) for word in f"{_ASKING} {_WANTING}".split()},
    **{word.capitalize(): (word, listed(then)) for word, then in _BEFORE.items()},
}
KNOWN = frozenset(FIRST) | {small for small, _ in FIRST.values()}
# Those that a question begins with, whose mark may have a blank before it.
ASKING = KNOWN - listed(f"{_WANTING} {_WANTING.title()} gib Gib on On")

# Who says one of these may speak about the very mark that stands there.
OF_MARKS = listed(
    """bedeutet bedeuten heißt heisst zeichen satzzeichen fragezeichen ausrufezeichen taste tippe tippt
    schreibt symbol zug schach leerzeichen spalte spalten feld signifie dire signe symbole caractère
    ponctuation taper tape écrit coup échecs espace espaces colonne significa signo símbolo carácter tecla
    escribo ajedrez espacio espacios columna columnas segno simbolo carattere punteggiatura scrive scacchi
    spazio spazi colonna sinal caractere xadrez betekent teken leestekens toets schaken spatie spaties
    kolom betyder tecken tegn tegnet mellanslag oznacza znaczy znak spacja spacje znamená işareti işaret
    boşluk знак знака значит означает символ символа пробел пробела пробелов пишется шахматах столбец
    operator opérateur operador operatore оператор ascii unicode regex"""
)
OF_BLANKS = listed(
    """space spaces blank blanks whitespace gap column columns field fields tab tabs indent indentation
    separated separator split delimited delimiter length count parse"""
)
# Words whose full stop may be their own, as it may be of every short word in a text about what one means.
_SHORTENED = listed(
    "abs art bzw ca dr etc fig inc jr max min mr mrs nr no op pp sec sr st str tel usw vol vs"
)
_OF_MEANING = listed(
    """mean means meaning meant definition abbreviation bedeutet bedeuten bedeutung heißt heisst abkürzung
    signifie veut significa betekent betyder oznacza znaczy означает значит"""
)
_MAX_SHORTENED = 4
# "Int?" is a type of its own, and "Int??" another.
TYPES = listed(
    """any bool boolean byte char date decimal double float guid int integer long object optional short
    string uint"""
)
# Who says one of these asks how a text is made of characters, where "é" is one or two.
OF_CHARACTERS = listed(
    """ascii unicode utf nfc nfd byte bytes octets octet codepoint codepoints code character characters
    length len normalization normalisation caractères caracteres caratteri zeichen символов байт байта
    letter letters symbol symbols sign signs accent accents difference same unterschied différence
    diferencia"""
)
# And one of these about the very apostrophe.
OF_APOSTROPHES = listed(
    "apostrophe apostrophes quote quotes apostroph apóstrofe apóstrofo apostrofo апостроф unicode ascii"
)
# Marks of Chinese and Japanese are as wide as a letter or not: who asks about that asks about this one.
WIDE = ("标点", "標點", "符号", "符號", "記号", "全角", "半角", "问号", "問號", "句読点", "引号")


def is_shortened(word: str, words: Iterable[str]) -> bool:
    """Whether the full stop after a word may be a part of it: "fig.", or "Gen." where its meaning is asked.

    `words`: those of the text, in small letters.
    """
    return word.lower() in _SHORTENED or (len(word) <= _MAX_SHORTENED and not _OF_MEANING.isdisjoint(words))
