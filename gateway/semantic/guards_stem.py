"""English words without their endings, so that inflections of one word compare equal.

Not a linguist's stemmer: a stem is only ever compared with another. What is taken off is few and regular (plural,
-ing, -ed, -ly, a final e); a table holds what would go wrong, so that `news` is not several of `new`. The rest differs,
which costs an answer from the cache and never gives a wrong one.
"""


def listed(text: str) -> tuple[str, ...]:
    """The words of a list that is written as text, in their order."""
    return tuple(text.split())


IRREGULAR = {
    form: base
    for line in """
    write wrote written|sing sang sung|begin began begun|buy bought|bring brought|think thought|teach taught
    catch caught|sell sold|tell told|give gave given|take took taken|go went gone|come came|become became|run ran
    win won|lose lost|pay paid|say said|make made|send sent|spend spent|build built|lend lent|keep kept|sleep slept
    meet met|feed fed|choose chose chosen|break broke broken|speak spoke spoken|steal stole stolen
    freeze froze frozen|drive drove driven|eat ate eaten|fall fell fallen|grow grew grown|know knew known
    throw threw thrown|fly flew flown|draw drew drawn|show shown|hide hid hidden|bite bit bitten
    forget forgot forgotten|drink drank drunk|swim swam swum|sink sank sunk|hold held|stand stood
    understand understood|hear heard|sit sat|hang hung|fight fought|seek sought|deal dealt|mouse mice|child children
    foot feet|tooth teeth|goose geese|person people|woman women|knife knives|life lives|wife wives|leaf leaves
    shelf shelves|index indices|matrix matrices|vertex vertices|criterion criteria|analysis analyses|crisis crises
    thesis theses|die died|lie lied|tie tied|use used using|see saw seen|do done|get got gotten|have having
    wear wore worn|tear tore torn|ride rode ridden|rise rose risen|shoot shot|wake woke woken|man men|half halves
    ox oxen|datum data|bacterium bacteria|phenomenon phenomena|fungus fungi|medium media|shake shook shaken
    strike struck|swear swore sworn|hit hitting
    """.replace("\n", "|").split("|")
    if line.strip()
    for base, *forms in [line.split()]
    for form in forms
}

PLURALS = frozenset(
    listed(
        """mice children feet teeth geese people women knives lives wives leaves shelves indices matrices vertices
        criteria analyses crises theses men halves oxen"""
    )
)

PARTICIPLES = frozenset(
    listed(
        """written sung begun bought brought taught caught sold told given taken won lost paid made sent spent
        built lent kept chosen broken spoken stolen frozen driven eaten known thrown flown drawn shown hidden
        bitten forgotten drunk held understood heard hung fought worn torn shot done seen used cut put hit hurt
        shut"""
    )
)

# Words that only look as if they had one of the endings.
WHOLE = frozenset(
    listed(
        """news always perhaps series species lens physics mathematics economics politics athletics ethics
        statistics gas bus plus minus virus bonus status campus census focus genus corpus basis axis oasis texas
        kansas dallas paris atlas canvas christmas pandas jenkins redis aws dns https ios macos postgres
        kubernetes sales customs goods arms means savings earnings glasses thanks maths james charles thomas
        lucas jesus venus mars athens wales naples brussels netherlands philippines maldives bahamas less unless
        across towards regards besides overseas upstairs downstairs king ring thing string spring sling swing
        sting wing bring during nothing something anything everything ceiling morning evening wedding building
        marketing accounting housing nursing engineering training shipping sibling darling pudding lightning
        boxing beijing viking sterling string casting outing inning interesting boring need feed speed seed weed
        bleed breed greed exceed proceed succeed indeed hundred red bed embed shed sacred naked wicked limited
        united interested bored hatred kindred biased unbiased only family apply supply reply fly july italy
        daily weekly monthly yearly hourly quarterly nightly rally ally bully belly jelly assembly anomaly
        hardly barely nearly lately scarcely multiply rely comply imply butterfly ugly lonely friendly lovely
        elderly likely unlikely early holy silly hilly poly kelly emily sally molly shortly one none gone done
        are the she he we me"""
    )
)

