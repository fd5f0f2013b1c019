"""The `sim` engine's vocabulary: one readable word a token, a few of them of several bytes a character."""

_TEXT = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which
one you were all her she there would their we him been has when who will no more if out so up said what its about
than into them can only other time new some could these two may first then do any like my now over such our man
even most made after also did many off before must well back through years much where your way down should because
long each just state those people too mr how little good world make very year still see own work men day get here
between both life being under three never know same last another while us might great old since against go came
right take used few states use house every again place american around home small found mrs part thought school
water light river stone garden window morning evening letter paper number answer question table summer winter
music story village mountain forest ocean island harbour bridge market engine signal circuit memory kernel thread
packet router worker token stream vector index matrix planet comet orbit gravity energy carbon oxygen copper silver
quiet gentle sudden bright narrow shallow distant early steady hollow amber violet scarlet golden frozen
café naïve über señor façade jalapeño Ångström Δοκιμή привет мир 東京 言葉 水 한국어 नमस्ते שלום 🙂 🚀 🌍
"""

WORDS: tuple[str, ...] = tuple(_TEXT.split())
PIECES = tuple(f" {word}" for word in WORDS)
"""The tokens' text."""
GARBAGE = tuple(f" \ufffd{number:02x}\ufffd" for number in range(len(WORDS)))
"""What a garbled answer says in their place; its ids are beyond theirs."""
