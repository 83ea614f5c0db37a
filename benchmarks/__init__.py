"""The asv suite, and the gate: README.md says how to run, compare, read and add.

`FASTOPT_BENCH` chooses the sizes: "quick" (1,000 elements), "full" (the default).

No benchmark has a `setup`: asv_runner would run it again before every timed call. State lives in cached factories that
also compile and warm up. (With ``--quick`` asv warms nothing up: its one sample of a `time_` holds the compilation.)
`version` is bumped by hand when what is measured changes.
"""
