"""personal: detect e-mail addresses, telephone numbers, postal addresses, bank accounts, documents, handles on other services.

Each function returns whether a text contains such data; texts are as returned by letters.latin. Checksums are verified (python-stdnum
for IBAN, Luhn and Bitcoin, phonenumbers for telephone numbers); other data is recognized by its form and the words around it.
"""

from __future__ import annotations

import ipaddress
import re
from itertools import combinations, pairwise

from bot.conduct.hosts import exists
from bot.conduct.language import frequency

# --- e-mail -----------------------------------------------------------------------------------------------------------------------

_MAIL = "(?:gmail|googlemail|outlook|hotmail|yahoo|ymail|icloud|proton ?mail|gmx|aol|fastmail|tutanota|yandex|zoho|posteo)"
_PROVIDERS = f"(?:{_MAIL}|google|proton|web|mailbox|live|msn|comcast|att|uni|work|example)"
_NAME = r"[a-z0-9][\w.+-]{0,62}?"
_DOMAIN = r"[a-z0-9][a-z0-9-]{1,62}"
_AT = r"(?:\s?@\s?|\s?[(\[{<«\"'*_-]{1,2}\s?(?:at|et|a|arroba|malpa|małpa)\s?[)\]}>»\"'*_-]{1,2}\s?|\s(?:at|arroba|malpa|małpa)\s|\*)"
_DOT = (
    r"(?:\.|\s?[(\[{<«\"'*_-]{1,2}\s?(?:dot|point|punkt|punto|ponto|kropka|\.)\s?[)\]}>»\"'*_-]{1,2}\s?"
    r"|\s(?:dot|period|point|punkt|punto|ponto|kropka)\s|,\s?|\s\.\s)"
)
_ADDRESS = re.compile(rf"(?i)(?<![\w.+-])({_NAME})({_AT})({_DOMAIN}(?:{_DOT}{_DOMAIN}){{0,2}}?)({_DOT})([a-z]{{2,12}})(?![\w@])")
_ASKED_TO_MAIL = (
    r"\b(?:e-?mail|mail|write|reach|contact|message|send (?:it|them|that|a note)|ping|hit|drop)"
    r"(?: (?:me|us|him|her|them|it))?(?: (?:to|at|on|up|via))?[:,]?\s"
)
_MAILED = re.compile(rf"(?i){_ASKED_TO_MAIL}(?:{_NAME})\s?(?:@|at|on|\*|[(\[]at?[)\]]|-at-|arroba)\s?(?:[a-z]{{2,12}} )?{_PROVIDERS}\b")
_NAME_APART = re.compile(
    rf"(?i){_ASKED_TO_MAIL}{_PROVIDERS}[,:;]? .{{0,20}}\b(?:name|part|bit|user) (?:before|in front)"
    rf"|\b[a-z0-9][\w.+-]{{0,62}}\*{_DOMAIN}.{{0,30}}\bat\b.{{0,15}}\b(?:star|asterisk)"
    rf"|\b(?:my|his|her|our|their|the) (?:e-?mail|{_MAIL})(?: address)?(?: is|:) (?=\S*[\d._@]|\S+ at )\S"
    rf"|(?<![\w.])(?=[\w.]{{0,40}}[\d_.])[a-z][\w.]{{3,40}} (?:on|at|over at) {_MAIL}\b|\w@{_PROVIDERS}\b"
)


def has_e_mail(text: str) -> bool:
    """
    >>> [has_e_mail(each) for each in ("me.too@mail.example.org", "me at mail dot example", "write to tom-h at gmail", "x @ y in numpy")]
    [True, True, True, False]
    """
    return any(map(_is_e_mail, _ADDRESS.finditer(text))) or bool(_MAILED.search(text) or _NAME_APART.search(text))


def _is_e_mail(match: re.Match[str]) -> bool:
    """Whether this is an e-mail address, judged by its last label; «looked at it, in» consists of ordinary words and punctuation."""
    at, dot, last = match[2].strip().lower(), match[4], match[5]
    if "@" in at:
        return True
    disguised = at not in ("at", "*") or dot.strip() not in (".", ",") or re.search(r"[\w.][._\d-]\w", match[1])
    if at == "at" and frequency(match[3].lower()) > 5.5:
        return False  # «at that point»
    return bool(disguised) and not dot.startswith(",") and exists(last)


