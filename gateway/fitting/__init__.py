"""Labelled answers > a Scorer, and a threshold that keeps a promised risk. Pure, numpy only; never on the way of a request.

Evidence, right > fit_evidence > Scorer                          (a fitting set)
probability, regret > learn_then_test > curve and threshold      (another set: what was fitted on cannot also certify)
words, tokens, accepted > fit_outlook > Outlook; collapsed       (the fitting set again)
"""

from gateway.fitting.bounds import allowed, needed, upper
from gateway.fitting.early import collapsed
from gateway.fitting.fit import count_members, fit, fit_evidence
from gateway.fitting.isotonic import knots, pav
from gateway.fitting.logistic import Logistic, regress
from gateway.fitting.measure import auroc, ece
from gateway.fitting.outlook import fit_outlook
from gateway.fitting.promise import Step, Tested, certify, conformal, grid, learn_then_test, oracle_share
from gateway.fitting.seen import Seen

__all__ = [
    "Logistic", "Seen", "Step", "Tested", "allowed", "auroc", "certify", "collapsed", "conformal", "count_members", "ece", "fit",
    "fit_evidence", "fit_outlook", "grid", "knots", "learn_then_test", "needed", "oracle_share", "pav", "regress", "upper",
]  # fmt: skip
