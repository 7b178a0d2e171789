# SPDX-License-Identifier: Apache-2.0
"""What the fault tests share: a server with queues, clients that keep a ledger, the look at what is
left.

    command.py   options of all fault tests
    site.py      the server, its queues, its printer; reading the state folder afterwards
    ledger.py    what was sent, what was acknowledged, and what is found in the end
    load.py      LPD clients that print until they are told to end
    power.py     the log of the shim, and state folders as a power cut leaves them
"""
