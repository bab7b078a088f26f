"""`python -m deploy.grafana`: write every dashboard's JSON anew."""

from pathlib import Path

from deploy.grafana.render import rendered

FOLDER = Path(__file__).parent / "dashboards"


def main() -> None:
    """Write the dashboards, and remove those that are no more."""
    files = rendered()
    for old in FOLDER.glob("*.json"):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"{FOLDER.name}/{name}: {len(text):,} characters")


if __name__ == "__main__":
    main()
