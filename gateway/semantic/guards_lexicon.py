"""The words that the guards treat each in their own way: function words, numbers, units, names of technologies."""

from gateway.semantic.guards_stem import listed

ARTICLES = frozenset({"a", "an", "the"})
DEFINITE = frozenset(listed("the this that these those my your his her its our their"))

DROPPED = frozenset(
    listed(
        """a an the this that these those there here it its i you we u one's let lets ll ve re and but then so if
        whether as-is please kindly just really actually basically simply exactly currently also ok okay hi
        hello hey thanks thank etc too some is are was were be been being am do does did doing has have had
        having which what will would shall yourself myself itself themselves oneself"""
    )
)
"""They say nothing that the rest of a question does not say, once its frame and its auxiliaries have been read."""

BE = frozenset(listed("is are was were be been being am get gets got gotten getting"))
PAST = frozenset(listed("did was were had"))
FUTURE = frozenset(listed("will would shall"))
MODALS = {
    **dict.fromkeys(("can", "could", "may", "might", "able"), "can"),
    **dict.fromkeys(("should", "ought"), "should"),
    "must": "must",
}

PERSONS = {
    **dict.fromkeys(("my", "mine"), "my"),
    **dict.fromkeys(("your", "yours"), "your"),
    **dict.fromkeys(("our", "ours"), "our"),
    **dict.fromkeys(("their", "theirs"), "their"),
    "his": "his",
    "hers": "her",
}
"""Whose it is. A question may leave it out; what it says must not differ."""

ROLES = frozenset(listed("me us him her he she they them"))
"""Who does it to whom; words like others, in their place."""

DATIVE = frozenset(
    listed("give show tell help remind send let teach find get make bring ask write draft build cook buy book order")
)
"""Verbs after which `me` only says who asks."""

SOFT = frozenset(listed("in on at of for about with using via within during between regarding concerning"))
"""Prepositions that a compound noun does without: a recipe for pancakes is a pancake recipe."""
STRICT = {"from": "from", "to": "to", "into": "to", "onto": "to", "by": "by", "than": "than", "as": "as", "like": "as"}
"""Prepositions that say who does what to whom."""

PLACED = frozenset(
    listed(
        """off up down out over under above below beneath inside outside before after since until till among
        through across against without beyond toward towards around past along behind except instead unless or
        while because despite per"""
    )
)
"""Function words whose presence and place decide; they are compared like words."""

NEGATIONS = {
    **dict.fromkeys(("not", "no", "nt", "cannot", "none", "neither", "nor", "nobody", "nothing", "nowhere"), "not"),
    **dict.fromkeys(("never", "hardly", "barely", "scarcely"), "never"),
    **dict.fromkeys(("without", "except", "excluding", "unless", "instead", "lack", "lacking"), ""),
}
"""What makes a question its contrary; empty where the word stands for itself."""

QUANTIFIERS = {
    **dict.fromkeys(("all", "every", "each", "everyone", "everybody", "everything", "whole", "entire"), "all"),
    **dict.fromkeys(("any", "anyone", "anybody", "anything"), "any"),
    **dict.fromkeys(("some", "someone", "somebody", "something"), "some"),
}
"""How many of them, where it may be left out; `any` and `every` must still not meet."""
COUNTED = frozenset(
    listed("only most more less least fewer fewest few many much several both half least another other")
)

LIGHT = frozenset(
    listed("get got called named following certain specific particular possible different various own degree exist now")
)
"""Words that one of two questions may have more, when nothing else differs."""
PARTICIPIAL = frozenset(
    listed("used located based listening situated available involved provided given found built spoken written")
)
"""Light as well before a preposition: the currency used in Sweden is the currency of Sweden."""

CLASSES = frozenset(
    listed(
        """language languages programming database databases library framework city country company app software
        tool system operating command package module website platform service river mountain state"""
    )
)
"""What a name is: the Postgres database is Postgres. Only beside a name may one question have it and the other not."""

MANNER = frozenset(listed("fast easy simple online efficient effective automatic manual remote together properly"))
"""How something is done; it may stand anywhere in a question."""

NUMBERS = {
    **{
        word: number
        for number, word in enumerate(
            listed(
                """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
                sixteen seventeen eighteen nineteen"""
            )
        )
    },
    **{
        word: 10 * number
        for number, word in enumerate(listed("twenty thirty forty fifty sixty seventy eighty ninety"), start=2)
    },
}
SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000, "dozen": 12}
ORDINALS = {
    word: number
    for number, word in enumerate(
        listed(
            """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth
            fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"""
        ),
        start=1,
    )
}
ROMANS = {
    **{
        roman: number
        for number, roman in enumerate(
            listed("ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi xvii xviii xix xx xxi"), start=2
        )
    },
}

MONTHS = frozenset(
    listed(
        """january february march april may june july august september october november december jan feb mar apr
        jun jul aug sep sept oct nov dec"""
    )
)

