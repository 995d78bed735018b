"""Check that there are Kaggle credentials, before hours of work for a submission."""

from scripts.common import run


def main() -> None:
    """Print where the credentials come from, never their value. Kaggle is not asked whether it accepts them."""
    from pipeline.kaggle.client import require_credentials

    print(f"Kaggle credentials: {require_credentials()}")


if __name__ == "__main__":
    run(main)