# --- telephone --------------------------------------------------------------------------------------------------------------------

LEAST_DIGITS = 7
LONGEST_RUN = 60  # characters of digits and separators that are examined; longer runs are not telephone numbers
_RUN = re.compile(r"[+(]?\d[\d ().+/-]{5,}\d")
_COUNTS = re.compile(r"(?:no\.?|nr\.?|serial|model|isbn|version|ver\.?|code|part|item|port|score|episode|#)\s?$")
PHONE_REGIONS = ("US", "GB", "DE", "FR", "AU", "IN", "ES", "IT", "NL")  # whose numbers are recognized without a country code
_PHONE = re.compile(r"(?<![\d.,/-])(?:\(\d{3}\)\s?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\d.-])")  # American numbers, including unassigned ones
_LOCAL_IP = re.compile(r"(?<![\d.])(?:10|127|172|192|255)(?:\.\d{1,3}){3}(?:/\d{1,2})?(?!\.?\d)")  # of local networks; masks
_DIGIT_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh"]
# Seven or more words for digits, possibly mixed with digits.
_SPOKEN_DIGIT = rf"(?:(?:{'|'.join(_DIGIT_WORDS)}|hundred)\b|\d)"
_SPELLED_OUT = re.compile(rf"(?i)\b{_SPOKEN_DIGIT}(?:[\s,.-]{{1,3}}{_SPOKEN_DIGIT}){{6,40}}")
_DIGIT_WORD = re.compile(rf"(?i)\b(?:{'|'.join(_DIGIT_WORDS)})\b")
_TIMES = {"double": 2, "triple": 3, "treble": 3, "quadruple": 4}  # double nine, triple two
_MULTIPLE = re.compile(rf"(?i)\b({'|'.join(_TIMES)})[\s-]{{1,2}}({'|'.join(_DIGIT_WORDS)}|\d)\b")
_SPOKEN = re.compile(r"\d(?:[ -]{1,2}\d)+")
# Words that introduce a number to call.
_CALLED = re.compile(
    r"(?i)\b(?:call|text|ring|phone|dial|whatsapp|signal|tel|telephone|mobile|cell|land ?line|fax|sms|try|reach"
    r"|(?<!order )(?<!serial )(?<!model )(?<!call )(?<!part )(?<!case )(?<!ticket )(?<!tracking )(?<!item )number)\b"
    r"(?: (?:me|us|him|her|them|it|is|at|on|under|up|back|my|the|number)){0,4}[:.]?\s{0,3}"
    r"\(?\+?\d[\d ()./-]{5,20}\d(?!\d|[.,]\d)"
)


def has_phone_number(text: str) -> bool:
    """
    >>> has_phone_number("call (212) 555-0143"), has_phone_number("+49 30 901820"), has_phone_number("from 2005 to 2006, 1500 of 1,234,567")
    (True, True, False)
    >>> has_phone_number("her landline is 555 0122"), has_phone_number("the range 192.168.100.0/24, mask 255.255.255.0")
    (True, False)
    >>> has_phone_number("ring 07700 nine double zero one triple two"), has_phone_number("a double six and a triple word score")
    (True, False)
    """
    if not re.search(r"\d", text) and not _DIGIT_WORD.search(text):
        return False
    text = _MULTIPLE.sub(lambda match: " ".join([match[2]] * _TIMES[match[1].lower()]), _LOCAL_IP.sub(" ", text))
    if any(_is_spelled_out(match[0]) for match in _SPELLED_OUT.finditer(text)):
        return True
    text = _digits(text)
    if _PHONE.search(text) or any(
        len(re.sub(r"\D", "", match[0])) >= LEAST_DIGITS and not _is_plain_number(match[0]) for match in _CALLED.finditer(text)
    ):
        return True
    return any(_is_dialled(text, match.start(), match[0]) for match in _RUN.finditer(text))


def _is_spelled_out(run: str) -> bool:
    """True for a number whose digits are written as words, but not for counting («one two three four»)."""
    words = re.findall(r"[a-z]+", run.lower())
    values = [_DIGIT_WORDS.index(word) % 10 for word in words if word in _DIGIT_WORDS]
    return len(words) >= LEAST_DIGITS // 2 and not all(later - former in (-1, 1) for former, later in pairwise(values))


