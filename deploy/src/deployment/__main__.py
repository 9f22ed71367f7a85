"""`cirra-deploy`."""

from __future__ import annotations

from deployment.cli import app


def main() -> None:
    app()


if __name__ == "__main__":
    main()
