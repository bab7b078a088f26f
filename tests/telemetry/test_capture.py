"""Content capture: the switch, and the bounds."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.telemetry import capture
from llmspell_otel.telemetry.capture import CaptureMode, bounded, capture_mode, emits_details


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        (None, CaptureMode.NO_CONTENT),
        ("", CaptureMode.NO_CONTENT),
        ("no_content", CaptureMode.NO_CONTENT),
        ("span_only", CaptureMode.SPAN_ONLY),
        (" EVENT_ONLY ", CaptureMode.EVENT_ONLY),
        ("Span_And_Event", CaptureMode.SPAN_AND_EVENT),
    ],
)
def test_mode_is_read_without_case(value: str | None, mode: CaptureMode) -> None:
    """The four values of the shared switch."""
    environ = {} if value is None else {capture.CAPTURE: value}
    assert capture_mode(environ) is mode


@pytest.mark.parametrize("value", ["true", "1", "everything"])
def test_unknown_mode_warns_once_and_stays_off(
    value: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The boolean of earlier instrumentations does not switch content on."""
    monkeypatch.setattr(capture, "_warned", set())
    with caplog.at_level(logging.WARNING):
        modes = [capture_mode({capture.CAPTURE: value}) for _ in range(3)]
    assert modes == [CaptureMode.NO_CONTENT] * 3
    assert len(caplog.records) == 1
    assert "SPAN_ONLY" in caplog.text


@pytest.mark.parametrize(
    ("mode", "switch", "emitted"),
    [
        (CaptureMode.NO_CONTENT, None, False),
        (CaptureMode.SPAN_ONLY, None, False),
        (CaptureMode.EVENT_ONLY, None, True),
        (CaptureMode.SPAN_AND_EVENT, None, True),
        (CaptureMode.NO_CONTENT, "TRUE", True),
        (CaptureMode.EVENT_ONLY, "false", False),
        (CaptureMode.EVENT_ONLY, "perhaps", True),
    ],
)
def test_details_event_follows_its_switch(
    mode: CaptureMode, switch: str | None, *, emitted: bool
) -> None:
    """Said explicitly, else on in the event modes."""
    environ = {} if switch is None else {capture.EMIT_EVENT: switch}
    assert emits_details(mode, environ) is emitted


def test_a_picture_is_replaced_by_its_size() -> None:
    """A megabyte of base64 does not travel on a span, in either form."""
    picture = "iVBORw0KGgo" * 100_000
    message = {
        "role": "user",
        "parts": [
            {"type": "blob", "modality": "image", "content": picture, "mime_type": "image/png"},
            {"type": "uri", "modality": "image", "uri": f"data:image/png;base64,{picture}"},
        ],
    }
    found = bounded({"gen_ai.input.messages": [message]})["gen_ai.input.messages"][0]
    assert found["parts"][0] == {
        "type": "blob",
        "modality": "image",
        "content": "[omitted: 1100000 characters]",
        "mime_type": "image/png",
    }
    assert found["parts"][1]["uri"] == "data:image/png;base64,[omitted: 1100000 characters]"


def test_a_long_text_ends_in_a_marker() -> None:
    """The head is kept, and the reader is told how much there was."""
    text = bounded({"text": "word " * 10_000})["text"]
    assert len(text) <= capture.MAX_TEXT
    assert text.startswith("word word")
    assert text.endswith("[truncated: 50000 characters in all]")


def test_many_texts_share_one_bound() -> None:
    """A thousand messages of moderate length are bounded together; the newest stay."""
    messages = [{"role": "user", "parts": [{"n": n, "content": "x" * 9_000}]} for n in range(1_000)]
    found = bounded({"messages": messages})["messages"]
    assert len(found) == capture.MAX_ITEMS
    assert found[-1]["parts"][0] == {"n": 999, "content": "x" * 9_000}
    assert len(json.dumps(found)) < 2 * capture.MAX_TOTAL


def test_nesting_has_a_floor() -> None:
    """A structure that contains itself ends."""
    endless: list[object] = []
    endless.append(endless)
    assert "nested too deeply" in json.dumps(bounded({"endless": endless}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_small_content_is_kept_as_it_is(content: dict[str, object]) -> None:
    """Nothing is lost of what fits."""
    if "blob" not in json.dumps(content):
        assert bounded(content) == content


@given(st.text(min_size=0, max_size=30), st.integers(0, 60_000))
def test_bounding_twice_is_bounding_once(text: str, times: int) -> None:
    """The journal's content, bounded when recorded, comes out of a replay the same."""
    once = bounded({"text": text * times})
    assert bounded(once) == once
