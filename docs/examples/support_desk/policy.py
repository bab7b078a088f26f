"""What the support desk may do, and how: hooks that the program itself knows nothing of."""

import re
from decimal import Decimal

from llmspell_otel import Cancel, Hook, HookContext, Modified

COST_LIMIT = Decimal("0.05")  # USD for one run
MAIL_ADDRESS = re.compile(r"[\w.+-]+@([\w-]+\.)+\w+")


@Hook.on("tool:before_execution", priority="high", tags=("safety",))
def deny_dangerous(context: HookContext) -> Cancel | None:
    """Nobody is deleted by an agent; the model reads the reason and goes on."""
    if context.component.name == "delete_customer":
        return Cancel("Deleting customers needs a person's approval. Tell the customer so.")
    return None


@Hook.on("tool:before_execution")
def mask_email(context: HookContext) -> Modified | None:
    """Mails go to their address, but carry none in their text."""
    body = context.data["input"].get("body", "")
    masked = MAIL_ADDRESS.sub("[address]", body)
    return Modified({"input": {"body": masked}}) if masked != body else None


@Hook.on("model:before_call")
def limit_cost(context: HookContext) -> Cancel | None:
    """A run that has cost too much asks no model again."""
    if context.run_cost > COST_LIMIT:
        return Cancel(f"This run has cost ${context.run_cost:.4f}; the limit is ${COST_LIMIT}.")
    return None
