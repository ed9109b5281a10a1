"""The dashboard, `streamlit run dashboard/app.py`: pages over the installation that the environment names."""

from dashboard.frame import framed_page
from dashboard.sources import in_words, sources


def main() -> None:
    """The frame around every page."""
    page = framed_page()
    with in_words():
        sources()
        page.run()


if __name__ == "__main__":
    main()
