"""Cleaning: what goes, what stays, and that both engines agree on it."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tasks.cleaning import RULES, clean, cleaned
from tasks.tokens import OFFLINE, TOKENIZER_FILE, build_tokenizer, tokenizer_folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain words, left alone.", "plain words, left alone."),
        ("", ""),
        (" \t\n\u00a0\u2003 ", ""),
        # URLs
        ("see https://t.co/aB1?x=1&amp;y=2#z now", "see now"),
        ("http://t.co/a https://t.co/b", ""),
        ("http://www.example.com/a WWW.EXAMPLE.COM", ""),
        ("Http://T.CO/x and WWW.Example.com", "and"),
        ("(https://t.co/a) next", "( next"),
        ("at www.example.com/a,b today", "at today"),
        ("awww. so www sweet http: //", "awww. so www sweet http: //"),
        ("glued:https://t.co/a", "glued:"),
        # Mentions
        ("@ann @bob_2 hi", "hi"),
        ("RT @ann: hi", "RT : hi"),
        (".@ann, (@bob) '@cy'", ". , ( ) ' '"),
        ("😀@ann @Zoë @日本", "😀"),
        ("@ann@example.social hi @a@b.c@d", "hi"),
        ("see you @ the park @", "see you @ the park @"),
        ("write to ann.b+c@example.org or x@y", "write to ann.b+c@example.org or x@y"),
        # Hashtags
        ("#Happy #1 C# ##x a#b", "Happy 1 C x ab"),
        ("@ann#sad", "sad"),
        # White space
        ("two\nlines\r\nand\ta  tab\u2028end ", "two lines and a tab end"),
        # Entities
        ("this &amp; that &lt;3 &gt;:(", "this & that <3 >:("),
        ("&amp;lt;3 &amp;amp; &amp;amp;gt; &amp;quot;", '<3 & > "'),
        ("&quot;a&quot; &#34;b&#34; &#8220;c&#8221; &ldquo;d&rdquo;", '"a" "b" "c" "d"'),
        ("it&#39;s it&#039;s it&apos;s it&#x27;s it&rsquo;s it&#8217;s it’s ‘so’", "it's " * 7 + "'so'"),
        ("wait&hellip; what&#8230;", "wait... what..."),
        ("a&nbsp;b&#160;c&ndash;d&#8212;e", "a b c-d-e"),
        ("R&D; &unknown; &amp", "R&D; &unknown; &amp"),
        ("&amp;#39;", "'"),
        # Taken literally
        ("it costs $1 \\1 ${0} %s {}", "it costs $1 \\1 ${0} %s {}"),
        ("😀👩‍👩‍👧 é e\u0301", "😀👩‍👩‍👧 é e\u0301"),
    ],
)
def test_rules(text: str, expected: str) -> None:
    assert clean([text]) == [expected]


def test_clean_keeps_order_and_number() -> None:
    assert clean([]) == []
    assert clean(f"{n} #tag" for n in range(3)) == ["0 tag", "1 tag", "2 tag"]


def test_a_replacement_is_literal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.cleaning.RULES", (("(€)", "$1"),))
    assert clean(["5 €"]) == ["5 $1"]


def test_a_null_stays_null_in_a_column_of_any_name() -> None:
    frame = pl.DataFrame({"other": ["#a", None]})
    assert frame.select(cleaned("other"))["other"].to_list() == ["a", None]


DISPUTED = "²³¹¼½¾\u200c\u200d"
"""Characters that one engine takes for part of a word and the other does not."""

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters=DISPUTED)

PIECES = st.one_of(
    st.sampled_from(
        [
            "good",
            "not",
            "it's",
            "don’t",
            "Ünïcode",
            "日本語",
            "I",
            "2",
            ":)",
            "<3",
            "...",
            "$1",
            "\\1",
            "RT",
            ",",
            "(",
        ]
    ),
    st.sampled_from(["@ann", "@Bob_2", "@zoë", ".@x", "@a@b.social", "me@example.org"]),
    st.sampled_from(["https://t.co/aB1", "HTTP://x.y/?a=1#b", "www.example.com", "#tag", "##", "C#", "#1"]),
    st.sampled_from(
        ["&amp;", "&amp;lt;", "&lt;", "&gt;", "&quot;", "&#39;", "&#8217;", "&nbsp;", "&hellip;", "&mdash;"]
    ),
    st.sampled_from(
        ["😀", "❤️", "👍🏽", "🇮🇸", "\u200b", "\u00a0", "\n", "\r\n", "\t", "\u2028", "e\u0301", "\u202e"]
    ),
)
TWEETS = st.lists(st.tuples(PIECES, st.sampled_from(["", " ", " "])), max_size=12).map(
    lambda pairs: "".join(piece + space for piece, space in pairs)
)
ANYTHING = st.lists(
    st.one_of(
        PIECES,
        st.text(CHARACTERS, max_size=5),
        st.sampled_from(["@", "#", "&", "amp;", "http", "://", "www."]),
    ),
    max_size=12,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(TWEETS)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = clean([text])
    assert clean(once) == once


@settings(max_examples=200, deadline=None)
@given(ANYTHING)
def test_neither_hashes_nor_odd_spaces_are_left(text: str) -> None:
    (found,) = clean([text])
    assert not set("#\t\n\r\v\f\u0085\u00a0\u2028\u2029\u3000") & set(found)
    assert "  " not in found
    assert found.strip(" ") == found


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer(tokenizer_folder(OFFLINE), max_tokens=512)


@pytest.fixture(scope="module")
def plain_tokenizer() -> Tokenizer:
    """The same tokenizer without the cleaning."""
    plain = Tokenizer.from_file(str(tokenizer_folder(OFFLINE) / TOKENIZER_FILE))
    plain.enable_truncation(512)
    plain.no_padding()
    return plain


@settings(max_examples=500, deadline=None)
@given(ANYTHING)
def test_the_tokenizer_cleans_as_the_etl_does(
    tokenizer: Tokenizer, plain_tokenizer: Tokenizer, text: str
) -> None:
    assert tokenizer.encode(text).tokens == plain_tokenizer.encode(clean([text])[0]).tokens


@settings(max_examples=200, deadline=None)
@given(TWEETS)
def test_raw_and_cleaned_texts_are_the_same_tokens(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text).ids == tokenizer.encode(clean([text])[0]).ids


def test_both_engines_agree_on_every_character_but_a_few() -> None:
    """Each character of the first two planes, before and after what the rules look for."""
    from tokenizers import Regex
    from tokenizers.normalizers import Replace, Sequence, Strip

    normalizer = Sequence([*(Replace(Regex(pattern), new) for pattern, new in RULES), Strip()])
    characters = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    texts = [f"{c}@a{c}b {c}www.d{c}e x{c}" for c in characters]
    found = zip(characters, texts, clean(texts), strict=True)
    disputed = [c for c, text, polars in found if normalizer.normalize_str(text) != polars]
    assert sorted(disputed) == sorted(DISPUTED)
