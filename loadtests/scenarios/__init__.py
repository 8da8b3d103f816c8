"""One module a scenario; each gives `run(rig)`, its figures in the order of the table."""
