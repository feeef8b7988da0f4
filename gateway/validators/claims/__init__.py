"""What an answer says that can be looked up: numbers, names, quotes. Pure.

A package, and so no validator's `kind`: `grounded` compares what is found here in the answer with what is found in its source. Every
expression is a row of bounded repetitions or of classes that do not overlap, so the time is linear in the text whatever it is.
"""
