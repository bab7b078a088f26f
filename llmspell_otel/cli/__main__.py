"""``python -m llmspell_otel.cli``."""

from llmspell_otel.cli import main

main(prog_name="llmspell-otel")
