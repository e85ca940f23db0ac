"""Scraping: snscrape's own parsing of a recorded site, and items of its types."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
import requests

from tasks import scraping
from tasks.raw import SourceError
from tasks.sources import RAW, SourceParameters, read
from tests.internet import Answer, Internet, Request, played


@pytest.fixture
def internet() -> Iterator[Internet]:
    with played() as site:
        yield site


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def collect(**parameters: Any) -> pl.DataFrame:
    return pl.concat([RAW.to_frame(), *read(SourceParameters(source="snscrape", **parameters))])


def refusal(**parameters: Any) -> str:
    with pytest.raises(SourceError) as caught:
        collect(**parameters)
    return str(caught.value)


def telegram_post(number: int, day: str, text: str | None) -> str:
    body = "" if text is None else f'<div class="tgme_widget_message_text">{text}</div>'
    return f"""
      <div class="tgme_widget_message" data-post="orbit/{number}">{body}
        <div class="tgme_widget_message_footer">
          <a class="tgme_widget_message_date" href="https://t.me/orbit/{number}">
            <time datetime="{day}T10:00:00+02:00"></time></a></div></div>"""


def telegram(request: Request) -> Answer:
    """A channel on two pages, newest page first, oldest post of a page first."""
    if "before=3" in request.url:
        return Answer(telegram_post(1, "2024-01-01", "first light") + telegram_post(2, "2024-01-02", None))
    more = '<a class="tme_messages_more" data-before="3" href="/s/orbit?before=3"></a>'
    newest = telegram_post(4, "2024-01-04", 'great &amp; <a href="https://example.org/">shiny</a> 🚀')
    return Answer(more + telegram_post(3, "2024-01-03", "so sad<br>today") + newest)


CHANNEL = {"scraper": "telegram-channel", "query": "orbit"}


class TestTelegram:
    def test_pages_are_parsed_by_snscrape(self, internet: Internet) -> None:
        internet.answer = telegram
        frame = collect(**CHANNEL)
        assert [request.url for request in internet.requests] == [
            "https://t.me/s/orbit",
            "https://t.me/s/orbit?before=3",
        ]
        assert frame["text"].to_list() == ["great & shiny 🚀", "so sadtoday", None, "first light"]
        assert frame.row(0) == (
            "telegram-channel:https://t.me/s/orbit/4",
            datetime(2024, 1, 4, 8, tzinfo=UTC),
            None,
            "orbit",
            "great & shiny 🚀",
            "snscrape",
            None,
            None,
        )

    def test_since_and_limit(self, internet: Internet) -> None:
        internet.answer = telegram
        assert len(collect(**CHANNEL, since=date(2024, 1, 3))) == 2
        assert len(collect(**CHANNEL, since=date(2025, 1, 1))) == 0
        internet.requests.clear()
        assert len(collect(**CHANNEL, limit=2)) == 2
        assert len(internet.requests) == 1

    def test_a_site_that_fails(self, internet: Internet) -> None:
        internet.answer = lambda _: Answer("", 500)
        message = refusal(**CHANNEL)
        assert message.startswith(
            "snscrape's telegram-channel cannot deliver: Got status code 500. Check query"
        )

    def test_a_site_that_changed(self, internet: Internet) -> None:
        internet.answer = lambda _: Answer('<div class="tgme_widget_message" data-post="orbit/1"></div>')
        assert "telegram-channel cannot read the query or what the site sent (AttributeError" in refusal(
            **CHANNEL
        )

    def test_no_network(self, monkeypatch: pytest.MonkeyPatch, sleeps: list[float]) -> None:
        def unreachable(*_: Any, **__: Any) -> Any:
            raise requests.ConnectionError("Name or service not known")

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", unreachable)
        assert "4 requests to https://t.me/s/orbit failed, giving up. Check query and network" in refusal(
            **CHANNEL
        )
        assert sleeps == [1, 2, 4]


@pytest.mark.parametrize("scraper", ["twitter-search", "twitter-user", "twitter-hashtag"])
def test_twitters_wall_is_named(
    scraper: str, internet: Internet, sleeps: list[float], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    message = refusal(scraper=scraper, query="python")
    assert message.startswith(
        f"snscrape's {scraper} cannot deliver: Twitter has required a login since June 2023 and snscrape "
        "cannot sign in. Use --source x with a bearer token, --source file with an export, or another "
        "scraper such as telegram-channel. (snscrape: 4 requests to https://twitter.com/"
    )
    assert {urlsplit(request.url).netloc for request in internet.requests} == {"twitter.com"}


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        (
            {"scraper": "twitter", "query": "q"},
            "no scraper 'twitter'. Give --scraper one of: facebook-community,",
        ),
        ({"scraper": "weibo-user", "query": "no number"}, "weibo-user cannot read the query"),
        (
            {"scraper": "instagram-location", "query": "here"},
            "does not suit snscrape's instagram-location: argument",
        ),
        (
            {"scraper": "twitter-trends", "query": "q"},
            "does not suit snscrape's twitter-trends: unrecognized",
        ),
        (
            {"scraper": "mastodon-toot", "query": "--thread"},
            "the following arguments are required: url. usage:",
        ),
    ],
)
def test_wrong_scraper_or_query(
    parameters: dict[str, str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint in refusal(**parameters)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("scraper", "query", "attributes"),
    [
        ("mastodon-profile", "@ann@example.org", {"_url": "https://example.org/@ann"}),
        ("mastodon-toot", "--thread https://example.org/@ann/1", {"_url": "https://example.org/@ann/1"}),
        ("weibo-user", "--name ann", {"_user": "ann"}),
        ("weibo-user", "17", {"_user": 17}),
        ("reddit-search", "two words", {"_name": "two words", "_comments": True}),
        ("reddit-search", "--no-comments 'two words'", {"_name": "two words", "_comments": False}),
        ("telegram-channel", "-odd", {"_name": "-odd"}),
    ],
)
def test_queries_are_read_as_on_the_command_line(
    scraper: str, query: str, attributes: dict[str, Any]
) -> None:
    built = scraping._scraper(scraper, query)
    assert built.name == scraper
    assert {name: getattr(built, name) for name in attributes} == attributes


NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)


def tweet(number: int, when: datetime = NOON) -> Any:
    from snscrape.modules.twitter import Tweet, User

    return Tweet(
        url=f"https://twitter.com/ann/status/{number}",
        date=when,
        rawContent=f"tweet &amp; {number}",
        renderedContent="rendered",
        id=number,
        user=User(username="ann", id=7),
        replyCount=0,
        retweetCount=0,
        likeCount=0,
        quoteCount=0,
        conversationId=number,
        lang="en",
    )


def recorded() -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Items as snscrape yields them, and the rows they make: id, created_at, lang, username, text."""
    scraping._scraper("telegram-channel", "any")  # imports snscrape without its warnings
    from snscrape.modules import instagram, mastodon, reddit, telegram, twitter, vkontakte, weibo

    yield "twitter-search", tweet(12), ("twitter-search:12", NOON, "en", "ann", "tweet &amp; 12")
    deleted = tweet(13)
    deleted.user = twitter.UserRef(id=7)
    yield "twitter-search", deleted, ("twitter-search:13", NOON, "en", None, "tweet &amp; 13")
    post = telegram.TelegramPost(url="https://t.me/s/orbit/1", date=NOON, content="hello", outlinks=[])
    yield "telegram-channel", post, ("telegram-channel:https://t.me/s/orbit/1", NOON, None, "any", "hello")
    user = mastodon.User(account="@bob@example.org")
    toot = mastodon.Toot(url="https://example.org/@bob/5", id="5", user=user, date=NOON, text="a toot")
    row = ("mastodon-profile:5", NOON, None, "@bob@example.org", "a toot")
    yield "mastodon-profile", toot, row
    yield "mastodon-profile", mastodon.Boost(user=mastodon.User(account="@ann@example.org"), toot=toot), row
    somebody = weibo.User("cao", 3, False, None, "", 1, 1, 1, "")
    for said, created in [("Tue Jan 02 20:00:00 +0800 2024", NOON), ("yesterday 20:00", None)]:
        status = weibo.Post(
            "https://m.weibo.cn/status/A", "9", somebody, said, "hi", 0, 0, 0, 0, None, None, None, None
        )
        yield "weibo-user", status, ("weibo-user:9", created, None, "cao", "hi")
    url = "https://old.reddit.com/r/python/comments/a/_/b/"
    comment = reddit.Comment("dan", "I agree", NOON, "t1_b", "t3_a", "python", url)
    yield "reddit-search", comment, ("reddit-search:t1_b", NOON, None, "dan", "I agree")
    link = reddit.Submission("dan", NOON, "t3_a", "https://example.org/", None, "python", "A title", url)
    yield "reddit-search", link, ("reddit-search:t3_a", NOON, None, "dan", "A title")
    wall = vkontakte.VKontaktePost(url="https://vk.com/wall1", date=date(2024, 1, 2), content="wall")
    midnight = datetime(2024, 1, 2, tzinfo=UTC)
    yield "vkontakte-user", wall, ("vkontakte-user:https://vk.com/wall1", midnight, None, "any", "wall")
    url = "https://www.instagram.com/p/x/"
    photo = instagram.InstagramPost(url, NOON, None, "", "", "eve", 0, 0, False, False)
    yield "instagram-hashtag", photo, (f"instagram-hashtag:{url}", NOON, None, "eve", None)