def _is_plain_number(text: str) -> bool:
    """True for years and ranges, such as 2010-2014, and dates."""
    return bool(re.search(r"(?<!\d)(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d(?!\d)|\d{4}-\d\d-\d\d", text))


def _is_dialled(text: str, start: int, run: str) -> bool:
    """True for a valid number of one of the regions, unless the word before it shows that it is another kind of number."""
    import phonenumbers

    if sum(map(str.isdigit, run)) < LEAST_DIGITS or _is_plain_number(run) or _COUNTS.search(text[max(0, start - 12) : start].lower()):
        return False
    matches = (match.raw_string for region in PHONE_REGIONS for match in phonenumbers.PhoneNumberMatcher(run[:LONGEST_RUN], region))
    return any(raw.startswith(("+", "(", "0")) or re.search(r"\d[ ().-]+\d", raw) for raw in matches)


def _digits(text: str) -> str:
    """Join digits that are written as words or separately: two one two 555 0119.

    >>> _digits("ring two one two 555 0119"), _digits("one of two"), _digits("2 1 2 5 5 5 0 1 4 6")
    ('ring 212 555 0119', 'one of two', '2125550146')
    """
    words = re.findall(r"\S+|\s+", text)
    values = [
        _DIGIT_WORDS.index(word.lower()) if word.lower() in _DIGIT_WORDS[:10] else 0 if word.lower() == "oh" else None for word in words
    ]
    numbers = [value is not None for value in values]
    result: list[str] = []
    for at, word in enumerate(words):
        beside = any(0 <= near < len(words) and (numbers[near] or words[near].strip("()+-.,").isdigit()) for near in (at - 2, at + 2))
        result.append(str(values[at]) if numbers[at] and beside else word)
    joined = "".join(result)
    return re.sub(r"(?<![\d.,])\d(?:[ ]{1,2}\d(?!\d))+(?![\d.,])", lambda match: match[0].replace(" ", ""), joined)


# --- postal addresses --------------------------------------------------------------------------------------------------------------
#
# A house number and a street are an address. If the street is famous or named with a word that has other uses («the 3 Winter Trail races»,
# «own 5 Abbey Road pressings»), they are one only if more of an address follows or somebody is said to live there.

