"""`python -m deploy.kubernetes`: write the Operator's collector anew."""

from pathlib import Path

from deploy.kubernetes.render import operator_collector

TARGET = Path(__file__).parent / "operator" / "collector.yaml"

if __name__ == "__main__":
    TARGET.write_text(operator_collector())
    print(f"written: {TARGET.name}")