@pytest.mark.filterwarnings("error")
def test_recorded_items(monkeypatch: pytest.MonkeyPatch) -> None:
    from snscrape.base import Scraper

    class Recorded(Scraper):  # type: ignore[misc]
        item: Any

        def get_items(self) -> Iterator[Any]:
            yield self.item

    scraper = Recorded()
    cases = list(recorded())
    monkeypatch.setattr(scraping, "_scraper", lambda *_: scraper)
    for name, scraper.item, row in cases:
        frame = collect(scraper=name, query="any")
        assert frame.drop("source", "human_label", "defect").rows() == [row]


class TestSelection:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
        """A feed with a pinned old tweet on top; returns what scrapers were asked for."""
        asked: list[tuple[str, str]] = []
        pinned = [tweet(0, NOON - timedelta(days=400))]
        feed = pinned + [tweet(number, NOON - timedelta(hours=number)) for number in range(1, 1000)]

        class Feed:
            def get_items(self) -> Iterator[Any]:
                for self.taken, item in enumerate(feed):
                    yield item

        self.feed = Feed()

        def scraper(name: str, query: str) -> Feed:
            asked.append((name, query))
            return self.feed

        monkeypatch.setattr(scraping, "_scraper", scraper)
        return asked

    def test_a_pinned_item_does_not_end_a_feed(self, asked: list[tuple[str, str]]) -> None:
        frame = collect(scraper="s", query="q", since=date(2024, 1, 1))
        assert frame["id"].to_list() == [f"s:{number}" for number in range(1, 37)]
        assert self.feed.taken == 36 + scraping.STALE_ITEMS

    def test_limit_takes_no_more(self, asked: list[tuple[str, str]]) -> None:
        assert len(collect(scraper="s", query="q", limit=5)) == 5
        assert self.feed.taken == 4

    def test_language_is_asked_for_where_it_can_be(self, asked: list[tuple[str, str]]) -> None:
        for scraper, query, language in [
            ("twitter-search", "q", "en"),
            ("twitter-search", "q", None),
            ("twitter-search", "q lang:fr", "en"),
            ("telegram-channel", "q", "en"),
        ]:
            collect(scraper=scraper, query=query, language=language, limit=1)
        assert [query for _, query in asked] == ["q lang:en", "q", "q lang:fr", "q"]
