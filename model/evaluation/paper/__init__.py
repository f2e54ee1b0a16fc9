"""The paper's six metrics (Sec. 4.2) for any folder of films: `python -m model.cli.evaluate paper`."""
