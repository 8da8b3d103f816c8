"""Words that ask for the same thing, and words that ask for the opposite.

Each line of SYNONYMS is a group; the guards see one word for all of it. A group holds words that may stand for each
other in a question without changing its answer, inflections left out (guards_stem takes them off). Near things are not
the same thing: `month` and `quarter`, `teacher` and `professor` are in no group. Opposites are kept for their name
only: they are different words, so they differ anyway; a test holds the two tables apart.
"""

SYNONYMS = """
fast quick rapid swift speedy
big large huge
small little tiny
easy simple straightforward
begin start commence
buy purchase
fix repair resolve solve troubleshoot
delete remove erase
create make build generate
write draft compose implement
change modify alter
choose pick select
need require
help assist
happen occur
show display
permit allow
compute calculate
reduce decrease cut lower shrink
increase raise boost
improve enhance
benefit advantage pro upside
drawback disadvantage con downside
main major primary principal chief
important crucial
famous renowned
cost price
cheap inexpensive affordable
expensive costly pricey
photo picture image
movie film
phone telephone cellphone smartphone
tv television
fridge refrigerator
car automobile
bike bicycle
plane airplane aeroplane aircraft
physician doctor
medicine medication
sick ill
kid child
mom mother mum
dad father
grandma grandmother
grandpa grandfather
cheque check
job occupation
employer boss
kind type sort
reason cause
example sample instance
mistake error
task chore
answer reply respond
question query
information info
documentation docs
repository repo
configuration config
environment env
administrator admin
application app
directory folder
function func
variable var
parameter param
database db
message msg
maximum max
minimum min
approximately roughly approx
nearby close near
often frequently
usually normally typically
store shop
trip journey
present gift
couch sofa
trash garbage rubbish
gas petrol gasoline
apartment flat
elevator lift
soccer football
attorney lawyer
cv resume
salary pay wage
end finish
forbid prohibit ban
construct assemble
get obtain acquire
enable activate
disable deactivate
explain clarify
summarize summarise summary summarization
define definition
describe description
translate translation
differ difference distinguish compare comparison versus vs
convert conversion
calculate calculation
install installation
reserve reservation book
remind reminder
cancel cancellation
subscribe subscription
connect connection
register registration
recommend recommendation suggest suggestion advise advice
explain explanation
optimize optimise optimization optimisation
analyze analyse analysis
organize organise organization organisation
authenticate authentication auth
authorize authorise authorization authorisation
visualize visualise visualization
initialize initialise initialization init
color colour
center centre
favorite favourite
behavior behaviour
neighbor neighbour
liter litre
kilometer kilometre km
meter metre
centimeter centimetre cm
millimeter millimetre mm
kilogram kilogramme kg kilo
gram gramme
milligram mg
microgram mcg ug
pound lb lbs
ounce oz
inch inches
milliliter millilitre ml
hour hr
minute mins
second sec
millisecond ms
kilobyte kb
megabyte mb
gigabyte gb
terabyte tb
dollar usd buck
euro eur
yen jpy
percent pct percentage
fahrenheit degf
celsius centigrade degc
javascript js
typescript ts
python py
kubernetes k8s
postgresql postgres psql
nodejs node.js node
reactjs react.js react
vuejs vue.js vue
usa us^ u.s. america
uk u.k. britain
website site webpage
internet web
wifi wi-fi
login signin logon
signup register
logout signout logoff
shortcut hotkey
temperature temp
december dec
november nov
october oct
september sep sept
august aug
february feb
january jan
monday mon
tuesday tue tues
wednesday wed
thursday thu thurs
friday fri
saturday sat
sunday sun
currently presently
speak talk
weigh weight
mean meaning
legal lawful
illegal unlawful
pretty beautiful
funny humorous
scary frightening
dangerous hazardous
safe harmless
correct right
incorrect wrong
smart intelligent clever
angry mad
quit resign
hire employ
discover find
live reside
contain include
possible feasible
depart leave
begin beginning
"""

