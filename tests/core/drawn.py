"""Random plans and histories for duels of machine and reference model: one seed, one history."""

from random import Random

from bend_server.core.model import Phase, RunIf, TaskKind
from bend_server.core.model import TaskStatus as S
from bend_server.core.plan import RepeatPlan, RetryPolicy
from tests.core.duel import SIGNALS, Duel
from tests.kit.expressions import Items, Rounds, Verdict
from tests.kit.plans import Task

ENGINE_REASONS = frozenset(("SIGNAL_TIMEOUT", "CHILD_FAILED"))


def random_tasks(chance: Random) -> list[Task]:
    """Return 1 to 6 main tasks, and perhaps on_failure tasks and compensations."""
    tasks: list[Task] = []
    for position in range(chance.randint(1, 5)):
        after = sorted(chance.sample(range(position), min(position, chance.choice((0, 1, 1, 2)))))
        tasks.append(_random_task(chance, f"t{position}", [f"t{i}" for i in after], after, tasks))
    main = list(tasks)
    for position in range(chance.choice((0, 0, 0, 1, 2))):
        names = [f"f{i}" for i in range(position) if chance.random() < 0.6]
        task = _random_task(chance, f"f{position}", names, [], tasks)
        task.phase = Phase.ON_FAILURE
        tasks.append(task)
    if chance.random() < 0.35:
        tasks += [_compensation(chance, undone) for undone in main if chance.random() < 0.6]
    return tasks


def _compensation(chance: Random, undone: Task) -> Task:
    condition = Verdict(chance.choice((True, False, None))) if chance.random() < 0.2 else None
    return Task(
        id=f"u{undone.id}",
        kind=chance.choice((TaskKind.COMPONENT, TaskKind.COMPONENT, TaskKind.WORKFLOW)),
        phase=Phase.COMPENSATION,
        undoes=undone.id,
        condition=condition,
        retry=RetryPolicy(attempts_max=chance.randint(1, 2)),
        allow_failure=chance.random() < 0.1,
    )


def _random_task(
    chance: Random, name: str, names: list[str], after: list[int], tasks: list[Task]
) -> Task:
    condition = for_each = repeat = None
    reads = chance.choice(after) if after and chance.random() < 0.5 else None
    if reads is not None and tasks[reads].for_each is not None:
        reads = None
    if chance.random() < 0.2:
        condition = Verdict(chance.choice((True, True, False, None)), reads)
    if chance.random() < 0.3:
        for_each = Items(chance.choice((0, 1, 2, 3, 3, 4, -1)), reads)
    if chance.random() < 0.25:
        rule = Rounds(chance.randint(1, 4), broken=chance.random() < 0.15)
        repeat = RepeatPlan(rule, chance.randint(1, 4), chance.choice((0, 0, 2_000_000)))
    kind = TaskKind(chance.choice((0, 0, 0, 0, 0, 1, 2, 3, 3, 4)))
    on = ENGINE_REASONS if kind != TaskKind.COMPONENT and chance.random() < 0.3 else frozenset()
    return Task(
        id=name,
        after=names,
        run_if=RunIf(chance.choice((0, 0, 0, 0, 1, 2))),
        condition=condition,
        allow_failure=chance.random() < 0.2,
        retry=RetryPolicy(attempts_max=chance.randint(1, 3), on=on),
        kind=kind,
        for_each=for_each,
        parallel_max=chance.randint(1, 3),
        repeat=repeat,
    )


class Player:
    """Picks events by chance: one seed, one history."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = Random(seed)
        tasks = random_tasks(chance)
        self.duel = Duel(
            tasks,
            chance.choice((15, 40, 1000)),
            pause_on_failure=chance.random() < 0.15
            and all(task.phase != Phase.ON_FAILURE for task in tasks),
        )

    def play(self, events: int = 14) -> Duel:
        """Play a history and check that its rows give its state."""
        duel = self.duel
        while duel.events < events:
            self.step()
        duel.run.check_replay()
        return duel

    def step(self) -> None:
        """Let one thing happen."""
        chance, duel = self.chance, self.duel
        dice = chance.random()
        pick = chance.randrange(60)
        if duel.state.terminal and dice < 0.5:
            if duel.retry() and not duel.state.terminal:
                return
            duel.reset(pick)
            return
        if duel.state.paused and dice < 0.3:
            duel.unpause()
            return
        if dice < 0.5:
            if not (chance.random() < 0.4 and self._wait(pick)):
                self._finish(pick)
        elif dice < 0.6:
            self._wait(pick)
        elif dice < 0.7:
            duel.signal(chance.choice(SIGNALS))
        elif dice < 0.8:
            duel.pass_time(chance.choice((500, 1000, 2000, 11_000, 16_000)))
        else:
            self._rare(pick)

    def _finish(self, pick: int) -> None:
        chance = self.chance
        if chance.random() < 0.6:
            self.duel.finish(pick, S.COMPLETED, "", retryable=False, blob=chance.random() < 0.25)
            return
        status = chance.choice((S.FAILED, S.FAILED, S.TIMED_OUT, S.CANCELLED))
        reason = chance.choice(("A", "B", "CHILD_FAILED", ""))
        retryable = chance.random() < 0.5 and reason != ""
        self.duel.finish(pick, status, reason, retryable=retryable, blob=False)

    def _wait(self, pick: int) -> bool:
        chance, duel = self.chance, self.duel
        if chance.random() < 0.3 and duel.decide(pick, approved=chance.random() < 0.5):
            return True
        if chance.random() < 0.5 and duel.child(pick):
            return True
        return duel.wait(pick, chance.choice(SIGNALS), chance.choice((0, 1, 3, 8)))

    def _rare(self, pick: int) -> None:
        chance, duel = self.chance, self.duel
        dice = chance.random()
        if dice < 0.2:
            duel.cancel()
        elif dice < 0.4:
            duel.pause()
        elif dice < 0.5:
            duel.unpause()
        elif dice < 0.75:
            duel.crash(pick, lost=chance.random() < 0.5)
        elif dice < 0.85:
            duel.hint(pick)
        elif dice < 0.9:
            duel.retry()
        else:
            duel.repeat(pick, chance.choice((S.COMPLETED, S.FAILED, S.CANCELLED)))


def play(seed: int, *, healing: bool) -> Duel:
    """Play one history; on a failure print its seed and what happened."""
    player = Player(seed)
    try:
        duel = player.play()
        if healing:
            duel.heal()
    except BaseException:
        print(f"history {seed}; again: python -m tests.soak --duel {seed}")
        for line in player.duel.told:
            print("  ", line)
        raise
    return duel
