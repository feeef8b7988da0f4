"""The page at `/ui`: what happens now, and why.

    Record > Window (data) > snapshot (view) > frame (feed) > page (page, assets/)

Nothing here is on the way of a request but `Window.fold`. No prompt and no answer is shown: Records hold none.
"""
