"""results.json as words, tables and plots: report.md, report.html, report.csv, and the terminal."""