_STREET = (
    r"(?:St|Street|Ave|Avenue|Rd|Road|Ln|Lane|Dr|Drive|Blvd|Boulevard|Court|Ct|Terrace|Crescent|Highway|Hwy|Parkway|Pkwy|Parade"
    r"|Esplanade|Promenade|Mews|Gardens)"
)
_WEAK_STREET = r"(?:Row|Way|Place|Pl|Close|Square|Sq|Circle|Grove|Hill|Walk|Alley|Quay|Wharf|Path|Trail|Yard)"
_FAMOUS_STREET = (
    r"(?:Abbey Road|Baker Street|Downing Street|Pennsylvania Ave(?:nue)?|Wall Street|Fleet Street|Fifth Avenue|5th Avenue|42nd Street"
    r"|Madison Avenue|Elm Street|Jump Street|Sesame Street|Privet Drive|Evergreen Terrace|Wisteria Lane|Penny Lane|Diagon Alley"
    r"|Cherry Tree Lane|Savile Row|Harley Street|Oxford Street|Cloverfield Lane|Main Street)"
)
# Public places and addresses in fiction.
_FAMOUS = re.compile(
    r"(?i)\b(?:1[01] downing st(?:reet)?|1600 pennsylvania ave(?:nue)?|221 ?b baker st(?:reet)?|742 evergreen terrace|4 privet drive"
    r"|12 grimmauld place|42 wallaby way|32 windsor gardens|17 cherry tree lane|1313 mockingbird lane|1428 elm street|124 conch street"
    r"|3 abbey road|23 railway cuttings|62 west wallaby street|10 cloverfield lane|84 charing cross road)\b"
)
_NO_YEAR = r"(?:(?<![Ii]n )(?<![Ss]ince )(?<![Tt]he )|(?!(?:18|19|20)\d\d ))"  # «in 1984 Mill Street was …»
_NUMBER = rf"(?<![\d.:,/-]){_NO_YEAR}(?:\d{{1,4}}/)?\d{{1,5}}[a-zA-Z]? (?:[NSEW]\.? )?"
_NAMES = r"(?:(?:[A-Z][\w'’-]{1,20}|\d{1,3}(?:st|nd|rd|th)) ){1,3}"
# What follows the street in an address: a postcode, or a town and more of it.
_POSTCODE = r"(?:[A-Z]{2} \d{5}|\d{4,5} [A-Z]|[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b)"
_REST = rf"(?:,? {_POSTCODE}|,? (?:[A-Z][\w'’-]{{1,20}},? ){{1,3}}{_POSTCODE}|, [A-Z][\w'’-]{{2,20}}\b(?! [a-z]))"
_ADDRESSES = re.compile(
    rf"{_NUMBER}(?:(?!{_FAMOUS_STREET}\b){_NAMES}{_STREET}\b|(?:{_NAMES}{_WEAK_STREET}|{_FAMOUS_STREET})\b{_REST})"
    r"|\b[A-Z]\w{2,30}(?:stra(?:ß|ss)e|str\.|weg|gasse|platz|allee|damm|laan|straat|gracht|plein|kade|gatan|vej) \d{1,4}\s?[a-z]?"
    r"(?=[,;.]? (?:\d{4,5} [A-Z]|in [A-Z])|[,.;]|$)"
    r"|\b[A-Z]\w{2,30}(?:grund|ring|ufer|hof|markt|graben|steig|berg|feld) \d{1,4}\s?[a-z]?(?=[,;.]? (?:\d{4,5} [A-Z]|in [A-Z]))"
    r"|\b\d{1,4}(?: ?(?:bis|ter))?,? (?:rue|avenue|boulevard|place|chemin|impasse|quai|all[eé]e) (?:d[eu]s?|de la|l[ae']|saint|[A-Z]\w)"
    r"|\b(?:[Cc]alle|[Aa]venida|[Pp]laza|Via|[Vv]iale|[Pp]iazza|[Rr]ua) "
    r"(?:(?:d[eio]|del|della|da|la|los|las) )?[A-Z]\w+(?: [A-Z]\w+)?,? (?:n[º°.] ?)?\d{1,4}\b"
    r"|\b(?i:p\.? ?o\.? box|postfach|apartado) \d"
    r"|\b(?i:apartment|apt\.?|flat|unit|suite) #?\d{1,4}[A-Za-z]?, (?=.{0,30}\d|[A-Z]\w+ [A-Z])"
    r"|, [A-Z]{2} \d{5}(?:-\d{4})?\b|\b(?:NSW|VIC|QLD|TAS|ACT) \d{4}\b"
    r"|\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b"
    r"|(?<![\d.])-?\d{1,2}\.\d{4,}°?,? -?\d{1,3}\.\d{4,}"
)
# In any case: only with a town after it, and an abbreviation of a state, a postcode or nothing more.
_IN_ANY_CASE = re.compile(
    r"(?i)(?:^|(?<=\n)|(?<=[.!?:] )|\b(?:at|to|near|is|address|by) )\d{1,5}[a-z]? "
    r"(?:(?!way\b|lane\b|per\b|every\b|each\b|hour|min|mile|block|car\b|long\b|busy\b|of\b|the\b|and\b|different\b|other\b)"
    r"[a-z]{3,20} ){1,2}(?:street|avenue|road|lane|boulevard|ave|blvd|rd), "
    r"(?!and\b|but\b|great\b|good\b|best\b|amazing\b|fun\b|quite\b|honestly\b|maybe\b)"
    r"[a-z]{3,20}(?: [a-z]{3,20})?(?:,? [a-z]{2}\b)?(?: \d{5})?"
    r"(?=[.!?\n]|$)"
)
_MEASURES = (
    r"(?:seconds?|minutes?|mins?|hours?|days?|weeks?|months?|years?|miles?|km|met(?:er|re)s?|m|feet|ft|yards?|blocks?|doors?|steps?)"
)
_LIVES = re.compile(
    r"(?i:\b(?:lives?|living|address|meet (?:me|us|him|her)|find (?:me|him|her|them)|go|come|moved|home|house|place|works?|stays?"
    rf"|door)\b[^.!?\n]{{0,25}}?)(?<!the )\b\d{{1,5}}[a-zA-Z]? (?!(?i:{_MEASURES})\b)"
    rf"(?:(?i:(?:[a-z][\w'’-]{{1,20}} ){{1,2}}{_STREET}\b)(?! (?:trips?|ago|away|long))|{_NAMES}{_WEAK_STREET}\b)"
)
_WHO = (
    r"(?:he|she|they|his|her|their|(?:the|that) (?:guy|man|woman|girl|boy|kid|lady|teacher|poster|op)"
    r"|my (?:neighbou?r|ex|boss|teacher|landlord))"
)
_IS_AT = (
    r"(?:works?|lives?|stays?|sleeps?|trains|coaches|teaches|jogs|sits|drinks|shops|parks|go(?:es)? to|does (?:\w+ )?shifts"
    r"|hangs out|can be found|picks (?:him|her|them|the kids?) up"
    r"|(?:is|'s) (?:usually |always )?(?:at|in) (?:the|a)\b)"
)
_PLACE = (
    rf"\b(?!{_FAMOUS_STREET}\b)[A-Z][\w'’-]{{2,20}} (?:[A-Z][\w'’-]{{2,20}} )?(?:{_STREET}|Apartments"
    r"|(?i:primary|secondary|high school|elementary|middle school|academy|nursery|surgery|clinic))\b"
)
_WHEREABOUTS = re.compile(
    rf"\b(?i:{_WHO})\b[^.!?\n]{{0,60}}?\b(?i:{_IS_AT})\b[^.!?\n]{{0,40}}?{_PLACE}"
    r"|(?i:\b(?:he|she|they)(?:'s| was| were| is| are)? born\b[^.!?\n]{0,20}\b\d{4}\b[^.!?\n]{0,40}\b(?:and|,) (?:lives?|stays?)\b)"
    rf"|\b(?i:find|catch|meet|see) (?i:him|her|them|that (?:guy|man|woman|girl))\b[^.!?\n]{{0,50}}?{_PLACE}"
    r"|(?i:\b(?:his|her|their) (?:house|flat|home|apartment)(?: is|'s)"
    r" (?:the (?:one|first|last|red|white|blue|green|yellow)|behind|opposite|next to|across|number)\b)"
)
_FICTION = re.compile(r"(?i)\bin (?:the|this|that) (?:\w+ )?(?:films?|movies?|show|series|episode|books?|novels?|story|games?|play)\b")

