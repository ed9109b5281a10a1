"""The Streamlit dashboard: layout over plain queries and charts."""