ANTONYMS = """
increase decrease|increase reduce|raise lower|raise reduce|rise fall|grow shrink|expand contract|gain lose|win lose
before after|first last|early late|earliest latest|begin end|start stop|start end|open close|enter exit|enter leave
best worst|good bad|better worse|max min|maximum minimum|most least|more less|more fewer|many few|much little
enable disable|activate deactivate|lock unlock|block unblock|freeze unfreeze|mute unmute|hide show|hide reveal
buy sell|lend borrow|lend return|import export|encrypt decrypt|encode decode|compress decompress|zip unzip
pack unpack|upper lower|top bottom|up down|on off|in out|over under|above below|inside outside|indoor outdoor
left right|advantage disadvantage|benefit drawback|pro con|strength weakness|opportunity threat|cause effect
cause cure|accept reject|accept decline|approve deny|approve reject|allow deny|allow forbid|permit prohibit
grant revoke|add remove|add subtract|add delete|insert delete|create delete|create destroy|build destroy
attach detach|plus minus|multiply divide|sum difference|push pull|push pop|upload download|send receive|give take
give receive|install uninstall|subscribe unsubscribe|connect disconnect|mount unmount|load unload
register unregister|hot cold|warm cool|wet dry|light dark|light heavy|bright dim|loud quiet|fast slow|hard soft
hard easy|simple complex|easy difficult|big small|large small|tall short|long short|high low|deep shallow
wide narrow|thick thin|fat thin|old new|old young|ancient modern|rich poor|cheap expensive|full empty|clean dirty
safe dangerous|healthy sick|strong weak|brave cowardly|happy sad|love hate|like dislike|friend enemy|ally enemy
success failure|succeed fail|pass fail|true false|right wrong|correct incorrect|legal illegal|guilty innocent
real fake|natural artificial|public private|internal external|local remote|local global|domestic international
domestic foreign|native foreign|manual automatic|active passive|active inactive|online offline|static dynamic
sync async|synchronous asynchronous|symmetric asymmetric|linear nonlinear|finite infinite|regular irregular
equal unequal|odd even|positive negative|ascending descending|horizontal vertical|clockwise counterclockwise
forward backward|forwards backwards|front back|north south|east west|northern southern|eastern western|day night
morning evening|sunrise sunset|summer winter|input output|read write|client server|sender receiver|sender recipient
caller callee|parent child|buyer seller|teacher student|doctor patient|employer employee|landlord tenant
lender borrower|husband wife|mother father|son daughter|brother sister|boy girl|man woman|men women|male female
king queen|uncle aunt|nephew niece|he she|adult child|adults children|senior junior|expert beginner
professional amateur|winner loser|leader follower|arrive depart|arrival departure|come go|inbound outbound
incoming outgoing|import export|immigrate emigrate|deposit withdraw|deposit withdrawal|credit debit|income expense
profit loss|asset liability|surplus deficit|revenue cost|gross net|fixed variable|savings checking
long-term short-term|supply demand|wholesale retail|save spend|save delete|keep discard|remember forget|find lose
catch throw|hire fire|promote demote|employ dismiss|attack defend|attack defense|offense defense|war peace|ally foe
victory defeat|conquer surrender|invade retreat|wake sleep|stand sit|live die|birth death|born died|alive dead
marriage divorce|marry divorce|married single|include exclude|including excluding|except including|with without
inclusive exclusive|always never|all none|any none|everything nothing|everyone nobody|everywhere nowhere|also only
same different|similar different|together apart|ask answer|question answer|teach learn|speak listen|talk listen
lead follow|praise criticize|agree disagree|appear disappear|visible invisible|possible impossible
probable improbable|likely unlikely|certain uncertain|able unable|available unavailable|valid invalid
complete incomplete|perfect imperfect|mature immature|moral immoral|patient impatient|polite impolite|polite rude
honest dishonest|responsible irresponsible|relevant irrelevant|rational irrational|reversible irreversible
formal informal|formal casual|official unofficial|known unknown|used unused|common rare|frequent rare|often rarely
usual unusual|necessary unnecessary|mandatory optional|temporary permanent|present absent|past future|previous next
former latter|former current|old current|ancestor descendant|major minor|majority minority|primary secondary
superior inferior|upstream downstream|senior student|hardware software|singular plural|vowel consonant|noun verb
prefix suffix|synonym antonym|question statement|fiction nonfiction|acid base|acidic alkaline|solid liquid
liquid gas|freeze melt|freeze boil|boiling freezing|evaporate condense|macro micro|hyper hypo|intra inter
endothermic exothermic|anode cathode|ac dc|analog digital|series parallel|benign malignant|acute chronic
bacterial viral|artery vein|inhale exhale|systolic diastolic|prescription over-the-counter|predator prey
herbivore carnivore|plant animal|urban rural|city countryside|land sea|mountain valley|ceiling floor|virtue vice
heaven hell|angel devil|hero villain|comedy tragedy|prologue epilogue|entrance exit|departure arrival
maximize minimize|best-case worst-case|optimistic pessimistic|bull bear|bullish bearish|call put|bid ask
long-haul short-haul|tighten loosen|fasten unfasten|tie untie|wrap unwrap|fold unfold|plug unplug|dress undress
cover uncover|do undo|inflate deflate|inflation deflation|accelerate decelerate|accelerate brake|ascend descend
climb descend|float sink|sharpen blur|sharpen dull|whiten darken|lengthen shorten|widen narrow|strengthen weaken
simplify complicate|merge split|join split|union intersection|lossless lossy|serialize deserialize|marshal unmarshal
commit rollback|publish unpublish|follow unfollow|friend unfriend|pin unpin|select deselect|check uncheck
like unlike|archive unarchive
"""


def synonyms() -> dict[str, str]:
    """The first word of its group, for every other word of SYNONYMS; a word of two groups joins them."""
    found: dict[str, str] = {}
    for line in SYNONYMS.split("\n"):
        words = line.split()
        if not words:
            continue
        head = next((found[word] for word in words if word in found), words[0])
        for word in words:
            earlier = found.get(word, word)
            for other, first in list(found.items()):
                if first == earlier:
                    found[other] = head
            found[word] = head
    return found


def antonyms() -> frozenset[tuple[str, str]]:
    """The pairs of ANTONYMS, each in both orders."""
    pairs = (pair.split() for line in ANTONYMS.strip().split("\n") for pair in line.split("|"))
    return frozenset(order for one, other in pairs for order in ((one, other), (other, one)))