_IP = re.compile(r"(?i)\bip\b(?:(?!version).){0,40}?(?<![\d.])(\d{1,3}(?:\.\d{1,3}){3})(?!\.?\d)")
_RESOLVERS = {  # public DNS servers, and not persons
    "1.1.1.1", "1.0.0.1", "1.1.1.2", "1.1.1.3", "1.0.0.2", "1.0.0.3",
    "149.112.112.112", "8.8.8.8", "8.8.4.4", "9.9.9.9", "208.67.222.222", "208.67.220.220",
}  # fmt: skip


def has_address(text: str) -> bool:
    """A postal address, where somebody can be met, or an IP address that may be somebody's.

    >>> has_address("He lives at 12 Mill Pond Road"), has_address("12 elm trees in a row, 5 hours from Main Street")
    (True, False)
    >>> has_address("they moved to 3 Winter Trail"), has_address("the 3 Winter Trail races"), has_address("like 10 Downing Street")
    (True, False, False)
    >>> has_address("his IP is 82.11.54.9."), has_address("set the IP to 192.168.1.1"), has_address("version 2.0.11.7")
    (True, False, False)
    >>> has_address("She works at the bakery on Hobb Street, ask for her"), has_address("She works in a bakery down the street")
    (True, False)
    """
    text = _FAMOUS.sub("there", text)
    is_there = _WHEREABOUTS.search(text) and not _FICTION.search(text)
    return bool(_ADDRESSES.search(text) or _IN_ANY_CASE.search(text) or _LIVES.search(text) or is_there) or any(
        _is_of_somebody(match[1]) for match in _IP.finditer(text)
    )


