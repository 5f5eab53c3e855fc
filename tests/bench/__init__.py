"""How fast it is, and with how few calls: `make bench` prints tables and writes `build/bench.json`.

Absolute numbers are those of one machine at one time, so what is to hold is a ratio to a floor measured in the same
run, or a count. The sandbox runs in a process of its own, as the real systems would. `build/bench.json` is a list of
`{case, measure, value, unit, target, holds}`; `target` and `holds` are null where nothing is asked for yet.
"""
