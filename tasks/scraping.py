"""Scraping: what any of snscrape's scrapers finds on a public site."""

import argparse
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, NoReturn, TypeVar

from tasks.raw import Row, SourceError, moment

T = TypeVar("T")

STALE_ITEMS = 100
"""Stop scraping after so many too old items in a row: feeds run newest first, but for pinned ones."""

_TWITTER_WALL = (
    "snscrape's {scraper} cannot deliver: Twitter has required a login since June 2023 and snscrape cannot "
    "sign in. Use --source x with a bearer token, --source file with an export, or another scraper such as "
    "telegram-channel."
)

_TEXT_FIELDS = ("rawContent", "content", "text", "body", "selftext", "title")
_DATE_FIELDS = ("date", "createdAt")
_AUTHOR_FIELDS = ("username", "account", "screenname", "author")
_ONE_AUTHOR = ("-user", "-profile", "-channel")
"""Endings of scrapers whose items are all by the account asked for."""


def rows(scraper: str, query: str, since: date | None, language: str | None) -> Iterator[Row]:
    """Yield what one of snscrape's scrapers finds, newest first as the sites have it.

    Args:
        scraper: Its name on snscrape's command line.
        query: Its argument there; one that starts with "--" is split into flags and the argument.
        since: First day, in UTC; items without a date are then left out.
        language: ISO 639 code; only twitter-search can be asked for it.

    Raises:
        SourceError: No such scraper, a wrong query, or the site does not answer as snscrape expects.
    """
    if scraper == "twitter-search" and language is not None and "lang:" not in query:
        query = f"{query} lang:{language}"
    items = _ask(scraper, lambda: iter(_scraper(scraper, query).get_items()))
    start = moment(since)
    stale = 0
    while (item := _ask(scraper, lambda: next(items, None))) is not None:
        row = _item_row(item, scraper, query)
        if start is not None and (row.created_at is None or row.created_at < start):
            stale += 1
            if stale == STALE_ITEMS:
                return
        else:
            stale = 0
            yield row


class _Parser(argparse.ArgumentParser):
    """Parses a query as snscrape's command line would, without ending the process on a wrong one."""

    def error(self, message: str) -> NoReturn:
        usage = self.format_usage().strip()
        raise SourceError(f"The query does not suit snscrape's {self.prog}: {message}. {usage}")


def _scraper(name: str, query: str) -> Any:
    """Return the scraper that `snscrape NAME QUERY` would run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # snscrape imports its modules in a way that Python 3.12 drops
        import snscrape.modules  # noqa: F401
    from snscrape.base import Scraper

    classes = list(Scraper.__subclasses__())
    for kind in classes:
        classes.extend(kind.__subclasses__())
    known = {kind.name: kind for kind in classes if kind.name is not None}
    if name not in known:
        names = ", ".join(sorted(known))
        raise SourceError(f"snscrape has no scraper {name!r}. Give --scraper one of: {names}.")
    parser = _Parser(prog=name, add_help=False)
    parser.set_defaults(retries=3)
    known[name]._cli_setup_parser(parser)
    words = shlex.split(query) if query.startswith("--") else ["--", query]
    return known[name]._cli_from_args(parser.parse_args(words))


def _ask(scraper: str, question: Callable[[], T]) -> T:
    """Return the answer of a scraper, or explain why there is none."""
    from snscrape.base import ScraperException

    try:
        return question()
    except (ScraperException, OSError) as error:  # the exceptions of requests are OSErrors
        cause = re.sub(r"\?\S*", "", str(error))[:300].rstrip(".")  # addresses without their long parameters
        if scraper.startswith("twitter-"):
            raise SourceError(f"{_TWITTER_WALL.format(scraper=scraper)} (snscrape: {cause})") from error
        raise SourceError(
            f"snscrape's {scraper} cannot deliver: {cause}. Check query and network, or try again later."
        ) from error
    except (AttributeError, LookupError, TypeError, ValueError, AssertionError) as error:
        raise SourceError(
            f"snscrape's {scraper} cannot read the query or what the site sent "
            f"({type(error).__name__}: {error}). Check the query; if it is right, the site has changed: use "
            "another --scraper or --source."
        ) from error


def _item_row(item: Any, scraper: str, query: str) -> Row:
    """Return the row of an item of any of snscrape's types, which name alike what is alike, mostly."""
    item = getattr(item, "toot", item)  # a boost on Mastodon is somebody's toot
    fields = vars(item)  # not its properties: the deprecated ones warn
    user = vars(fields["user"]) if fields.get("user") else {}
    author = _first(fields | user, _AUTHOR_FIELDS)
    if author is None and scraper.endswith(_ONE_AUTHOR) and not query.startswith("--"):
        author = query
    try:
        created = moment(_first(fields, _DATE_FIELDS))
    except ValueError:
        created = None  # Weibo says "yesterday" and the like
    return Row(
        id=f"{scraper}:{fields.get('id') or item}",  # an item's str() is its address
        created_at=created,
        lang=fields.get("lang"),
        username=None if author is None else str(author),
        text=_first(fields, _TEXT_FIELDS),
        source="snscrape",
    )


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), None)