def _is_of_somebody(address: str) -> bool:
    """True for an IPv4 address in the Internet, except for well-known servers."""
    try:
        return ipaddress.IPv4Address(address).is_global and address not in _RESOLVERS
    except ValueError:
        return False


# --- numbers of accounts and documents ----------------------------------------------------------------------------------------------

_IBAN = re.compile(r"(?i)(?<![a-z0-9])[a-z]{2}\d{2}(?:[ .-]?[a-z0-9]){11,30}")
_CALLED_IBAN = re.compile(r"(?i)\biban\b.{0,12}?(?<![a-z0-9])[a-z]{2}\d{2}(?:[ .-]?[a-z0-9]){11}")
_OWNER = r"(?:his|her|their|my|(?:mum|mom|dad|guy|girl|boss|neighbou?r)['’]s)"
_CODE = r"(?:password|passcode|pass ?phrase|pin|log-?in|(?:wi-?fi |door |alarm |gate |entry |safe )(?:key|code)|code)"
_IS_SECRET = r"(?: is| was|:|'s) (?!\$)(?=\S{0,30}[\d!%&_])[^\s,;]{4,}"
_PASSWORD = re.compile(
    rf"(?i)\b{_OWNER} (?:[\w-]+ ){{0,2}}{_CODE}(?: (?:for|to|of|at) [^.!?:\n]{{1,30}}?)?{_IS_SECRET}"
    rf"|\b{_CODE} (?:for|to|of|at) {_OWNER} [^.!?:\n]{{1,30}}?{_IS_SECRET}"
    r"|\b(?:he|she|they) uses? (?=\S{0,30}\d)\S{4,30} as (?:\w+ )?password|\bsame password for everything: (?=\S{0,30}\d)\S{4}"
)
_DIGITS = re.compile(r"(?<![\d.,])\d(?:[ ._-]{0,3}\d){12,60}(?!\d)|(?<![\d/.,])[3-6]\d{3}(?: ?/ ?\d{4}){3}(?![\d/])")
CARD_DIGITS = range(13, 20)
_CARD_GROUPS = re.compile(r"\d{13,19}|\d{4}(?: \d{4}){2,3} \d{1,4}|\d{4} \d{6} \d{4,6}")
_DOCUMENT = re.compile(
    r"(?<![\d.-])\d{3}([- ])\d{2}\1\d{4}(?![\d-])"
    r"|(?i:\b(?:ssn|social(?: security)?|ni|aadhaa?r|pan|cpf|dni|nie|curp|pesel|bsn|nif|sin|tfn|tax|id|identity|insurance|passport"
    r"|licen[cs]e|personal(?:ausweis)?|medicare|nhs|visa|account|acct|sort code|member(?:ship)?)"
    r"(?: (?:card|number|no\.?|nr\.?|id|plate|code)){0,3}(?:'s| (?:is|was|reads|of))?[:#. ]{0,3})"
    r"(?=[A-Z\d -]{0,14}\d{2})(?:[A-Z]{0,5}[ -]?\d[\dA-Z -]{5,14}\b)"
    r"|(?i:\b(?:plates?|numberplate|registration|reg)(?: (?:number|no\.?))?(?: (?:is|are|was|reads))?[:#.]?\s?)"
    r"(?=[A-Z\d -]{0,9}\d)(?:[A-Z\d]{1,4}[ -]?[A-Z\d]{1,4}(?:[ -][A-Z\d]{1,4})?\b)(?<=[A-Z\d]{2})"
    r"|\b[A-Z]{2}\d{2} [A-Z]{3}\b"
)
_ETHEREUM = re.compile(r"(?i)\b0x[0-9a-f]{40}\b")
_COIN = re.compile(r"(?<![A-Za-z0-9])(?:(?:bc1|tb1|ltc1|addr1|cosmos1)[a-z0-9]{20,100}|[A-Za-z0-9]{20,110})(?![A-Za-z0-9])")


def has_bank_account(text: str) -> bool:
    """True for an IBAN with a valid checksum, or called one, in any grouping."""
    from stdnum import iban

    if _CALLED_IBAN.search(text):
        return True
    for match in _IBAN.finditer(text):
        compact = re.sub(r"[ .-]", "", match[0])
        if any(iban.is_valid(compact[:length], check_country=False) for length in range(15, min(len(compact), 34) + 1)):
            return True
    return False


