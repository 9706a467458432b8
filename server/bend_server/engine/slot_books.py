"""Who may run under the limits of tasks: the books of the keys that an engine owns.

Admission control, not a mutex: a holder that is not heard of for a lease time loses its place, and
a new owner of a key waits so long before it grants anything, unless no other engine is alive.
"""

from collections import OrderedDict
from typing import NamedTuple

LEASE_US = 30_000_000

Holder = tuple[int, int, int, int]
"""(execution, task, item, try)"""


class Ask(NamedTuple):
    """One try's wish for a place under a key; `per_us` 0: places, else starts per time."""

    name: str
    limit: int
    per_us: int
    holder: Holder


class Book:
    """One key: who holds places and until when, and who waits, first come first served."""

    __slots__ = ("filled_us", "holders", "limit", "per_us", "queue", "tokens")

    def __init__(self, now_us: int) -> None:
        self.limit = 1
        self.per_us = 0
        self.holders: dict[Holder, int] = {}
        self.queue: OrderedDict[Holder, int] = OrderedDict()
        self.tokens = 0.0
        self.filled_us = now_us


class SlotBooks:
    """Grants places; times in Unix microseconds.

    Attributes:
        closed_until_us: nothing is granted before.
    """

    def __init__(self) -> None:
        self._books: dict[str, Book] = {}
        self._touched: dict[str, None] = {}
        self._rates: dict[str, None] = {}
        self._again: list[tuple[str, Holder, int]] = []
        self.closed_until_us = 0

    def __len__(self) -> int:
        return len(self._books)

    def ask(self, ask: Ask, asker: int, now_us: int) -> None:
        """Note a wish, or that a wish still stands; who asks again has not heard of its grant."""
        book = self._book(ask, now_us)
        if ask.holder in book.holders:
            book.holders[ask.holder] = now_us + LEASE_US
            self._again.append((ask.name, ask.holder, asker))
            return
        book.queue.setdefault(ask.holder, asker)
        self._touched[ask.name] = None
        if ask.per_us:
            self._rates[ask.name] = None

    def hold(self, ask: Ask, now_us: int) -> None:
        """Hear that a try holds its place, granted here or by an owner before."""
        book = self._book(ask, now_us)
        if not ask.per_us:
            book.holders[ask.holder] = now_us + LEASE_US

    def release(self, name: str, holder: Holder) -> None:
        """Hear that a try is over, or does not want its place any more."""
        book = self._books.get(name)
        if book is None:
            return
        book.holders.pop(holder, None)
        book.queue.pop(holder, None)
        self._touched[name] = None

    def grants(self, now_us: int, *, everywhere: bool) -> list[tuple[str, Holder, int]]:
        """Give free places to those whose turn it is; return (name, holder, asker).

        Args:
            everywhere: look at every key for leases that ran out, not only where something moved.
        """
        granted, self._again = self._again, []
        names = list(self._books) if everywhere else [*self._touched, *self._rates]
        self._touched.clear()
        for name in names:
            book = self._books.get(name)
            if book is None:
                continue
            for holder in [one for one, until in book.holders.items() if until <= now_us]:
                del book.holders[holder]
            if not book.queue:
                self._rates.pop(name, None)
                if not book.holders and (not book.per_us or self._full(book, now_us)):
                    del self._books[name]
                    continue
            if now_us < self.closed_until_us:
                continue
            while book.queue and self._takes(book, now_us):
                holder, asker = book.queue.popitem(last=False)
                if not book.per_us:
                    book.holders[holder] = now_us + LEASE_US
                granted.append((name, holder, asker))
        return granted

    def next_us(self, now_us: int) -> int | None:
        """Return when the next place under a rate comes free, if somebody waits for one."""
        rates = (self._books.get(name) for name in self._rates)
        waits = [
            book.filled_us + int((1 - book.tokens) * book.per_us / book.limit) + 1
            for book in rates
            if book is not None and book.queue and book.per_us
        ]
        return max(now_us, min(waits), self.closed_until_us) if waits else None

    def forget(self, names: list[str]) -> None:
        """Forget keys that another engine owns now."""
        for name in names:
            self._books.pop(name, None)

    def names(self) -> list[str]:
        """Return all keys with a book."""
        return list(self._books)

    def clear(self) -> None:
        """Forget everything."""
        self._books.clear()
        self._touched.clear()
        self._rates.clear()
        self._again.clear()

    def _book(self, ask: Ask, now_us: int) -> Book:
        book = self._books.get(ask.name)
        if book is None:
            book = self._books[ask.name] = Book(now_us)
            book.tokens = float(ask.limit)
        book.limit, book.per_us = max(1, ask.limit), ask.per_us
        return book

    def _full(self, book: Book, now_us: int) -> bool:
        self._fill(book, now_us)
        return book.tokens >= book.limit

    def _fill(self, book: Book, now_us: int) -> None:
        spent_us = max(0, now_us - book.filled_us)
        book.tokens = min(float(book.limit), book.tokens + spent_us * book.limit / book.per_us)
        book.filled_us = now_us

    def _takes(self, book: Book, now_us: int) -> bool:
        """Return whether one more may go; a token is spent then."""
        if not book.per_us:
            return len(book.holders) < book.limit
        self._fill(book, now_us)
        if book.tokens < 1:
            return False
        book.tokens -= 1
        return True
