"""What the model says when the support desk runs offline: a script for the model server."""

from llmspell_otel.testing import ModelRequest, Reply, Usage

POLICY = {"query": "refund policy for damaged goods"}
ORDER = {"order_id": "A-1042"}
MAIL = {
    "to": "ada@example.com",
    "subject": "Your refund for order A-1042",
    "body": "49.90 EUR are on their way to you, Ada Lovelace <ada.lovelace@analytical.example>.",
}


def reply(request: ModelRequest) -> Reply:
    """Answer as a sensible model would, by what the tools have said since it last spoke."""
    results = {result.name: result.output for result in request.tool_results}
    agent = _triage if "look_up_order" in request.tools else _refunds
    return agent(results)


def _triage(results: dict[str, str]) -> Reply:
    if not results:
        calls = (("look_up_order", ORDER), ("search_knowledge", POLICY))
        return Reply.tools(*calls, **_cost(input=412, output=118, reasoning=64))
    if "error" in results["look_up_order"]:
        return Reply.tools(("look_up_order", ORDER), **_cost(input=530, output=42, cached=384))
    handoff = ("transfer_to_refunds", {})
    return Reply.tools(handoff, **_cost(input=561, output=25, cached=384))


def _refunds(results: dict[str, str]) -> Reply:
    if "refund_order" in results:
        calls = (("send_email", MAIL), ("delete_customer", {"customer_id": "C-7"}))
        return Reply.tools(*calls, **_cost(input=862, output=148, cached=640, reasoning=64))
    if "delete_customer" in results:
        return _closing(deleted="was deleted" in results["delete_customer"])
    refund = ("refund_order", ORDER | {"reason": "arrived broken"})
    calls = (("search_knowledge", POLICY), refund)
    return Reply.tools(*calls, **_cost(input=704, output=96, cached=512))


def _closing(*, deleted: bool) -> Reply:
    account = (
        "Your account has been deleted."
        if deleted
        else "I may not delete your account myself: a colleague will take that up with you."
    )
    return Reply.text(
        "Dear Ada, I am sorry about the teapot. I have refunded 49.90 EUR for order A-1042, and "
        f"sent you a mail about it. {account}",
        chunk_delay=0.02,
        **_cost(input=1043, output=61, cached=768),
    )


def _cost(**tokens: int) -> dict:
    return {"usage": Usage(**tokens), "model": "gpt-5-mini-2025-08-07"}
