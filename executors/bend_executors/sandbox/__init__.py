"""Sandboxes for what strangers wrote: one a task, proven before use, warm when it is needed."""

from bend_executors.sandbox.limits import Limits as Limits
from bend_executors.sandbox.limits import Rules as Rules
from bend_executors.sandbox.limits import read_rules as read_rules
from bend_executors.sandbox.lines import Budget as Budget
from bend_executors.sandbox.lines import Output as Output
from bend_executors.sandbox.pool import OVERTIME_S as OVERTIME_S
from bend_executors.sandbox.pool import Pool as Pool
from bend_executors.sandbox.pool import Size as Size
from bend_executors.sandbox.pool import read_size as read_size
from bend_executors.sandbox.process import Ended as Ended
from bend_executors.sandbox.process import Garbage as Garbage
from bend_executors.sandbox.process import Sandbox as Sandbox
