# The support desk of docs/examples, run again and again. Context: the repository's root.
FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY llmspell_otel llmspell_otel
COPY instrumentation instrumentation
COPY exporters exporters
RUN pip install --no-cache-dir ".[cost,testing,openai,openai-agents]"
COPY docs/examples docs/examples
RUN useradd --uid 10002 agent
USER 10002
ENV PYTHONDONTWRITEBYTECODE=1
CMD ["sh", "-c", "while :; do python -m docs.examples.support_desk.demo; sleep 10; done"]
