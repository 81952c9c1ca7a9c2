"""One command for a machine with a GPU: every variant built, run, judged and timed, told in one file."""
