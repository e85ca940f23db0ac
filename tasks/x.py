"""X: tweets from the official API."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from pydantic import SecretStr

from tasks.raw import Row, SourceError, moment

_logger = logging.getLogger(__name__)

REACH = timedelta(days=7)
"""How far recent search goes back; start_time must not lie before it."""

WINDOW_SECONDS = 15 * 60
"""Length of X's rate limit window: no wait for the next one is longer."""

PAGE_ROWS = (10, 100)
"""The smallest and the largest page of X's search."""

_REGISTER = "`X_BEARER_TOKEN=... python -m blocks.register x` saves one in the block sentiment-x."


def rows(
    query: str, since: date | None, limit: int | None, language: str | None, bearer_token: SecretStr | None
) -> Iterator[Row]:
    """Yield what X's recent search finds, newest first, without retweets.

    Source: https://docs.x.com/x-api/posts/search-recent-posts

    Args:
        query: In X's query language.
        since: First day, in UTC; the search reaches back 7 days.
        limit: How many tweets will be taken; less than a page makes the page smaller, to spare the quota.
        language: ISO 639 code.
        bearer_token: Of an app with access to the search.

    Raises:
        SourceError: There is no token, or X refuses it, the query or the number of requests.
    """
    import tweepy

    asked = f"({query}) -is:retweet"
    if language is not None and "lang:" not in query:
        asked += f" lang:{language}"
    smallest, largest = PAGE_ROWS
    client = tweepy.Client()
    client.session.auth = _signature(bearer_token)
    client.session.request = partial(client.session.request, timeout=30)  # tweepy would wait for ever
    pages = iter(
        tweepy.Paginator(
            client.search_recent_tweets,
            query=asked,
            start_time=_reachable(since),
            max_results=max(smallest, min(limit or largest, largest)),
            tweet_fields=["created_at", "lang", "note_tweet"],
            user_fields=["username"],
            expansions=["author_id"],
        )
    )
    while (page := _page(pages)) is not None:
        users = {user.id: user.username for user in page.includes.get("users", [])}
        for tweet in page.data or []:
            whole = tweet.data.get("note_tweet", {})  # of a long text, `text` holds the first 280 characters
            yield Row(
                id=f"x:{tweet.id}",
                created_at=moment(tweet.created_at),
                lang=tweet.lang,
                username=users.get(tweet.author_id),
                text=whole.get("text", tweet.text),
                source="x",
            )


def _signature(bearer_token: SecretStr | None) -> Callable[[Any], Any]:
    """Return what puts the token into a request, so that tweepy, which logs its own headers, never has it."""
    token = "" if bearer_token is None else bearer_token.get_secret_value().strip()
    if not token:
        raise SourceError(f"--source x needs a bearer token of the X API: {_REGISTER}")
    if not re.fullmatch(r"[!-~]+", token):  # or requests would refuse the header, and quote it
        raise SourceError(f"The bearer token holds blanks or characters that no token has: {_REGISTER}")

    def sign(request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign


def _reachable(since: date | None) -> datetime | None:
    start = moment(since)
    earliest = datetime.now(UTC) - REACH + timedelta(minutes=1)  # while the request travels, time passes
    if start is None or start >= earliest:
        return start
    _logger.warning("X's recent search reaches back 7 days: taking tweets since %s, not %s", earliest, since)
    return earliest


def _page(pages: Iterator[Any]) -> Any:
    """Return the next page of a search, or None after the last.

    Waits once when the rate limit is reached. tweepy's own `wait_on_rate_limit` would ask again at once, and
    for ever, when X does not say how long to wait, as with a used-up monthly quota.
    """
    import requests
    import tweepy

    try:
        try:
            return next(pages, None)
        except tweepy.TooManyRequests as error:
            seconds = (error.reset_time or float("inf")) - time.time() + 1
            if seconds > WINDOW_SECONDS + 60:
                raise
            _logger.warning("X's rate limit is reached: waiting %.0f seconds", max(seconds, 0))
            time.sleep(max(seconds, 0))
            return next(pages, None)
    except tweepy.Unauthorized as error:
        raise SourceError(
            f"X refuses the bearer token (401): it is wrong or revoked. Create another: {_REGISTER}"
        ) from error
    except tweepy.Forbidden as error:
        raise SourceError(
            "X refuses the search (403): the token's app or plan does not include it. Attach the app to a "
            "project, and choose a plan with recent search, in X's developer console."
        ) from error
    except tweepy.TooManyRequests as error:
        raise SourceError(
            "X refuses more requests (429): the rate limit or the monthly quota is used up. Try again later, "
            "ask for less with --limit, or choose a larger plan."
        ) from error
    except tweepy.BadRequest as error:
        said = " ".join(str(error).split())[:300]
        raise SourceError(f"X does not understand the search: {said}. Mend --query or --since.") from error
    except (tweepy.TweepyException, requests.RequestException) as error:
        said = " ".join(str(error).split())[:300]
        raise SourceError(f"X does not answer: {said}. Check the network, or try again later.") from error
