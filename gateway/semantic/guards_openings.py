"""How questions begin, as tables: what is mere politeness, and which words ask for what.

A row of QUESTIONS has what is asked for, the words of the matter that the opening itself holds, and columns of
alternatives (`-` for none): every phrase with one word of each column is an opening. Later rows win.
"""

from itertools import product

from gateway.semantic.guards_stem import listed


def phrases(*columns: str) -> list[tuple[str, ...]]:
    """Every phrase with one word of each column; `-` stands for none."""
    return [tuple(word for word in row if word != "-") for row in product(*(each.split() for each in columns))]


POLITE = frozenset(
    phrase
    for columns in (
        ("please kindly hi hello hey ok okay so well thanks also and actually just quick",),
        ("could can would", "you", "please -", "tell", "me us -"),
        ("can could may", "i we", "ask"),
        ("do", "you", "know"),
        ("do", "you", "happen", "to", "know"),
        ("quick", "question"),
        ("i", "was am", "wondering"),
        ("i", "wonder"),
        ("i we", "want need wanted wish must have", "to -", "know understand"),
        ("you", "need have must", "to -", "tell", "me"),
        ("i", "would", "like", "to", "know understand"),
        ("i", "have", "a", "question"),
        ("let", "me", "know"),
        ("help", "me", "understand to -"),
        ("i", "need", "help", "with -"),
        ("remind", "me"),
    )
    for phrase in phrases(*columns)
)
"""Before a question; they change nothing."""

PLEAS = frozenset(
    phrase
    for columns in (
        ("i we", "want need wish wanted have", "to"),
        ("i we", "would", "like love need", "to"),
        ("i we", "are", "trying looking", "to"),
        ("i", "am", "trying looking going", "to"),
        ("i", "need want"),
    )
    for phrase in phrases(*columns)
)
"""Before what somebody wants."""

REQUESTS = frozenset(
    listed(
        """tell show explain give help write list find make create provide describe recommend suggest translate convert
        summarize summarise generate draft check set add remove delete cancel book reserve order send transfer move play
        call turn change schedule remind look pay update define compare calculate name rewrite put get let fix sort
        count read repeat search start stop increase decrease switch report share elaborate clarify outline compose"""
    )
)
"""Verbs that make `can you` a request; with another one it asks what people can do."""

_WHO = "i you we one u they people"

QUESTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("how", "", ("how",)),
    ("what", "", ("what which give show",)),
    ("do", "", ("find",)),
    ("who", "", ("who whom",)),
    ("who:whose", "", ("whose",)),
    ("when", "", ("when",)),
    ("where", "", ("where",)),
    ("why", "", ("why",)),
    ("what:explain", "", ("explain describe define",)),
    ("what:list", "", ("list name enumerate",)),
    ("how", "", ("how", "do does can could should would might did will")),
    ("howto", "", ("how", "to")),
    ("howto", "", ("how", "do does can could should would might must did will", _WHO)),
    ("howto", "", ("how", "would", _WHO, "go", "about")),
    ("howto", "", ("how", "do can", "i you we", "go", "about")),
    ("do", "translate", ("how", "do can would should", "i you we one", "say")),
    ("count", "", ("how", "many")),
    ("amount", "", ("how", "much")),
    ("long", "", ("how", "long")),
    ("long", "", ("how", "much", "time")),
    ("often", "", ("how", "often")),
    ("why", "", ("how", "come")),
    *(
        ("what", noun, ("how", words))
        for words, noun in (
            *(("old", "age"), ("tall high", "height"), ("far", "distance"), ("heavy", "weight"), ("deep", "depth")),
            *(("wide", "width"), ("big large", "size"), ("fast", "speed"), ("expensive", "price")),
        )
    ),
    ("when:year", "", ("what which", "year")),
    *((f"when:{word}", "", ("what which", word)) for word in ("time", "day", "date", "month")),
    ("why", "", ("what", "is was", "the", "reason cause", "for why that -")),
    ("count", "", ("what", "is are", "the", "number count", "of")),
    ("amount", "", ("what", "is", "the", "amount", "of")),
    ("what", "time", ("what", "time", "is", "it")),
    ("what", "", ("what", "is are was were does do did", "the a an -")),
    ("what", "", ("what", "does do", "the", "word term -")),
    ("why", "", ("explain describe understand tell show", "to -", "me us -", "why")),
    ("how", "", ("explain describe tell show", "to -", "me us -", "how")),
    ("howto", "", ("explain describe tell show", "to -", "me us -", "how", "to i")),
    ("howto", "", ("explain describe tell show", "to -", "me us -", "how", "can", "i")),
    ("what:explain", "", ("explain describe tell show", "to -", "me us -", "what")),
    ("what", "", ("tell explain show give", "to -", "me us")),
    ("what:explain", "", ("tell", "me us", "about")),
    ("what:explain", "", ("give", "me us", "a the", "definition meaning", "of")),
    ("what:explain", "", ("what", "is", "the", "meaning definition", "of")),
    ("what:list", "", ("give show tell", "me us", "a", "list", "of")),
    ("what:list", "", ("list", "of -", "all -", "the -", "of -")),
    ("howto", "", ("is", "there", "a any", "way", "to for -")),
    ("howto", "", ("the -", "steps instructions", "to for")),
    ("yesno:can", "", ("is", "it", "possible", "to for")),
    ("yesno:can", "", ("am is are", "i we", "able allowed permitted", "to")),
    ("yesno:*", "", ("is", "it")),
)

OPENINGS: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {
    phrase: (asks, tuple(says.split())) for asks, says, columns in QUESTIONS for phrase in phrases(*columns)
}
"""What each opening asks for, and the words of the matter in it."""

MOODS = {
    **dict.fromkeys(listed("is are was were am do does did has have had"), ""),
    **dict.fromkeys(listed("can could may might"), "can"),
    **dict.fromkeys(listed("should shall ought"), "should"),
    **dict.fromkeys(listed("will would"), "will"),
    "must": "must",
}
"""Auxiliaries that begin a question for yes or no, with the mood they give it."""