def has_card_number(text: str) -> bool:
    """True for 13 to 19 digits with a valid Luhn checksum and the first digit of a payment card: in any grouping, or, between other numbers
    such as the expiry date, in the grouping of cards.

    >>> has_card_number("4111 1111 1111 1111 12/27"), has_card_number("4111 1111 1111 1112")
    (True, False)
    """
    from stdnum import luhn

    for match in _DIGITS.finditer(text):
        groups = re.findall(r"\d+", match[0])
        for first, last in combinations(range(len(groups) + 1), 2):
            own, digits = groups[first:last], "".join(groups[first:last])
            # other groups of four on both sides: a list of numbers
            apart = first == 0 or last == len(groups) or (len(groups[first - 1]) < 4 and len(groups[last]) < 4)
            is_grouped = own == groups or (apart and _CARD_GROUPS.fullmatch(" ".join(own)) is not None)
            if is_grouped and len(digits) in CARD_DIGITS and digits[0] in "23456" and luhn.is_valid(digits):
                return True
    return False


def has_document_number(text: str) -> bool:
    """True for a social security number, the number of a passport, licence or plate next to such a word, or somebody's password.

    >>> has_document_number("his SSN is 987-65-4320"), has_document_number("plates IX98 QRS"), has_document_number("form 1040, port 8080")
    (True, True, False)
    """
    return bool(_DOCUMENT.search(text) or _PASSWORD.search(text))


def has_wallet(text: str) -> bool:
    """True for a cryptocurrency address, or any long code of digits, capital and small letters: a key, a token, a password hash."""
    from stdnum import bitcoin

    if _ETHEREUM.search(text):
        return True
    for match in _COIN.finditer(text):
        code = match[0]
        kinds = (any(map(str.isdigit, code)), any(map(str.isupper, code)), any(map(str.islower, code)))
        digits = sum(map(str.isdigit, code))
        if bitcoin.is_valid(code) or (all(kinds) and digits > 1) or (4 <= digits < len(code) and len(code) > 24):
            return True
    return False


# --- handles on other services -------------------------------------------------------------------------------------------------------

