"""The front of the house: command line, report, plots and tour. The only room with matplotlib, Typer, Rich, Jinja2."""
