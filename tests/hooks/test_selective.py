"""Hooks on offer: asked while their features are on, made when first asked."""

import asyncio
from typing import Any

import pytest

from llmspell_otel.errors import HookError
from llmspell_otel.hooks import Hook, Replace
from llmspell_otel.hooks.registry import registry
from llmspell_otel.hooks.selective import Offers

POINT = "custom:offered"


@pytest.fixture
def offers() -> Offers:
    """Nothing on offer, nothing on."""
    return Offers(registry)


def test_an_offer_is_asked_while_all_its_features_are_on(offers: Offers) -> None:
    """And is made once, when it is asked for the first time."""
    made: list[int] = []

    def factory() -> Any:
        made.append(1)
        return lambda context: Replace("offered")

    offer = offers.offer("audit", POINT, factory, features=["security", "audit"], priority="high")
    offers.enable("security")
    Hook.fire(POINT)
    assert made == []
    offers.enable("audit")
    assert (offer.built, Hook.list(POINT)[0].name) == (False, "audit")
    assert Hook.fire(POINT) == Hook.fire(POINT) == Replace("offered")
    assert (made, offer.built) == ([1], True)
    offers.disable("security")
    assert Hook.list(POINT) == []
    offers.enable("security")
    assert Hook.fire(POINT) == Replace("offered")
    assert made == [1]


def test_an_offer_may_make_an_asynchronous_hook(offers: Offers) -> None:
    """It is awaited like any other."""

    async def hook(context: Any) -> Replace:
        await asyncio.sleep(0)
        return Replace("awaited")

    offers.offer("a", POINT, lambda: hook)
    assert Hook.fire(POINT) == Replace("awaited")


def test_a_factory_that_fails_is_a_failing_hook(offers: Offers) -> None:
    """It is isolated and tried again; so is one that makes no hook."""
    turns: list[int] = []

    def factory() -> Any:
        turns.append(1)
        if len(turns) == 1:
            raise ValueError
        return (lambda: None) if len(turns) == 2 else (lambda context: Replace("at last"))

    offers.offer("a", POINT, factory)
    Hook.fire(POINT)
    Hook.fire(POINT)
    assert Hook.list(POINT)[0].failures == 2
    assert Hook.fire(POINT) == Replace("at last")


def test_offers_have_names_of_their_own_and_can_be_withdrawn(offers: Offers) -> None:
    """Two of one name are refused; a withdrawn one is asked no more."""
    offers.offer("a", POINT, lambda: print)
    with pytest.raises(HookError, match="already"):
        offers.offer("a", POINT, lambda: print)
    with pytest.raises(HookError, match="one text"):
        offers.offer("b", POINT, lambda: print, features="x")
    assert (offers.withdraw("a"), offers.withdraw("a")) == (True, False)
    assert Hook.list(POINT) == []
