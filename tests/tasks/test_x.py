"""X: the official API as its documentation shows it, and the token's secrecy."""

import io
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
import requests
from pydantic import SecretStr

from blocks.x import XCredentials
from tasks.raw import SourceError
from tasks.sources import RAW, SourceParameters, read
from tests.internet import Answer, Internet, Request, played

TOKEN = SecretStr("AAAA-secret-bearer-token-%3D")
NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def internet() -> Iterator[Internet]:
    with played() as site:
        yield site


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def collect(token: SecretStr | None = TOKEN, **parameters: Any) -> pl.DataFrame:
    filled = SourceParameters(source="x", **{"query": "cats OR dogs"} | parameters)
    return pl.concat([RAW.to_frame(), *read(filled, token)])


def refusal(token: SecretStr = TOKEN) -> str:
    with pytest.raises(SourceError) as caught:
        collect(token)
    assert token.get_secret_value() not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def page(numbers: range, following: str | None = None) -> Answer:
    """A page of X's recent search, as its documentation shows it."""
    meta: dict[str, Any] = {"result_count": len(numbers)} | ({"next_token": following} if following else {})
    if not numbers:
        return Answer(json.dumps({"meta": meta}))
    data = [
        {
            "id": str(number),
            "edit_history_tweet_ids": [str(number)],
            "text": f"tweet {number} 🚀",
            "created_at": "2024-01-02T12:00:00.000Z",
            "lang": "en",
            "author_id": str(number % 2),
        }
        for number in numbers
    ]
    users = [{"id": "0", "name": "Ann", "username": "ann"}, {"id": "1", "name": "Bob", "username": "bob"}]
    return Answer(json.dumps({"data": data, "includes": {"users": users}, "meta": meta}))


def two_pages(request: Request) -> Answer:
    return page(range(3, 5)) if request.query.get("next_token") == "more" else page(range(1, 3), "more")


