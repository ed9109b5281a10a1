"""The dashboard, `streamlit run dashboard/app.py`: four pages over the installation that the environment names."""

import streamlit as st

from dashboard.sources import in_words, sources

PAGES = (
    ("lines.py", "Lines", ":material/grid_view:"),
    ("live.py", "Live", ":material/monitoring:"),
    ("review.py", "Review", ":material/rate_review:"),
    ("models.py", "Models", ":material/inventory_2:"),
)


def main() -> None:
    """The frame around every page."""
    st.set_page_config(page_title="Driftline", page_icon=":material/conveyor_belt:", layout="wide")
    pages = [
        st.Page(f"pages/{file}", title=title, icon=icon, default=file == "lines.py") for file, title, icon in PAGES
    ]
    page = st.navigation(pages, position="top")
    with in_words():
        sources()
        page.run()


if __name__ == "__main__":
    main()