UNITS = frozenset(
    listed(
        """percent dollar usd euro eur pound gbp yen jpy yuan rupee franc cent peso buck km kilometer kilometre
        mile meter metre m cm centimeter mm millimeter inch foot ft yard nm kg kilogram kilo gram g mg milligram
        mcg ug microgram ounce oz lb lbs ton tonne stone liter litre l ml milliliter gallon pint quart cup
        teaspoon tablespoon tsp tbsp second sec minute mins hour hr day week month quarter year decade century
        ms millisecond us ns fortnight byte bit kb mb gb tb pb kib mib gib kilobyte megabyte gigabyte terabyte
        kbit mbit gbit mbps gbps celsius fahrenheit kelvin degree c f k am pm gmt utc est pst cet watt kw kwh mw
        volt amp ohm hz khz mhz ghz joule calorie kcal mph kph bar psi pascal acre hectare word sentence
        paragraph line page bullet"""
    )
)

CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee"}

UNMARKED = {
    "dont": ("do", "not"),
    "doesnt": ("does", "not"),
    "didnt": ("did", "not"),
    "cant": ("can", "not"),
    "wont": ("will", "not"),
    "isnt": ("is", "not"),
    "arent": ("are", "not"),
    "wasnt": ("was", "not"),
    "shouldnt": ("should", "not"),
    "couldnt": ("could", "not"),
    "wouldnt": ("would", "not"),
    "hasnt": ("has", "not"),
    "havent": ("have", "not"),
    "whats": ("what", "is"),
    "hows": ("how", "is"),
    "wheres": ("where", "is"),
    "whos": ("who", "is"),
    "whens": ("when", "is"),
    "im": ("i", "am"),
    "ive": ("i", "have"),
    "id": ("id",),
    "thats": ("that", "is"),
    "cannot": ("can", "not"),
    "gonna": ("going", "to"),
    "wanna": ("want", "to"),
}
"""Contractions as they are typed without the apostrophe."""

NAMES = frozenset(
    listed(
        """python java javascript typescript ruby perl php  golang   kotlin scala haskell erlang elixir
        clojure lua julia matlab fortran cobol bash powershell sql html css sass react angular vue svelte django
        flask fastapi rails  laravel node nodejs  deno  numpy pandas pytorch tensorflow keras
        sklearn  hadoop kafka rabbitmq redis mysql postgres postgresql sqlite mongodb oracle cassandra
        elasticsearch docker kubernetes podman terraform ansible jenkins git github gitlab bitbucket aws azure
        gcp heroku vercel netlify linux ubuntu debian fedora centos windows macos android ios vim emacs vscode
          powerpoint latex markdown json yaml xml csv toml protobuf grpc graphql  nginx apache
        haproxy  tcp udp http https ssh ftp dns tls english french german spanish italian portuguese dutch
        polish russian chinese japanese korean arabic hindi turkish greek latin swedish norwegian danish finnish
        czech hungarian hebrew thai vietnamese"""
    )
)
"""Names that people type without a capital: technologies, formats, languages."""

PHRASES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("exactly",): (),
    ("please",): (),
    ("kindly",): (),
    ("actually",): (),
    ("basically",): (),
    ("really",): (),
    ("simply",): (),
    ("right", "now"): ("now",),
    ("whether", "or", "not"): ("if",),
    ("united", "states"): ("usa",),
    ("united", "kingdom"): ("uk",),
    ("great", "britain"): ("uk",),
    ("get", "rid", "of"): ("remove",),
    ("getting", "rid", "of"): ("remove",),
    **dict.fromkeys((("turn", "off"), ("switch", "off")), ("disable",)),
    **dict.fromkeys((("turn", "on"), ("switch", "on")), ("enable",)),
    **dict.fromkeys((("everything", "but"), ("all", "but"), ("anything", "but")), ("all", "except")),
    ("regular", "expression"): ("regex",),
    ("regular", "expressions"): ("regex",),
    ("operating", "system"): ("os",),
    ("log", "in"): ("login",),
    ("log", "on"): ("login",),
    ("sign", "in"): ("login",),
    ("log", "out"): ("logout",),
    ("sign", "out"): ("logout",),
    ("sign", "up"): ("signup",),
    ("roll", "over"): ("rollover",),
    ("set", "up"): ("setup",),
    ("in", "order", "to"): ("to",),
    ("as", "well", "as"): ("and",),
    ("such", "as"): ("like",),
    ("close", "by"): ("nearby",),
    ("other", "than"): ("except",),
    ("instead", "of"): ("instead",),
    ("rather", "than"): ("instead",),
    ("because", "of"): ("because",),
    ("due", "to"): ("because",),
    ("set", "reminder", "to"): ("remind", "to"),
    ("remind", "me", "to"): ("remind", "to"),
    ("set", "a", "reminder", "to"): ("remind", "to"),
    ("a", "lot", "of"): ("many",),
    ("lots", "of"): ("many",),
    ("time", "off"): ("timeoff",),
    ("supposed", "to"): ("should",),
    ("ought", "to"): ("should",),
    ("have", "to"): ("must",),
    ("has", "to"): ("must",),
    ("e", "mail"): ("email",),
    ("wi", "fi"): ("wifi",),
    ("check", "in"): ("checkin",),
    ("check", "out"): ("checkout",),
    ("data", "base"): ("database",),
    ("code", "base"): ("codebase",),
}
"""Several words that are one, or that are better said with another."""
