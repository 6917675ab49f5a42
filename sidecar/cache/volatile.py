"""What is not kept: questions whose answer changes by the hour, or is meant to change.

They are found by words, in the languages that most requests come in; too often rather than too seldom, since
an answer that is asked for anew costs less than one that is out of date. A long text is looked at where the
instruction stands, at its beginning and end: what a quoted article calls "today" does not change.
"""

import re
from unicodedata import normalize

from sidecar.cache.wordlists import listed

QUESTION_CHARS = 300

_WORDS = re.compile(r"[^\W_]+")

_BY_LANGUAGE = {
    "English": """today tonight tomorrow yesterday now nowadays current currently latest newest recent
        recently weather forecast news headlines price prices stock stocks exchange rate rates traffic
        trending random randomly again another regenerate retry raining snowing winning""",
    "German": """heute heutige heutigen morgen gestern jetzt gerade aktuell aktuelle aktuellen
        aktueller aktuelles derzeit momentan neueste neuesten neuester neuestes kürzlich wetter
        nachrichten preis preise kurs uhr spät zufällig zufällige zufälligen regnet schneit nochmal""",
    "French": """aujourd demain hier maintenant actuel actuelle actuels actuelles actuellement dernier
        dernière derniers dernières récent récente récents récentes récemment météo actualité
        actualités prix heure aléatoire encore""",
    "Spanish": """hoy mañana ayer ahora actual actuales actualmente último última últimos últimas
        reciente recientes recientemente clima pronóstico noticias precio precios hora aleatorio
        aleatoria""",
    "Portuguese": """hoje amanhã ontem agora atual atuais atualmente recente recentes notícias preço
        preços horas aleatório""",
    "Italian": """oggi domani ieri adesso ora attuale attuali attualmente ultimo ultima ultimi ultime
        recenti meteo notizie prezzo prezzi casuale ore""",
    "Dutch": """vandaag gisteren nu huidige laatste recentste nieuws weerbericht prijs prijzen
        willekeurig laat""",
    "Polish": """dziś dzisiaj jutro wczoraj teraz obecnie aktualny aktualna aktualne najnowszy
        najnowsza najnowsze pogoda pogodę wiadomości cena ceny cenę losowy losowa
        godzina""",
    "Turkish": "bugün yarın dün şimdi güncel hava haber haberler fiyat fiyatı fiyatları rastgele saat",
    "Russian": """сегодня завтра вчера сейчас теперь текущий текущая текущее текущие последний
        последняя последнее последние последних недавно погода погоды погоду погоде новости новостей
        цена цены цену цен курс час времени случайный случайное случайную""",
    "Ukrainian": "сьогодні завтра вчора зараз останні погода новини ціна ціни",
}
# Where words are not set apart by blanks, or carry their articles and endings.
_PARTS_BY_LANGUAGE = {
    "Chinese": """今 明天 昨天 现在 現在 目前 当前 當前 最新 最近 天气 天氣 新闻 新聞 价格 價格 股价
        股價 汇率 匯率 几点 幾點 随机 隨機""",
    "Japanese": "今 明日 昨日 現在 最新 最近 天気 ニュース 価格 値段 株価 為替 何時 ランダム",
    "Korean": "오늘 내일 어제 지금 현재 최신 최근 날씨 뉴스 가격 환율",
    "Arabic": "اليوم غدا أمس الآن حاليا أحدث الطقس أخبار سعر",
    "Hindi": "आज कल अभी वर्तमान मौसम समाचार कीमत",
    "Thai": "วันนี้ พรุ่งนี้ เมื่อวาน ตอนนี้ ล่าสุด อากาศ ข่าว ราคา",
}
_VOLATILE = frozenset(" ".join(_BY_LANGUAGE.values()).split())
_VOLATILE_PARTS = tuple(" ".join(_PARTS_BY_LANGUAGE.values()).split())

# What no single word tells, in English.
_TURNS = re.compile(
    r"\b(?:what|which) (?:is the )?(?:time|day|date|month|year|season) (?:is|are)\b"
    r"|\bwhat is (?:the|our|my) (?:exact |local )?(?:time|date|day)\b(?! (?:of|to|for|between)\b)"
    r"|\bwhat is (?:new|up|happening|going on)\b"
    r"|^(?:is|are) .*\b(?:up|down|open|closed|online|offline|available|working|live)\b"
    r"|\bhow (?:long|many|much) .*\b(?:until|till|left|ago|since)\b"
    r"|\bwhen (?:is|are|does|do|will) .*\bnext\b"
    r"|\btemperature (?:in|at|outside)\b"
    r"|\bhow (?:old|much|far along) (?:am|is|are) (?:i|he|she|it|bitcoin|gold|oil|silver)\b"
    # "How do I roll back a release?" is no throw.
    r"|^(?:please )?(?:can you |could you )?(?:roll|flip|toss|throw|shuffle|draw|deal|pick|choose|guess"
    r"|(?:give|generate|create|make|tell|think of|suggest|surprise)(?: me| us| up)?)\b.*"
    r"\b(?:die|dice|coin|card|cards|number|numbers|uuid|guid|password|passphrase|pin|token|name|names|joke"
    r"|fact|quote)\b"
    r"|^surprise me\b"
)
# "This week", "next month": neither alone says that it is about now.
_RELATIVE = listed(
    """this last next past diese dieser dieses letzte letzten nächste nächsten cette ce prochain prochaine
    esta este próxima próximo pasada pasado questa questo prossima prossimo этой эту этом прошлой прошлом
    следующей"""
)
_PERIODS = listed(
    """week weekend month quarter year season morning afternoon evening night woche wochenende monat jahr
    semaine mois année semana mes año mês ano settimana mese anno неделе неделю месяце году"""
)


def is_volatile(text: str) -> bool:
    """Whether the answer to this text will be another one soon."""
    if len(text) > 2 * QUESTION_CHARS:
        text = f"{text[:QUESTION_CHARS]} {text[-QUESTION_CHARS:]}"
    text = text.lower() if text.isascii() else normalize("NFC", text).lower()
    words = _WORDS.findall(text)
    if not _VOLATILE.isdisjoint(words):
        return True
    if not _PERIODS.isdisjoint(words) and not _RELATIVE.isdisjoint(words):
        return True
    if text.isascii():
        if len(text) > QUESTION_CHARS:
            return False
        return _TURNS.search(" ".join(words).replace(" s ", " is ")) is not None
    return any(part in text for part in _VOLATILE_PARTS)
