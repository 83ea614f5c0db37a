"""The step count and the coefficients of an optimizer on a CUDA device, and what the host knows of them.

Coefficients come from the host in float64, a row per step, so that they have the bits of the CPU's. While the host
knows the step count it sends the next row. After a step that may have been skipped it knows bounds only (``low``,
``high``): the rows of all steps in between lie on the device, which takes the one that it has come to. With
`capturable` the rows of many steps lie there from the start, since the host knows nothing of a replayed graph's steps.
"""
import math
import struct
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._checks.warning import warn
from .._kernels.memory import WORD
from .._rule.groups import Group
from .._rule.pipeline import row_length
from .._rule.rule import Rule
from . import advance, driver
from .advance import FLOATS, MODE, PARAMETERS, POSTED
from .loops import CLOCK, CLOCK_WORDS

PERIOD = 1024    # rows on the device: after so many steps that may have been skipped, the host asks how many were
REPOSTED = 16    # rows sent again when a hyperparameter changes while the count is uncertain; of more the host asks
WORDS = len(PARAMETERS)  # where the words that are posted begin


class Post(NamedTuple):
    """Words that a launch writes to the device."""

    target: int
    stride: int
    data: bytes  # at most POSTED words


def posts(target: int, stride: int, data: bytes) -> list[Post]:
    """Any number of words, in as few launches as they need."""
    most = WORD*POSTED
    if len(data) <= most:
        return [Post(target, stride, data)]
    return [Post(target + stride*(k//WORD), stride, data[k:k + most]) for k in range(0, len(data), most)]


class Advance:
    """The launches of `advance` in front of a step. All but the last, which may bring coefficients, post words."""

    def __init__(self, clock: "Clock", coefs: dict[np.dtype, driver.Memory], first: int, columns: int):
        self.function, self.clock = clock.function, clock
        floats, doubles = (coefs[np.dtype(x)].address if np.dtype(x) in coefs else 0 for x in (np.float32, np.float64))
        values = {"clock": clock.memory.address, "rows": clock.rows.address, "period": clock.period,
                  "groups": len(clock.groups), "fields": clock.fields, "first": first, "columns": columns,
                  "single": floats, "double": doubles, "count": -1}
        self.main = driver.Arguments([*(values.get(name, 0) for name in PARAMETERS._fields), *[0]*POSTED])
        for name in FLOATS:
            self.main.floats[getattr(PARAMETERS, name)] = math.inf
        self.main.floats[PARAMETERS.factor] = 1.0
        self.extra: list[driver.Arguments] = []

    def room(self, addresses: list[Post], coefficients: list[Post]) -> int:
        """Make room for these posts; how many launches there are in front of the last."""
        lacking = -self.spare(addresses, coefficients)
        if lacking > 0:
            self.extra += [driver.Arguments([0]*(WORDS + POSTED)) for _ in range(lacking)]
        return len(self.extra)

    def launches(self) -> list[tuple[int, int, driver.Arguments]]:
        return [(self.function, 1, arguments) for arguments in (*self.extra, self.main)]

    def fill(self, mode: int, addresses: list[Post], coefficients: list[Post]) -> int:
        """Set the arguments of the launches; how many of them have nothing to post and are left out.

        The sums of squares run before the last launch and need the addresses; coefficients may come with it.
        """
        unused = self.spare(addresses, coefficients)
        for arguments, post in zip(self.extra[unused:], (*addresses, *coefficients[:-1]), strict=True):
            _put(arguments, post)
            arguments.words[PARAMETERS.mode] = MODE.post
        words = self.main.words
        words[PARAMETERS.known], words[PARAMETERS.mode] = self.clock.known, mode
        if coefficients:
            _put(self.main, coefficients[-1])
            words[PARAMETERS.mode] = mode | MODE.post
        return unused

    def spare(self, addresses: list[Post], coefficients: list[Post]) -> int:
        """How many launches are not needed for these; below 0: how many more are."""
        return len(self.extra) - len(addresses) - max(0, len(coefficients) - 1)


def _put(arguments: driver.Arguments, post: Post) -> None:
    words, size = arguments.words, len(post.data)
    words[PARAMETERS.target], words[PARAMETERS.stride], words[PARAMETERS.posted] = post.target, post.stride, size//WORD
    arguments.raw[WORDS*WORD:WORDS*WORD + size] = post.data


class Clock:
    """The count of steps and the rows of coefficients."""

    def __init__(self, gpu: driver.Gpu, rule: Rule, groups: Sequence[Group], capturable: int):
        self.gpu, self.groups, self.fields, self.capturable = gpu, groups, row_length(rule), capturable
        self.row = len(groups)*self.fields
        self._packer = struct.Struct(f"{self.row}d")
        self.period = capturable or PERIOD
        self.rows = gpu.allocate(WORD*self.row*self.period)
        self.memory = gpu.allocate(WORD*CLOCK_WORDS)
        start = np.zeros(CLOCK_WORDS, np.int64)
        start[CLOCK.last] = self.last = -1        # the step of the last row, where rows are made in advance
        gpu.upload(self.memory.address, start)
        self.function, _ = gpu.function(advance.advance(gpu.cc, gpu.form))
        counts = np.zeros(2, np.int64)
        self.counts = counts.data                # steps taken: at most (high) and at least (low)
        self.done = counts.ctypes.data
        self.lost = False                        # a launch was refused: the device may have counted on
        self.replayed = False                    # a graph may take steps: from the first capture on
        self._remember = any(group.history for group in groups)
        self._sent: tuple[int, ...] = ()         # versions of the groups whose rows lie on the device

    @property
    def known(self) -> int:
        """The step count where the host knows it, else -1: then the device's own counts."""
        high, low = self.counts
        return high if high == low and not self.capturable else -1

    @property
    def uncertain(self) -> bool:
        """Whether the device must be asked for the step count."""
        return self.counts[0] != self.counts[1] or self.replayed or self.lost

    @property
    def t(self) -> int:
        self.settle()
        return self.counts[0]

    def setting(self, t: int, groups: Sequence[Group]) -> list["partial[Any]"]:
        """What to hand to `Gpu.put` so that t steps have been taken and rows are those of these groups."""
        words = {CLOCK.t: t, CLOCK.missed: 0}
        calls = []
        if self.capturable:
            words[CLOCK.last] = t + self.period
            calls = [*self.gpu.uploading(self.rows.address, self._table(t, groups)),
                     partial(setattr, self, "last", t + self.period)]
        for word, value in words.items():
            calls += self.gpu.uploading(self.memory.address + WORD*word, np.array([value], np.int64))
        return [*calls, partial(self.counts.__setitem__, 0, t), partial(self.counts.__setitem__, 1, t),
                partial(setattr, self, "lost", False), partial(setattr, self, "_sent", ())]

    def settle(self) -> None:
        """Know the step count. Where steps may have been skipped or replayed, wait for the device and ask it."""
        if not self.uncertain:
            return
        words = np.zeros(CLOCK_WORDS, np.int64)
        self.gpu.download(words, self.memory.address)
        self.counts[0] = self.counts[1] = int(words[CLOCK.t])
        self.lost = False
        if words[CLOCK.missed]:
            self.gpu.upload(self.memory.address + WORD*CLOCK.missed, np.zeros(1, np.int64))
            warn(f"fastopt: {words[CLOCK.missed]} replays went beyond step {self.last}, the last one with "
                 "coefficients, and changed nothing. Call opt.tabulate() before they run out, or make the optimizer "
                 "with a larger capturable=.", RuntimeWarning)

    def norm(self) -> float | None:
        """The norm of the last step, or None where it had none. Waits for the device."""
        found = np.zeros(CLOCK_WORDS, np.float64)
        self.gpu.download(found, self.memory.address)
        return float(found[CLOCK.norm]) if found.view(np.int64)[CLOCK.normed] else None

    def _coefficients(self, t: int, groups: Sequence[Group] | None = None) -> bytes:
        """The row of step t, without gradient factor and clipping, which `advance` puts in."""
        groups = self.groups if groups is None else groups
        if len(groups) == 1:
            return self._packer.pack(*groups[0].coefficients(t, 1.0, math.inf))
        return self._packer.pack(*[x for group in groups for x in group.coefficients(t, 1.0, math.inf)])

    def _table(self, t: int, groups: Sequence[Group]) -> np.ndarray:
        """The rows of the `period` steps behind step t."""
        table = np.empty((self.period, self.row))
        for step in range(t + 1, t + self.period + 1):
            table[(step - 1) % self.period] = np.frombuffer(self._coefficients(step, groups))
        return table

    def _post(self, t: int) -> list[Post]:
        return posts(self.rows.address + WORD*self.row*((t - 1) % self.period), WORD, self._coefficients(t))

    def next(self) -> list[Post]:
        """What must be sent so that the coefficients of the next step, whichever it is, are on the device."""
        if self.lost:
            self.settle()
        versions = self._now()
        if versions != self._sent and self._remember:
            self.settle()  # how many steps had which hyperparameters
        high, low = self.counts
        if high - low >= (PERIOD - 1 if versions == self._sent else REPOSTED):
            self.settle()
            high, low = self.counts
        first = high + 1 if versions == self._sent else low + 1
        self._versions = versions
        if first == high + 1:
            return self._post(first)
        return [post for t in range(first, high + 2) for post in self._post(t)]

    def _now(self) -> tuple[int, ...]:
        """Versions of the groups: other ones mean other coefficients."""
        return tuple([group.version + sum([getattr(f, "version", 0) for f in group.functions]) if group.functions
                      else group.version for group in self.groups])

    def refused(self) -> None:
        """A launch was refused: where the count is uncertain, the device must be asked for it."""
        self.lost = self.counts[0] != self.counts[1] or bool(self.capturable)

    def sent(self) -> None:
        """What `next` returned has been launched."""
        self._sent = self._versions

    def tabulate(self) -> None:
        """Put the rows of the next steps on the device, as many as `capturable` says. Waits for the device."""
        self.settle()
        t = self.counts[0]
        table = self._table(t, self.groups)
        with self.gpu.current():
            driver.do("cuCtxSynchronize")
        self.gpu.upload(self.rows.address, table)
        self.last = t + self.period
        self.gpu.upload(self.memory.address + WORD*CLOCK.last, np.array([self.last], np.int64))
        self._sent = self._now()

    def tabulated(self) -> None:
        """Have rows for a step outside a capture, with the hyperparameters of now."""
        if self.replayed or self.lost:
            self.settle()
        if self.counts[0] + 1 > self.last or self._sent != self._now():
            self.tabulate()
