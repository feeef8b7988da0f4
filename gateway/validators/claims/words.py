"""Names and quotes."""

import re
import unicodedata
from collections.abc import Iterator

_PIECE = re.compile(r"[^\W_]+")
_WORD = re.compile(r"(?<!\w)[^\W\d_][\w'’-]*")
_LEAD = re.compile(r"[ \t]*(?:[-*•>+]+[ \t]+)?(?:\d{1,3}[.)][ \t]+)?")
_LABEL = re.compile(r"[^\s:]{1,40}(?:[ \t][^\s:]{1,40}){0,4}:(?=\s|$)")
_QUOTE = re.compile(r'"([^"\n]{3,1000})"|“([^”\n]{3,1000})”|«([^»\n]{3,1000})»')
_LEFT_OUT = re.compile(r"\[?(?:\.\.\.|…)\]?")
_OPENING = " \t*_(["
_QUOTING = "\"“«'‘"
_ENDING = ".!?:;…"
ALONE = 4
"""Words of a text that may be nothing but a name."""


def folded(text: str) -> str:
    """`text` without case, diacritics and kinds of quotation marks, and with one kind of space."""
    return " ".join(apart(text).casefold().replace("’", "'").replace("‘", "'").split())


def apart(text: str) -> str:
    """`text` in its compatible letters and digits, without diacritics: ½ is 1⁄2."""
    if text.isascii():
        return text
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def pieces(text: str) -> list[str]:
    """The words of a folded text; apostrophes and hyphens separate, too."""
    return _PIECE.findall(text)


def names(text: str, *, value: bool = False) -> Iterator[str]:
    """Capitalised words that do not begin a sentence, a line, or a quotation. Headings and a label at the head of a line are passed over.

    value: `text` is the value of a field. One that is nothing but a few capitalised words is a name then, in a text it is a heading.
    """
    for line in text.splitlines():
        begin = _LEAD.match(line).end()  # type: ignore[union-attr]  # it matches nothing, too
        if line.startswith("#", begin):
            continue
        if label := _LABEL.match(line, begin):
            begin = label.end()
        found = list(_WORD.finditer(line, begin))
        alone = 0 < len(found) <= ALONE and all(word[0][0].isupper() for word in found)
        if alone and not value:
            continue
        for word in found:
            if _may_be_name(word[0]) and (alone or not _fresh(line, begin, word.start())):
                yield word[0]


def _may_be_name(word: str) -> bool:
    return word[0].isupper() and len(word) > 1 and word[:2] not in ("I'", "I’")


def _fresh(line: str, begin: int, start: int) -> bool:
    """May a sentence or a quotation begin at `start`?"""
    if start > begin and line[start - 1] in _QUOTING:
        return True
    at = start
    while at > begin and line[at - 1] in _OPENING:
        at -= 1
    if at > begin and line[at - 1] in _QUOTING:
        at -= 1
    return at == begin or line[at - 1] in _ENDING


def quotes(text: str) -> Iterator[str]:
    """What stands between marks of quotation, if it is more than a word."""
    for marks in _QUOTE.findall(text):
        quote = "".join(marks)
        if len(quote.split()) > 1:
            yield quote


def quoted(quote: str, source: str) -> bool:
    """Does a folded `quote` stand in a folded `source`? Its last punctuation may be the answer's; "..." leaves something out."""
    at = 0
    for piece in _LEFT_OUT.split(quote):
        wanted = piece.strip(" .,;:!?")
        found = source.find(wanted, at)
        if found < 0:
            return False
        at = found + len(wanted)
    return True