def refusing(status: int, **headers: str) -> Callable[[Request], Answer]:
    body = json.dumps({"title": "No", "detail": "no", "errors": [{"message": "invalid operator"}]})
    return lambda _: Answer(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


class TestX:
    def test_pages(self, internet: Internet) -> None:
        internet.answer = two_pages
        frame = collect()
        assert frame.row(0) == ("x:1", NOON, "en", "bob", "tweet 1 🚀", "x", None, None)
        assert frame["id"].to_list() == ["x:1", "x:2", "x:3", "x:4"]
        first, second = internet.requests
        assert urlsplit(first.url).path == "/2/tweets/search/recent"
        assert first.headers["Authorization"] == f"Bearer {TOKEN.get_secret_value()}"
        assert first.query == {
            "query": "(cats OR dogs) -is:retweet lang:en",
            "max_results": "100",
            "tweet.fields": "created_at,lang,note_tweet",
            "user.fields": "username",
            "expansions": "author_id",
        }
        assert second.query["next_token"] == "more"

    @pytest.mark.parametrize(
        ("language", "query"),
        [("de", "(cats) -is:retweet lang:de"), (None, "(cats) -is:retweet")],
    )
    def test_language(self, internet: Internet, language: str | None, query: str) -> None:
        internet.answer = two_pages
        collect(query="cats", language=language)
        assert internet.requests[0].query["query"] == query

    @pytest.mark.parametrize(
        ("limit", "size", "pages"), [(1, "10", 1), (3, "10", 2), (50, "50", 2), (500, "100", 2)]
    )
    def test_limit(self, internet: Internet, limit: int, size: str, pages: int) -> None:
        internet.answer = two_pages
        assert len(collect(limit=limit)) == min(limit, 4)
        assert internet.requests[0].query["max_results"] == size
        assert len(internet.requests) == pages

    def test_since(self, internet: Internet, caplog: pytest.LogCaptureFixture) -> None:
        internet.answer = two_pages
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        collect(since=yesterday)
        assert internet.requests[-1].query["start_time"] == f"{yesterday}T00:00:00Z"
        assert caplog.text == ""
        collect(since=date(2020, 1, 1))
        start = datetime.fromisoformat(internet.requests[-1].query["start_time"])
        assert timedelta(days=6, hours=23, minutes=58) < datetime.now(UTC) - start < timedelta(days=7)
        assert "X's recent search reaches back 7 days" in caplog.text

    def test_long_tweets_come_whole(self, internet: Internet) -> None:
        data = [{"id": "1", "text": "cut…", "note_tweet": {"text": "all"}, "edit_history_tweet_ids": ["1"]}]
        internet.answer = lambda _: Answer(json.dumps({"data": data, "meta": {"result_count": 1}}))
        assert collect().row(0) == (
            "x:1",
            None,
            None,
            None,
            "all",
            "x",
            None,
            None,
        )

    def test_half_a_character_is_a_defect(self, internet: Internet) -> None:
        data = [{"id": "1", "text": "half \ud83d", "edit_history_tweet_ids": ["1"]}]
        internet.answer = lambda _: Answer(json.dumps({"data": data, "meta": {"result_count": 1}}))
        assert collect().select("text", "defect").rows() == [("half �", "invalid UTF-8")]

    def test_nothing_found(self, internet: Internet) -> None:
        internet.answer = lambda _: page(range(0))
        assert list(read(SourceParameters(source="x", query="cats"), TOKEN)) == []

    @pytest.mark.parametrize("token", [None, SecretStr(""), SecretStr("  \n")])
    def test_no_token(self, internet: Internet, token: SecretStr | None) -> None:
        with pytest.raises(SourceError) as caught:
            collect(token)
        assert "`X_BEARER_TOKEN=... python -m blocks.register x` saves one in the block sentiment-x" in str(
            caught.value
        )
        assert internet.requests == []

    @pytest.mark.parametrize("token", ["two words", "line\nbreak", "smart“quote"])
    def test_what_is_no_token_is_not_quoted(self, internet: Internet, token: str) -> None:
        assert "holds blanks or characters that no token has" in refusal(SecretStr(token))

    def test_a_line_end_after_the_token_does_no_harm(self, internet: Internet) -> None:
        internet.answer = two_pages
        collect(SecretStr("token\n"))
        assert internet.requests[0].headers["Authorization"] == "Bearer token"

    @pytest.mark.parametrize(
        ("status", "complaint"),
        [
            (
                400,
                "X does not understand the search: 400 Bad Request invalid operator. Mend --query",
            ),
            (
                401,
                "X refuses the bearer token (401): it is wrong or revoked. Create another: `X_",
            ),
            (403, "X refuses the search (403): the token's app or plan does not include it."),
            (404, "X does not answer: 404 Not Found"),
            (429, "X refuses more requests (429): the rate limit or the monthly quota is used up."),
            (503, "X does not answer: 503 Service Unavailable"),
        ],
    )
    def test_refusals(self, internet: Internet, sleeps: list[float], status: int, complaint: str) -> None:
        internet.answer = refusing(status)
        assert complaint in refusal()
        assert len(internet.requests) == 1
        assert sleeps == []

    def test_an_answer_that_is_no_json(self, internet: Internet) -> None:
        internet.answer = lambda _: Answer("<html>")
        assert "X does not answer: Expecting value" in refusal()

    def test_no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(*_: Any, timeout: float, **__: Any) -> Any:
            assert timeout == 30
            raise requests.ConnectionError("Name or service not known")

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", unreachable)
        assert "X does not answer: Name or service not known. Check the network" in refusal()

    def test_waits_for_the_next_window_and_goes_on(self, internet: Internet, sleeps: list[float]) -> None:
        reset = str(int(time.time()) + 60)
        limited = refusing(429, x_rate_limit_reset=reset)
        internet.answer = lambda request: (
            limited(request) if len(internet.requests) == 2 else two_pages(request)
        )
        assert collect()["id"].to_list() == ["x:1", "x:2", "x:3", "x:4"]
        assert [request.query.get("next_token") for request in internet.requests] == [None, "more", "more"]
        assert len(sleeps) == 1
        assert 55 < sleeps[0] <= 61

    @pytest.mark.parametrize(("seconds", "tries"), [(60, 2), (86_400, 1)])
    def test_does_not_wait_for_ever(
        self, internet: Internet, sleeps: list[float], seconds: int, tries: int
    ) -> None:
        internet.answer = refusing(429, x_rate_limit_reset=str(int(time.time()) + seconds))
        assert "X refuses more requests (429)" in refusal()
        assert len(internet.requests) == tries

    @pytest.mark.parametrize("status", [200, 401, 429])
    def test_no_log_has_the_token(self, internet: Internet, status: int) -> None:
        internet.answer = two_pages if status == 200 else refusing(status)
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            if status == 200:
                collect()
            else:
                refusal()
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
        assert "Making API request: GET https://api.twitter.com/2/tweets/search/recent" in log.getvalue()
        assert TOKEN.get_secret_value() not in log.getvalue()

    def test_the_block_does_not_show_the_token(self) -> None:
        block = XCredentials(bearer_token=TOKEN)
        assert TOKEN.get_secret_value() not in f"{block!r} {block} {block.model_dump()}"
        assert XCredentials.slot == "sentiment-x"
