"""Tables that people keep, CSV files and workbooks, as drafts of a city and back."""
