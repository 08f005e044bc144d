"""Views: tables, progress and reports for a person at a terminal."""