_SERVICE = (
    r"(?:whats ?app|tele ?gram|tg|dis ?cord|snap ?chat|snap|sc|insta ?gram|insta|ig|tik ?tok|twitter|kik|venmo|cash ?app|pay ?pal|zelle"
    r"|signal|twitch|facebook|fb|messenger|linked ?in|only ?fans|skype|wechat|viber|line|steam|xbox|psn|gamertag|youtube|yt|mastodon"
    r"|bluesky|bsky|threads|tumblr|pinterest|tinder|bumble|grindr|hinge|matrix|slack|github|soundcloud|spotify|patreon|ko-?fi|fetlife"
    r"|myspace|vk)"
)
_HANDLE = (
    r"(?:@\s?\w[\w.-]{2,30}|\$[a-z]\w{2,30}|\w{2,32}#\d{3,5}|(?=[\w.]*[a-z])(?=[\w.]*[\d_]|\w+\.\w+)[\w.]{4,40}(?<!\.)"
    r"|\w+(?: dot \w+)+|\(?at\)? ?(?!(?:the|an?|my|your|our|his|her|work|home|night|all|least|first|last|school|any|this|that|about"
    r"|around|once|some)\b)\w+)"
)
_ASKED = re.compile(
    rf"(?i)\b{_SERVICE}\b(?:'s)?(?: (?:me|us|him|her|handle|name|id|account|user(?:name)?|group|tag|number|profile|page|channel"
    rf"|server)){{0,3}}(?: (?:is|as|under|called|named|at|via|on|to)){{0,2}}[:,=]?\s{{0,2}}{_HANDLE}(?!\w)"
    rf"|\b(?:add|follow|find|dm|pm|message|msg|text|hit|reach|contact|catch|friend|tip|pay|send|watch|see|chat with)(?: (?:me|us|him"
    rf"|her|them|up)){{1,2}}(?: (?!on\b)\S{{2,30}})?(?: (?:on|over|via|through|at|in|with)){{1,2}}(?: (?:my|the|our))? {_SERVICE}\b"
    rf"|\b(?:my|her|his|our|their) {_SERVICE}(?: (?:handle|name|id|account|user(?:name)?|tag|channel|page|profile|server))?(?: is|:) \S"
    rf"|\b(?:i'm|i am|im|he's|she's|they're|it's|we're)(?: \w+)? on {_SERVICE} (?:as|under|at)\b"
    rf"|(?:^|[.!?,;] ?)(?:kik|venmo|zelle|whats ?app|skype|snap|insta|discord|telegram|paypal|cash ?app) me\b"
    rf"|\b{_SERVICE}: ?\S|\bhmu on {_SERVICE}\b|\b(?:follow|add|dm|tag|message|friend|pm) @\w"
)
_NAMED = re.compile(
    rf"(?i)\b(?:i['’]?m|i am|it['’]?s|he['’]?s|she['’]?s|as|under|named) ([a-z][\w.]{{3,30}}) (?:on|over on|at) {_SERVICE}\b"
)
_BARE = re.compile(
    r"(?i)(?<![\w.])@(?=\w*[a-z])(?=\w*[\d_.])\w[\w.]{3,30}"
    r"|(?<!\w)(?!(?:bug|issue|ticket|pr|error|case|order|item|task|story)#)[a-z]\w{2,30}#\d{4}\b"
    r"|\b(?:send|pay|tip|cash ?tag|donate)\b.{0,20}(?<!\w)\$[a-z]\w{4,30}\b"
)
_APP = (  # services whose name has no other meaning
    r"(?:insta(?:gram)?|ig|tik ?tok|twitter|snap(?:chat)?|telegram|tg|discord|you ?tube|yt|twitch|facebook|fb|kik|venmo|bluesky|bsky"
    r"|mastodon|linked ?in|only ?fans|whats ?app|tumblr|pinterest)"
)
_ON_APP = re.compile(rf"(?i)(?<![\w.])@\w[\w.]{{2,30}},? (?:on|over on|via|from) (?:the |my |her |his )?{_APP}\b")
# Decorators, annotations and rules of programming languages. In talk about code, others count as well.
_DECORATOR = re.compile(
    r"(?i)(?<![\w.])@(?:property|staticmethod|classmethod|abstractmethod|cached_property|lru_cache|dataclass|contextmanager|overload|override"
    r"|deprecated|autowired|nullable|media|keyframes|font-face)(?!\w|\.\w)"
)
_CODE_TALK = re.compile(
    r"(?i)\b(?:decorat(?:e|ed|es|or|ors)|annotat(?:e|ed|ion|ions)|methods?|functions?|class(?:es)?|fixtures?|subclass(?:es)?|modules?"
    r"|pytest|python|java|kotlin|typescript|javascript|css|stylesheets?|compiler|linter|code|endpoints?|flask|django)\b"
)
_IN_CODE = re.compile(
    r"(?i)(?<![\w.])(?<!follow )(?<!message )(?<!friend )(?<!dm )(?<!pm )@[a-z-]{2,30}(?!\w|\.\w)"
    r"|(?<![\w.])@(?:(?:app|router|pytest|functools|unittest|mock|click|abc|typing|dataclasses|torch|tf|numba)(?:\.\w{1,30}){1,3}"
    r"|\w{1,30}(?=\(| (?:decorator|annotation)))|(?<=(?:decorator |nnotation ))@\w{1,30}"
)


def has_handle(text: str) -> bool:
    """
    >>> [has_handle(each) for each in ("my Telegram is tomtom77x", "@tom_h_1990", "Venmo took a fee", "I saw it on Instagram")]
    [True, True, False, False]
    >>> [has_handle(each) for each in ("@janedoe on insta", "add @property above", "the route @app.get in Flask")]
    [True, False, False]
    """
    if _ON_APP.search(text):
        return True
    text = _DECORATOR.sub(" ", text)
    if _CODE_TALK.search(text):
        text = _IN_CODE.sub(" ", text)
    named = (match[1] for match in _NAMED.finditer(text))
    return bool(_ASKED.search(text) or _BARE.search(text)) or any(frequency(name.lower()) < 2 for name in named)
