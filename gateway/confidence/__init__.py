"""How sure an answer is, and how sure it must be. Pure.

    Draft (tokens, log-probabilities) > Features > Scorer > probability that it is right       > threshold that keeps a promised risk
    scan.py, tokens.py: what of it is     features.py   scorer.py                                    calibration.py
    an answer                             margin.py
    while an answer still grows
    Chunk* > watch.py > the least likely token so far; the request's words, and that > outlook.py > doubt that it will be accepted

A router scores and a model guesses; what is accepted comes from a promised risk. vLLM reports log-probabilities after the grammar mask,
where forced tokens count as certain: a naive mean is worthless, so only tokens that the model was free to choose count.
Nothing known is not confidence: without log-probabilities there is no probability.
"""

from gateway.confidence.calibration import Calibration, CalibrationError, Point, calibration
from gateway.confidence.features import Evidence, Second
from gateway.confidence.outlook import Outlook
from gateway.confidence.scorer import Scorer, probability

__all__ = [
    "Calibration", "CalibrationError", "Evidence", "Outlook", "Point", "Scorer", "Second", "calibration", "probability",
]  # fmt: skip