GRADED = frozenset(
    listed(
        """fast quick cheap tall large small big long short high low near far old young new early late easy hard
        close great strong weak deep shallow wide narrow heavy light hot cold warm cool rich poor safe slow
        simple bright dark clean dirty loud quiet smart healthy thick thin soft tough rough smooth sharp happy
        sad busy lazy pretty ugly funny fine nice rare common dense fresh full kind mild wise wet dry green blue
        red black white steep tight loose cruel calm brave strange sweet sour tasty noisy windy sunny risky
        costly friendly lonely few"""
    )
)
"""Adjectives whose -er and -est are degrees; any other word in -er is somebody or something, as `painter`."""

_ES = ("sses", "shes", "ches", "xes")
_VOWELS = "aeiouy"
_KEPT_E = frozenset(
    listed("plane stare scare spare scrape slope twine stripe gripe snipe crude prude clothe breathe theme slide prime")
)
"""Without its e each of them would be another word: a plane is no plan."""
_DEGREES = {"better": ("good", 1), "best": ("good", 2), "worse": ("bad", 1), "worst": ("bad", 2)}


def degree(word: str) -> tuple[str, int]:
    """The adjective in its plain form, and 1 for a comparative, 2 for a superlative; 0 for every other word."""
    if word in _DEGREES:
        return _DEGREES[word]
    for ending, number in (("er", 1), ("est", 2)):
        if word.endswith(ending) and len(word) > 4:
            base = word.removesuffix(ending)
            for plain in (base, base + "e", base[:-1], base[:-1] + "y" if base.endswith("i") else base):
                if plain in GRADED:
                    return plain, number
    return word, 0


def stem(word: str) -> tuple[str, bool]:
    """What stands for every form of a lower-case `word`, and whether it is a plural."""
    if len(word) < 4 or word in WHOLE:
        return IRREGULAR.get(word, word), word in PLURALS
    if word in IRREGULAR:
        return _bare(IRREGULAR[word]), word in PLURALS
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        singular = _singular(word)
        return (singular if singular in WHOLE else _verb(singular)), True
    return _verb(word), False


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(_ES) else word[:-1]


def _verb(word: str) -> str:
    if word.endswith("ing") and len(word) > 5 and any(each in _VOWELS for each in word[:-3]):
        return _base(word[:-3])
    if word.endswith("ied") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("ed") and len(word) > 4 and any(each in _VOWELS for each in word[:-2]):
        return _base(word[:-2])
    if word.endswith("ly") and len(word) > 5:
        return _bare(_adjective(word))
    return _bare(word)


def _base(rest: str) -> str:
    """The verb of which `rest` is left without its -ing or -ed."""
    if len(rest) > 3 and rest[-1] == rest[-2] and rest[-1] not in "lszaeiou":
        return rest[:-1]
    # cancelled, travelling: with one l in the verb itself.
    if len(rest) > 5 and rest.endswith("ell"):
        return rest[:-1]
    # making, hoping: fixing and eating have no e to give back.
    if len(rest) == 3 and rest[0] not in _VOWELS and rest[1] in _VOWELS and rest[2] not in "aeiouwxy":
        return rest + "e"
    return rest + "e" if rest + "e" in _KEPT_E else rest


def _adjective(word: str) -> str:
    if word.endswith("ically"):
        return word[:-4]
    if word.endswith("ily"):
        return word[:-3] + "y"
    # possibly, simply, terribly: what is left is the adjective without its e.
    return word[:-1] if word.endswith(("bly", "ply")) else word[:-2]


def _bare(word: str) -> str:
    return word[:-1] if len(word) > 4 and word.endswith("e") and word not in _KEPT_E else word
