"""The expressions of one task, and of what repeats, multiplies, keeps, limits or undoes it."""

from collections.abc import Callable
from typing import Any

from bend_server.core import limits
from bend_server.core.model import Phase, TaskKind
from bend_server.core.plan import (
    CachePlan,
    ExpressionError,
    GoesOn,
    ItemsTemplate,
    KeyTemplate,
    RepeatPlan,
    Scope,
    SlotPlan,
)
from bend_server.language.cel_syntax import BadExpression
from bend_server.language.costs import COST_MAX
from bend_server.language.expressions import Expression
from bend_server.language.findings import Path, cut
from bend_server.language.gaps import TOO_LARGE
from bend_server.language.names import (
    ITEM_NAMES,
    ROUND_NAMES,
    Env,
    Missing,
    Reference,
)
from bend_server.language.payloads import Memory, as_text, dump, load, show_fields
from bend_server.language.rendering import output_renderer
from bend_server.language.sources import Control, RepeatSource, TaskSource
from bend_server.language.statements import check_statement
from bend_server.language.templates import Compiled, Templates

_NOTHING: frozenset[str] = frozenset()
# Kinds of references that may differ from round to round.
_MOVES = ("iteration", "round")
_ONCE = ": a condition is judged once, before the list is made"


def compile_task(task: TaskSource, templates: Templates) -> None:
    """Compile a task's expressions into it; what is wrong becomes a finding."""
    control, kind = task.control, task.kind
    if task.phase != Phase.MAIN:
        templates = templates.within(_NOTHING, task.phase)
    if task.condition is not None:
        place = (*task.path, "condition")
        seen = templates.within(_NOTHING, task.phase, _ONCE) if task.fans_out else templates
        task.expression = seen.expression(task.condition, place)
    if control is not None:
        local = ITEM_NAMES if task.fans_out else _NOTHING
        around = templates.within(local, task.phase)
        if control.repeat is not None:
            local |= ROUND_NAMES
        _compile_items(task, control, templates)
        templates = templates.within(local, task.phase)
        if control.repeat is not None:
            _compile_repeat(task, control, control.repeat, around)
    task.input = templates.compile(
        task.inputs,
        task.path,
        f"task {task.id}",
        # The engine itself does its own types: no executor fills holes in their input.
        secrets=kind == TaskKind.COMPONENT,
        places=task.places,
    )
    check_statement(task, templates)
    if control is not None:
        _compile_keys(task, control, templates)
        if control.compensation is not None:
            local = ITEM_NAMES if task.fans_out else _NOTHING
            _compile_undo(control.compensation, templates.within(local, Phase.COMPENSATION))


def _compile_undo(task: TaskSource, templates: Templates) -> None:
    task.input = templates.compile(
        task.inputs,
        task.path,
        f"task {task.id}",
        secrets=task.kind == TaskKind.COMPONENT,
        places=task.places,
    )
    check_statement(task, templates)


def _compile_items(task: TaskSource, control: Control, templates: Templates) -> None:
    source, place = control.for_each, (*task.path, "for_each")
    if source is None:
        return
    label = f"task {task.id}, for_each"
    if isinstance(source, list):
        found = len(templates.findings)
        compiled = templates.compile(source, place, label, secrets=False, places={})
        control.references += compiled.references
        if len(templates.findings) == found:
            control.items = _listed(compiled)
        return
    expression = templates.expression(source, place)
    if expression is None:
        return
    control.references += ((reference, place) for reference in expression.references)
    label += f" '{cut(expression.source.strip(), 200)}': "
    if not expression.piece.constant:
        control.items = _computed(expression, templates.memory, label)
        return
    try:
        fixed = _items(templates.evaluated(expression), label)
    except BadExpression as error:
        templates.refuse(error, expression.source, place)
    except ExpressionError as error:
        templates.findings.add("BAD_VALUE", str(error), place)
    else:
        control.items = lambda _scope: fixed


def _listed(compiled: Compiled) -> ItemsTemplate:
    """Return the items of a list in the document, some of them perhaps templates."""
    if compiled.constant is not None:
        fixed = [dump(item) for item in load(compiled.constant)]
        return lambda _scope: fixed
    render = output_renderer(compiled)
    return lambda scope: [dump(item) for item in load(render(scope))]


