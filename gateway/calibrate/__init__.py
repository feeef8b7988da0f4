"""Labelled requests > answers of a small rung > a calibration file that keeps a promise. `weir calibrate`, `weir recalibrate`.

    labelled.py   what the right answers are        collect.py   ask, once, and keep what was said
    measure.py    scores, curve, promise            file.py      calibration/<route>@<rung>@<digest>.json
    run.py        all of it, one rung after the other

Nothing here is on the way of a request: a running gateway notices the file and reloads.
"""
