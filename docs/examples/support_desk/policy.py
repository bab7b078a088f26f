"""What the support desk may do, and how: hooks that the program itself knows nothing of."""

import re
from decimal import Decimal

from llmspell_otel import Cache, Cancel, Hook, HookContext, Modified, Retry

COST_LIMIT = Decimal("0.05")  # USD for one run
MAIL_ADDRESS = re.compile(r"[\w.+-]+@([\w-]+\.)+\w+")


@Hook.on("tool:before_execution", priority="high", tags=("safety",))
def deny_dangerous(context: HookContext) -> Cancel | None:
    """Nobody is deleted by an agent; the model reads the reason and goes on."""
    if context.component.name == "delete_customer":
        return Cancel("Deleting customers needs a person's approval. Tell the customer so.")
    return None


@Hook.on("tool:error")
def retry_flaky(context: HookContext) -> Retry | None:
    """The order service loses connections now and then."""
    if context.component.name == "look_up_order":
        return Retry(delay=0.05, max_attempts=3)
    return None


@Hook.on("tool:before_execution")
def mask_email(context: HookContext) -> Modified | None:
    """Mails go to their address, but carry none in their text."""
    body = context.data["input"].get("body", "")
    masked = MAIL_ADDRESS.sub("[address]", body)
    return Modified({"input": {"body": masked}}) if masked != body else None


@Hook.on("tool:before_execution")
def cache_search(context: HookContext) -> Cache | None:
    """The knowledge base does not change within five minutes."""
    if context.component.name == "search_knowledge":
        return Cache(key=f"knowledge:{context.data['input']['query']}", ttl=300)
    return None


@Hook.on("model:before_call")
def limit_cost(context: HookContext) -> Cancel | None:
    """A run that has cost too much asks no model again."""
    if context.run_cost > COST_LIMIT:
        return Cancel(f"This run has cost ${context.run_cost:.4f}; the limit is ${COST_LIMIT}.")
    return None