def _computed(expression: Expression, memory: Memory, label: str) -> ItemsTemplate:
    return lambda scope: _items(_evaluated(expression, Env(scope, memory, COST_MAX), label), label)


def _items(value: object, label: str) -> list[bytes]:
    """Return a list's items as JSON. Raises ExpressionError."""
    if not isinstance(value, list):
        raise ExpressionError(f"{label}a list is needed, and {show_fields(value)}")
    if len(value) > limits.ITEMS_MAX:
        raise ExpressionError(f"{label}{len(value)} items; {limits.ITEMS_MAX} are allowed")
    made, room = [], limits.BLOB_BYTES_MAX
    for item in value:
        data = dump(item)
        room -= len(data)
        if room < 0:
            raise ExpressionError(label + TOO_LARGE)
        made.append(data)
    return made


def _evaluated(expression: Expression, env: Env, label: str) -> Any:
    try:
        return expression.piece.value(env)
    except (Missing, ExpressionError) as error:
        raise ExpressionError(label + str(error)) from None


def _compile_repeat(
    task: TaskSource, control: Control, repeat: RepeatSource, templates: Templates
) -> None:
    local = ROUND_NAMES | (ITEM_NAMES if task.fans_out else _NOTHING)
    judge = templates.within(local, task.phase)
    expression = judge.expression(repeat.condition, repeat.path)
    if expression is None:
        return
    control.references += ((reference, repeat.path) for reference in expression.references)
    label = f"task {task.id}, repeat.{repeat.path[-1]} '{cut(expression.source, 200)}': "
    control.repeat_plan = RepeatPlan(
        _goes_on(expression, judge.memory, label, repeat.until), repeat.rounds_max, repeat.delay_us
    )


def _goes_on(expression: Expression, memory: Memory, label: str, until: bool) -> GoesOn:
    def goes_on(scope: Scope, output: bytes) -> bool:
        value = _evaluated(expression, Env(scope, memory, COST_MAX, output), label)
        if value is True or value is False:
            return value is not until
        raise ExpressionError(label + f"gives {cut(as_text(value), 100)}, not true or false")

    return goes_on


def _compile_keys(task: TaskSource, control: Control, templates: Templates) -> None:
    cache = control.cache
    if cache is not None:
        key, place, before = None, (*cache.path, "key"), len(control.references)
        if cache.key is not None:
            label = f"task {task.id}, cache.key"
            key = compile_key(cache.key, place, label, templates, control.references)
        control.cache_plan = CachePlan(cache.ttl_us, key, cache.namespace_wide)
        inputs = () if task.input is None else task.input.references
        read = inputs if cache.key is None else control.references[before:]
        if control.repeat is not None and all(one.kind not in _MOVES for one, _ in read):
            templates.findings.add(
                "BAD_VALUE",
                "each round of 'repeat' would find the first one's output: "
                "let the input, or the cache's key, read 'iteration' or 'output'",
                cache.path,
                at_key=True,
            )
    plans = []
    for slot in control.slots:
        label = f"task {task.id}, {slot.path[-2]}.key"
        key = compile_key(slot.key, slot.path, label, templates, control.references)
        if key is not None:
            plans.append(SlotPlan(key, slot.limit, slot.per_us))
    control.slot_plans = tuple(plans)


def compile_key(
    text: str,
    path: Path,
    label: str,
    templates: Templates,
    references: list[tuple[Reference, Path]],
) -> KeyTemplate | None:
    """Return what gives a key as text, and add what it reads; None after a finding."""
    found = len(templates.findings)
    compiled = templates.compile(text, path, label, secrets=False, places={})
    references += compiled.references
    if len(templates.findings) > found:
        return None
    most = limits.KEY_CHARS_MAX
    if compiled.constant is not None:
        fixed = as_text(load(compiled.constant))
        if len(fixed) > most:
            templates.findings.add(
                "TOO_LARGE", f"the key has {len(fixed)} characters; {most} are allowed", path
            )
            return None
        return lambda _scope: fixed
    render: Callable[[Scope], bytes] = output_renderer(compiled)

    def key(scope: Scope) -> str:
        text = as_text(load(render(scope)))
        if len(text) > most:
            raise ExpressionError(f"{label}: {len(text)} characters; {most} are allowed")
        return text

    return key
