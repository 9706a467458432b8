"""Expressions of random plans: each answers the same for ever, and says what it will answer."""

from bend_server.core.plan import ExpressionError, Scope


class Verdict:
    """A condition. `answer` None: it cannot be evaluated. It may read an output to do so."""

    def __init__(self, answer: bool | None, reads: int | None = None) -> None:
        self.answer = answer
        self.reads = reads

    def __repr__(self) -> str:
        return f"Verdict({self.answer}, {self.reads})"

    def __call__(self, scope: Scope) -> bool:
        """Answer, or raise as an expression would."""
        if self.reads is not None:
            scope.output(self.reads)
        if self.answer is None:
            raise ExpressionError("planned")
        return self.answer


class Items:
    """The items 0, 1, … of a for_each. `count` -1: they cannot be evaluated."""

    def __init__(self, count: int, reads: int | None = None) -> None:
        self.count = count
        self.reads = reads

    def __repr__(self) -> str:
        return f"Items({self.count}, {self.reads})"

    def __call__(self, scope: Scope) -> list[bytes]:
        """Make the list."""
        if self.reads is not None:
            scope.output(self.reads)
        if self.count < 0:
            raise ExpressionError("planned")
        return [b"%d" % item for item in range(self.count)]


class Rounds:
    """A repeat that goes on until it has had `rounds`; `broken`: then it cannot be evaluated."""

    def __init__(self, rounds: int, *, broken: bool = False) -> None:
        self.rounds = rounds
        self.broken = broken

    def __repr__(self) -> str:
        return f"Rounds({self.rounds}, broken={self.broken})"

    def __call__(self, scope: Scope, output: bytes) -> bool:
        """Say whether another round follows."""
        assert scope.item is None or scope.item == b"%d" % scope.index
        assert output
        if scope.iteration + 1 < self.rounds:
            return True
        if self.broken:
            raise ExpressionError("planned")
        return False
