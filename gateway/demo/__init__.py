"""`weir demo`: the gateway at work on real input, with a stand-in for the cloud.

    traffic > setting (configuration, script) > server (`weir serve`) > client (openai) > account > show

Everything that is counted is counted by pure functions (`account`), from what the client saw, from the Records and from
`/metrics`; the three must agree to the unit.
"""
