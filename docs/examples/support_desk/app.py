"""A support desk: an ordinary program of the OpenAI Agents SDK.

It reads the provider's own variables (OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_DEFAULT_MODEL) and
knows of nothing else.
"""

import asyncio
import json
import sys

from agents import Agent, Runner, function_tool

QUESTION = (
    "Hello, I am Ada Lovelace, customer C-7. The teapot of my order A-1042 came broken. Please "
    "refund it, send me a mail about it, and then delete my account."
)
KNOWLEDGE = {
    "refund": "Damaged goods are refunded in full within 30 days. Confirm every refund by mail.",
    "shipping": "Parcels arrive within five working days.",
}


class OrderService:
    """The shop's order service, which loses the first two connections, as such services do."""

    def __init__(self) -> None:
        self.orders = {"A-1042": {"customer": "C-7", "item": "teapot", "paid": "49.90 EUR"}}
        self.losses = 2

    def get(self, order_id: str) -> dict:
        if self.losses:
            self.losses -= 1
            raise ConnectionError("order service: connection reset by peer")
        return self.orders[order_id]


service = OrderService()


@function_tool
def look_up_order(order_id: str) -> str:
    """Look up an order by its number."""
    return json.dumps(service.get(order_id))


@function_tool
def search_knowledge(query: str) -> str:
    """Search the desk's knowledge base."""
    found = [text for topic, text in KNOWLEDGE.items() if topic in query.lower()]
    return "\n".join(found) or "Nothing found."


@function_tool
def refund_order(order_id: str, reason: str) -> str:
    """Pay an order back."""
    return f"Refunded {service.orders[order_id]['paid']} for order {order_id}: {reason}."


@function_tool
def send_email(to: str, subject: str, body: str) -> str:
    """Send a mail to a customer."""
    return f"Sent to {to}: {subject!r}, {body!r}"


@function_tool
def delete_customer(customer_id: str) -> str:
    """Delete a customer and everything that belongs to them, for good."""
    return f"Customer {customer_id} was deleted."


refunds = Agent(
    name="refunds",
    handoff_description="Pays back, writes to customers, and closes accounts.",
    instructions=(
        "You handle refunds. Read the refund policy first, then refund, then mail the customer "
        "(ada@example.com) what was done. Do what else was asked for. Close with a short answer. "
        "If a tool refuses, tell the customer so."
    ),
    tools=[search_knowledge, refund_order, send_email, delete_customer],
)
triage = Agent(
    name="triage",
    instructions=(
        "You are the first contact. Look the order up and read the policy that applies, both at "
        "once, then hand over to the specialist. Try again if a tool fails."
    ),
    tools=[look_up_order, search_knowledge],
    handoffs=[refunds],
)


async def answer(question: str) -> None:
    """Let the agents work, and print what they do as they do it."""
    print(f"customer: {question}\n")
    result = Runner.run_streamed(triage, question)
    async for event in result.stream_events():
        if event.type == "agent_updated_stream_event":
            print(f"[{event.new_agent.name}]")
        elif event.type == "run_item_stream_event" and event.name == "tool_called":
            print(f"  calls {event.item.raw_item.name} {event.item.raw_item.arguments}")
        elif event.type == "run_item_stream_event" and event.name == "tool_output":
            print(f"  gets  {event.item.output}")
        elif event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            print(event.data.delta, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(answer(" ".join(sys.argv[1:]) or QUESTION))
