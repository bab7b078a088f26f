"""The registry beside a plain model of it: whoever comes and goes, the right ones are asked."""

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmspell_otel.hooks import Component, HookContext, HookOptions, Registration, Registry
from llmspell_otel.hooks.breaker import BreakerProfile
from llmspell_otel.hooks.engine import fire

LENIENT = BreakerProfile(slow_call_duration=60, failure_threshold=10**6)


class RegistryMachine(RuleBasedStateMachine):
    """Hooks are registered, switched and taken out between firings."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.slot = self.registry.slot("custom:model")
        self.context = HookContext(self.slot.point, Component("custom", "model"), {})
        self.hooks: list[tuple[int, int, Registration]] = []  # priority, age, hook
        self.off: set[int] = set()
        self.calls: dict[int, int] = {}
        self.age = 0
        self.asked: list[int] = []

    def _hook(self, age: int) -> Any:
        def asked(_: object) -> None:
            self.asked.append(age)

        return asked

    @rule(
        priority=st.sampled_from(["highest", "high", "normal", "low", "lowest"])
        | st.integers(-3, 3)
    )
    def register(self, priority: str | int) -> None:
        """One more, at its place."""
        self.age += 1
        options = HookOptions(priority=priority, name=f"hook {self.age}", breaker=LENIENT)
        hook = self.registry.register("custom:model", self._hook(self.age), options)
        self.hooks.append((hook.priority, self.age, hook))
        self.calls[self.age] = 0

    @rule(data=st.data())
    def unregister(self, data: st.DataObject) -> None:
        """One less; a second time says that it is gone."""
        if self.hooks:
            row = data.draw(st.sampled_from(self.hooks))
            assert row[2].unregister() is True
            assert row[2].unregister() is False
            self.hooks.remove(row)
            self.off.discard(row[1])

    @rule(data=st.data(), enabled=st.booleans())
    def switch(self, data: st.DataObject, enabled: bool) -> None:
        """On or off, without losing the place."""
        if self.hooks:
            _, age, hook = data.draw(st.sampled_from(self.hooks))
            hook.enable(enabled=enabled)
            (self.off.discard if enabled else self.off.add)(age)

    @rule(times=st.integers(1, 3))
    def fire(self, times: int) -> None:
        """Those that are on are asked, lower numbers first, then the older."""
        wanted = [age for _, age, _ in sorted(self.hooks, key=lambda row: row[:2])]
        wanted = [age for age in wanted if age not in self.off]
        for _ in range(times):
            self.asked.clear()
            if self.slot.hooks:
                assert fire(self.slot, self.context) is None
            assert self.asked == wanted
            for age in wanted:
                self.calls[age] += 1

    @invariant()
    def the_list_is_the_models(self) -> None:
        """Every registered hook is listed, in order, with its true count of calls."""
        rows = sorted(self.hooks, key=lambda row: row[:2])
        assert self.registry.hooks() == [hook for _, _, hook in rows]
        assert [hook.calls for _, _, hook in rows] == [self.calls[age] for _, age, _ in rows]

    @invariant()
    def the_guard_never_hides_work(self) -> None:
        """An empty tuple means that there is nobody to ask."""
        if not self.slot.hooks:
            assert all(age in self.off for _, age, _ in self.hooks)


TestRegistry = RegistryMachine.TestCase
